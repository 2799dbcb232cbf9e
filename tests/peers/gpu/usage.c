/* The calls about use: processes, utilisation, memory, and the XID events of the driver. */
#define _GNU_SOURCE
#include "library.h"
#include "processes.h"

#include <stdlib.h>
#include <time.h>

/* The processes of the device: all of the GPU, or those in the instance. */
static int users_of(const struct target *on, struct process *found)
{
    int all = processes_of(on->state, on->index, found, MAX_PROCESSES), count = 0;
    for (int i = 0; i < all; i++)
        if (on->mig == NULL || (found[i].gi == on->mig->gi && found[i].ci == on->mig->ci))
            found[count++] = found[i];
    return count;
}

/* As every NVML list: *count* is the room and becomes the number; too little room says how much
 * is needed. */
static nvmlReturn_t list(nvmlDevice_t device, char kind, unsigned *count, nvmlProcessInfo_t *out)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    struct process found[MAX_PROCESSES];
    int all = users_of(&on, found);
    unsigned room = out != NULL ? *count : 0, matching = 0;
    for (int i = 0; i < all; i++) {
        if (found[i].kind != kind)
            continue;
        if (matching++ < room)
            out[matching - 1] = (nvmlProcessInfo_t){
                found[i].pid, (unsigned long long)found[i].mib << 20, found[i].gi, found[i].ci};
    }
    *count = matching;
    return done(matching > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out)
{
    return list(device, 'c', count, out);
}

API nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out)
{
    return list(device, 'g', count, out);
}

API nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out)
{
    return list(device, 'm', count, out);
}

/* With `util=auto` a GPU is as busy as its busiest process says. */
static unsigned utilisation(const struct gpu *gpu, const struct process *found, int count)
{
    if (gpu->util != UNSAID)
        return (unsigned)gpu->util;
    long most = 0;
    for (int i = 0; i < count; i++)
        if (found[i].util > most)
            most = found[i].util;
    return (unsigned)most;
}

/* A process that says nothing has an equal part of a fixed `util`, so that a GPU set to 80 by
 * hand has no process at 0. */
static unsigned own_utilisation(const struct gpu *gpu, const struct process *process, int count)
{
    if (process->util != UNSAID)
        return (unsigned)process->util;
    return gpu->util == UNSAID ? 0 : (unsigned)(gpu->util / count);
}

API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    struct target on;
    nvmlReturn_t result = enter(device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL || on.gpu->mig_mode)
        return done(NVML_ERROR_NOT_SUPPORTED);
    struct process found[MAX_PROCESSES];
    int count = on.gpu->util == UNSAID ? users_of(&on, found) : 0;
    rates->gpu = utilisation(on.gpu, found, count);
    rates->memory = (unsigned)on.gpu->memutil;
    return done(NVML_SUCCESS);
}

/* One sample per process, taken now. *since* is what the caller saw last, in microseconds. */
API nvmlReturn_t nvmlDeviceGetProcessUtilization(
    nvmlDevice_t device, nvmlProcessUtilizationSample_t *out, unsigned *count,
    unsigned long long since)
{
    struct target on;
    nvmlReturn_t result = enter(device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL || on.gpu->mig_mode)
        return done(NVML_ERROR_NOT_SUPPORTED);
    struct timespec clock;
    clock_gettime(CLOCK_REALTIME, &clock);
    unsigned long long now =
        (unsigned long long)clock.tv_sec * 1000000 + (unsigned long long)clock.tv_nsec / 1000;
    struct process found[MAX_PROCESSES];
    int all = users_of(&on, found);
    if (all == 0 || since >= now)
        return done(NVML_ERROR_NOT_FOUND);
    if (out == NULL) {
        *count = (unsigned)all;
        return done(NVML_ERROR_INSUFFICIENT_SIZE);
    }
    unsigned filled = 0; /* one that came after the caller asked for the size waits its turn */
    for (; filled < (unsigned)all && filled < *count; filled++)
        out[filled] = (nvmlProcessUtilizationSample_t){
            .pid = found[filled].pid,
            .timestamp = now,
            .sm = own_utilisation(on.gpu, &found[filled], all),
        };
    *count = filled;
    return done(NVML_SUCCESS);
}

/* With `used_mib=auto` the processes' memory and what was leaked. */
static unsigned long long used_mib(const struct target *on)
{
    struct process found[MAX_PROCESSES];
    if (on->mig == NULL && on->gpu->used_mib != UNSAID)
        return (unsigned long long)on->gpu->used_mib;
    unsigned long long sum = on->mig == NULL ? (unsigned long long)on->gpu->leaked_mib : 0;
    int count = users_of(on, found);
    for (int i = 0; i < count; i++)
        sum += found[i].mib;
    return sum;
}

static nvmlReturn_t memory(nvmlDevice_t device, nvmlMemory_t *answer)
{
    struct target on;
    nvmlReturn_t result = enter(device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    unsigned long long total = (on.mig != NULL ? on.mig->mib : (unsigned)on.gpu->total_mib);
    unsigned long long used = used_mib(&on);
    if (used > total)
        used = total;
    *answer = (nvmlMemory_t){total << 20, (total - used) << 20, used << 20};
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *answer)
{
    return memory(device, answer);
}

API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *answer)
{
    if (answer->version != NVML_MEMORY_V2)
        return NVML_ERROR_VERSION_MISMATCH;
    nvmlMemory_t plain = {0};
    nvmlReturn_t result = memory(device, &plain);
    if (result == NVML_SUCCESS)
        *answer = (nvmlMemory_v2_t){NVML_MEMORY_V2, plain.total, 0, plain.free, plain.used};
    return result;
}

struct event_set {
    nvmlDevice_t device[MAX_GPUS];
    long seen[MAX_GPUS]; /* xid_count up to which the GPU's events were delivered */
};

API nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set)
{
    *set = calloc(1, sizeof **set);
    return *set != NULL ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

API nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set)
{
    free(set);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long *types)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    *types = NVML_EVENT_XID_CRITICAL_ERROR;
    return done(NVML_SUCCESS);
}

/* Only what happens from now on is delivered. */
API nvmlReturn_t nvmlDeviceRegisterEvents(
    nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set)
{
    struct target on;
    if (types & ~NVML_EVENT_XID_CRITICAL_ERROR)
        return NVML_ERROR_NOT_SUPPORTED;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL)
        return done(NVML_ERROR_NOT_SUPPORTED);
    set->device[on.index] = device;
    set->seen[on.index] = on.gpu->xid_count;
    return done(NVML_SUCCESS);
}

/* Whether a registered GPU had an event that was not delivered yet. */
static int next_event(const struct state *state, nvmlEventSet_t set, nvmlEventData_t *event)
{
    for (int i = 0; i < state->gpu_count; i++) {
        const struct gpu *gpu = &state->gpus[i];
        if (set->device[i] == NULL || gpu->xid_count <= set->seen[i])
            continue;
        set->seen[i]++;
        *event = (nvmlEventData_t){set->device[i], NVML_EVENT_XID_CRITICAL_ERROR,
                                   (unsigned long long)gpu->xid, NVML_NO_INSTANCE,
                                   NVML_NO_INSTANCE};
        return 1;
    }
    return 0;
}

API nvmlReturn_t nvmlEventSetWait_v2(
    nvmlEventSet_t set, nvmlEventData_t *event, unsigned timeout_ms)
{
    for (unsigned waited_ms = 0;; waited_ms += SCAN_MS) {
        const struct state *state;
        nvmlReturn_t result = enter_system(&state);
        if (result != NVML_SUCCESS)
            return result;
        if (done(next_event(state, set, event)))
            return NVML_SUCCESS;
        if (waited_ms >= timeout_ms)
            return NVML_ERROR_TIMEOUT;
        sleep_ms(SCAN_MS);
    }
}

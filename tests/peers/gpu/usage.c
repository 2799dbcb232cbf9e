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
static nvmlReturn_t list(
    const char *function, nvmlDevice_t device, char kind, unsigned *count, nvmlProcessInfo_t *out)
{
    struct target on;
    nvmlReturn_t result = enter_as(function, device, IDENTITY, &on);
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
    return list(__func__, device, 'c', count, out);
}

/* What drivers had before R510; the layout is the same. */
API nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out)
{
    return list(__func__, device, 'c', count, out);
}

API nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out)
{
    return list(__func__, device, 'g', count, out);
}

API nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(
    nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out)
{
    return list(__func__, device, 'm', count, out);
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

unsigned busy(const struct target *on, int instance)
{
    struct process found[MAX_PROCESSES];
    int all = processes_of(on->state, on->index, found, MAX_PROCESSES), count = 0;
    for (int i = 0; i < all; i++)
        if (instance < 0 || found[i].gi == (unsigned)instance)
            found[count++] = found[i];
    return utilisation(on->gpu, found, count);
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

/* Without what the driver keeps for itself, `reserved`. */
static nvmlReturn_t memory(const char *function, nvmlDevice_t device, nvmlMemory_v2_t *answer)
{
    struct target on;
    nvmlReturn_t result = enter_as(function, device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    unsigned long long total = (on.mig != NULL ? on.mig->mib : (unsigned)on.gpu->total_mib);
    unsigned long long reserved = on.mig != NULL ? 0 : (unsigned long long)on.gpu->reserved_mib;
    unsigned long long used = used_mib(&on);
    if (reserved > total)
        reserved = total;
    if (used > total - reserved)
        used = total - reserved;
    *answer = (nvmlMemory_v2_t){NVML_MEMORY_V2, total << 20, reserved << 20,
                                (total - reserved - used) << 20, used << 20};
    return done(NVML_SUCCESS);
}

/* The older call counts the reserve as used. */
API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *answer)
{
    nvmlMemory_v2_t full;
    nvmlReturn_t result = memory(__func__, device, &full);
    if (result == NVML_SUCCESS)
        *answer = (nvmlMemory_t){full.total, full.free, full.used + full.reserved};
    return result;
}

API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *answer)
{
    return answer->version != NVML_MEMORY_V2 ? NVML_ERROR_VERSION_MISMATCH
                                             : memory(__func__, device, answer);
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

static int has_lost(const struct state *state, nvmlEventSet_t set)
{
    for (int i = 0; i < state->gpu_count; i++)
        if (set->device[i] != NULL && state->gpus[i].lost)
            return 1;
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
        int found = next_event(state, set, event), lost = has_lost(state, set);
        done(NVML_SUCCESS);
        if (found)
            return NVML_SUCCESS;
        if (lost)
            return NVML_ERROR_GPU_IS_LOST;
        if (waited_ms >= timeout_ms)
            return NVML_ERROR_TIMEOUT;
        sleep_ms(SCAN_MS);
    }
}

/* Start and end of the library, its lock, and device handles. */
#define _GNU_SOURCE
#include "library.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_HANDLES = 512, POLL_MS = 20 };

/* Handles name a UUID rather than a place, so that after a repartition an old handle is invalid
 * instead of meaning another instance. */
struct handle {
    char uuid[UUID_SIZE];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all that follows */
static int users;
static struct state state;
static struct handle handles[MAX_HANDLES];
static int clients[MAX_GPUS]; /* descriptors of the nodes, see open_nodes */

void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

nvmlReturn_t put(const char *text, char *buffer, unsigned room)
{
    if (strlen(text) + 1 > room)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return NVML_SUCCESS;
}

nvmlDevice_t handle_of(const char *uuid)
{
    for (int i = 0; i < MAX_HANDLES; i++) {
        if (*handles[i].uuid == '\0')
            snprintf(handles[i].uuid, UUID_SIZE, "%s", uuid);
        if (strcmp(handles[i].uuid, uuid) == 0)
            return &handles[i];
    }
    return NULL;
}

nvmlReturn_t done(nvmlReturn_t result)
{
    pthread_mutex_unlock(&lock);
    return result;
}

nvmlReturn_t enter_system(const struct state **now)
{
    pthread_mutex_lock(&lock);
    if (users == 0)
        return done(NVML_ERROR_UNINITIALIZED);
    nvmlReturn_t result = state_refresh(&state);
    if (result != NVML_SUCCESS)
        return done(result);
    *now = &state;
    return NVML_SUCCESS;
}

/* Find the GPU or instance called *uuid* in the present state. */
static int find(const char *uuid, struct target *target)
{
    for (int i = 0; i < state.gpu_count; i++) {
        const struct gpu *gpu = &state.gpus[i];
        *target = (struct target){&state, gpu, i, NULL};
        if (gpu->present && !gpu->unlisted && strcmp(gpu->uuid, uuid) == 0)
            return 1;
        for (int j = 0; gpu->mig_mode && j < gpu->mig_count; j++) {
            target->mig = &gpu->mig[j];
            if (strcmp(target->mig->uuid, uuid) == 0)
                return 1;
        }
    }
    return 0;
}

/* As `find`, and wait as long as the GPU's `hang` says, or until it is set to 0: a call into a
 * hung driver. The lock is free meanwhile, so calls about other GPUs go on. */
static nvmlReturn_t find_answering(const char *uuid, struct target *target)
{
    for (long waited_ms = 0;; waited_ms += POLL_MS) {
        nvmlReturn_t result = state_refresh(&state);
        if (result != NVML_SUCCESS)
            return result;
        if (!find(uuid, target))
            return NVML_ERROR_NOT_FOUND;
        if (waited_ms >= target->gpu->hang * 1000)
            return NVML_SUCCESS;
        pthread_mutex_unlock(&lock);
        sleep_ms(POLL_MS);
        pthread_mutex_lock(&lock);
    }
}

nvmlReturn_t refusal(const struct gpu *gpu, const char *function)
{
    char word[128];
    snprintf(word, sizeof word, "%s=", function);
    for (const char *at = gpu->refuse; (at = strstr(at, word)) != NULL; at++)
        if (at == gpu->refuse || at[-1] == ' ')
            return atoi(at + strlen(word));
    return NVML_SUCCESS;
}

nvmlReturn_t enter_as(
    const char *function, nvmlDevice_t device, enum need need, struct target *target)
{
    const struct state *now;
    nvmlReturn_t result = enter_system(&now);
    if (result != NVML_SUCCESS)
        return result;
    if (device < handles || device >= handles + MAX_HANDLES)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    result = find_answering(device->uuid, target);
    if (result == NVML_ERROR_NOT_FOUND)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    if (result != NVML_SUCCESS)
        return done(result);
    if (target->gpu->lost)
        return done(NVML_ERROR_GPU_IS_LOST);
    if (need == MEASUREMENT && target->gpu->reset_required)
        return done(NVML_ERROR_RESET_REQUIRED);
    result = refusal(target->gpu, function);
    return result != NVML_SUCCESS ? done(result) : NVML_SUCCESS;
}

/* A client of the driver holds every GPU for its lifetime, which blocks a reset, though it is no
 * process that NVML lists. So the nodes are opened, but only for reading. */
static void open_nodes(void)
{
    for (int i = 0; i < MAX_GPUS; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/nvidia%ld", state.devices, state.gpus[i].minor);
        clients[i] = state.gpus[i].present ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    }
}

static void close_nodes(void)
{
    for (int i = 0; i < MAX_GPUS; i++)
        if (clients[i] >= 0)
            close(clients[i]);
}

API nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    pthread_mutex_lock(&lock);
    nvmlReturn_t result = state_refresh(&state);
    if (result == NVML_SUCCESS && users++ == 0)
        open_nodes();
    return done(result);
}

API nvmlReturn_t nvmlInit_v2(void)
{
    return nvmlInitWithFlags(0);
}

API nvmlReturn_t nvmlShutdown(void)
{
    pthread_mutex_lock(&lock);
    if (users == 0)
        return done(NVML_ERROR_UNINITIALIZED);
    if (--users == 0)
        close_nodes();
    return done(NVML_SUCCESS);
}

API const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NO_PERMISSION: return "Insufficient Permissions";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    case NVML_ERROR_DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT: return "Timeout";
    case NVML_ERROR_GPU_IS_LOST: return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED: return "GPU requires reset";
    case NVML_ERROR_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
    }
}

static nvmlReturn_t handle_for(const char *function, const char *uuid, nvmlDevice_t *device)
{
    struct target target;
    nvmlReturn_t result = find_answering(uuid, &target);
    if (result == NVML_SUCCESS && target.gpu->lost)
        result = NVML_ERROR_GPU_IS_LOST;
    if (result == NVML_SUCCESS)
        result = refusal(target.gpu, function);
    if (result == NVML_SUCCESS)
        *device = handle_of(uuid);
    return result;
}

API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    const struct state *now;
    nvmlReturn_t result = enter_system(&now);
    if (result != NVML_SUCCESS)
        return result;
    int place = 0, left = (int)index; /* indexes close up over GPUs that are not listed */
    while (place < now->gpu_count && (now->gpus[place].unlisted || left-- > 0))
        place++;
    if (place >= now->gpu_count || !now->gpus[place].present)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    char uuid[UUID_SIZE]; /* a copy: the state may change while a hung driver is waited for */
    snprintf(uuid, sizeof uuid, "%s", now->gpus[place].uuid);
    return done(handle_for(__func__, uuid, device));
}

API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    const struct state *now;
    nvmlReturn_t result = enter_system(&now);
    return result != NVML_SUCCESS ? result : done(handle_for(__func__, uuid, device));
}

API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device)
{
    const struct state *now;
    nvmlReturn_t result = enter_system(&now);
    if (result != NVML_SUCCESS)
        return result;
    char uuid[UUID_SIZE] = "";
    for (int i = 0; i < now->gpu_count; i++)
        if (strcasecmp(now->gpus[i].bus, bus) == 0)
            snprintf(uuid, sizeof uuid, "%s", now->gpus[i].uuid);
    return done(*uuid == '\0' ? NVML_ERROR_NOT_FOUND : handle_for(__func__, uuid, device));
}

/* GPM: how busy a GPU or an instance was between two samples. Hopper and later have it. */
#define _GNU_SOURCE
#include "library.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct gpm_sample {
    nvmlDevice_t device;
    int instance; /* negative for a whole GPU */
    unsigned long long at_ns;
    unsigned percent;
};

API nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support)
{
    struct target on;
    if (support->version != NVML_GPM_SUPPORT_VERSION)
        return NVML_ERROR_VERSION_MISMATCH;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    support->is_supported = on.gpu->gpm != 0;
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlGpmSampleAlloc(nvmlGpmSample_t *sample)
{
    *sample = calloc(1, sizeof **sample);
    return *sample != NULL ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

API nvmlReturn_t nvmlGpmSampleFree(nvmlGpmSample_t sample)
{
    free(sample);
    return NVML_SUCCESS;
}

static int has_instance(const struct gpu *gpu, unsigned instance)
{
    for (int i = 0; gpu->mig_mode && i < gpu->mig_count; i++)
        if (gpu->mig[i].gi == instance)
            return 1;
    return 0;
}

static nvmlReturn_t take(
    const char *function, nvmlDevice_t device, int instance, nvmlGpmSample_t sample)
{
    struct target on;
    nvmlReturn_t result = enter_as(function, device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (!on.gpu->gpm)
        return done(NVML_ERROR_NOT_SUPPORTED);
    if (on.mig != NULL || (instance >= 0 && !has_instance(on.gpu, (unsigned)instance)))
        return done(NVML_ERROR_INVALID_ARGUMENT);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *sample = (struct gpm_sample){
        .device = device,
        .instance = instance,
        .at_ns = (unsigned long long)now.tv_sec * 1000000000 + (unsigned long long)now.tv_nsec,
        .percent = busy(&on, instance),
    };
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample)
{
    return take(__func__, device, -1, sample);
}

API nvmlReturn_t nvmlGpmMigSampleGet(
    nvmlDevice_t device, unsigned instance, nvmlGpmSample_t sample)
{
    return take(__func__, device, (int)instance, sample);
}

/* Real samples are counters; here the mean of what was true at either end stands for the time
 * between them. */
API nvmlReturn_t nvmlGpmMetricsGet(nvmlGpmMetricsGet_t *asked)
{
    const struct state *state;
    nvmlReturn_t result = enter_system(&state);
    if (result != NVML_SUCCESS)
        return result;
    const struct gpm_sample *older = asked->older, *newer = asked->newer;
    if (asked->version != NVML_GPM_METRICS_GET_VERSION)
        return done(NVML_ERROR_VERSION_MISMATCH);
    if (older == NULL || newer == NULL || older->device == NULL ||
        older->device != newer->device || older->instance != newer->instance ||
        older->at_ns >= newer->at_ns)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    for (unsigned i = 0; i < asked->count; i++) {
        int known = asked->metrics[i].metric == NVML_GPM_METRIC_GRAPHICS_UTIL;
        asked->metrics[i].result = known ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
        asked->metrics[i].value = known ? (older->percent + newer->percent) / 2.0 : 0;
    }
    return done(NVML_SUCCESS);
}

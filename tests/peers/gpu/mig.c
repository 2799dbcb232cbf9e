/* The calls about MIG: the instances of a GPU and what share of it they are. */
#include "library.h"

#include <stdio.h>
#include <string.h>

API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL || !on.gpu->mig_capable)
        return done(NVML_ERROR_NOT_SUPPORTED);
    *current = *pending = on.gpu->mig_mode != 0;
    return done(NVML_SUCCESS);
}

/* How many there may be: one per compute slice. */
API nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    *count = on.gpu->mig_capable ? (unsigned)on.gpu->mig_slices : 0;
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(
    nvmlDevice_t device, unsigned index, nvmlDevice_t *instance)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (!on.gpu->mig_mode || index >= (unsigned)on.gpu->mig_count)
        return done(NVML_ERROR_NOT_FOUND);
    *instance = handle_of(on.gpu->mig[index].uuid);
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_instance)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    *is_instance = on.mig != NULL;
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    nvmlDevice_t instance, nvmlDevice_t *device)
{
    struct target on;
    nvmlReturn_t result = enter(instance, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig == NULL)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    *device = handle_of(on.gpu->uuid);
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig == NULL)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    *id = on.mig->gi;
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig == NULL)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    *id = on.mig->ci;
    return done(NVML_SUCCESS);
}

enum { MULTIPROCESSORS_PER_SLICE = 14 }; /* A100 */

/* Only a MIG device has attributes; the whole GPU's slices are those of its largest profile. */
API nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig == NULL)
        return done(NVML_ERROR_NOT_SUPPORTED);
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessors = MULTIPROCESSORS_PER_SLICE * on.mig->slices;
    attributes->gpu_instance_slices = on.mig->slices;
    attributes->compute_instance_slices = on.mig->slices;
    attributes->memory_mib = on.mig->mib;
    return done(NVML_SUCCESS);
}

/* Slices, the share of memory in eighths, and the driver's own id (A100) per profile number. */
static const struct {
    unsigned slices, eighths, id;
} PROFILES[] = {{1, 1, 19}, {2, 2, 14}, {3, 4, 9}, {4, 4, 5}, {7, 8, 0}};

static nvmlReturn_t profile(
    const char *function, nvmlDevice_t device, unsigned number,
    nvmlGpuInstanceProfileInfo_v2_t *info)
{
    struct target on;
    nvmlReturn_t result = enter_as(function, device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL || !on.gpu->mig_capable)
        return done(NVML_ERROR_NOT_SUPPORTED);
    unsigned known = sizeof PROFILES / sizeof *PROFILES;
    if (number >= known || PROFILES[number].slices > (unsigned)on.gpu->mig_slices)
        return done(NVML_ERROR_NOT_SUPPORTED);
    unsigned slices = PROFILES[number].slices;
    info->id = PROFILES[number].id;
    info->slices = slices;
    info->instances = (unsigned)on.gpu->mig_slices / slices;
    info->multiprocessors = MULTIPROCESSORS_PER_SLICE * slices;
    info->memory_mib = (unsigned long long)on.gpu->total_mib * PROFILES[number].eighths / 8;
    snprintf(info->name, sizeof info->name, "MIG %ug.%llugb", slices,
             (info->memory_mib + 512) / 1024);
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(
    nvmlDevice_t device, unsigned number, nvmlGpuInstanceProfileInfo_v2_t *info)
{
    if (info->version != NVML_GPU_INSTANCE_PROFILE_INFO_V2)
        return NVML_ERROR_VERSION_MISMATCH;
    return profile(__func__, device, number, info);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(
    nvmlDevice_t device, unsigned number, nvmlGpuInstanceProfileInfo_t *info)
{
    nvmlGpuInstanceProfileInfo_v2_t full = {0};
    nvmlReturn_t result = profile(__func__, device, number, &full);
    if (result == NVML_SUCCESS)
        *info = (nvmlGpuInstanceProfileInfo_t){
            .id = full.id,
            .slices = full.slices,
            .instances = full.instances,
            .multiprocessors = full.multiprocessors,
            .memory_mib = full.memory_mib,
        };
    return result;
}

/* The calls about one GPU: who it is, how it is, and the settings that can be changed. */
#define _GNU_SOURCE
#include "library.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

API nvmlReturn_t nvmlSystemGetDriverVersion(char *buffer, unsigned room)
{
    const struct state *state;
    nvmlReturn_t result = enter_system(&state);
    return result != NVML_SUCCESS ? result : done(put(state->driver, buffer, room));
}

API nvmlReturn_t nvmlSystemGetNVMLVersion(char *buffer, unsigned room)
{
    return put("12.0.0-simulated", buffer, room);
}

API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    const struct state *state;
    nvmlReturn_t result = enter_system(&state);
    if (result != NVML_SUCCESS)
        return result;
    *version = (int)state->cuda;
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    const struct state *state;
    nvmlReturn_t result = enter_system(&state);
    if (result != NVML_SUCCESS)
        return result;
    *count = 0;
    for (int i = 0; i < state->gpu_count; i++)
        *count += !state->gpus[i].unlisted;
    return done(NVML_SUCCESS);
}

/* The program's path, as the first word of its command line. */
API nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *buffer, unsigned room)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NVML_ERROR_NOT_FOUND;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    text[size > 0 ? size : 0] = '\0';
    return put(text, buffer, room);
}

API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *buffer, unsigned room)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    return done(put(on.mig != NULL ? on.mig->uuid : on.gpu->uuid, buffer, room));
}

API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *buffer, unsigned room)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    char name[160];
    if (on.mig != NULL)
        snprintf(name, sizeof name, "%s MIG %s", on.gpu->name, on.mig->profile);
    else
        snprintf(name, sizeof name, "%s", on.gpu->name);
    return done(put(name, buffer, room));
}

API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    *index = (unsigned)(on.mig != NULL ? on.mig - on.gpu->mig : on.index);
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    *minor = (unsigned)on.gpu->minor;
    return done(on.mig != NULL ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    memset(pci, 0, sizeof *pci);
    sscanf(on.gpu->bus, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%s", on.gpu->bus);
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:%02X.0",
             pci->domain & 0xFFFF, pci->bus & 0xFF, pci->device & 0xFF);
    return done(NVML_SUCCESS);
}

/* Read one number of the whole GPU; a MIG device has none of these. */
static nvmlReturn_t read_whole(
    const char *function, nvmlDevice_t device, size_t offset, unsigned *value)
{
    struct target on;
    nvmlReturn_t result = enter_as(function, device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL)
        return done(NVML_ERROR_NOT_SUPPORTED);
    *value = (unsigned)*(const long *)((const char *)on.gpu + offset);
    return done(NVML_SUCCESS);
}

#define READ(device, field, value) \
    read_whole(__func__, device, __builtin_offsetof(struct gpu, field), value)

API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *celsius)
{
    return sensor != 0 ? NVML_ERROR_INVALID_ARGUMENT : READ(device, temp, celsius);
}

API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *answer)
{
    if (answer->version != NVML_TEMPERATURE_V1)
        return NVML_ERROR_VERSION_MISMATCH;
    return nvmlDeviceGetTemperature(device, answer->sensor, (unsigned *)&answer->temperature);
}

API nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts)
{
    return READ(device, power_mw, milliwatts);
}

/* Millijoules since the driver loaded. */
API nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *energy)
{
    struct target on;
    nvmlReturn_t result = enter(device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    *energy = (unsigned long long)on.gpu->energy_mj;
    return done(on.mig != NULL ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS);
}

/* clock: 0 graphics, 1 SM, 2 memory, 3 video; the first two are told alike. */
API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int clock, unsigned *mhz)
{
    if (clock < 0 || clock > 2)
        return NVML_ERROR_INVALID_ARGUMENT;
    return clock == 2 ? READ(device, mem_mhz, mhz) : READ(device, sm_mhz, mhz);
}

API nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned *milliwatts)
{
    return READ(device, power_limit_mw, milliwatts);
}

API nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *milliwatts)
{
    return READ(device, power_limit_mw, milliwatts);
}

API nvmlReturn_t nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t device, unsigned *mw)
{
    return READ(device, power_default_mw, mw);
}

API nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(
    nvmlDevice_t device, unsigned *min_mw, unsigned *max_mw)
{
    nvmlReturn_t result = READ(device, power_min_mw, min_mw);
    return result != NVML_SUCCESS ? result : READ(device, power_max_mw, max_mw);
}

API nvmlReturn_t nvmlDeviceGetPersistenceMode(nvmlDevice_t device, unsigned *mode)
{
    return READ(device, persistence, mode);
}

/* error: 0 corrected, 1 uncorrected; counter: 0 since the driver loaded, 1 ever. */
API nvmlReturn_t nvmlDeviceGetTotalEccErrors(
    nvmlDevice_t device, int error, int counter, unsigned long long *count)
{
    unsigned fresh = 0, before = 0;
    nvmlReturn_t result = READ(device, ecc_dbe, &fresh);
    if (result == NVML_SUCCESS)
        result = READ(device, ecc_dbe_before, &before);
    if (result == NVML_SUCCESS)
        *count = error != 1 ? 0 : counter == 0 ? fresh : fresh + before;
    return result;
}

/* Not to be had from a GPU that is cut into instances. */
API nvmlReturn_t nvmlDeviceGetRemappedRows(
    nvmlDevice_t device, unsigned *correctable, unsigned *uncorrectable, unsigned *pending,
    unsigned *failed)
{
    struct target on;
    nvmlReturn_t result = enter(device, MEASUREMENT, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL || (on.gpu->mig_mode && on.gpu->mig_count > 0))
        return done(NVML_ERROR_NOT_SUPPORTED);
    *correctable = (unsigned)on.gpu->remap_correctable;
    *uncorrectable = (unsigned)on.gpu->remap_uncorrectable +
                     (on.gpu->remap_pending || on.gpu->remap_failed);
    *pending = on.gpu->remap_pending != 0;
    *failed = on.gpu->remap_failed != 0;
    return done(NVML_SUCCESS);
}

static unsigned field(const struct gpu *gpu, unsigned id, nvmlReturn_t *result)
{
    *result = NVML_SUCCESS;
    switch (id) {
    case NVML_FI_DEV_GET_GPU_RECOVERY_ACTION: return (unsigned)gpu->recovery_action;
    case NVML_FI_DEV_RESET_STATUS: return gpu->recovery_action == RECOVERY_RESET;
    case NVML_FI_DEV_DRAIN_AND_RESET_STATUS:
        return gpu->recovery_action == RECOVERY_DRAIN_AND_RESET;
    case NVML_FI_DEV_MEMORY_TEMP:
        if (gpu->memory_temp != UNSAID)
            return (unsigned)gpu->memory_temp;
    }
    *result = NVML_ERROR_NOT_SUPPORTED;
    return 0;
}

API nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    for (int i = 0; i < count; i++) {
        values[i].value_type = 1;
        values[i].value.q = 0;
        values[i].value.u = field(on.gpu, values[i].field, &values[i].result);
    }
    return done(NVML_SUCCESS);
}

static nvmlReturn_t change(
    const char *function, nvmlDevice_t device, const char *key, unsigned value,
    int (*is_allowed)(const struct gpu *, unsigned))
{
    struct target on;
    nvmlReturn_t result = enter_as(function, device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    if (on.mig != NULL)
        return done(NVML_ERROR_NOT_SUPPORTED);
    if (geteuid() != 0)
        return done(NVML_ERROR_NO_PERMISSION);
    if (!is_allowed(on.gpu, value))
        return done(NVML_ERROR_INVALID_ARGUMENT);
    return done(state_write(on.index, key, value));
}

static int is_in_power_range(const struct gpu *gpu, unsigned milliwatts)
{
    return milliwatts >= (unsigned)gpu->power_min_mw && milliwatts <= (unsigned)gpu->power_max_mw;
}

API nvmlReturn_t nvmlDeviceSetPowerManagementLimit(nvmlDevice_t device, unsigned milliwatts)
{
    return change(__func__, device, "power_limit_mw", milliwatts, is_in_power_range);
}

static int is_switch(const struct gpu *gpu, unsigned value)
{
    (void)gpu;
    return value <= 1;
}

API nvmlReturn_t nvmlDeviceSetPersistenceMode(nvmlDevice_t device, unsigned mode)
{
    return change(__func__, device, "persistence", mode, is_switch);
}

/* Which GPUs hang together by NVLink, and of which generation a GPU is. */
#include "library.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is at the other end of each link, in `nvlink`: a GPU's index, or the word "switch". Return
 * the entry for *link*, NULL where there is none. */
static const char *entry(const struct gpu *gpu, unsigned link)
{
    const char *at = gpu->nvlink;
    for (; link > 0 && at != NULL; link--) {
        at = strchr(at, ',');
        if (at != NULL)
            at++;
    }
    return at == NULL || *at == '\0' ? NULL : at;
}

static nvmlReturn_t enter_linked(
    const char *function, nvmlDevice_t device, unsigned link, struct target *on)
{
    nvmlReturn_t result = enter_as(function, device, IDENTITY, on);
    if (result != NVML_SUCCESS)
        return result;
    if (link >= NVML_NVLINK_MAX_LINKS)
        return done(NVML_ERROR_INVALID_ARGUMENT);
    if (on->mig != NULL || *on->gpu->nvlink == '\0')
        return done(NVML_ERROR_NOT_SUPPORTED);
    return NVML_SUCCESS;
}

API nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, unsigned *is_active)
{
    struct target on;
    nvmlReturn_t result = enter_linked(__func__, device, link, &on);
    if (result != NVML_SUCCESS)
        return result;
    *is_active = entry(on.gpu, link) != NULL;
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(
    nvmlDevice_t device, unsigned link, nvmlPciInfo_t *pci)
{
    struct target on;
    nvmlReturn_t result = enter_linked(__func__, device, link, &on);
    if (result != NVML_SUCCESS)
        return result;
    const char *remote = entry(on.gpu, link);
    if (remote == NULL)
        return done(NVML_ERROR_NOT_SUPPORTED);
    memset(pci, 0, sizeof *pci);
    int index = atoi(remote);
    int is_switch = strncmp(remote, "switch", 6) == 0;
    if (!is_switch && (index < 0 || index >= on.state->gpu_count))
        return done(NVML_ERROR_NOT_FOUND);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%s",
             is_switch ? "00000000:F0:00.0" : on.state->gpus[index].bus);
    return done(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    struct target on;
    nvmlReturn_t result = enter(device, IDENTITY, &on);
    if (result != NVML_SUCCESS)
        return result;
    *major = *minor = 0;
    sscanf(on.gpu->compute_capability, "%d.%d", major, minor);
    return done(NVML_SUCCESS);
}

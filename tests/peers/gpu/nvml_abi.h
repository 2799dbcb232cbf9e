/* What a caller of libnvidia-ml.so.1 relies on: numbers and memory layouts.
 *
 * Written from the ctypes declarations of the `pynvml` module (nvidia-ml-py), which is the only
 * caller here. Only what the stand-in answers is declared. */
#ifndef NVML_ABI_H
#define NVML_ABI_H

#define API __attribute__((visibility("default")))

typedef int nvmlReturn_t;

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_TIMEOUT = 10,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_RESET_REQUIRED = 16,
    NVML_ERROR_VERSION_MISMATCH = 25,
    NVML_ERROR_UNKNOWN = 999,
};

/* "This process is in no GPU or compute instance." */
#define NVML_NO_INSTANCE 0xFFFFFFFFu

/* A device handle is opaque to callers; here it is a name that is looked up at every call. */
typedef struct handle *nvmlDevice_t;
typedef struct event_set *nvmlEventSet_t;

typedef struct {
    unsigned gpu;
    unsigned memory;
} nvmlUtilization_t;

typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

#define NVML_MEMORY_V2 0x02000028u
typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} nvmlMemory_v2_t;

#define NVML_TEMPERATURE_V1 0x100000Cu
typedef struct {
    unsigned version;
    int sensor;
    int temperature;
} nvmlTemperature_t;

typedef struct {
    unsigned pid;
    unsigned long long used_memory;
    unsigned gpu_instance, compute_instance;
} nvmlProcessInfo_t;

typedef struct {
    unsigned pid;
    unsigned long long timestamp; /* microseconds since the epoch */
    unsigned sm, memory, encoder, decoder;
} nvmlProcessUtilizationSample_t;

typedef struct {
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} nvmlPciInfo_t;

typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    unsigned gpu_instance_slices, compute_instance_slices;
    unsigned long long memory_mib;
} nvmlDeviceAttributes_t;

typedef struct {
    unsigned id, p2p, slices, instances, multiprocessors;
    unsigned copy_engines, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mib;
} nvmlGpuInstanceProfileInfo_t;

#define NVML_GPU_INSTANCE_PROFILE_INFO_V2 0x02000098u
typedef struct {
    unsigned version;
    unsigned id, p2p, slices, instances, multiprocessors;
    unsigned copy_engines, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mib;
    char name[96];
} nvmlGpuInstanceProfileInfo_v2_t;

enum { NVML_NVLINK_MAX_LINKS = 18 };

/* The fields of nvmlDeviceGetFieldValues that are answered. */
enum {
    NVML_FI_DEV_MEMORY_TEMP = 82,
    NVML_FI_DEV_RESET_STATUS = 226,
    NVML_FI_DEV_DRAIN_AND_RESET_STATUS = 227,
    NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 230,
};
enum { RECOVERY_RESET = 1, RECOVERY_DRAIN_AND_RESET = 4 };

typedef struct {
    unsigned field, scope;
    long long timestamp, latency_us;
    int value_type; /* 1: unsigned int */
    nvmlReturn_t result;
    union {
        double d;
        unsigned u;
        unsigned long long q;
    } value;
} nvmlFieldValue_t;

/* GPM, which compares two samples. The array of metrics is as long as the caller's library has it;
 * only `count` of them are touched. */
typedef struct gpm_sample *nvmlGpmSample_t;
typedef struct {
    unsigned metric;
    nvmlReturn_t result;
    double value;
    const char *short_name, *long_name, *unit;
} nvmlGpmMetric_t;

#define NVML_GPM_METRICS_GET_VERSION 1
#define NVML_GPM_METRIC_GRAPHICS_UTIL 1
typedef struct {
    unsigned version, count;
    nvmlGpmSample_t older, newer;
    nvmlGpmMetric_t metrics[];
} nvmlGpmMetricsGet_t;

#define NVML_GPM_SUPPORT_VERSION 1
typedef struct {
    unsigned version, is_supported;
} nvmlGpmSupport_t;

#define NVML_EVENT_XID_CRITICAL_ERROR 8ull
typedef struct {
    nvmlDevice_t device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
} nvmlEventData_t;

#endif

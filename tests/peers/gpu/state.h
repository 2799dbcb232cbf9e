/* The simulated machine, as the state file describes it.
 *
 * The file is written by state.py (GpuHost, the `gpu` tool, the stand-in nvidia-smi), always by
 * rename and under a lock on FILE.lock; README.md lists its keys. */
#ifndef STATE_H
#define STATE_H

#include "nvml_abi.h"

enum { MAX_GPUS = 16, MAX_MIG = 8, MAX_PROCESSES = 256, UUID_SIZE = 96 };

/* "The file does not say": for numbers whose 0 means something. */
enum { UNSAID = -1 };

struct mig {
    char uuid[UUID_SIZE], profile[32];
    unsigned gi, ci, slices, mib;
};

/* A process that the file lists by hand (`proc=`). */
struct listed {
    unsigned pid;
    unsigned long long start; /* clock ticks after boot as in /proc/PID/stat; 0: whoever has pid */
    long mib, util, gi, ci;   /* UNSAID: as found in /proc, else the GPU's default */
    char kind;                /* 'c'ompute, 'g'raphics, 'm'ps */
};

struct gpu {
    int present;
    char uuid[UUID_SIZE], name[UUID_SIZE], bus[32];
    char nvlink[64], compute_capability[16]; /* see nvlink.c */
    char refuse[512]; /* "nvmlDeviceGetPowerUsage=4 ...": functions that fail, and how */
    long minor, temp, util, memutil; /* util UNSAID: auto, what the processes say */
    long total_mib, used_mib, leaked_mib, auto_mib; /* used UNSAID: auto, the sum */
    long reserved_mib, memory_temp, energy_mj, sm_mhz, mem_mhz; /* memory_temp UNSAID: untold */
    long power_mw, power_limit_mw, power_min_mw, power_max_mw, power_default_mw;
    long persistence, lost, reset_required, recovery_action, remap_pending, remap_failed;
    long ecc_dbe, ecc_dbe_before, remap_correctable, remap_uncorrectable;
    long hang, xid, xid_count, unlisted, gpm;
    long mig_capable, mig_mode, mig_slices;
    int mig_count, listed_count;
    struct mig mig[MAX_MIG];
    struct listed listed[MAX_PROCESSES];
};

struct state {
    char driver[80], devices[512]; /* devices: the folder that holds the nodes nvidia0, ... */
    long driver_loaded, cuda;
    int gpu_count;
    struct gpu gpus[MAX_GPUS];
};

/* Bring *state* up to date with the file; cheap when nothing changed.
 * DRIVER_NOT_LOADED without a file or with `driver_loaded=0`. */
nvmlReturn_t state_refresh(struct state *state);

/* Set one key of one GPU in the file, for everybody; the next refresh sees it. */
nvmlReturn_t state_write(int gpu, const char *key, unsigned long value);

#endif

/* Which processes use a GPU now. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include "state.h"

struct process {
    unsigned pid;
    unsigned long long start; /* clock ticks after boot, so that a reused pid is somebody else */
    unsigned mib, gi, ci;     /* gi and ci: NVML_NO_INSTANCE outside MIG */
    long util;                /* percent, UNSAID where nobody told */
    char kind;
};

/* Fill *found* with the living processes of GPU *index*; return how many.
 *
 * They are those that the state lists, and every process that has the GPU's node open for
 * reading and writing. A dead process is gone at once; a new one shows within SCAN_MS. */
int processes_of(const struct state *state, int index, struct process *found, int room);

enum { SCAN_MS = 20 };

#endif

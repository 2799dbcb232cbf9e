/* What every call does first: lock, refresh the state, find the device that a handle names. */
#ifndef LIBRARY_H
#define LIBRARY_H

#include "state.h"

/* What a call wants of its device. A lost GPU refuses both; one that must be reset answers who it
 * is and who uses it, but measures nothing (an assumption: NVIDIA does not say which calls). */
enum need { IDENTITY, MEASUREMENT };

struct target {
    const struct state *state;
    const struct gpu *gpu;
    int index;
    const struct mig *mig; /* NULL for a whole GPU */
};

/* On success the library is locked and *target* valid until `done`; otherwise it is unlocked.
 * *function* is the one called, which the state may have refused (`refuse`). */
nvmlReturn_t enter_as(
    const char *function, nvmlDevice_t device, enum need need, struct target *target);
#define enter(device, need, target) enter_as(__func__, device, need, target)

/* The same for calls without a device. */
nvmlReturn_t enter_system(const struct state **state);

/* Unlock and pass *result* on. */
nvmlReturn_t done(nvmlReturn_t result);

/* The handle of the device with this UUID; the same each time. Needs the lock. */
nvmlDevice_t handle_of(const char *uuid);

/* What the state has *function* fail with for this GPU, or SUCCESS. */
nvmlReturn_t refusal(const struct gpu *gpu, const char *function);

/* Copy a string to a caller's buffer of *room* bytes. */
nvmlReturn_t put(const char *text, char *buffer, unsigned room);

/* How busy the GPU, or one of its instances (else negative), is by its processes; percent. */
unsigned busy(const struct target *on, int instance);

void sleep_ms(long ms);

#endif

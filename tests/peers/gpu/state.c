/* Reading the state file when it changed, and writing single keys back. */
#define _GNU_SOURCE
#include "state.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum type { NUMBER, TEXT };

struct key {
    const char *name;
    enum type type;
    size_t offset, size;
};

#define NUM(of, field) {#field, NUMBER, offsetof(of, field), sizeof(long)}
#define STR(of, field) {#field, TEXT, offsetof(of, field), sizeof(((of *)0)->field)}

static const struct key GLOBAL_KEYS[] = {
    STR(struct state, driver), STR(struct state, devices), NUM(struct state, driver_loaded),
    NUM(struct state, cuda), {0}};

static const struct key GPU_KEYS[] = {
    STR(struct gpu, uuid), STR(struct gpu, name), STR(struct gpu, bus),
    STR(struct gpu, nvlink),
    STR(struct gpu, compute_capability), STR(struct gpu, refuse), NUM(struct gpu, unlisted), NUM(struct gpu, gpm),
    NUM(struct gpu, reserved_mib), NUM(struct gpu, memory_temp),
    NUM(struct gpu, energy_mj), NUM(struct gpu, sm_mhz), NUM(struct gpu, mem_mhz),
    NUM(struct gpu, ecc_dbe_before), NUM(struct gpu, remap_correctable),
    NUM(struct gpu, remap_uncorrectable),
    NUM(struct gpu, minor), NUM(struct gpu, temp), NUM(struct gpu, util),
    NUM(struct gpu, memutil), NUM(struct gpu, total_mib), NUM(struct gpu, used_mib),
    NUM(struct gpu, leaked_mib), NUM(struct gpu, auto_mib), NUM(struct gpu, power_mw),
    NUM(struct gpu, power_limit_mw), NUM(struct gpu, power_min_mw),
    NUM(struct gpu, power_max_mw), NUM(struct gpu, power_default_mw),
    NUM(struct gpu, persistence), NUM(struct gpu, lost), NUM(struct gpu, reset_required),
    NUM(struct gpu, recovery_action), NUM(struct gpu, remap_pending),
    NUM(struct gpu, remap_failed), NUM(struct gpu, ecc_dbe), NUM(struct gpu, hang),
    NUM(struct gpu, xid), NUM(struct gpu, xid_count), NUM(struct gpu, mig_capable),
    NUM(struct gpu, mig_mode), NUM(struct gpu, mig_slices), {0}};

static long number(const char *text)
{
    return strcmp(text, "auto") == 0 ? UNSAID : strtol(text, NULL, 10);
}

/* Keys that nobody here knows are nvidia-smi's or the tool's business. */
static void assign(const struct key *keys, void *to, const char *name, const char *value)
{
    for (const struct key *key = keys; key->name != NULL; key++) {
        if (strcmp(key->name, name) != 0)
            continue;
        if (key->type == NUMBER)
            *(long *)((char *)to + key->offset) = number(value);
        else
            snprintf((char *)to + key->offset, key->size, "%s", value);
        return;
    }
}

/* "mig=UUID gi=3 ci=0 profile=2g.20gb slices=2 mib=20480" */
static void add_mig(struct gpu *gpu, char *text)
{
    if (gpu->mig_count == MAX_MIG)
        return;
    struct mig *mig = &gpu->mig[gpu->mig_count++];
    char *rest = NULL, *word = strtok_r(text, " ", &rest);
    snprintf(mig->uuid, sizeof mig->uuid, "%s", word != NULL ? word : "");
    while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
        sscanf(word, "gi=%u", &mig->gi);
        sscanf(word, "ci=%u", &mig->ci);
        sscanf(word, "slices=%u", &mig->slices);
        sscanf(word, "mib=%u", &mig->mib);
        sscanf(word, "profile=%31s", mig->profile);
    }
}

/* "proc=1234 start=5678 mib=2048 util=30 gi=3 ci=0 kind=graphics" */
static void add_listed(struct gpu *gpu, char *text)
{
    if (gpu->listed_count == MAX_PROCESSES)
        return;
    struct listed *process = &gpu->listed[gpu->listed_count++];
    *process = (struct listed){.mib = UNSAID, .util = UNSAID, .gi = UNSAID, .ci = UNSAID};
    process->kind = 'c';
    char *rest = NULL, *word = strtok_r(text, " ", &rest);
    process->pid = word != NULL ? (unsigned)strtoul(word, NULL, 10) : 0;
    while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
        sscanf(word, "start=%llu", &process->start);
        sscanf(word, "mib=%ld", &process->mib);
        sscanf(word, "util=%ld", &process->util);
        sscanf(word, "gi=%ld", &process->gi);
        sscanf(word, "ci=%ld", &process->ci);
        sscanf(word, "kind=%c", &process->kind);
    }
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    char *end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    return text;
}

/* The number in "[gpu3]", or -1 where the line is no such header. */
static int section(const char *line)
{
    int gpu = -1;
    if (sscanf(line, "[gpu%d]", &gpu) != 1 || gpu < 0 || gpu >= MAX_GPUS)
        return -1;
    return gpu;
}

static void parse(struct state *state, FILE *file)
{
    memset(state, 0, sizeof *state);
    state->driver_loaded = 1;
    struct gpu *gpu = NULL;
    char buffer[1024];
    while (fgets(buffer, sizeof buffer, file) != NULL) {
        char *line = trim(buffer);
        if (*line == '[') {
            int index = section(line);
            if (index < 0)
                return; /* state.py refuses such a file; here the rest is left out */
            gpu = &state->gpus[index];
            gpu->present = 1;
            if (index >= state->gpu_count)
                state->gpu_count = index + 1;
            continue;
        }
        char *value = strchr(line, '=');
        if (*line == '#' || value == NULL)
            continue;
        *value++ = '\0';
        line = trim(line);
        value = trim(value);
        if (gpu == NULL)
            assign(GLOBAL_KEYS, state, line, value);
        else if (strcmp(line, "mig") == 0)
            add_mig(gpu, value);
        else if (strcmp(line, "proc") == 0)
            add_listed(gpu, value);
        else
            assign(GPU_KEYS, gpu, line, value);
    }
}

/* Writers rename a new file into place with a fresh nanosecond mtime, so any edit shows here. */
static int same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

nvmlReturn_t state_refresh(struct state *state)
{
    static struct stat seen;
    struct stat now;
    const char *path = getenv("FAKE_NVML_STATE");
    if (path == NULL || stat(path, &now) != 0)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    if (!same_file(&seen, &now)) {
        FILE *file = fopen(path, "re");
        if (file == NULL)
            return NVML_ERROR_DRIVER_NOT_LOADED;
        /* What is read is remembered by its own identity: it may be newer than the stat above. */
        if (fstat(fileno(file), &seen) != 0)
            memset(&seen, 0, sizeof seen);
        parse(state, file);
        fclose(file);
    }
    return state->driver_loaded ? NVML_SUCCESS : NVML_ERROR_DRIVER_NOT_LOADED;
}

/* Copy *from* to *to*, with `key=value` in the section of *gpu* in place of what stood there. */
static int copy_with(FILE *from, FILE *to, int gpu, const char *key, unsigned long value)
{
    char line[1024];
    int here = -1, written = 0;
    size_t length = strlen(key);
    while (fgets(line, sizeof line, from) != NULL) {
        if (here == gpu && strncmp(line, key, length) == 0 && line[length] == '=')
            continue;
        fputs(line, to);
        if (*line != '[')
            continue;
        here = section(line);
        if (here == gpu) {
            fprintf(to, "%s=%lu\n", key, value);
            written = 1;
        }
    }
    return written;
}

static nvmlReturn_t replace(const char *path, int gpu, const char *key, unsigned long value)
{
    char fresh[PATH_MAX];
    snprintf(fresh, sizeof fresh, "%s.new", path); /* one writer at a time: we hold the lock */
    FILE *from = fopen(path, "re"), *to = fopen(fresh, "we");
    int done = from != NULL && to != NULL && copy_with(from, to, gpu, key, value);
    if (to != NULL) {
        struct timespec times[2];
        clock_gettime(CLOCK_REALTIME, &times[0]);
        times[1] = times[0];
        done = done && fflush(to) == 0 && futimens(fileno(to), times) == 0;
        done = fclose(to) == 0 && done;
    }
    if (from != NULL)
        fclose(from);
    if (done && rename(fresh, path) == 0)
        return NVML_SUCCESS;
    unlink(fresh);
    return NVML_ERROR_UNKNOWN;
}

nvmlReturn_t state_write(int gpu, const char *key, unsigned long value)
{
    const char *path = getenv("FAKE_NVML_STATE");
    if (path == NULL)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s.lock", path);
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0 || flock(lock, LOCK_EX) != 0) {
        if (lock >= 0)
            close(lock);
        return NVML_ERROR_NO_PERMISSION;
    }
    nvmlReturn_t result = replace(path, gpu, key, value);
    close(lock);
    return result;
}

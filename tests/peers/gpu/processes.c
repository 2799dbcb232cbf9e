/* Finding the users of a GPU in /proc.
 *
 * A process uses GPU N when it has N's device node open for reading and writing. There are two
 * ways to know the node: it is the very file in the state's `devices` folder (host processes), or
 * it is called /dev/nvidiaN, N being the minor number, and is a copy of our stand-in node, which
 * is what a container gets by `--device NODE:/dev/nvidiaN`. Copies look alike on every simulated
 * host of a machine, so a process whose NVIDIA_VISIBLE_DEVICES names only UUIDs that are not in
 * our state belongs to another simulated host. */
#define _GNU_SOURCE
#include "processes.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* The node is a copy of /dev/null. A real NVIDIA node (major 195) is never taken for ours. */
#define NODE_DEVICE makedev(1, 3)

struct holder {
    unsigned pid;
    unsigned long long start;
    int gpu;
    long mib, util;
    char visible[1024]; /* its NVIDIA_VISIBLE_DEVICES */
};

static struct holder holders[MAX_PROCESSES];
static int holder_count;

/* The start of a living process in clock ticks after boot; 0 for a dead or zombie one. */
static unsigned long long alive_since(unsigned pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    if (size <= 0)
        return 0;
    text[size] = '\0';
    /* The name in parentheses may hold anything, so fields are counted after the last ')'. */
    const char *field = strrchr(text, ')');
    if (field == NULL || field[2] == 'Z' || field[2] == 'X')
        return 0;
    for (int number = 2; number < 22 && field != NULL; number++)
        field = strchr(field + 1, ' ');
    return field != NULL ? strtoull(field, NULL, 10) : 0;
}

/* The value of *name* in a NUL-separated environment, or NULL. */
static const char *variable(const char *environment, size_t size, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = environment; at < environment + size; at += strlen(at) + 1)
        if (strncmp(at, name, length) == 0 && at[length] == '=')
            return at + length + 1;
    return NULL;
}

static void read_environment(struct holder *holder)
{
    char path[64];
    static char text[128 * 1024]; /* under the caller's lock */
    snprintf(path, sizeof path, "/proc/%u/environ", holder->pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    size_t size = 0;
    ssize_t more;
    while (size < sizeof text - 1 && (more = read(file, text + size, sizeof text - 1 - size)) > 0)
        size += (size_t)more;
    close(file);
    text[size] = '\0';
    const char *value = variable(text, size, "GPU_TASK_UTIL");
    if (value != NULL)
        holder->util = strtol(value, NULL, 10);
    if ((value = variable(text, size, "GPU_TASK_MIB")) != NULL)
        holder->mib = strtol(value, NULL, 10);
    if ((value = variable(text, size, "NVIDIA_VISIBLE_DEVICES")) != NULL)
        snprintf(holder->visible, sizeof holder->visible, "%s", value);
}

/* Whether the comma list *names* contains *name*. */
static int contains(const char *names, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = names; (at = strstr(at, name)) != NULL; at += length)
        if ((at == names || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
            return 1;
    return 0;
}

static int is_another_hosts(const struct state *state, const char *visible)
{
    if (strstr(visible, "GPU-") == NULL && strstr(visible, "MIG-") == NULL)
        return 0;
    for (int i = 0; i < state->gpu_count; i++) {
        const struct gpu *gpu = &state->gpus[i];
        if (contains(visible, gpu->uuid))
            return 0;
        for (int j = 0; j < gpu->mig_count; j++)
            if (contains(visible, gpu->mig[j].uuid))
                return 0;
    }
    return 1;
}

/* Identity of the host's nodes, read once a scan. */
struct nodes {
    struct stat of[MAX_GPUS];
    int known[MAX_GPUS];
};

static void find_nodes(const struct state *state, struct nodes *nodes)
{
    for (int i = 0; i < state->gpu_count; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/nvidia%ld", state->devices, state->gpus[i].minor);
        nodes->known[i] = *state->devices != '\0' && stat(path, &nodes->of[i]) == 0;
    }
}

/* The GPU whose node the descriptor *name* in the folder *fds* is, or -1.
 * *is_host_node* tells the file itself from a copy of it. */
static int gpu_of_descriptor(
    const struct state *state, const struct nodes *nodes, int fds, const char *name,
    int *is_host_node)
{
    char link[PATH_MAX];
    ssize_t length = readlinkat(fds, name, link, sizeof link - 1);
    if (length <= 0)
        return -1;
    link[length] = '\0';
    const char *base = strrchr(link, '/');
    if (base == NULL || strncmp(base, "/nvidia", 7) != 0 || !isdigit((unsigned char)base[7]))
        return -1;
    struct stat file, access;
    if (fstatat(fds, name, &file, 0) != 0 || file.st_rdev != NODE_DEVICE)
        return -1;
    /* The link's own permission bits say how the file was opened. */
    if (fstatat(fds, name, &access, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if ((access.st_mode & (S_IRUSR | S_IWUSR)) != (S_IRUSR | S_IWUSR))
        return -1;
    for (int i = 0; i < state->gpu_count; i++) {
        char copy[32];
        snprintf(copy, sizeof copy, "/dev/nvidia%ld", state->gpus[i].minor);
        *is_host_node = nodes->known[i] && file.st_ino == nodes->of[i].st_ino &&
                        file.st_dev == nodes->of[i].st_dev;
        if (*is_host_node || strcmp(link, copy) == 0)
            return i;
    }
    return -1;
}

static void add_holder(const struct state *state, unsigned pid, int gpu, int is_host_node)
{
    for (int i = 0; i < holder_count; i++)
        if (holders[i].pid == pid && holders[i].gpu == gpu)
            return;
    if (holder_count == MAX_PROCESSES)
        return;
    struct holder *holder = &holders[holder_count];
    *holder = (struct holder){.pid = pid, .gpu = gpu, .mib = UNSAID, .util = UNSAID};
    holder->start = alive_since(pid);
    read_environment(holder);
    if (holder->start != 0 && (is_host_node || !is_another_hosts(state, holder->visible)))
        holder_count++;
}

static void scan_process(const struct state *state, const struct nodes *nodes, const char *pid)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *folder = opendir(path);
    if (folder == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        int is_host_node = 0;
        int gpu = gpu_of_descriptor(state, nodes, dirfd(folder), entry->d_name, &is_host_node);
        if (gpu >= 0)
            add_holder(state, (unsigned)strtoul(pid, NULL, 10), gpu, is_host_node);
    }
    closedir(folder);
}

static void scan(const struct state *state)
{
    static struct timespec last;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long passed_ms = (now.tv_sec - last.tv_sec) * 1000 + (now.tv_nsec - last.tv_nsec) / 1000000;
    if (last.tv_sec != 0 && passed_ms < SCAN_MS)
        return;
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return;
    struct nodes nodes;
    find_nodes(state, &nodes);
    holder_count = 0;
    struct dirent *entry;
    while ((entry = readdir(proc)) != NULL)
        if (isdigit((unsigned char)*entry->d_name))
            scan_process(state, &nodes, entry->d_name);
    closedir(proc);
    clock_gettime(CLOCK_MONOTONIC, &last); /* after: a slow scan must not become a busy loop */
}

/* The instance that NVIDIA_VISIBLE_DEVICES names first; CUDA takes the first one by itself too. */
static void choose_instance(const struct gpu *gpu, const char *visible, struct process *process)
{
    if (!gpu->mig_mode || gpu->mig_count == 0)
        return;
    const struct mig *chosen = &gpu->mig[0];
    const char *place = NULL;
    for (int i = 0; i < gpu->mig_count; i++) {
        const char *at = strstr(visible, gpu->mig[i].uuid);
        if (at != NULL && (place == NULL || at < place)) {
            place = at;
            chosen = &gpu->mig[i];
        }
    }
    process->gi = chosen->gi;
    process->ci = chosen->ci;
}

static const struct holder *holder_of(unsigned pid, int gpu)
{
    for (int i = 0; i < holder_count; i++)
        if (holders[i].pid == pid && holders[i].gpu == gpu)
            return &holders[i];
    return NULL;
}

static struct process describe(const struct gpu *gpu, unsigned pid, const struct holder *holder)
{
    struct process process = {
        .pid = pid,
        .mib = (unsigned)gpu->auto_mib,
        .gi = NVML_NO_INSTANCE,
        .ci = NVML_NO_INSTANCE,
        .util = UNSAID,
        .kind = 'c',
    };
    choose_instance(gpu, holder != NULL ? holder->visible : "", &process);
    if (holder != NULL) {
        process.start = holder->start;
        process.util = holder->util;
        if (holder->mib != UNSAID)
            process.mib = (unsigned)holder->mib;
    }
    return process;
}

/* What the state says about a process wins over what /proc says. */
static void overrule(struct process *process, const struct listed *listed)
{
    process->kind = listed->kind;
    if (listed->mib != UNSAID)
        process->mib = (unsigned)listed->mib;
    if (listed->util != UNSAID)
        process->util = listed->util;
    if (listed->gi != UNSAID)
        process->gi = (unsigned)listed->gi;
    if (listed->ci != UNSAID)
        process->ci = (unsigned)listed->ci;
}

static int is_among(const struct process *found, int count, unsigned pid)
{
    for (int i = 0; i < count; i++)
        if (found[i].pid == pid)
            return 1;
    return 0;
}

int processes_of(const struct state *state, int index, struct process *found, int room)
{
    const struct gpu *gpu = &state->gpus[index];
    int count = 0;
    scan(state);
    for (int i = 0; i < gpu->listed_count && count < room; i++) {
        const struct listed *listed = &gpu->listed[i];
        unsigned long long start = alive_since(listed->pid);
        if (start == 0 || (listed->start != 0 && listed->start != start))
            continue;
        found[count] = describe(gpu, listed->pid, holder_of(listed->pid, index));
        found[count].start = start;
        overrule(&found[count++], listed);
    }
    for (int i = 0; i < holder_count && count < room; i++) {
        const struct holder *holder = &holders[i];
        if (holder->gpu != index || is_among(found, count, holder->pid))
            continue;
        if (alive_since(holder->pid) == holder->start)
            found[count++] = describe(gpu, holder->pid, holder);
    }
    return count;
}

/* A program that "uses" GPUs: it holds their nodes open, as a CUDA program does.
 *
 *     gpu-task [MODE] [NODE...]
 *
 * MODE      what it does with its time and its signals
 *   idle      sleeps (the default)
 *   busy      burns about 30 % of a core
 *   stubborn  ignores SIGTERM
 *   forks     leaves a child in a session of its own that holds the GPUs too
 *   orphan    does the same and ends at once, so that only the child is left
 *   client    opens the nodes for reading only, as an exporter: no GPU process, but in a reset's way
 *
 * Without NODEs it opens every /dev/nvidia[0-9]*; exit 1 if one cannot be opened. SIGTERM ends it with
 * status 143, also as pid 1. How busy the GPU looks is told by GPU_TASK_UTIL (percent) and
 * GPU_TASK_MIB in the environment, which the stand-in driver reads; this program does not. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void end(int signal)
{
    _exit(128 + signal);
}

static int open_all(char **nodes, size_t count, int flags)
{
    for (size_t i = 0; i < count; i++) {
        if (open(nodes[i], flags) < 0) {
            perror(nodes[i]);
            return 0;
        }
    }
    return 1;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* 6 of every 20 ms. */
static void burn(void)
{
    double until = seconds() + 0.006;
    while (seconds() < until)
        ;
    nanosleep(&(struct timespec){0, 14000000}, NULL);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "idle";
    glob_t found = {0};
    char **nodes = argv + 2;
    size_t count = argc > 2 ? (size_t)argc - 2 : 0;
    if (count == 0 && glob("/dev/nvidia[0-9]*", 0, NULL, &found) == 0) {
        nodes = found.gl_pathv;
        count = found.gl_pathc;
    }
    /* A pid 1 has no default action for SIGTERM: without a handler it would be ignored. */
    signal(SIGTERM, strcmp(mode, "stubborn") == 0 ? SIG_IGN : end);
    signal(SIGINT, end);
    if (!open_all(nodes, count, strcmp(mode, "client") == 0 ? O_RDONLY : O_RDWR))
        return 1;
    int is_orphan = strcmp(mode, "orphan") == 0;
    if (is_orphan || strcmp(mode, "forks") == 0) {
        pid_t child = fork();
        if (child == 0)
            setsid();
        else if (is_orphan)
            return 0;
    }
    for (;;) {
        if (strcmp(mode, "busy") == 0)
            burn();
        else
            pause();
    }
}

/* A clock that a test turns while programs run: what this library is preloaded into sees the time of day plus what stands in a file.
 *
 * The file (named by TEST_CLOCK) holds nanoseconds, eight bytes as this machine orders them, and is mapped before anything else
 * happens: so a turn is seen at once, by all processes, also inside a sandbox that lets them open nothing. libfaketime reads its file
 * again and again and finds it closed there. Time that only goes forward (CLOCK_MONOTONIC) stays as it is, as when a real clock is set.
 *
 * A program that this one starts in its own place gets the library and the file as well, whatever environment it is given.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const long long *turned;
static char *library, *file;
static int (*machine_gettime)(clockid_t, struct timespec *);
static int (*machine_execvp)(const char *, char *const[]);

__attribute__((constructor)) static void begin(void) {
    machine_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    machine_execvp = (int (*)(const char *, char *const[]))dlsym(RTLD_NEXT, "execvp");
    const char *preloaded = getenv("LD_PRELOAD"), *named = getenv("TEST_CLOCK");
    if (!preloaded || !named) return;
    library = strdup(preloaded);
    file = strdup(named);
    int opened = open(file, O_RDONLY | O_CLOEXEC);
    if (opened < 0) abort();
    void *mapped = mmap(NULL, sizeof *turned, PROT_READ, MAP_SHARED, opened, 0);
    if (mapped == MAP_FAILED) abort();
    close(opened);
    turned = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int failed = machine_gettime ? machine_gettime(clock, at) : (int)syscall(SYS_clock_gettime, clock, at);
    if (failed || !turned || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return failed;
    const long long second = 1000000000LL;
    long long by = __atomic_load_n(turned, __ATOMIC_RELAXED), nanos = at->tv_nsec + by % second;
    at->tv_sec += by / second;
    if (nanos < 0) { nanos += second; at->tv_sec -= 1; }
    if (nanos >= second) { nanos -= second; at->tv_sec += 1; }
    at->tv_nsec = nanos;
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

int execvp(const char *program, char *const words[]) {
    if (library && file) {
        setenv("LD_PRELOAD", library, 1);
        setenv("TEST_CLOCK", file, 1);
    }
    return machine_execvp(program, words);
}

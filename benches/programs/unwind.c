/*
 * What a walk over a warm stack costs, by one unwinder, in slices of at most a
 * millisecond, each timed by itself.
 *
 *     unwind heapledger|remembered|libgcc|libunwind one|several DEPTH MILLISECONDS
 *
 *   heapledger  the core's (built in)
 *   remembered  the same, where an earlier walk of it is known again
 *   libgcc      _Unwind_Backtrace
 *   libunwind   unw_backtrace
 *   one         all frames in this program
 *   several     every other frame in libc, so that objects alternate
 *
 * Prints the shortest and the median slice in nanoseconds per frame, and the
 * number of frames. Exits with 3 where the unwinder is not there, with 4 where
 * it does not see the whole stack.
 */
#include <dlfcn.h>
#include <search.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unwind.h>

#include "unwinder.h"

#define SITE __attribute__((noinline, noclone))
#define AFTER() __asm__ volatile("" ::: "memory") /* no tail call */
#define MAX_SLICES 65536
#define WALKS 500

void *hl_reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* ---- the unwinders ---- */

static void *frames[HL_MAX_FRAMES];
static hl_walker *walker;

static SITE unsigned by_heapledger(void)
{
    unsigned count = hl_unwind(walker, 0);
    AFTER();
    return count;
}

static unsigned steps;

/* What is remembered is how many frames there were. */
static SITE unsigned by_memory(void)
{
    unsigned known = hl_unwind_known(walker, 0, 0, walker->walk);
    if (!known && steps++ < 10) {
        known = walker->count;
        hl_unwind_keep(walker, 0, 0, known);
    }
    AFTER();
    return known;
}

static _Unwind_Reason_Code add(struct _Unwind_Context *context, void *count)
{
    unsigned *at = count;
    if (*at >= HL_MAX_FRAMES)
        return _URC_END_OF_STACK;
    frames[(*at)++] = (void *)_Unwind_GetIP(context);
    return _URC_NO_REASON;
}

static SITE unsigned by_libgcc(void)
{
    unsigned count = 0;
    _Unwind_Backtrace(add, &count);
    return count;
}

static int (*unw_backtrace)(void **, int);

static SITE unsigned by_libunwind(void)
{
    unsigned count = (unsigned)unw_backtrace(frames, HL_MAX_FRAMES);
    AFTER();
    return count;
}

static unsigned (*unwinder)(void);

static int find_unwinder(const char *name)
{
    walker = hl_reserve(sizeof *walker);
    if (strcmp(name, "heapledger") == 0 && hl_unwind_begin(dlsym(RTLD_DEFAULT, "_dl_find_object")))
        unwinder = by_heapledger;
    else if (strcmp(name, "remembered") == 0 && hl_unwind_begin(dlsym(RTLD_DEFAULT, "_dl_find_object"))) {
        walker->memo = hl_reserve(hl_memo_bytes());
        hl_memo_forget(walker->memo);
        unwinder = by_memory;
    } else if (strcmp(name, "libgcc") == 0)
        unwinder = by_libgcc;
    else if (strcmp(name, "libunwind") == 0) {
        void *library = dlopen("libunwind.so.8", RTLD_NOW);
        *(void **)&unw_backtrace = library ? dlsym(library, "unw_backtrace") : NULL;
        unwinder = unw_backtrace ? by_libunwind : NULL;
    }
    return unwinder != NULL;
}

/* ---- at the bottom of the stack ---- */

static double milliseconds, cost[MAX_SLICES];
static unsigned slices, count;

static SITE void measure(void)
{
    for (int i = 0; i < 100; i++)
        count = unwinder();
    double end = now() + milliseconds * 1e6;
    while (slices < MAX_SLICES) {
        double begin = now();
        for (unsigned i = 0; i < WALKS; i++)
            unwinder();
        double after = now();
        cost[slices++] = (after - begin) / WALKS / count;
        if (after >= end)
            break;
    }
}

/* ---- the stack ---- */

static unsigned left;
static void go_on(void);

#define FRAME(name, bytes)                        \
    static SITE void name(void)                   \
    {                                             \
        char locals[bytes];                       \
        __asm__ volatile("" : : "r"(locals) : "memory"); \
        go_on();                                  \
        __asm__ volatile("" : : "r"(locals) : "memory"); \
    }
FRAME(small, 8)
FRAME(middling, 56)
FRAME(large, 200)
FRAME(larger, 1000)
FRAME(least, 1)
#undef FRAME
static void (*const FRAMES[])(void) = {small, middling, large, larger, least};

static int through(const void *key, const void *element)
{
    (void)key;
    go_on();
    AFTER();
    return *(const int *)element;
}

static int several;

static inline __attribute__((always_inline)) void go_on(void)
{
    if (!left--) {
        measure();
    } else if (several && left % 2) {
        int zero = 0;
        size_t one = 1;
        lfind(&zero, &zero, &one, sizeof zero, through);
    } else {
        FRAMES[left % (sizeof FRAMES / sizeof *FRAMES)]();
    }
    AFTER();
}

static SITE void start(void)
{
    go_on();
    AFTER();
}

static int by_value(const void *a, const void *b)
{
    double left_cost = *(const double *)a, right_cost = *(const double *)b;
    return (left_cost > right_cost) - (left_cost < right_cost);
}

int main(int argc, char **argv)
{
    if (argc < 5 || !find_unwinder(argv[1]))
        return 3;
    several = strcmp(argv[2], "several") == 0;
    left = (unsigned)atoi(argv[3]);
    unsigned least = left;
    milliseconds = atof(argv[4]);
    start();
    if (count < least || (unwinder == by_heapledger && walker->how != HL_WALK_WHOLE))
        return 4;
    qsort(cost, slices, sizeof *cost, by_value);
    printf("%.3f %.3f %u\n", cost[0], cost[slices / 2], count);
    return 0;
}

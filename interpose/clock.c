/*
 * clock.c: the kernel's clocks, read as the kernel offers them.
 *
 * Not by clock_gettime, which a program may replace: libfaketime's allocates, takes
 * a lock and tells another time.
 */
#include <time.h>

#include "sys.h"

#if defined(__aarch64__)
#define FUNCTION "__kernel_clock_gettime"
#else
#define FUNCTION "__vdso_clock_gettime"
#endif

/* Without a system call, for most clocks; NULL: none, or not looked for yet. */
static int (*read_clock)(clockid_t, struct timespec *);

static uint64_t ns_of(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

void hl_clock_begin(void)
{
    *(void **)&read_clock = hl_kernel_function(FUNCTION);
}

uint64_t hl_clock_ns(int clock)
{
    struct timespec now = {0, 0};
    if (!read_clock || read_clock(clock, &now) != 0)
        HL_SYS2(SYS_clock_gettime, clock, &now);
    return ns_of(&now);
}

uint64_t hl_clock_step_ns(int clock)
{
    struct timespec step = {0, 1};
    HL_SYS2(SYS_clock_getres, clock, &step);
    return ns_of(&step);
}

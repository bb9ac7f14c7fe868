/*
 * Has a clock_gettime of its own, which allocates, tells another time and is not made
 * to be entered from an allocation: nobody else's call of it comes from one of ours.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=clock_gettime allocated_blocks=3 freed_blocks=3
 * expect: site=plain_alloc allocated_blocks=10000 freed_blocks=10000
 */
#include "program.h"

#include <time.h>

static int calls;

SITE int clock_gettime(clockid_t clock, struct timespec *now)
{
    calls++;
    void *block = opaque(malloc(any(100)));
    __asm__ volatile("" ::: "memory"); /* no tail call */
    free(block);
    now->tv_sec = clock;
    now->tv_nsec = 0;
    return 0;
}

SITE void *plain_alloc(size_t bytes)
{
    void *block = malloc(bytes);
    __asm__ volatile("" ::: "memory");
    return block;
}

int main(void)
{
    struct timespec now;
    for (int i = 0; i < 3; i++)
        REQUIRE(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && now.tv_sec == CLOCK_MONOTONIC);
    for (size_t i = 0; i < 10000; i++)
        free(opaque(plain_alloc(any(1 + i % 5000))));
    say(1, "asked %d times\n", calls);
    return 0;
}

/*
 * Item 18. A handler jumps out of malloc and free two thousand times. What was
 * in flight may be lost; the books stay open afterwards, and so does what is done
 * once a quantum, which every second allocation uses up: peaks still rise. Told
 * `cold`, it jumps out of the very first malloc as well. Runs over the signal-safe
 * allocator.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=after_jumps allocated_blocks=1000 freed_blocks=500 live_blocks=500 live_bytes=500*64
 * expect: site=thread_after_jumps allocated_blocks=1000 freed_blocks=500 live_blocks=500 live_bytes=500*64
 */
#include "program.h"

#define HEAPLEDGER_WEAK
#include "../../include/heapledger.h"
#include <setjmp.h>

/*
 * LARGE and what is held are a quantum and more. A jump leaves out of the peak what was in
 * flight, a quantum and a block's 128 KiB at most: HELD is more than all of them.
 */
enum { JUMPS = 2000, LARGE = 70000, HELD = 510, MORE = 6, HELD_BYTES = 1 << 20, QUANTUM = 1 << 16 };
static sigjmp_buf back;
static volatile int jumps;

static void handler(int signal)
{
    (void)signal;
    siglongjmp(back, 1);
}

SITE void *interrupted_alloc(size_t size)
{
    return opaque(malloc(size));
}

#define AFTER(name)                           \
    SITE void *name(void *unused)             \
    {                                         \
        for (int i = 0; i < 1000; i++) {      \
            void *block = opaque(malloc(60)); \
            if (i % 2 == 0)                   \
                free(block);                  \
        }                                     \
        return unused;                        \
    }
AFTER(after_jumps)
AFTER(thread_after_jumps)

SITE void *held_alloc(void)
{
    return opaque(malloc(HELD_BYTES));
}

static void hold(int blocks)
{
    void *held[HELD];
    for (int i = 0; i < blocks; i++)
        held[i] = held_alloc();
    for (int i = 0; i < blocks; i++)
        free(held[i]);
}

/* What the jumps have left out stays out: the peak has to rise by all that is held more. */
static void require_rising_peak(void)
{
    struct hl_books fewer = {.bytes = sizeof fewer}, more = fewer;
    if (!hl_snapshot)
        return;
    hold(HELD - MORE);
    REQUIRE(hl_snapshot(&fewer) == 0);
    hold(HELD);
    REQUIRE(hl_snapshot(&more) == 0);
    REQUIRE(more.c.peak_live_bytes - fewer.c.peak_live_bytes >= MORE * HELD_BYTES - QUANTUM);
}

int main(int argc, char **argv)
{
    int cold = argc == 2 && strcmp(argv[1], "cold") == 0;
    if (!cold) {
        free(interrupted_alloc(40));
        hold(1); /* their call site is known from now on */
    }
    struct sigaction action = { .sa_handler = handler };
    struct itimerval once = { .it_value = { .tv_usec = 30 } };
    sigaction(SIGALRM, &action, NULL);
    if (sigsetjmp(back, 1) != 0)
        jumps++;
    if (jumps < JUMPS) {
        /* Each jump sets the next alarm, so that no handler is interrupted by one. */
        setitimer(ITIMER_REAL, &once, NULL);
        for (size_t size = 40;; size ^= 40 ^ LARGE)
            free(interrupted_alloc(size));
    }
    if (!cold)
        require_rising_peak();
    after_jumps(NULL);
    pthread_join(start_thread(thread_after_jumps, NULL), NULL);
    say(1, "%d jumps\n", jumps);
}

/*
 * Item 18. A handler jumps out of malloc and free two thousand times. What was
 * in flight may be lost; the books stay open afterwards. Told `cold`, it jumps
 * out of the very first malloc as well. Runs over the signal-safe allocator.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=after_jumps allocated_blocks=1000 freed_blocks=500 live_blocks=500 live_bytes=500*64
 * expect: site=thread_after_jumps allocated_blocks=1000 freed_blocks=500 live_blocks=500 live_bytes=500*64
 */
#include "program.h"

#include <setjmp.h>

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

int main(int argc, char **argv)
{
    int cold = argc == 2 && strcmp(argv[1], "cold") == 0;
    if (!cold)
        free(interrupted_alloc(40));
    struct sigaction action = { .sa_handler = handler };
    struct itimerval once = { .it_value = { .tv_usec = 30 } };
    sigaction(SIGALRM, &action, NULL);
    if (sigsetjmp(back, 1) != 0)
        jumps++;
    if (jumps < 2000) {
        /* Each jump sets the next alarm, so that no handler is interrupted by one. */
        setitimer(ITIMER_REAL, &once, NULL);
        for (;;)
            free(interrupted_alloc(40));
    }
    after_jumps(NULL);
    pthread_join(start_thread(thread_after_jumps, NULL), NULL);
    say(1, "%d jumps\n", jumps);
}

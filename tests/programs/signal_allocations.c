/*
 * Item 17. A timer's handler allocates 100,000 times while the thread it
 * interrupts is itself in malloc or free, at a call site of its own and at the very
 * one that it interrupts, whose counters both then add to. Not one is lost. Runs
 * over the signal-safe allocator.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=handler_alloc allocated_blocks=50000
 * expect: losses.foreign_frees=0
 */
#include "program.h"

enum { TOTAL = 100000, AT_ONCE = 25, WINDOW = 128 };
static struct tally handled, interrupted;
static atomic_int done;
static struct { void *block; struct tally *tally; } window[WINDOW];

SITE void *handler_alloc(size_t size)
{
    return opaque(malloc(size));
}

SITE void *interrupted_alloc(size_t size)
{
    return opaque(malloc(size));
}

static void handler(int signal)
{
    (void)signal;
    int saved = errno;
    for (int i = 0; i < AT_ONCE && done < TOTAL; i++, done++) {
        int at = done % WINDOW, is_own = done % 2;
        size_t size = 1 + (size_t)done * 37 % 900;
        if (window[at].block != NULL)
            tally_free(window[at].tally, window[at].block);
        free(window[at].block);
        window[at].tally = is_own ? &handled : &interrupted;
        window[at].block = is_own ? handler_alloc(size) : interrupted_alloc(size);
        tally_alloc(window[at].tally, window[at].block, size);
    }
    errno = saved;
}

int main(void)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    struct itimerval often = { .it_interval = { .tv_usec = 20 }, .it_value = { .tv_usec = 20 } }, never = { 0 };
    void *held[8] = { NULL };
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (size_t i = 0; done < TOTAL; i++) {
        size_t size = 1 + i * 29 % 700;
        tally_free(&interrupted, held[i % 8]);
        free(held[i % 8]);
        held[i % 8] = interrupted_alloc(size);
        tally_alloc(&interrupted, held[i % 8], size);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    expect_tally("site=handler_alloc", &handled);
    expect_tally("site=interrupted_alloc", &interrupted);
    say(1, "%d in the handler\n", done);
}

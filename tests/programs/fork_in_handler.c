/*
 * Forks in a signal handler that has interrupted malloc or free: on x86_64 at each of
 * their instructions, one after the other, elsewhere wherever a timer finds them. The
 * child returns from the handler into that, and goes on: it allocates and frees, every
 * other one already in the handler. The parent says how many blocks it had, all freed.
 * Runs over the signal-safe allocator.
 *
 *     fork_in_handler EVERY      at one instruction of so many
 *
 * expect: outcome=exit:0
 */
#include "program.h"

#include <ucontext.h>

enum { BLOCKS = 64, ROUNDS = 200, MOST = 20000, BY_TIMER = 1000 };
static volatile int forks, is_child;
static long pairs;
static volatile long until, stepped; /* instructions until the fork; those that were */
static void *window[BLOCKS];

SITE void *interrupted_alloc(size_t bytes)
{
    void *block = malloc(bytes);
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return block;
}

SITE void pair(size_t bytes)
{
    pairs++;
    void *block = opaque(interrupted_alloc(bytes));
    free(block);
    __asm__ volatile("" ::: "memory");
}

static void go_on(void)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        free(window[i % BLOCKS]);
        window[i % BLOCKS] = opaque(interrupted_alloc(1 + i * 29 % 700));
    }
}

static void fork_here(void)
{
    forks++;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        is_child = 1;
        if (forks % 2)
            free(opaque(interrupted_alloc(forks)));
        return;
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (status != 0)
        say(2, "child %d, at instruction %ld, ended with %x\n", forks, (long)until, status);
    REQUIRE(status == 0);
}

#if defined(__x86_64__)
#define STEPS 0x100 /* in the flags: a trap after each instruction */

static void handler(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    ucontext_t *at = context;
    int saved = errno;
    if (!is_child && ++stepped == until)
        fork_here();
    if (is_child)
        at->uc_mcontext.gregs[REG_EFL] &= ~STEPS;
    errno = saved;
}

static void step(int on)
{
    if (on)
        __asm__ volatile("sub $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc");
    else
        __asm__ volatile("sub $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc");
}

static void fork_everywhere(long every)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    sigaction(SIGTRAP, &action, NULL);
    for (until = 1; until < MOST && !is_child; until += every) {
        stepped = 0;
        step(1);
        pair(100);
        step(0);
        if (stepped < until)
            return;
    }
}
#else
static void handler(int signal)
{
    (void)signal;
    int saved = errno;
    if (!is_child && forks < BY_TIMER)
        fork_here();
    errno = saved;
}

static void fork_everywhere(long every)
{
    (void)every;
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
    struct itimerval often = { .it_interval = { .tv_usec = 200 }, .it_value = { .tv_usec = 200 } }, never = { 0 };
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    while (forks < BY_TIMER && !is_child)
        pair(100);
    setitimer(ITIMER_REAL, &never, NULL);
}
#endif

int main(int count, char **words)
{
    REQUIRE(count == 2);
    for (int i = 0; i < 100; i++)
        pair(100);
    fork_everywhere(strtol(words[1], NULL, 10));
    if (is_child) {
        go_on();
        _exit(0);
    }
    say(1, "%ld\n", pairs);
    return 0;
}

/*
 * A signal handler comes at each instruction of the malloc and free hooks in turn, of
 * threads that have no strip of the owner map yet, and allocates so much that they
 * take one. The processor single-steps the hooks, so each instruction has its turn;
 * the allocator below is never interrupted. x86_64 only. Told "often", several threads
 * do so at once, and a timer's signal finds each wherever it is.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=stepped allocated_blocks=480 freed_blocks=480 live_blocks=0
 * expect: site=in_handler allocated_blocks=240 freed_blocks=0 live_blocks=240
 * expect: losses.foreign_frees=0
 */
#include "program.h"

#include <ucontext.h>

#define INSTRUCTIONS 120
#define TRAP 0x100

static uintptr_t hook;
static volatile int wanted, seen;

SITE void in_handler(void)
{
    opaque(malloc(200000));
}

static void step(int signal, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    uintptr_t address = (uintptr_t)at->uc_mcontext.gregs[REG_RIP];
    (void)signal, (void)info;
    if (address - hook >= 0x200 || ++seen != wanted)
        return;
    at->uc_mcontext.gregs[REG_EFL] &= ~TRAP;
    in_handler();
}

/* Beside the red zone. */
#define SET_TRAP __asm__ volatile("sub $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc")
#define CLEAR_TRAP __asm__ volatile("sub $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc")

SITE void *stepped(int steps)
{
    void *(*volatile next)(size_t) = malloc;
    if (steps)
        SET_TRAP;
    void *block = next(64);
    if (steps)
        CLEAR_TRAP;
    return block;
}

static void stepped_free(void *block, int steps)
{
    void (*volatile next)(void *) = free;
    if (steps)
        SET_TRAP;
    next(block);
    if (steps)
        CLEAR_TRAP;
}

static void *a_thread(void *frees)
{
    stepped_free(stepped(0), 0); /* the thread has its slot, and the site its record */
    seen = 0;
    void *block = stepped(!frees);
    stepped_free(block, frees != NULL);
    if (seen < wanted) /* the hook has fewer instructions */
        in_handler();
    return NULL;
}

enum { AT_ONCE = 4, BATCHES = 60 };
static _Thread_local volatile sig_atomic_t is_interrupted, is_at_work;

static void interrupt(int signal)
{
    (void)signal;
    int saved = errno;
    if (is_at_work && !is_interrupted)
        in_handler();
    is_interrupted = is_at_work;
    errno = saved;
}

static void *until_interrupted(void *unused)
{
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    is_at_work = 1;
    REQUIRE(pthread_sigmask(SIG_UNBLOCK, &alarms, NULL) == 0);
    while (!is_interrupted)
        stepped_free(stepped(0), 0);
    return unused;
}

/* No allocator but one that is made for signals may be below. */
static void several_at_once(void)
{
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM); /* the kernel would give the main thread all of them */
    REQUIRE(pthread_sigmask(SIG_BLOCK, &alarms, NULL) == 0);
    REQUIRE(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int batch = 0; batch < BATCHES; batch++) {
        pthread_t threads[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++)
            threads[i] = start_thread(until_interrupted, NULL);
        for (int i = 0; i < AT_ONCE; i++)
            pthread_join(threads[i], NULL);
    }
    REQUIRE(setitimer(ITIMER_REAL, &never, NULL) == 0);
}

int main(int count, char **words)
{
    if (count > 1 && strcmp(words[1], "often") == 0) {
        several_at_once();
        return 0;
    }
    mallopt(M_MMAP_THRESHOLD, 1 << 24);
    struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
    REQUIRE(sigaction(SIGTRAP, &action, NULL) == 0);
    for (int frees = 1; frees >= 0; frees--) {
        void *first = dlsym(RTLD_DEFAULT, frees ? "free" : "malloc");
        REQUIRE(first);
        hook = (uintptr_t)first;
        for (wanted = 1; wanted <= INSTRUCTIONS; wanted++)
            pthread_join(start_thread(a_thread, frees ? &hook : NULL), NULL);
    }
}

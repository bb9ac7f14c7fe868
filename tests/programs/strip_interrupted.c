/*
 * A signal handler comes at each instruction of the malloc and free hooks in turn, of
 * threads that have no strip of the owner map yet, and allocates so much that they
 * take one. The processor single-steps the hooks, so each instruction has its turn;
 * the allocator below is never interrupted. x86_64 only.
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
    opaque(malloc(100000));
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

int main(void)
{
    mallopt(M_MMAP_THRESHOLD, 1 << 24);
    struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
    REQUIRE(sigaction(SIGTRAP, &action, NULL) == 0);
    for (int frees = 0; frees < 2; frees++) {
        void *first = dlsym(RTLD_DEFAULT, frees ? "free" : "malloc");
        REQUIRE(first);
        hook = (uintptr_t)first;
        for (wanted = 1; wanted <= INSTRUCTIONS; wanted++)
            pthread_join(start_thread(a_thread, frees ? &hook : NULL), NULL);
    }
}

/*
 * Item 13. A signal handler comes right after the real free or realloc, while the
 * hook is not done yet, and is given the very address that was given up. The block
 * is the handler's from then on: whatever the hook still does is not about it. The
 * processor single-steps the hooks, so each instruction behind the real call has its
 * turn. x86_64 only, over glibc, which hands out first what was freed last.
 *
 * expect: outcome=exit:0 processes=1
 * expect: site=in_handler live_blocks=0 live_bytes=0
 * expect: site=made live_blocks=0 live_bytes=0
 * expect: site=moved live_blocks=0 live_bytes=0
 * expect: losses.foreign_frees=0
 */
#include "program.h"

#include <link.h>
#include <stdbool.h>
#include <ucontext.h>

enum { SMALL = 64, LARGE = 5000, INSTRUCTIONS = 200 };
#define TRAP 0x100

struct code {
    uintptr_t inside, from, to;
};

static struct code hooks;
static uintptr_t real_free, real_realloc; /* libc's own: the hooks call them in the end */
static volatile int wanted, behind, is_behind;
static void *volatile given;

SITE void in_handler(void)
{
    given = malloc(SMALL);
}

static bool is_in(const struct code *code, uintptr_t address)
{
    return address >= code->from && address < code->to;
}

static void step(int signal, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    uintptr_t address = (uintptr_t)at->uc_mcontext.gregs[REG_RIP];
    (void)signal, (void)info;
    is_behind |= address == real_free || address == real_realloc;
    if (!is_behind || !is_in(&hooks, address) || ++behind != wanted)
        return;
    at->uc_mcontext.gregs[REG_EFL] &= ~TRAP;
    in_handler();
}

/* Beside the red zone. */
#define SET_TRAP __asm__ volatile("sub $128, %%rsp; pushfq; orq $0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc")
#define CLEAR_TRAP __asm__ volatile("sub $128, %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; add $128, %%rsp" ::: "memory", "cc")

SITE void *made(void)
{
    return opaque(malloc(SMALL));
}

SITE void *moved(void *block)
{
    void *(*volatile next)(void *, size_t) = realloc;
    SET_TRAP;
    block = next(block, LARGE);
    CLEAR_TRAP;
    return opaque(block);
}

static void stepped_free(void *block)
{
    void (*volatile next)(void *) = free;
    SET_TRAP;
    next(block);
    CLEAR_TRAP;
}

/* Gives how often the handler came, and was given what was given up. */
static int step_through(int reallocs)
{
    int same = 0;
    for (wanted = 1; wanted <= INSTRUCTIONS; wanted++) {
        void *block = made(), *neighbour = made(); /* so that nothing grows where it is */
        void *now = NULL;
        behind = is_behind = 0;
        given = NULL;
        if (reallocs)
            now = moved(block);
        else
            stepped_free(block);
        same += given == block;
        int is_done = given == NULL; /* the hook has fewer instructions */
        free(given);
        free(now);
        free(neighbour);
        if (is_done)
            break;
    }
    return same;
}

static int find_code(struct dl_phdr_info *info, size_t bytes, void *context)
{
    struct code *code = context;
    (void)bytes;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && part->p_flags & PF_X && code->inside - from < part->p_memsz) {
            code->from = from;
            code->to = from + part->p_memsz;
        }
    }
    return 0;
}

int main(void)
{
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    REQUIRE(libc);
    real_free = (uintptr_t)dlsym(libc, "free");
    real_realloc = (uintptr_t)dlsym(libc, "realloc");
    hooks.inside = (uintptr_t)dlsym(RTLD_DEFAULT, "free");
    dl_iterate_phdr(find_code, &hooks);
    REQUIRE(hooks.from);
    struct sigaction action = {.sa_sigaction = step, .sa_flags = SA_SIGINFO};
    REQUIRE(sigaction(SIGTRAP, &action, NULL) == 0);
    if (hooks.inside != real_free) { /* there are hooks */
        step_through(0);
        REQUIRE(step_through(1) > 0);
    }
    say(1, "stepped\n");
}

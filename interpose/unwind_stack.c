/*
 * unwind_stack.c: reading a stack safely.
 */
#include <sys/auxv.h>

#include "unwinder.h"

/* ---- reading ---- */

#define PAGE ((uintptr_t)4096)

bool hl_load_slow(hl_walker *walker, uintptr_t at, uintptr_t *value)
{
    if (at % sizeof *value)
        return false;
    walker->unsafe_reads++;
    if (at / PAGE != walker->page || !at) {
        if (!hl_can_be_read(at))
            return false;
        walker->page = at / PAGE;
    }
    *value = *(const uintptr_t *)at;
    return true;
}

/* ---- which stack can be read straight away ---- */

/* The top of the main thread's stack, where the kernel put sixteen random bytes. */
static uintptr_t main_top;
static uintptr_t main_block; /* that thread's block, which lies elsewhere; 0: another thread began */

#define NEAR ((uintptr_t)8 << 20) /* libraries' thread-local data lie above the first frame */

static uintptr_t thread_block(void)
{
    uintptr_t thread;
#if defined(__x86_64__)
    __asm__("movq %%fs:0, %0" : "=r"(thread));
#else
    __asm__("mrs %0, tpidr_el0" : "=r"(thread));
#endif
    return thread;
}

/* Asks of each page, so that a hole or a guard shows. */
static bool can_be_read(hl_walker *walker, uintptr_t low, uintptr_t high)
{
    for (uintptr_t page = low & ~(PAGE - 1); page < high; page += PAGE) {
        walker->asked_pages++;
        if (!hl_can_be_read(page))
            return false;
    }
    return true;
}

/* A stack that grows to its most asks a quarter of that; coroutines near the thread's block might ask without end. */
#define MOST_ASKED_PAGES (4 * (HL_MOST_STACK / PAGE))

/*
 * A walk that came from `low` straight to where this thread began, just below
 * its own block, has shown that all between is this thread's stack, which is
 * there as long as the thread is. A coroutine's walk ends elsewhere, with at
 * least a guard between that and the block, and one that went through a signal's
 * frame has a part for each stack, of which the last counts. The main thread's
 * block is on no stack: libraries lie around it, and coroutines' stacks soon below.
 */
void hl_trust(hl_walker *walker, uintptr_t low, uintptr_t high)
{
    low &= ~(PAGE - 1); /* what is lower in the page that the stack pointer is in can be read as well */
    const uintptr_t block = thread_block();
    if (high <= low || high - low > HL_MOST_STACK || block - high >= NEAR || block == main_block)
        return;
    if (low >= walker->low && high - walker->low <= walker->bytes + sizeof(uintptr_t))
        return;
    if (walker->asked_pages >= MOST_ASKED_PAGES)
        return;
    /* Of a stack that has grown, what was there before has been asked about. */
    const uintptr_t end = walker->low + walker->bytes + (sizeof(uintptr_t) - 1);
    const bool grows = walker->bytes && end == high && low < walker->low;
    if (!can_be_read(walker, low, grows ? walker->low : block))
        return;
    walker->low = low;
    walker->bytes = high - low - (sizeof(uintptr_t) - 1); /* where a whole word begins */
}

/*
 * The main thread's stack has nothing between a stack pointer and its top, since
 * the kernel keeps 128 MiB below that free for it: no system call is needed.
 */
hl_trusted hl_trusted_of(const hl_walker *walker, uintptr_t sp)
{
    uintptr_t low = sp & ~(PAGE - 1);
    /* Other threads have their own block at the top of their stacks. */
    if (main_top - low < HL_MOST_STACK && thread_block() - low >= main_top - low)
        return (hl_trusted){low, main_top - low};
    return (hl_trusted){walker->low, walker->bytes};
}

/* ---- code ---- */

bool hl_is_sigreturn(const hl_code *code, uintptr_t at)
{
    uintptr_t words[2] = {0, 0};
    if (code) /* what the loader loaded can be read */
        hl_copy_bytes(words, (const void *)(at + 1), at + sizeof words < code->start + code->bytes ? sizeof words : 0);
    else if (hl_can_be_read(at + 1) && hl_can_be_read(at + 1 + sizeof *words))
        hl_copy_bytes(words, (const void *)(at + 1), sizeof words);
#if defined(__x86_64__)
    /* mov $15, %rax; syscall */
    return words[0] == 0x0f0000000fc0c748ull && (words[1] & 0xff) == 0x05;
#else
    /* mov x8, #139; svc #0 */
    return words[0] == 0xd4000001d2801168ull;
#endif
}

void hl_stacks_begin(void)
{
    main_top = getauxval(AT_RANDOM);
    main_block = hl_gettid() == hl_getpid() ? thread_block() : 0;
}

/*
 * misuse.c: the table of calls that no program may make.
 *
 * The same kind with the same stacks, as sure, is one record, counted up. Two threads that
 * are first with the same one at the same time may make two.
 */
#include <signal.h>
#include <time.h>

#include "core.h"

static hl_misuse *record_at(uint32_t index)
{
    static hl_misuse *_Atomic pages[HL_MISUSE_PAGES];
    static _Atomic(hl_samples *) whose; /* a forked child has pages of its own */
    hl_samples *samples = hl.samples;
    if (atomic_load_explicit(&whose, memory_order_acquire) != samples) {
        for (uint32_t i = 0; i < HL_MISUSE_PAGES; i++)
            atomic_store_explicit(&pages[i], NULL, memory_order_relaxed);
        atomic_store_explicit(&whose, samples, memory_order_release); /* pairs with the load above: the parent's pages are gone */
    }
    hl_misuse *page = hl_table_page((void *_Atomic *)&pages[index / HL_MISUSES_PER_PAGE],
                                    &samples->misuse_pages[index / HL_MISUSES_PER_PAGE]);
    return page ? &page[index % HL_MISUSES_PER_PAGE] : NULL;
}

static uint64_t mono_ns(void)
{
    return hl_clock_ns(CLOCK_MONOTONIC_COARSE);
}

static hl_misuse *find(const hl_misuse *like)
{
    uint32_t count = __atomic_load_n(&hl.samples->misuse_count, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < count && i < HL_MAX_MISUSES; i++) {
        hl_misuse *record = record_at(i);
        if (record && __atomic_load_n(&record->kind, __ATOMIC_ACQUIRE) == like->kind && record->call == like->call &&
            record->doubt == like->doubt && record->allocated == like->allocated && record->freed == like->freed &&
            record->called == like->called)
            return record;
    }
    return NULL;
}

static void add(const hl_misuse *like)
{
    hl_samples *samples = hl.samples;
    uint32_t index = __atomic_load_n(&samples->misuse_count, __ATOMIC_RELAXED);
    if (index < HL_MAX_MISUSES && record_at(index))
        index = __atomic_fetch_add(&samples->misuse_count, 1, __ATOMIC_RELAXED);
    else
        index = HL_MAX_MISUSES;
    hl_misuse *record = index < HL_MAX_MISUSES ? record_at(index) : NULL;
    if (!record) {
        __atomic_fetch_add(&samples->misuses_dropped, 1, __ATOMIC_RELAXED);
        return;
    }
    record->block = like->block;
    record->bytes = like->bytes;
    record->inside = like->inside;
    record->allocated = like->allocated;
    record->freed = like->freed;
    record->called = like->called;
    record->call = like->call;
    record->doubt = like->doubt;
    record->thread = hl_gettid();
    record->mono_ns = mono_ns();
    record->count = 1;
    __atomic_store_n(&record->kind, like->kind, __ATOMIC_RELEASE); /* pairs with find and the reader's copy */
}

/* Raises SIGABRT here, whoever blocks it. */
static void stop(void)
{
    uint64_t abort_alone = 1ull << (SIGABRT - 1);
    HL_SYS4(SYS_rt_sigprocmask, SIG_UNBLOCK, &abort_alone, NULL, sizeof abort_alone);
    HL_SYS3(SYS_tgkill, hl_getpid(), hl_gettid(), SIGABRT);
}

void hl_misuse_note(const hl_misuse *like)
{
    hl_misuse *record = find(like);
    if (record)
        __atomic_fetch_add(&record->count, 1, __ATOMIC_RELAXED);
    else
        add(like);
    /* Who frees what we never saw may be right. */
    if (hl.abort_on_misuse && !like->doubt && like->kind != HL_MISUSE_NEVER_SEEN)
        stop();
}

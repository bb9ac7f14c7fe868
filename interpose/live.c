/*
 * live.c: live bytes of the process in mode full, where credit does not do.
 */
#include "live.h"

/* Threads that may have credit; more than these share the sum. */
#define MAX_LENDERS 64u
static hl_fullness *_Atomic lenders[MAX_LENDERS];
static _Atomic uint32_t lender_count;
_Alignas(64) hl_epoch hl_credit_epoch;

/* Gives what it says, and whether any of it may be used. */
static int64_t credit_of_others(const hl_fullness *me, bool *usable)
{
    int64_t sum = 0;
    uint64_t now = atomic_load_explicit(&hl_credit_epoch.now, memory_order_relaxed);
    uint32_t count = atomic_load_explicit(&lender_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count && i < MAX_LENDERS; i++) {
        hl_fullness *lender = atomic_load_explicit(&lenders[i], memory_order_acquire);
        int64_t credit = lender && lender != me ? __atomic_load_n(&lender->credit, __ATOMIC_RELAXED) : 0;
        if (credit && __atomic_load_n(&lender->epoch, __ATOMIC_RELAXED) == now)
            *usable = true;
        sum += credit;
    }
    return sum;
}

/* True where more is live than ever. */
static bool raise_most(hl_samples *all, int64_t live)
{
    int64_t most = __atomic_load_n(&all->most_bytes, __ATOMIC_RELAXED);
    while (live > most) {
        if (!__atomic_compare_exchange_n(&all->most_bytes, &most, live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        uint64_t now = __atomic_load_n(&all->excursion, __ATOMIC_RELAXED);
        if (now & 1) /* what rows have noted in it is void */
            __atomic_compare_exchange_n(&all->excursion, &now, now + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        return true;
    }
    return false;
}

/* Others look at it in credit_of_others. */
static void enter_epoch(hl_fullness *full)
{
    __atomic_store_n(&full->epoch, atomic_load_explicit(&hl_credit_epoch.now, memory_order_relaxed), __ATOMIC_RELAXED);
}

bool hl_passes_slowly(hl_samples *all, hl_fullness *full, uint64_t bytes)
{
    int64_t mine = full ? __atomic_exchange_n(&full->credit, 0, __ATOMIC_RELAXED) : 0;
    int64_t held = __atomic_add_fetch(&all->held_bytes, (int64_t)bytes - mine, __ATOMIC_RELAXED);
    int64_t room = __atomic_load_n(&all->most_bytes, __ATOMIC_RELAXED) - held;
    int64_t others = 0;
    if (room < 0) {
        bool usable = false;
        others = credit_of_others(full, &usable);
        if (usable)
            atomic_fetch_add_explicit(&hl_credit_epoch.now, 1, memory_order_relaxed);
        if (raise_most(all, held - others))
            return true;
        room += others; /* which nobody may use: of a thread that has ended it is never returned */
    }
    if (full && full->lends && room > 1) { /* half of the room, for next time; others may be as quick */
        room /= 2;
        enter_epoch(full);
        held = __atomic_add_fetch(&all->held_bytes, room, __ATOMIC_RELAXED);
        if (held - others <= __atomic_load_n(&all->most_bytes, __ATOMIC_RELAXED))
            hl_bump((uint64_t *)&full->credit, (uint64_t)room);
        else
            __atomic_fetch_sub(&all->held_bytes, room, __ATOMIC_RELAXED);
    }
    return false;
}

void hl_return_credit(hl_samples *all, hl_fullness *full, uint64_t bytes)
{
    int64_t mine = full ? __atomic_exchange_n(&full->credit, 0, __ATOMIC_RELAXED) : 0;
    if (full && full->lends) {
        enter_epoch(full);
        hl_bump((uint64_t *)&full->credit, bytes);
        bytes = 0;
    }
    __atomic_fetch_sub(&all->held_bytes, mine + (int64_t)bytes, __ATOMIC_RELAXED);
}

void hl_lend_to(hl_fullness *full)
{
    uint32_t number = atomic_fetch_add_explicit(&lender_count, 1, memory_order_relaxed);
    full->lends = number < MAX_LENDERS;
    if (full->lends)
        atomic_store_explicit(&lenders[number], full, memory_order_release); /* pairs with credit_of_others */
}

void hl_lenders_forget(void)
{
    atomic_store_explicit(&lender_count, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < MAX_LENDERS; i++)
        atomic_store_explicit(&lenders[i], NULL, memory_order_relaxed);
}

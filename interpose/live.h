/*
 * live.h: live bytes of the process in mode full, and whether they pass the most.
 */
#ifndef HL_LIVE_H
#define HL_LIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "book.h"
#include "full.h"
#include "ledger.h"
#include "sys.h"

#pragma GCC visibility push(hidden)

/*
 * Live bytes of the process are known to the byte, so that the most they ever were
 * is, without a word that all threads write at each operation: what a thread frees
 * it keeps as credit, within which it allocates again without asking. hl_samples
 * has all that is live and all credit together. While that is not above the most,
 * no use of credit can be. Where it would be, credit is looked at: what is live is
 * the sum without it, and if any other thread has some, all of it is called in, by
 * a new epoch, and returned as each thread comes by. With several threads the most
 * is exact but for operations in flight.
 */

typedef struct hl_epoch {
    _Atomic uint64_t now;
    char nothing_else[64 - sizeof(uint64_t)];
} hl_epoch;
extern hl_epoch hl_credit_epoch;

/* A new thread may have credit, if there are not too many. */
void hl_lend_to(hl_fullness *full);
/* In a forked child: nobody has any. */
void hl_lenders_forget(void);

/* So many bytes more than this thread's credit, or credit that was called in. NULL: a thread without. */
HL_COLD bool hl_passes_slowly(hl_samples *all, hl_fullness *full, uint64_t bytes);
HL_COLD void hl_return_credit(hl_samples *all, hl_fullness *full, uint64_t bytes);

/* Allocated: true where more is live than ever. */
HL_INLINE bool hl_passes(hl_samples *all, hl_fullness *full, uint64_t bytes)
{
    if (HL_UNLIKELY(!full) || HL_UNLIKELY(full->credit < (int64_t)bytes) ||
        HL_UNLIKELY(full->epoch != atomic_load_explicit(&hl_credit_epoch.now, memory_order_relaxed)))
        return hl_passes_slowly(all, full, bytes);
    hl_bump((uint64_t *)&full->credit, -bytes);
    return false;
}

/* Freed. */
HL_INLINE void hl_give_back(hl_samples *all, hl_fullness *full, uint64_t bytes)
{
    if (HL_UNLIKELY(!full) || HL_UNLIKELY(!full->lends) ||
        HL_UNLIKELY(full->epoch != atomic_load_explicit(&hl_credit_epoch.now, memory_order_relaxed)))
        hl_return_credit(all, full, bytes);
    else
        hl_bump((uint64_t *)&full->credit, bytes);
}

#pragma GCC visibility pop

#endif

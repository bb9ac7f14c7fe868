/*
 * stacks.h: the table of stacks.
 */
#ifndef HL_STACKS_H
#define HL_STACKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"
#include "sys.h"

#pragma GCC visibility push(hidden)

struct hl_walker;

/* What a row is of, before it has one. Frames as the ledger keeps them, or as a walk gives them: without modules. */
typedef struct hl_stack_key {
    uint64_t hash;
    const uint64_t *frames;
    uint32_t count;
    uint32_t tag;
    uint32_t thread;
    uint32_t how;
    const struct hl_walker *walker; /* whose frames they are; NULL: nobody can change them meanwhile */
    uint32_t walk;
} hl_stack_key;

/* Of the walk that has just given `count` frames; of the call alone where it gave none. */
hl_stack_key hl_key_of_walk(const struct hl_walker *walker, uint32_t count, const uint64_t *call_site, uint32_t tag,
                            uint32_t thread);

/* Of a call that nothing more is known of, and that no thread is named for. */
hl_stack_key hl_key_of_call(const uint64_t *call_site, uint32_t tag);

/* Whether the table and the unwinder may take what they begin with. */
bool hl_rows_fit(void);

/* Begins the table of a new ledger, with rows HL_ROWS_*; false: there is none. */
bool hl_rows_begin(uint32_t rows, uint64_t mean_bytes);

/*
 * Goes on in a forked child: the same stacks in the same places, with nothing
 * booked to them. `page` gives the parent's pages. False: there is no room.
 */
bool hl_rows_inherit(const hl_samples *before, const void *(*page)(const void *old, uint32_t page), const void *old);

/* 1 + the row; where there is no room for another, the side's row of all that found none. */
uint32_t hl_row_of(const hl_stack_key *of);

/* A row by its index; NULL: it has no place. */
void *hl_row_at(uint32_t index);

/* A row that was given out, by its index. */
typedef union hl_row_space {
    hl_stack stack;
    hl_sampled sampled;
    hl_exact exact;
} hl_row_space;
extern hl_row_space *_Atomic hl_row_pages[HL_STACK_PAGES];
HL_INLINE hl_exact *hl_exact_row(uint32_t index)
{
    hl_row_space *page = atomic_load_explicit(&hl_row_pages[index / HL_STACKS_PER_PAGE], memory_order_relaxed);
    return HL_LIKELY(page != NULL) ? &page[index % HL_STACKS_PER_PAGE].exact : hl_row_at(index);
}

#pragma GCC visibility pop

#endif

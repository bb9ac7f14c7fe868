/*
 * full.h: mode full: what every block was allocated with.
 */
#ifndef HL_FULL_H
#define HL_FULL_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"
#include "map.h"
#include "sys.h"

#pragma GCC visibility push(hidden)

/* What a thread keeps for itself. */
typedef struct hl_fullness {
    struct hl_walker *walker; /* which remembers its walks; NULL: `forgetful` alone */
    struct hl_walker *forgetful; /* the same, for walks that are not remembered; NULL: this thread has no stacks */
    const void *last;         /* the block that its last operation allocated; NULL: that was a free */
    const void *retired;      /* the block that it has taken out for its wrapped allocator */
    uint64_t retired_word;    /* and what its word was */
    int64_t credit;           /* bytes that it may allocate without asking, if `epoch` is the present one */
    uint64_t epoch;
    bool lends;               /* it may have credit */
} hl_fullness;

/* Prepares mode full in a new ledger; false: blocks are counted only. */
bool hl_full_begin(void);
/* The same in a forked child, which goes on with the rows that it inherited. */
bool hl_full_inherit(const hl_header *before, const void *(*page)(const void *old, uint32_t page), const void *old);
/* A new thread's; and what it took is given back. */
void hl_full_start(hl_fullness *full, void *memory);
void hl_full_end(const hl_fullness *full);
/* A block that a forked child has inherited, as its owner's books have it. */
void hl_full_inherited(hl_map *map, const void *block, uint32_t owner, uint64_t bytes);

/* Of a block that was just booked to its owner. */
HL_COLD void hl_full_book(hl_map *map, const void *block, uint64_t bytes, uint64_t call_site, uint32_t side);
/*
 * What malloc and free do in mode full once there is a block, or before there is
 * none: fast for blocks of glibc's whose owner has a record here. False: nothing is
 * booked, and the way that is always right is to be gone.
 */
HL_COLD bool hl_full_malloc(void *block, uint64_t requested, uint64_t call_site);
HL_COLD bool hl_full_free(void *block, uint64_t call_site);

/* A block that is nobody's here has been allocated: what its address was before is of no interest any more. */
HL_COLD void hl_full_unseen(hl_map *map, const void *block);

/* A call that gives a block back. */
typedef struct hl_return {
    uint32_t call; /* HL_CALL_* */
    uint32_t side; /* whose */
    uint64_t site; /* where it returns to */
    uint64_t said; /* bytes that it says the block has; 0: it does not say */
} hl_return;

/* A block between its being taken out of the books' map and its end. */
typedef struct hl_taken {
    const void *block;
    uint16_t *entry;
    uint64_t *word;
    uint64_t before;  /* what the word was */
    uint32_t owner;
    uint16_t was;     /* what the entry was */
    bool temporary;
} hl_taken;

/*
 * Takes a block out of the map, before its address can be given to anybody else.
 * False where it is none that is live, and misuse is noted. Then either it is
 * freed (its owner's books are the caller's affair), or it stays after all.
 */
HL_COLD bool hl_full_take(hl_map *map, const void *block, const hl_return *call, hl_taken *taken);
HL_COLD void hl_full_freed(const hl_taken *taken);
/* Bytes that its owner's books have of it, `usable` where only the allocator knows. */
HL_COLD uint64_t hl_full_taken_bytes(const hl_taken *taken, uint64_t usable);
HL_COLD void hl_full_stays(const hl_taken *taken);

/* A wrapped allocator's block, taken out and freed at once; and that undone. */
HL_COLD uint32_t hl_full_retire(hl_map *map, const void *block, const hl_return *call);
HL_COLD void hl_full_restore(hl_map *map, const void *block);

/* Blocks from before the books: 1 + the row that a call alone is booked to, 0: none. */
HL_COLD uint32_t hl_full_book_call(uint64_t call_site, uint64_t bytes);
HL_COLD void hl_full_inherited_call(uint32_t row, uint64_t bytes);
/* Books its free; gives 1 + the row of that. */
HL_COLD uint32_t hl_full_free_call(uint32_t row, uint64_t bytes, uint64_t call_site);
/* It was freed already, with the stack `freed`. */
HL_COLD void hl_full_freed_again(const void *block, uint64_t bytes, uint32_t row, uint32_t freed, uint64_t call_site);

/* ---- misuse.c ---- */

/* `record` is all but `thread`, `mono_ns` and `count`. Where it is in doubt nobody is ended for it. */
HL_COLD void hl_misuse_note(const hl_misuse *record);

#pragma GCC visibility pop

#endif

/*
 * sample.h: which allocations are looked at more closely, and what is kept of them.
 */
#ifndef HL_SAMPLE_H
#define HL_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"
#include "sys.h"

#pragma GCC visibility push(hidden)

/* A thread's countdowns to its next samples, one a side. The hot line counts the rest of a piece. */
typedef struct hl_sampling {
    int64_t gap_bytes[HL_SIDES];   /* from the beginning of this piece to the next sample */
    int64_t piece_bytes[HL_SIDES]; /* of it, what the hot line counts down: a quantum at most */
    uint64_t random;
    struct hl_walker *walker; /* NULL: this thread samples nothing */
} hl_sampling;

/*
 * The owner that a sampled block's map entry names: of no record, so that its
 * free goes the slow way, and a free of any other block needs no test. Its real
 * owner is kept with the sample.
 */
#define HL_OWNER_SAMPLED (HL_MAX_OWNERS - 1)

/* A sampled block that is live. */
typedef struct hl_held {
    uint32_t row;   /* 1 + index of its hl_sampled; 0: it is no sample */
    uint32_t owner;
    uint64_t bytes;   /* of a sample */
    uint64_t born_ns; /* of a sample */
} hl_held;

/* Prepares sampling in a new ledger; false: it stays off. */
bool hl_sampling_begin(void);
/* The same in a forked child, which goes on with the samples that it inherited. */
void hl_sampling_inherit(const hl_header *before, const void *(*page)(const void *old, uint32_t page), const void *old);
/* A new thread's countdowns. */
void hl_sampling_start(hl_sampling *sampling, hl_slot *slot, struct hl_walker *walker);

/* Counts what a piece has used; true when the side's sample is due. Then there is a new piece. */
bool hl_sample_due(hl_sampling *sampling, uint32_t side, int64_t counted);

/* Who owns a live block. `owner` is what the map says. */
uint32_t hl_sample_owner(const void *block, uint32_t owner);

/*
 * Takes a block out of the samples, before its address can be given to anybody
 * else; gives its real owner. Then either it is freed, or it stays after all.
 */
uint32_t hl_sample_take(const void *block, uint32_t owner, hl_held *held);
void hl_sample_freed(const hl_held *held);
void hl_sample_stays(const void *block, uint16_t *entry, uint16_t before, const hl_held *held);

#pragma GCC visibility pop

#endif

/*
 * words.h: a granule's word in mode full.
 */
#ifndef HL_WORDS_H
#define HL_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"
#include "map.h"
#include "sys.h"

/*
 * From bit 0: state (2), which half of a granule of glibc's (1), row of the
 * allocation (18); then of a live block its bytes (43), and of one that is freed
 * the row of the free (18) and its bytes (25; 0: more than fit).
 */
enum {
    WORD_NONE = 0,
    WORD_LIVE = 1,
    WORD_FREED = 2,
};
#define ROW_BITS 18
_Static_assert(HL_MAX_STACKS <= 1u << ROW_BITS, "a row fits a word");

HL_INLINE uint64_t half_of(unsigned shift, const void *block)
{
    return shift == HL_GLIBC_SHIFT ? (uintptr_t)block >> (HL_GLIBC_SHIFT - 1) & 1 : 0;
}

HL_INLINE uint64_t live_word(unsigned shift, const void *block, uint32_t row, uint64_t bytes)
{
    uint64_t most = (1ull << 43) - 1;
    return WORD_LIVE | half_of(shift, block) << 2 | (uint64_t)row << 3 | (bytes < most ? bytes : most) << 21;
}

HL_INLINE uint32_t row_of_word(uint64_t word)
{
    return word >> 3 & (HL_MAX_STACKS - 1);
}

HL_INLINE uint64_t live_bytes(uint64_t word)
{
    return word >> 21;
}

HL_INLINE uint64_t freed_word(uint64_t live, uint32_t row)
{
    uint64_t bytes = live_bytes(live);
    return WORD_FREED | (live & ((1ull << 21) - 4)) | (uint64_t)row << 21 | (bytes < 1u << 25 ? bytes << 39 : 0);
}

HL_INLINE uint32_t row_of_free(uint64_t freed)
{
    return freed >> 21 & (HL_MAX_STACKS - 1);
}

HL_INLINE uint64_t freed_bytes(uint64_t freed)
{
    return freed >> 39;
}

/* No allocator gives such an address. */
HL_INLINE bool is_misaligned(unsigned shift, const void *block)
{
    return (uintptr_t)block & (shift == HL_GLIBC_SHIFT ? 15 : 7);
}

HL_INLINE bool says(unsigned shift, uint64_t word, uint32_t state, const void *block)
{
    return (word & 7) == (state | half_of(shift, block) << 2) && !is_misaligned(shift, block);
}

#endif

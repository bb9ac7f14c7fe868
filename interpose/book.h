/*
 * book.h: counters, and the fast paths of booking.
 */
#ifndef HL_BOOK_H
#define HL_BOOK_H

#include "core.h"

#pragma GCC visibility push(hidden)

/* ---- counters -------------------------------------------------------------- */

/*
 * Adds in one instruction, so that a signal handler that allocates between the
 * load and the store cannot be lost. Not atomic against other threads: only a
 * slot's own thread calls it.
 */
HL_INLINE void hl_bump(uint64_t *counter, uint64_t by)
{
#if defined(HL_X86_64)
    __asm__("addq %1, %0" : "+m"(*counter) : "er"(by) : "cc");
#else
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
#endif
}

/* What a counter says that another thread may be adding to. */
HL_INLINE uint64_t hl_count_of(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* hl_bump for what is left of a quantum; true when it is used up. */
HL_INLINE bool hl_spend(int64_t *left, uint64_t bytes)
{
#if defined(HL_X86_64)
    bool used_up;
    __asm__("addq %2, %0" : "+m"(*left), "=@ccns"(used_up) : "er"(bytes));
    return used_up;
#else
    return __atomic_add_fetch(left, (int64_t)bytes, __ATOMIC_RELAXED) >= 0;
#endif
}

/* See HL_SIZE_BUCKETS. */
HL_INLINE unsigned hl_size_bucket(uint64_t bytes)
{
    if (HL_LIKELY(bytes < HL_LINEAR_SIZES))
        return (unsigned)bytes >> HL_LINEAR_SHIFT;
    unsigned shift = 63 - HL_SIZE_BITS + 1 - (unsigned)__builtin_clzll(bytes);
    uint64_t bucket = ((uint64_t)shift << (HL_SIZE_BITS - 1)) + (bytes >> shift) + HL_LINEAR_EXTRA;
    return bucket < HL_SIZE_BUCKETS ? (unsigned)bucket : HL_SIZE_BUCKETS - 1;
}

/*
 * A cached record has one of two places. The fast path looks at the first
 * alone; call sites that share it find their second on the slow one.
 */
HL_INLINE unsigned hl_cache_first(uint64_t call_site)
{
    return (unsigned)call_site % HL_CACHE_RECORDS;
}

HL_INLINE unsigned hl_cache_second(uint64_t key)
{
    return (unsigned)(key >> 7 ^ key >> 16 ^ key >> 48) % HL_CACHE_RECORDS;
}

/*
 * Sizes of glibc's blocks, from the chunk header (malloc/malloc.c, chunksize):
 * usable bytes, and the same in two steps for the fast path, where a block
 * that is mapped by itself goes the slow way.
 */
HL_INLINE uint64_t hl_glibc_usable(const void *block)
{
    uint64_t size = ((const uint64_t *)block)[-1];
    return (size & ~7ull) - 4 * (size & 2) - 8;
}

HL_INLINE bool hl_glibc_mapped(const void *block)
{
    return HL_UNLIKELY(((const uint64_t *)block)[-1] & 2);
}

HL_INLINE uint64_t hl_glibc_inside(const void *block)
{
    return (((const uint64_t *)block)[-1] & ~7ull) - 8;
}

/*
 * The two fast paths say what is left to do, and the hooks do it in a tail
 * call: a function whose last act may be a slow call saves no register on its
 * fast way.
 */
enum {
    HL_BOOKED = 0,
    HL_SLOW = 1,    /* nothing is booked yet: hl_book_slow, hl_unbook_slow */
    HL_QUANTUM_UP = 2, /* booked; hl_quantum is due */
};

/* Of a record whose owner was seen, by whoever looks at others' records. */
HL_INLINE uint32_t hl_side_of(const hl_record *record)
{
    return HL_KEY_SIDE(__atomic_load_n(&record->key, __ATOMIC_RELAXED));
}

/* What was asked for, as readers want it. */
HL_INLINE uint64_t hl_requested(const hl_record *record)
{
    const uint64_t *counter =
        hl_side_of(record) == HL_SIDE_RUST ? &record->allocated_bytes : &record->requested_bytes;
    return hl_count_of(counter);
}

HL_INLINE void hl_longest_set(hl_private *own, uint32_t side, uint64_t requested)
{
    own->slot->hot.longest[side] = requested;
    own->usual[side] = requested < HL_LINEAR_SIZES ? requested : HL_LINEAR_SIZES - 1;
}

/*
 * Books a block that its allocator has just given out. `bytes` is what the
 * side counts, the place's leaf is known; the block must not be visible to
 * anybody else yet.
 */
HL_INLINE int hl_book_by(const hl_private *own, hl_place place, unsigned shift, uint64_t bytes, uint64_t requested,
                         uint64_t call_site, uint32_t side)
{
    uint64_t key = own->key_bits[side] ^ call_site;
    hl_record *record = own->cache[hl_cache_first(call_site)]; /* not by the key: it is there later */
    if (HL_UNLIKELY(!record) || HL_UNLIKELY(record->key != key))
        return HL_SLOW;
    hl_slot *slot = hl_me.slot;
    hl_bump(&record->allocated_blocks, 1);
    hl_bump(&record->allocated_bytes, bytes);
    if (side == HL_SIDE_C)
        hl_bump(&record->requested_bytes, requested);
    hl_entry_set(place, shift, &record->owner);
    if (HL_LIKELY(requested <= own->usual[side])) {
        hl_bump(&slot->sizes[side][requested >> HL_LINEAR_SHIFT], 1);
    } else {
        hl_bump(&slot->sizes[side][hl_size_bucket(requested)], 1);
        if (requested > slot->hot.longest[side])
            hl_longest_set(hl_me.own, side, requested);
    }
    return HL_UNLIKELY(hl_spend(&slot->hot.allocated[side], bytes)) ? HL_QUANTUM_UP : HL_BOOKED;
}

HL_INLINE int hl_book(hl_place place, unsigned shift, uint64_t bytes, uint64_t requested, uint64_t call_site,
                      uint32_t side)
{
    return hl_book_by(hl_me.fast, place, shift, bytes, requested, call_site, side);
}

/* This thread's record of an owner of that side; NULL: go the slow way, as for owner 0. */
HL_INLINE hl_record *hl_record_here(uint32_t owner, uint32_t side)
{
    return hl_me.fast->of_owner[side][owner];
}

/* The same of an entry's owner. */
HL_INLINE hl_record *hl_record_of_entry(uint16_t entry, uint32_t side)
{
    /* As many bytes as the masked entry is worth: no shift down and up again. */
    const char *records = (const char *)hl_me.fast->of_owner[side];
    return *(hl_record *const *)(const void *)(records + (entry & HL_ENTRY_OWNER) * (sizeof(hl_record *) / 2));
}

/* Books the free of a block in its owner's record, which may be NULL. `side` is the caller's. */
HL_INLINE int hl_unbook(hl_record *record, uint64_t bytes, uint32_t side)
{
    if (HL_UNLIKELY(!record))
        return HL_SLOW;
    hl_slot *slot = hl_me.slot;
    hl_bump(&record->freed_bytes, bytes);
    hl_bump(&record->freed_blocks, 1);
    return HL_UNLIKELY(hl_spend(&slot->hot.freed[side], bytes)) ? HL_QUANTUM_UP : HL_BOOKED;
}

/* The same with what is left done, for where speed matters less. */
void hl_unbook_fully(uint32_t owner, uint64_t bytes, uint32_t side);

#pragma GCC visibility pop

#endif

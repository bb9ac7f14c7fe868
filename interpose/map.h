/*
 * map.h: the owner map, block address -> owner, and the ways to an entry.
 */
#ifndef HL_MAP_H
#define HL_MAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"
#include "sys.h"

#pragma GCC visibility push(hidden)

/*
 * A side table from block address to owner. Three levels keep what it takes in
 * proportion to the heap (a sixteenth of glibc's, a quarter of others'), so that
 * programs under RLIMIT_AS or mlockall do not notice: 64 GiB a root entry,
 * 16 MiB a leaf. An entry is written by whoever owns the block at the time:
 * the program's own hand-over of the block orders accesses.
 */
#define HL_LEAF_SHIFT 24
#define HL_NODE_BITS 12
#define HL_ROOT_BITS 11 /* 47 bits of address */
#define HL_LEAF_BYTES(shift) ((size_t)2 << (HL_LEAF_SHIFT - (shift)))
#define HL_NODE_BYTES (sizeof(uintptr_t) << HL_NODE_BITS)
/*
 * Words are found by pieces, of 256 KiB of heap. Where address space is limited
 * (RLIMIT_AS) they are made piece by piece, where blocks lie: a whole leaf of them
 * is more than such a program has to spare.
 */
#define HL_PIECE_SHIFT 18
#define HL_PIECE_BYTES(shift) (sizeof(uint64_t) << (HL_PIECE_SHIFT - (shift)))
#define HL_PIECES_BITS (HL_LEAF_SHIFT - HL_PIECE_SHIFT) /* of a leaf */
#define HL_PIECES_BYTES (sizeof(uintptr_t) << HL_PIECES_BITS)
/* 1 TiB of heap; what lies in further leaves a forked child does not inherit. */
#define HL_MAX_LEAVES 65536u
typedef struct hl_map {
    /*
     * Nodes and, in them, leaves; 0: none. Each is an address less what would
     * lie before it in one table of all address space, so that finding an entry
     * needs no mask. Both grow by compare-and-swap.
     */
    _Atomic uintptr_t root[1 << HL_ROOT_BITS];
    unsigned shift; /* log2 of the granule; set once, before the first entry */
    _Atomic uint32_t leaf_count;
    uint32_t leaf_tops[HL_MAX_LEAVES]; /* 1 + the numbers of the leaves that there are; 0: being made as the process forked */
    bool has_words; /* behind its entries each leaf says where its pieces of words are; set as `shift` is */
} hl_map;

/* Glibc's blocks lie at least 32 bytes apart; others' at least 8. */
#define HL_GLIBC_SHIFT 5
#define HL_OTHER_SHIFT 3

/* 0 where nothing was ever booked. Takes any address, also what is none. */
HL_INLINE uintptr_t hl_map_leaf(const hl_map *map, const void *block)
{
    uintptr_t number = (uintptr_t)block >> HL_LEAF_SHIFT;
    if (HL_UNLIKELY(number >> (HL_NODE_BITS + HL_ROOT_BITS)))
        return 0;
    uintptr_t node = atomic_load_explicit(&map->root[number >> HL_NODE_BITS], memory_order_relaxed);
    if (HL_UNLIKELY(!node))
        return 0;
    return atomic_load_explicit((const _Atomic uintptr_t *)node + number, memory_order_relaxed);
}

HL_INLINE uint16_t *hl_leaf_entry(uintptr_t leaf, uintptr_t at, unsigned shift)
{
    return (uint16_t *)leaf + (at >> shift);
}

/* NULL where nothing was ever booked. Takes any address, also what is none. */
HL_INLINE uint16_t *hl_map_entry(const hl_map *map, const void *block, unsigned shift)
{
    uintptr_t leaf = hl_map_leaf(map, block);
    return HL_LIKELY(leaf) ? hl_leaf_entry(leaf, (uintptr_t)block, shift) : NULL;
}

/* Where the leaf's pieces of words are, to be indexed by addresses of blocks, in a map that has words. */
HL_INLINE uintptr_t hl_leaf_pieces(uintptr_t leaf, const void *block, unsigned shift)
{
    uintptr_t number = (uintptr_t)block >> HL_LEAF_SHIFT;
    return leaf + (number + 1) * HL_LEAF_BYTES(shift) - number * HL_PIECES_BYTES;
}

/* The word of the granule that the block is in; NULL: there is none. */
HL_INLINE uint64_t *hl_piece_word(uintptr_t pieces, const void *block, unsigned shift)
{
    uintptr_t piece = atomic_load_explicit((const _Atomic uintptr_t *)pieces + ((uintptr_t)block >> HL_PIECE_SHIFT),
                                           memory_order_relaxed);
    return HL_LIKELY(piece) ? (uint64_t *)piece + ((uintptr_t)block >> shift) : NULL;
}

/* NULL where there is none. Takes any address, also what is none. */
HL_INLINE uint64_t *hl_map_word(const hl_map *map, const void *block)
{
    uintptr_t leaf = hl_map_leaf(map, block);
    return HL_LIKELY(leaf) ? hl_piece_word(hl_leaf_pieces(leaf, block, map->shift), block, map->shift) : NULL;
}

/*
 * The live block that lies around an address, or begins there, if it begins in the
 * same leaf or one of the few before; NULL: none. `bytes_of` says how long a block is.
 */
void *hl_map_around(const hl_map *map, const void *address, uint64_t (*bytes_of)(const hl_map *, const void *));

/*
 * Leaves of the glibc map that lie side by side, as those of a heap do: a block there
 * finds its entry by its distance alone. Each thread has the strip that it was first
 * seen to allocate in. Only that thread writes it, and whoever interrupts it there may
 * do so as well: `base` is written once, `map` follows from it, and `span` grows.
 */
typedef struct hl_strip {
    uintptr_t base; /* first address, never NULL's leaf; HL_NO_STRIP: none yet */
    uintptr_t map;  /* the first entry */
    uintptr_t span; /* bytes from there on; 0: none yet */
} hl_strip;
/* No address is less than a span behind it, not even where it alone was read before a handler took the strip. */
#define HL_NO_STRIP ((uintptr_t)1 << 63)
#define HL_STRIP_LEAVES 64u

/*
 * The way to the glibc map's other leaves that the fast paths take: one comparison
 * instead of three levels. By the low bits of a leaf's number, the first leaf
 * that was looked for there; others keep to the long way. Addresses are raised
 * by one leaf first: then no address that an allocator gives matches a place
 * that is empty, and NULL matches none.
 */
#define HL_NEAR_LEAVES 8192u /* 128 GiB of heap in one piece */
#define HL_NEAR_RAISE ((uintptr_t)1 << HL_LEAF_SHIFT)
typedef struct hl_near_leaves {
    _Atomic uintptr_t number[HL_NEAR_LEAVES]; /* of the raised address; release, last; 0: empty */
    _Atomic uintptr_t leaf[HL_NEAR_LEAVES];   /* to be indexed by raised addresses; written once */
    _Atomic uintptr_t pieces[HL_NEAR_LEAVES]; /* in mode full: where its words are, by raised addresses; as `leaf` */
} hl_near_leaves;
extern hl_near_leaves hl_near;

/* Where a block's entry is: in `leaf` by `at`, which has the block's low bits. */
typedef struct hl_place {
    uintptr_t leaf; /* 0: unknown */
    uintptr_t at;
} hl_place;

/* False where the block is not in the strip. */
HL_INLINE bool hl_strip_place(const hl_strip *strip, const void *block, hl_place *place)
{
    place->at = (uintptr_t)block - strip->base;
    /* A handler may write the strip at any point. Where there was a base there is the rest, if there is a span. */
    atomic_signal_fence(memory_order_seq_cst);
    place->leaf = strip->map;
    atomic_signal_fence(memory_order_seq_cst);
    return HL_LIKELY(place->at < strip->span); /* last: one instruction loads and compares */
}

/* False where the leaf is not near. `near` is its index among those that are. */
HL_INLINE bool hl_near_place_at(const void *block, hl_place *place, uintptr_t *near)
{
#if defined(HL_X86_64)
    /* As below, in a third of the instructions that compilers make of it. Loads are not reordered. */
    uintptr_t number;
    bool found;
    __asm__("leaq %c[raise](%[block]), %[at]\n\t"
            "movq %[at], %[number]\n\t"
            "shrq %[shift], %[number]\n\t"
            "movl %k[number], %k[near]\n\t"
            "andl %[mask], %k[near]\n\t"
            "cmpq %[number], (%[leaves],%[near],8)\n\t"
            "movq %c[second](%[leaves],%[near],8), %[leaf]"
            : [at] "=&r"(place->at), [number] "=&r"(number), [near] "=&r"(*near), [leaf] "=r"(place->leaf),
              "=@cce"(found)
            : [block] "r"(block), [leaves] "r"(&hl_near), [raise] "i"(HL_NEAR_RAISE), [shift] "i"(HL_LEAF_SHIFT),
              [mask] "i"(HL_NEAR_LEAVES - 1), [second] "i"(offsetof(hl_near_leaves, leaf)), "m"(hl_near));
    return HL_LIKELY(found);
#else
    place->at = (uintptr_t)block + HL_NEAR_RAISE;
    uintptr_t number = place->at >> HL_LEAF_SHIFT;
    *near = number % HL_NEAR_LEAVES;
    if (HL_UNLIKELY(atomic_load_explicit(&hl_near.number[*near], memory_order_acquire) != number))
        return false;
    place->leaf = atomic_load_explicit(&hl_near.leaf[*near], memory_order_relaxed);
    return true;
#endif
}

/* The word of a block whose leaf is near; false: there is none. */
HL_INLINE bool hl_near_word(uintptr_t near, hl_place place, uint64_t **word)
{
    uintptr_t pieces = atomic_load_explicit(&hl_near.pieces[near], memory_order_relaxed);
    uintptr_t piece = atomic_load_explicit((const _Atomic uintptr_t *)pieces + (place.at >> HL_PIECE_SHIFT),
                                           memory_order_relaxed);
    *word = (uint64_t *)piece + (place.at >> HL_GLIBC_SHIFT) - (HL_NEAR_RAISE >> HL_GLIBC_SHIFT);
    return HL_LIKELY(piece);
}

/* Takes the strip around a block that has an entry, if there is none yet; lengthens it if the block is behind it. */
HL_COLD void hl_strip_follow(hl_strip *strip, const hl_map *map, const void *block);

/* The same the long way; next time it is near, if there is room. */
hl_place hl_far_place(const hl_map *map, const void *block);

/*
 * An entry is, from bit 1 on, the owner and, in bit 0, which half of a 32-byte
 * granule the block starts in: glibc's blocks are 16-aligned, and a forked
 * child that walks the map must find them. Bit 15 is free.
 */
#define HL_ENTRY_OWNER (2 * HL_MAX_OWNERS - 2)
HL_INLINE uint32_t hl_entry_owner(uint16_t entry)
{
    return (entry & HL_ENTRY_OWNER) >> 1;
}

/*
 * A block's entry is its holder's alone. But mode full looks at those of other threads'
 * blocks where a call has no live one. So stores are atomic, which costs nothing.
 */
HL_INLINE void hl_entry_put(uint16_t *entry, uint32_t value)
{
#if defined(HL_X86_64) /* compilers would clear the register's other bits first */
    __asm__("movw %w1, %0" : "=m"(*entry) : "r"(value));
#else
    __atomic_store_n(entry, (uint16_t)value, __ATOMIC_RELAXED);
#endif
}

HL_INLINE uint16_t hl_entry_get(const uint16_t *entry)
{
    return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

/* The owner is loaded in between: compilers would do so early, and move it twice. */
HL_INLINE void hl_entry_set(hl_place place, unsigned shift, const uint32_t *owner)
{
    uintptr_t granule = place.at;
#if defined(HL_X86_64)
    uint32_t entry;
    if (shift == HL_GLIBC_SHIFT) /* the last bit shifted out is the half: it goes in from the carry */
        __asm__("shrq %3, %0\n\tmovl %2, %1\n\tadcl %1, %1"
                : "+&r"(granule), "=&r"(entry)
                : "m"(*owner), "i"(HL_GLIBC_SHIFT)
                : "cc");
    else
        granule >>= shift, entry = *owner * 2;
#else
    uint32_t entry = *owner * 2 + (shift == HL_GLIBC_SHIFT ? granule >> (HL_GLIBC_SHIFT - 1) & 1 : 0);
    granule >>= shift;
#endif
    hl_entry_put((uint16_t *)place.leaf + granule, entry);
}

/* The entry of the same place with another owner. */
HL_INLINE uint16_t hl_entry_with(uint16_t entry, uint32_t owner)
{
    return (uint16_t)((entry & 1u) | owner << 1);
}

HL_INLINE void hl_entry_clear(uint16_t *entry)
{
#if defined(HL_X86_64)
    /* Compilers shun the 16-bit constant, which is slow to decode, once, and take a register instead. */
    __asm__("movw $0, %0" : "=m"(*entry));
#else
    hl_entry_put(entry, 0);
#endif
}

HL_INLINE void *hl_entry_block(uint16_t entry, uint64_t granule, unsigned shift)
{
    return (void *)(uintptr_t)(shift == HL_GLIBC_SHIFT ? granule | (entry & 1u) << (HL_GLIBC_SHIFT - 1) : granule);
}

/* The entry, with its leaf made where it is missing; NULL if memory is refused. */
uint16_t *hl_map_grow(hl_map *map, const void *block);
/* The word of a block that has an entry, with its piece made; NULL if there is no room for that. */
HL_COLD uint64_t *hl_map_grow_word(hl_map *map, const void *block);

/* Calls back for every live block. */
void hl_map_each(hl_map *map, void (*visit)(void *context, void *block, uint32_t owner), void *context);

#pragma GCC visibility pop

#endif

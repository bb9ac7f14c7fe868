/*
 * map.c: growth of the owner map, strips of it, the walk over it, and looking around in it.
 */
#include "core.h"

/*
 * The table at the place, made where there is none yet; 0 if memory is refused.
 * What lies before it, were it part of one for all address space, is taken off
 * its address.
 */
static uintptr_t grow(_Atomic uintptr_t *place, size_t bytes, uintptr_t bias, uintptr_t wished, bool *made)
{
    uintptr_t there = atomic_load_explicit(place, memory_order_acquire);
    if (there)
        return there;
    char *table = hl_reserve_at(wished, bytes);
    if (!table)
        return 0;
    uintptr_t mine = (uintptr_t)table - bias;
    /* A table exactly at its bias would read as none: then there is none. */
    *made = mine && atomic_compare_exchange_strong_explicit(place, &there, mine, memory_order_acq_rel,
                                                            memory_order_acquire);
    if (*made)
        return mine;
    hl_release(table, bytes);
    return there;
}

static _Atomic uintptr_t *pieces_of(const hl_map *map, const void *block)
{
    return (_Atomic uintptr_t *)hl_leaf_pieces(hl_map_leaf(map, block), block, map->shift);
}

/* All words of a new leaf at once, where there is plenty of room: a program in strict seccomp cannot get more. */
static void make_words(const hl_map *map, const void *block)
{
    size_t bytes = HL_PIECE_BYTES(map->shift);
    char *words = hl_is_ample(bytes << HL_PIECES_BITS) ? hl_reserve(bytes << HL_PIECES_BITS) : NULL;
    if (!words)
        return;
    _Atomic uintptr_t *pieces = pieces_of(map, block);
    uintptr_t first = (uintptr_t)block >> HL_LEAF_SHIFT << HL_PIECES_BITS;
    for (uintptr_t number = first; number < first + (1u << HL_PIECES_BITS); number++, words += bytes) {
        uintptr_t none = 0; /* or another thread was here first, and has made its own */
        atomic_compare_exchange_strong_explicit(&pieces[number], &none, (uintptr_t)words - number * bytes,
                                                memory_order_acq_rel, memory_order_acquire);
    }
}

/* ---- where leaves lie ---- */

/* From where the kernel maps things, far enough down that programs do not fill what lies between. */
#define FAR ((uintptr_t)64 << 30)

/*
 * Where the table of a leaf is asked for, so that leaves of a heap lie side by side:
 * next to that of the leaf beside it, or, of a heap that is new, where there is room
 * for more behind it. It is a wish: the kernel may map it elsewhere. 0: none.
 */
static uintptr_t wish(const hl_map *map, uintptr_t number)
{
    static _Atomic uintptr_t heaps;
    uintptr_t bytes = HL_LEAF_BYTES(map->shift), from = (uintptr_t)hl.header;
    if (map != &hl.glibc_blocks || map->has_words || from < 2 * FAR)
        return 0;
    uintptr_t beside = number ? hl_map_leaf(map, (const void *)((number - 1) << HL_LEAF_SHIFT)) : 0;
    if (!beside)
        beside = hl_map_leaf(map, (const void *)((number + 1) << HL_LEAF_SHIFT));
    if (beside)
        return beside + number * bytes;
    uintptr_t down = FAR + atomic_fetch_add_explicit(&heaps, 1, memory_order_relaxed) % 1024 * HL_STRIP_LEAVES * bytes;
    return (from - down) & ~(bytes - 1);
}

/* ---- growth ---- */

/* The leaf that a block lies in; false where there is none. `made` tells that it is new. */
static bool grow_leaf(hl_map *map, const void *block, bool *made)
{
    uintptr_t number = (uintptr_t)block >> HL_LEAF_SHIFT;
    if (number >> (HL_NODE_BITS + HL_ROOT_BITS))
        return false;
    uintptr_t top = number >> HL_NODE_BITS;
    uintptr_t node = grow(&map->root[top], HL_NODE_BYTES, top * HL_NODE_BYTES, 0, made);
    if (!node)
        return false;
    *made = false;
    size_t bytes = HL_LEAF_BYTES(map->shift) + (map->has_words ? HL_PIECES_BYTES : 0);
    _Atomic uintptr_t *place = (_Atomic uintptr_t *)node + number;
    bool is_new = !atomic_load_explicit(place, memory_order_relaxed);
    /* Where little is left it is the program's: blocks there are in no figure. */
    if (is_new && !hl_leaves_most(bytes))
        return false;
    uintptr_t wished = is_new ? wish(map, number) : 0;
    if (!grow(place, bytes, number * HL_LEAF_BYTES(map->shift), wished, made))
        return false;
    if (*made && map->has_words)
        make_words(map, block);
    if (*made) {
        uint32_t index = atomic_fetch_add_explicit(&map->leaf_count, 1, memory_order_relaxed);
        if (index < HL_MAX_LEAVES)
            map->leaf_tops[index] = 1 + (uint32_t)number;
    }
    return true;
}

/* A heap that begins so near a leaf's end has the next leaf at once: a program in strict seccomp cannot get more. */
#define AHEAD ((uintptr_t)1 << 20)

uint16_t *hl_map_grow(hl_map *map, const void *block)
{
    bool made = false;
    if (!grow_leaf(map, block, &made))
        return NULL;
    uintptr_t ahead = (uintptr_t)block + AHEAD;
    if (made && ahead >> HL_LEAF_SHIFT != (uintptr_t)block >> HL_LEAF_SHIFT &&
        hl_is_ample(HL_LEAF_BYTES(map->shift)))
        grow_leaf(map, (const void *)ahead, &made);
    return hl_map_entry(map, block, map->shift);
}

uint64_t *hl_map_grow_word(hl_map *map, const void *block)
{
    uint64_t *word = hl_map_word(map, block);
    if (HL_LIKELY(word != NULL) || !hl_map_leaf(map, block) || !hl_may_take(HL_PIECE_BYTES(map->shift)))
        return word;
    uintptr_t number = (uintptr_t)block >> HL_PIECE_SHIFT;
    bool made = false;
    grow(pieces_of(map, block) + number, HL_PIECE_BYTES(map->shift), number * HL_PIECE_BYTES(map->shift), 0, &made);
    return hl_map_word(map, block);
}

/* ---- looking around ---- */

#define LEAVES_BEFORE 4u /* 64 MiB: half a millisecond of looking */

/* The last block of a leaf that begins at an address or before it. */
static void *last_block_until(const hl_map *map, uintptr_t number, uintptr_t address)
{
    uintptr_t start = number << HL_LEAF_SHIFT, last = start + ((uintptr_t)1 << HL_LEAF_SHIFT) - 1;
    uint64_t granule = (address < last ? address : last) >> map->shift;
    const uint16_t *entries = hl_map_entry(map, (const void *)start, map->shift);
    if (!entries)
        return NULL;
    entries -= start >> map->shift;
    for (; granule >= start >> map->shift; granule--) {
        uint16_t entry = hl_entry_get(entries + granule);
        void *block = hl_entry_block(entry, granule << map->shift, map->shift);
        if (hl_entry_owner(entry) && (uintptr_t)block <= address)
            return block;
        if (!granule)
            break;
    }
    return NULL;
}

void *hl_map_around(const hl_map *map, const void *address, uint64_t (*bytes_of)(const hl_map *, const void *))
{
    uintptr_t number = (uintptr_t)address >> HL_LEAF_SHIFT;
    for (uintptr_t back = 0; back <= LEAVES_BEFORE && back <= number; back++) {
        void *block = last_block_until(map, number - back, (uintptr_t)address);
        if (block)
            return (uintptr_t)address - (uintptr_t)block < bytes_of(map, block) ? block : NULL;
    }
    return NULL;
}

/* Entries lie side by side where the leaves' words agree: see hl_map. */
static bool has_leaf(const hl_map *map, uintptr_t number, uintptr_t leaf)
{
    return number && hl_map_leaf(map, (const void *)(number << HL_LEAF_SHIFT)) == leaf;
}

static uintptr_t first_of_strip(const hl_map *map, const void *block)
{
    uintptr_t leaf = hl_map_leaf(map, block), first = (uintptr_t)block >> HL_LEAF_SHIFT, least = first;
    while (leaf && first - least < HL_STRIP_LEAVES / 2 && has_leaf(map, least - 1, leaf))
        least--;
    return leaf ? least << HL_LEAF_SHIFT : 0;
}

void hl_strip_follow(hl_strip *strip, const hl_map *map, const void *block)
{
    uintptr_t none = HL_NO_STRIP, base = first_of_strip(map, block);
    if (!base)
        return;
    if (!__atomic_compare_exchange_n(&strip->base, &none, base, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        base = none;
    uintptr_t first = base >> HL_LEAF_SHIFT, leaf = hl_map_leaf(map, (const void *)base), end = first;
    if ((uintptr_t)block - base >= (uintptr_t)HL_STRIP_LEAVES << HL_LEAF_SHIFT || !leaf)
        return;
    while (end - first < HL_STRIP_LEAVES && has_leaf(map, end, leaf))
        end++;
    strip->map = leaf + first * HL_LEAF_BYTES(map->shift);
    atomic_signal_fence(memory_order_seq_cst); /* pairs with hl_strip_place, which a handler may have interrupted */
    strip->span = (end - first) << HL_LEAF_SHIFT;
}

hl_near_leaves hl_near;

hl_place hl_far_place(const hl_map *map, const void *block)
{
    hl_place place = {hl_map_leaf(map, block), (uintptr_t)block};
    uintptr_t number = (place.at + HL_NEAR_RAISE) >> HL_LEAF_SHIFT;
    /* The first leaf is never near: NULL lies in it. */
    if (!place.leaf || number == 1 || map != &hl.glibc_blocks)
        return place;
    uintptr_t mine = place.leaf - (HL_NEAR_RAISE >> HL_GLIBC_SHIFT) * sizeof(uint16_t), none = 0;
    uint32_t near = number % HL_NEAR_LEAVES;
    /* Whoever has the leaf's word has the number's, too; a signal handler that comes between goes the long way. */
    if (mine && atomic_compare_exchange_strong_explicit(&hl_near.leaf[near], &none, mine, memory_order_relaxed,
                                                        memory_order_relaxed)) {
        uintptr_t pieces = hl_leaf_pieces(place.leaf, block, HL_GLIBC_SHIFT);
        atomic_store_explicit(&hl_near.pieces[near], pieces - (HL_NEAR_RAISE >> HL_PIECE_SHIFT) * sizeof pieces,
                              memory_order_relaxed);
        atomic_store_explicit(&hl_near.number[near], number, memory_order_release); /* pairs with hl_near_place_at */
    }
    return place;
}

static void each_in_page(const hl_map *map, const uint16_t *entries, uint64_t base,
                         void (*visit)(void *, void *, uint32_t), void *context)
{
    const uint64_t *four = (const void *)entries;
    for (size_t i = 0; i < HL_PAGE_BYTES / sizeof *four; i++) {
        if (HL_LIKELY(!four[i]))
            continue;
        for (size_t j = i * 4; j < i * 4 + 4; j++)
            if (entries[j])
                visit(context, hl_entry_block(entries[j], base + ((uint64_t)j << map->shift), map->shift),
                      hl_entry_owner(entries[j]));
    }
}

/*
 * Which pages of a leaf were ever touched, as /proc/self/pagemap tells (proc(5):
 * bit 63 present, bit 62 swapped): reading the others would make the kernel map
 * zeros there, hundreds of times a leaf.
 */
#define TOUCHED (3ull << 62)
#define PAGES_AT_ONCE 256

static void each_in_leaf(const hl_map *map, long pagemap, uint32_t top, void (*visit)(void *, void *, uint32_t),
                         void *context)
{
    const char *leaf =
        (const char *)hl_map_entry(map, (const void *)((uintptr_t)top << HL_LEAF_SHIFT), map->shift);
    size_t pages = HL_LEAF_BYTES(map->shift) / HL_PAGE_BYTES;
    uint64_t per_page = (uint64_t)(HL_PAGE_BYTES / sizeof(uint16_t)) << map->shift;
    uint64_t state[PAGES_AT_ONCE];
    for (size_t first = 0; first < pages; first += PAGES_AT_ONCE) {
        uint64_t at = ((uintptr_t)leaf / HL_PAGE_BYTES + first) * sizeof *state;
        bool known = HL_SYS4(SYS_pread64, pagemap, state, sizeof state, at) == (long)sizeof state;
        for (size_t i = 0; i < PAGES_AT_ONCE; i++) {
            size_t page = first + i;
            if (!known || state[i] & TOUCHED)
                each_in_page(map, (const void *)(leaf + page * HL_PAGE_BYTES),
                             ((uint64_t)top << HL_LEAF_SHIFT) + page * per_page, visit, context);
        }
    }
}

void hl_map_each(hl_map *map, void (*visit)(void *, void *, uint32_t), void *context)
{
    uint32_t count = atomic_load_explicit(&map->leaf_count, memory_order_acquire);
    if (!count)
        return;
    long pagemap = hl_open("/proc/self/pagemap");
    for (uint32_t i = 0; i < count && i < HL_MAX_LEAVES; i++)
        if (map->leaf_tops[i])
            each_in_leaf(map, pagemap, map->leaf_tops[i] - 1, visit, context);
    if (pagemap >= 0)
        HL_SYS1(SYS_close, pagemap);
}

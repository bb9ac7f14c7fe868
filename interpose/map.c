/*
 * map.c: growth of the owner map, and the walk over it.
 */
#include "core.h"

/* Makes the leaf where it is missing; false if memory is refused. */
static bool grow_leaf(hl_map *map, uintptr_t top)
{
    uintptr_t there = atomic_load_explicit(&map->root[top], memory_order_acquire);
    if (there)
        return true;
    char *leaf = hl_reserve(HL_LEAF_BYTES(map->shift));
    if (!leaf)
        return false;
    uintptr_t mine = (uintptr_t)leaf - HL_LEAF_BIAS(top, map->shift);
    if (!mine) { /* would read as none */
        hl_release(leaf, HL_LEAF_BYTES(map->shift));
        return false;
    }
    if (!atomic_compare_exchange_strong_explicit(&map->root[top], &there, mine, memory_order_acq_rel,
                                                 memory_order_acquire)) {
        hl_release(leaf, HL_LEAF_BYTES(map->shift));
        return true;
    }
    uint32_t index = atomic_fetch_add_explicit(&map->leaf_count, 1, memory_order_relaxed);
    if (index < HL_MAX_LEAVES)
        map->leaf_tops[index] = (uint32_t)top;
    return true;
}

uint16_t *hl_map_grow(hl_map *map, const void *block)
{
    uintptr_t top = (uintptr_t)block >> HL_LEAF_SHIFT;
    if (top >= 1u << HL_ROOT_BITS || !grow_leaf(map, top))
        return NULL;
    return hl_map_entry(map, block, map->shift);
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
                      entries[j] & HL_ENTRY_OWNER);
    }
}

/*
 * Which pages of a leaf were ever touched, as /proc/self/pagemap tells (proc(5):
 * bit 63 present, bit 62 swapped): reading the others would make the kernel map
 * zeros there, a thousand times a leaf.
 */
#define TOUCHED (3ull << 62)
#define PAGES_AT_ONCE 256

static void each_in_leaf(const hl_map *map, long pagemap, uint32_t top, void (*visit)(void *, void *, uint32_t),
                         void *context)
{
    uintptr_t biased = atomic_load_explicit(&map->root[top], memory_order_acquire);
    const char *leaf = (const char *)(biased + HL_LEAF_BIAS(top, map->shift));
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
        each_in_leaf(map, pagemap, map->leaf_tops[i], visit, context);
    if (pagemap >= 0)
        HL_SYS1(SYS_close, pagemap);
}

/*
 * map.c: growth of the owner map, and the walk over it.
 */
#include "core.h"

#define NODE_ENTRIES (1u << HL_NODE_BITS)

static size_t leaf_entries(const hl_map *map)
{
    return (size_t)1 << (HL_LEAF_SHIFT - map->shift);
}

/* The uppermost level's reserve. */
static void *reserve_once(void *_Atomic *place, size_t bytes)
{
    void *there = atomic_load_explicit(place, memory_order_acquire);
    if (there)
        return there;
    void *mine = hl_reserve(bytes);
    if (!mine)
        return NULL;
    if (atomic_compare_exchange_strong_explicit(place, &there, mine, memory_order_acq_rel,
                                                memory_order_acquire))
        return mine;
    hl_release(mine, bytes);
    return there;
}

uint16_t *hl_map_grow(hl_map *map, const void *block)
{
    uint64_t address = (uint64_t)(uintptr_t)block;
    uint64_t top = address >> (HL_LEAF_SHIFT + HL_NODE_BITS);
    if (top >= 1u << HL_ROOT_BITS)
        return NULL;
    _Atomic(uint16_t *) *node = reserve_once((void *_Atomic *)&map->root[top], NODE_ENTRIES * sizeof *node);
    if (!node)
        return NULL;
    uint16_t *leaf = reserve_once((void *_Atomic *)&node[(address >> HL_LEAF_SHIFT) & (NODE_ENTRIES - 1)],
                                  leaf_entries(map) * sizeof *leaf);
    return leaf ? hl_map_entry(map, block, map->shift) : NULL;
}

static void each_in_leaf(const hl_map *map, const uint16_t *leaf, uint64_t base,
                         void (*visit)(void *, void *, uint32_t), void *context)
{
    const uint64_t *four = (const uint64_t *)(const void *)leaf;
    for (size_t i = 0; i < leaf_entries(map) / 4; i++) {
        if (HL_LIKELY(!four[i]))
            continue;
        for (size_t j = i * 4; j < i * 4 + 4; j++)
            if (leaf[j])
                visit(context, hl_entry_block(leaf[j], base + ((uint64_t)j << map->shift), map->shift),
                      leaf[j] & HL_ENTRY_OWNER);
    }
}

void hl_map_each(hl_map *map, void (*visit)(void *, void *, uint32_t), void *context)
{
    for (uint64_t top = 0; top < 1u << HL_ROOT_BITS; top++) {
        _Atomic(uint16_t *) *node = atomic_load_explicit(&map->root[top], memory_order_acquire);
        if (!node)
            continue;
        for (uint64_t i = 0; i < NODE_ENTRIES; i++) {
            uint16_t *leaf = atomic_load_explicit(&node[i], memory_order_acquire);
            if (leaf)
                each_in_leaf(map, leaf, ((top << HL_NODE_BITS) + i) << HL_LEAF_SHIFT, visit, context);
        }
    }
}

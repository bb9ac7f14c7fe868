/*
 * hooks.c: the exported malloc family.
 *
 * Each function asks the next allocator and books what it got; pointers, sizes
 * and alignments are the allocator's own. strdup, getline, operator new and
 * the rest reach these by themselves.
 */
#include <errno.h>

#include "api.h"

#define EXPORT __attribute__((visibility("default")))

HL_INLINE uint64_t usable(uint32_t live, void *block)
{
    return HL_LIKELY(live == HL_LIVE_GLIBC) ? hl_glibc_usable(block) : hl.next.malloc_usable_size(block);
}

HL_INLINE unsigned shift_of(uint32_t live)
{
    return HL_LIKELY(live == HL_LIVE_GLIBC) ? HL_GLIBC_SHIFT : HL_OTHER_SHIFT;
}

HL_INLINE void *book(uint32_t live, void *block, size_t requested, uint64_t site)
{
    if (HL_LIKELY(block != NULL))
        hl_book(&hl.blocks, shift_of(live), block, usable(live, block), requested, site, HL_SIDE_C, false);
    return block;
}

/* Not the next allocator's block, and the caller is done with it here. */
static HL_COLD bool ends_here(void *block)
{
    if (hl_arena_owns(block)) {
        hl_arena_free(block);
        return true;
    }
    hl_foreign_free();
    return false;
}

HL_INLINE void release(uint32_t live, void *block)
{
    uint16_t *entry = hl_map_entry(&hl.blocks, block, shift_of(live));
    uint32_t owner = HL_LIKELY(entry != NULL) ? *entry & HL_ENTRY_OWNER : 0;
    if (HL_LIKELY(owner != 0)) {
        *entry = 0;
        hl_unbook(owner, usable(live, block), HL_SIDE_C);
    } else if (ends_here(block)) {
        return;
    }
    hl.next.free(block);
}

/* ---- before there are books, without them, and where somebody else keeps them ---- */

/* Start-up's own look-ups allocate: those blocks are nobody's. */
static bool in_arena(void)
{
    return !hl.next.malloc || atomic_load_explicit(&hl.state, memory_order_relaxed) == HL_STARTING;
}

static uint64_t arena_site(uint64_t site)
{
    return atomic_load_explicit(&hl.state, memory_order_relaxed) == HL_STARTING ? 0 : site;
}

static HL_COLD void *malloc_unbooked(size_t bytes, uint64_t site)
{
    if (hl.delegate)
        return hl.delegate->malloc(bytes, site);
    return in_arena() ? hl_arena_alloc(16, bytes, arena_site(site)) : hl.next.malloc(bytes);
}

static HL_COLD void *calloc_unbooked(size_t count, size_t bytes, uint64_t site)
{
    if (hl.delegate)
        return hl.delegate->calloc(count, bytes, site);
    if (!in_arena())
        return hl.next.calloc(count, bytes);
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all))
        return NULL;
    return hl_arena_alloc(16, all, arena_site(site)); /* the arena is never used twice: zeros */
}

/* A block of the arena moves to wherever blocks come from now. */
static HL_COLD void *realloc_arena(void *block, size_t bytes, uint64_t site)
{
    if (!bytes) {
        hl_arena_free(block);
        return NULL;
    }
    void *moved = hl_do_malloc(bytes, site);
    if (moved) {
        size_t old = hl_arena_usable(block);
        hl_copy_bytes(moved, block, bytes < old ? bytes : old);
        hl_arena_free(block);
    }
    return moved;
}

static HL_COLD void *realloc_unbooked(void *block, size_t bytes, uint64_t site)
{
    if (hl.delegate)
        return hl.delegate->realloc(block, bytes, site);
    if (!block)
        return malloc_unbooked(bytes, site);
    return in_arena() ? NULL : hl.next.realloc(block, bytes);
}

static HL_COLD void free_unbooked(void *block)
{
    if (hl.delegate)
        hl.delegate->free(block);
    else if (hl.next.free)
        hl.next.free(block);
}

/* ---- with the call site given ---- */

static __attribute__((noinline)) void *malloc_other(size_t bytes, uint64_t site)
{
    if (!hl_ready())
        return malloc_unbooked(bytes, site);
    return book(live_now(), hl.next.malloc(bytes), bytes, site);
}

HL_INLINE void *malloc_at(size_t bytes, uint64_t site)
{
    uint32_t live = live_now();
    if (HL_UNLIKELY(live != HL_LIVE_GLIBC))
        return malloc_other(bytes, site);
    return book(HL_LIVE_GLIBC, hl.next.malloc(bytes), bytes, site);
}

HL_INLINE void *calloc_at(size_t count, size_t bytes, uint64_t site)
{
    if (HL_UNLIKELY(live_now() == HL_LIVE_NOT) && !hl_ready())
        return calloc_unbooked(count, bytes, site);
    return book(live_now(), hl.next.calloc(count, bytes), count * bytes, site);
}

static __attribute__((noinline)) void free_other(void *block)
{
    if (hl_ready())
        release(live_now(), block);
    else if (hl_arena_owns(block))
        hl_arena_free(block);
    else
        free_unbooked(block);
}

HL_INLINE void free_at(void *block)
{
    if (HL_UNLIKELY(!block))
        return;
    if (HL_UNLIKELY(live_now() != HL_LIVE_GLIBC))
        free_other(block);
    else
        release(HL_LIVE_GLIBC, block);
}

/*
 * The entry is taken out before the allocator may hand the address to another
 * thread, and put back if it did not.
 */
static void *realloc_booked(uint32_t live, void *block, size_t bytes, uint64_t site)
{
    uint16_t *entry = hl_map_entry(&hl.blocks, block, shift_of(live));
    uint16_t before = entry ? *entry : 0;
    uint32_t owner = before & HL_ENTRY_OWNER;
    if (HL_UNLIKELY(!owner) && hl_arena_owns(block))
        return realloc_arena(block, bytes, site);
    uint64_t freed = owner ? usable(live, block) : 0;
    if (owner)
        *entry = 0;
    void *moved = hl.next.realloc(block, bytes);
    if (HL_UNLIKELY(!moved && bytes)) {
        if (owner)
            *entry = before;
        return NULL;
    }
    if (owner)
        hl_unbook(owner, freed, HL_SIDE_C);
    else
        hl_foreign_free();
    if (moved)
        hl_book(&hl.blocks, shift_of(live), moved, usable(live, moved), bytes, site, HL_SIDE_C, owner != 0);
    return moved;
}

HL_INLINE void *realloc_at(void *block, size_t bytes, uint64_t site)
{
    if (HL_UNLIKELY(live_now() == HL_LIVE_NOT) && !hl_ready()) {
        if (block && hl_arena_owns(block))
            return realloc_arena(block, bytes, site);
        return realloc_unbooked(block, bytes, site);
    }
    if (!block)
        return malloc_at(bytes, site);
    return realloc_booked(live_now(), block, bytes, site);
}

/* The rest of the family: NAME(ALIGNMENT, BYTES) or NAME(BYTES). */

HL_INLINE int posix_memalign_at(void **block, size_t alignment, size_t bytes, uint64_t site)
{
    if (HL_UNLIKELY(!hl_ready())) {
        if (hl.delegate)
            return hl.delegate->posix_memalign(block, alignment, bytes, site);
        if (!in_arena())
            return hl.next.posix_memalign(block, alignment, bytes);
        void *early = hl_arena_alloc(alignment, bytes, arena_site(site));
        return early ? (*block = early, 0) : ENOMEM;
    }
    int error = hl.next.posix_memalign(block, alignment, bytes);
    if (!error)
        book(live_now(), *block, bytes, site);
    return error;
}

#define ALIGNED(name)                                                                                          \
    HL_INLINE void *name##_at(size_t alignment, size_t bytes, uint64_t site)                                   \
    {                                                                                                          \
        if (HL_LIKELY(hl_ready()))                                                                             \
            return book(live_now(), hl.next.name(alignment, bytes), bytes, site);                              \
        if (hl.delegate)                                                                                       \
            return hl.delegate->name(alignment, bytes, site);                                                  \
        return in_arena() ? hl_arena_alloc(alignment, bytes, arena_site(site)) : hl.next.name(alignment, bytes); \
    }
ALIGNED(aligned_alloc)
ALIGNED(memalign)
#undef ALIGNED

#define PAGED(name)                                                                                            \
    HL_INLINE void *name##_at(size_t bytes, uint64_t site)                                                     \
    {                                                                                                          \
        if (HL_LIKELY(hl_ready()))                                                                             \
            return book(live_now(), hl.next.name(bytes), bytes, site);                                         \
        if (hl.delegate)                                                                                       \
            return hl.delegate->name(bytes, site);                                                             \
        return in_arena() ? hl_arena_alloc(HL_PAGE_BYTES, bytes, arena_site(site)) : hl.next.name(bytes);      \
    }
PAGED(valloc)
PAGED(pvalloc)
#undef PAGED

HL_INLINE size_t usable_size(void *block)
{
    if (block && hl_arena_owns(block))
        return hl_arena_usable(block);
    if (hl_ready() || !hl.delegate)
        return hl.next.malloc_usable_size ? hl.next.malloc_usable_size(block) : 0;
    return hl.delegate->malloc_usable_size(block);
}

/* ---- for a core that stands down ---- */

void *hl_do_malloc(size_t bytes, uint64_t site)
{
    return malloc_at(bytes, site);
}

void *hl_do_calloc(size_t count, size_t bytes, uint64_t site)
{
    return calloc_at(count, bytes, site);
}

void *hl_do_realloc(void *block, size_t bytes, uint64_t site)
{
    return realloc_at(block, bytes, site);
}

void hl_do_free(void *block)
{
    free_at(block);
}

int hl_do_posix_memalign(void **block, size_t alignment, size_t bytes, uint64_t site)
{
    return posix_memalign_at(block, alignment, bytes, site);
}

void *hl_do_aligned_alloc(size_t alignment, size_t bytes, uint64_t site)
{
    return aligned_alloc_at(alignment, bytes, site);
}

void *hl_do_memalign(size_t alignment, size_t bytes, uint64_t site)
{
    return memalign_at(alignment, bytes, site);
}

void *hl_do_valloc(size_t bytes, uint64_t site)
{
    return valloc_at(bytes, site);
}

void *hl_do_pvalloc(size_t bytes, uint64_t site)
{
    return pvalloc_at(bytes, site);
}

size_t hl_do_malloc_usable_size(void *block)
{
    return usable_size(block);
}

/* ---- exported ---- */

EXPORT void *malloc(size_t bytes)
{
    return malloc_at(bytes, HL_CALLER());
}

EXPORT void *calloc(size_t count, size_t bytes)
{
    return calloc_at(count, bytes, HL_CALLER());
}

EXPORT void *realloc(void *block, size_t bytes)
{
    return realloc_at(block, bytes, HL_CALLER());
}

EXPORT void free(void *block)
{
    free_at(block);
}

EXPORT int posix_memalign(void **block, size_t alignment, size_t bytes)
{
    return posix_memalign_at(block, alignment, bytes, HL_CALLER());
}

EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    return aligned_alloc_at(alignment, bytes, HL_CALLER());
}

EXPORT void *memalign(size_t alignment, size_t bytes)
{
    return memalign_at(alignment, bytes, HL_CALLER());
}

EXPORT void *valloc(size_t bytes)
{
    return valloc_at(bytes, HL_CALLER());
}

EXPORT void *pvalloc(size_t bytes)
{
    return pvalloc_at(bytes, HL_CALLER());
}

EXPORT size_t malloc_usable_size(void *block)
{
    return usable_size(block);
}

#if defined(HL_PRELOAD)

EXPORT void cfree(void *block)
{
    free_at(block);
}

/* C23. The size is the caller's promise; no allocator needs it to find the block. */
EXPORT void free_sized(void *block, size_t bytes)
{
    (void)bytes;
    free_at(block);
}

EXPORT void free_aligned_sized(void *block, size_t alignment, size_t bytes)
{
    (void)alignment;
    (void)bytes;
    free_at(block);
}

/* For the core of a crate in this process. */
EXPORT const hl_core_api *hl_preload_core(void);
EXPORT const hl_core_api *hl_preload_core(void)
{
    static const hl_core_api core = {
        .abi = HL_CORE_ABI,
        .bytes = sizeof core,
#define FIELD(result, name, parameters) .name = hl_do_##name,
        HL_RUST_FUNCTIONS(FIELD) HL_HOOK_FUNCTIONS(FIELD)
#undef FIELD
#define FIELD(result, otherwise, name, parameters, arguments) .name = hl_core_##name,
        HL_CORE_FUNCTIONS(FIELD)
#undef FIELD
#define FIELD(name, parameters, arguments) .name = hl_core_##name,
        HL_CORE_PROCEDURES(FIELD)
#undef FIELD
    };
    return hl_ready() ? &core : NULL;
}

#endif

/*
 * hooks.c: the exported malloc family.
 *
 * Each function asks the next allocator and books what it got; pointers, sizes
 * and alignments are the allocator's own. strdup, getline, operator new and
 * the rest reach these by themselves.
 */
#include <errno.h>

#include "api.h"
#include "book.h"

#define EXPORT __attribute__((visibility("default")))

HL_INLINE uint64_t usable(uint32_t live, void *block)
{
    return HL_LIKELY(live == HL_LIVE_GLIBC) ? hl_glibc_usable(block) : hl.next.malloc_usable_size(block);
}

/* ---- booking what the next allocator gave ---- */

static HL_COLD void *book_slow(void *block, size_t requested, uint64_t site)
{
    if (hl.full && hl_full_malloc(block, requested, site))
        return block;
    if (block && hl_ready())
        hl_book_slow(hl_next_map(), block, usable(live_now(), block), requested, site, HL_SIDE_C, false);
    return block;
}

static HL_COLD void *quantum_after(void *block)
{
    if (hl.proven_glibc && (uintptr_t)block - hl_me.strip.base >= hl_me.strip.span)
        hl_strip_follow(&hl_me.strip, &hl.glibc_blocks, block);
    if (HL_UNLIKELY(hl_quantum_here() & 1u << HL_SIDE_C))
        hl_sample(hl_next_map(), block, usable(live_now(), block), HL_SITE_OF_OWNER, HL_SIDE_C);
    return block;
}

/* Every slow call is a tail call, so nothing is saved on the way to it. */
HL_INLINE void *book_left(int left, void *block, size_t requested, uint64_t site)
{
    if (HL_LIKELY(left == HL_BOOKED))
        return block;
    return left == HL_SLOW ? book_slow(block, requested, site) : quantum_after(block);
}

/* NULL has a place where the heap begins within the first 16 MiB. */
static HL_COLD void *book_far(void *block, size_t requested, uint64_t site)
{
    hl_place place = hl_far_place(&hl.glibc_blocks, block);
    if (!place.leaf || !block || hl_glibc_mapped(block))
        return book_slow(block, requested, site);
    return book_left(hl_book(place, HL_GLIBC_SHIFT, hl_glibc_inside(block), requested, site, HL_SIDE_C), block,
                     requested, site);
}

HL_INLINE void *book_glibc(void *block, size_t requested, uint64_t site)
{
    hl_place place;
    if (HL_UNLIKELY(!hl_near_place(block, &place)))
        return book_far(block, requested, site);
    if (hl_glibc_mapped(block))
        return book_slow(block, requested, site);
    return book_left(hl_book(place, HL_GLIBC_SHIFT, hl_glibc_inside(block), requested, site, HL_SIDE_C), block,
                     requested, site);
}

static void *book_other(void *block, size_t requested, uint64_t site)
{
    hl_place place = hl_far_place(&hl.other_blocks, block);
    if (HL_UNLIKELY(!place.leaf) || HL_UNLIKELY(!block))
        return book_slow(block, requested, site);
    return book_left(hl_book(place, HL_OTHER_SHIFT, hl.next.malloc_usable_size(block), requested, site, HL_SIDE_C),
                     block, requested, site);
}

/* For all of the family but malloc, which has a copy of its own. */
static HL_COLD void *book_glibc_called(void *block, size_t requested, uint64_t site)
{
    return book_glibc(block, requested, site);
}

HL_INLINE void *book(uint32_t live, void *block, size_t requested, uint64_t site)
{
    return HL_LIKELY(live == HL_LIVE_GLIBC) ? book_glibc_called(block, requested, site) : book_other(block, requested, site);
}

/* ---- releasing: the block's free is booked before its address can be given to anybody else ---- */

static HL_COLD void free_unbooked(void *block);
static HL_COLD void release_other(void *block, uint64_t site);
static HL_COLD void release_fully(void *block, uint64_t site);

/* Where the free returns to is asked here, which a tail call reaches: the fast way needs no register for it. */
static HL_COLD void release_slow(void *block)
{
    const uint64_t site = HL_CALLER();
    if (!block)
        return;
    if (hl.full && hl_full_free(block, site))
        hl.next.free(block);
    else if (live_now() == HL_LIVE_OTHER)
        release_other(block, site);
    else
        release_fully(block, site);
}

/* In mode full. */
static HL_COLD void release_full(void *block, uint64_t site)
{
    const hl_return call = {.call = HL_CALL_FREE, .side = HL_SIDE_C, .site = site};
    hl_taken taken;
    if (hl_full_take(hl_next_map(), block, &call, &taken)) {
        hl_unbook_slow(taken.owner, hl_full_taken_bytes(&taken, usable(live_now(), block)), HL_SIDE_C);
        hl_full_freed(&taken);
    } else {
        hl_foreign_free();
    }
    hl.next.free(block);
}

/* Nothing was booked yet. */
static HL_COLD void release_fully(void *block, uint64_t site)
{
    if (hl_arena_owns(block)) {
        hl_arena_free(block, site);
        return;
    }
    if (!hl_ready()) {
        free_unbooked(block);
        return;
    }
    if (hl.full) {
        release_full(block, site);
        return;
    }
    uint16_t *entry = hl_map_entry(hl_next_map(), block, hl_next_map()->shift);
    hl_held held;
    uint32_t owner = entry ? hl_sample_take(block, hl_entry_owner(*entry), &held) : 0;
    if (owner) {
        hl_entry_put(entry, 0);
        hl_unbook_slow(owner, usable(live_now(), block), HL_SIDE_C);
        hl_sample_freed(&held);
    } else {
        hl_foreign_free();
    }
    hl.next.free(block);
}

static HL_COLD void release_after_quantum(void *block)
{
    hl_quantum_here();
    hl.next.free(block);
}

static HL_COLD void release_other(void *block, uint64_t site)
{
    uint16_t *entry = hl_map_entry(&hl.other_blocks, block, HL_OTHER_SHIFT);
    uint32_t owner = entry ? hl_entry_owner(*entry) : 0;
    hl_record *record = hl_record_here(owner, HL_SIDE_C);
    int left = record ? hl_unbook(record, hl.next.malloc_usable_size(block), HL_SIDE_C) : HL_SLOW;
    if (HL_UNLIKELY(left == HL_SLOW)) {
        release_fully(block, site);
        return;
    }
    hl_entry_put(entry, 0);
    if (HL_LIKELY(left == HL_BOOKED))
        hl.next.free(block);
    else
        release_after_quantum(block);
}

HL_INLINE void release_placed(hl_place place, void *block)
{
    uint16_t *entry = hl_leaf_entry(place.leaf, place.at, HL_GLIBC_SHIFT);
    hl_record *record = hl_record_of_entry(*entry, HL_SIDE_C);
    /* Only now is it known that there is a header to read. */
    if (HL_UNLIKELY(!record) || hl_glibc_mapped(block)) {
        release_slow(block);
        return;
    }
    int left = hl_unbook(record, hl_glibc_inside(block), HL_SIDE_C);
    hl_entry_clear(entry);
    if (HL_LIKELY(left == HL_BOOKED))
        hl.next.free(block);
    else
        release_after_quantum(block);
}

static HL_COLD void release_far(void *block)
{
    hl_place place = hl_far_place(&hl.glibc_blocks, block);
    if (place.leaf)
        release_placed(place, block);
    else
        release_slow(block);
}

/*
 * Needs no start-up and no look at whether there are books: without them there
 * is no entry, NULL has none of an owner either, and a forked child has no record.
 */
HL_INLINE void release(void *block)
{
    hl_place place;
    if (HL_UNLIKELY(!hl_near_place(block, &place)))
        release_far(block);
    else
        release_placed(place, block);
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
        hl_arena_free(block, site);
        return NULL;
    }
    void *moved = hl_do_malloc(bytes, site);
    if (moved) {
        size_t old = hl_arena_usable(block);
        hl_copy_bytes(moved, block, bytes < old ? bytes : old);
        hl_arena_free(block, site);
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

/* The request is counted by now. */
static HL_COLD void *refused(void)
{
    errno = ENOMEM;
    return NULL;
}

HL_INLINE bool refuses(size_t bytes)
{
    return HL_UNLIKELY(bytes >= HL_QUANTUM) && hl_refuses(bytes);
}

static HL_COLD void *malloc_other(size_t bytes, uint64_t site)
{
    if (!hl_ready())
        return malloc_unbooked(bytes, site);
    if (refuses(bytes))
        return refused();
    return book(live_now(), hl.next.malloc(bytes), bytes, site);
}

HL_INLINE void *(*glibc_malloc(void))(size_t)
{
    return atomic_load_explicit(&hl_wipe.glibc_malloc, memory_order_acquire);
}

HL_INLINE void *malloc_at(size_t bytes, uint64_t site)
{
    void *(*next)(size_t) = glibc_malloc();
    return HL_LIKELY(next != NULL) ? book_glibc_called(next(bytes), bytes, site) : malloc_other(bytes, site);
}

static HL_COLD void *calloc_large(size_t count, size_t bytes, uint64_t site)
{
    size_t all;
    if (!__builtin_mul_overflow(count, bytes, &all) && refuses(all)) /* what is no size is the allocator's to refuse */
        return refused();
    return book(live_now(), hl.next.calloc(count, bytes), count * bytes, site);
}

HL_INLINE void *calloc_at(size_t count, size_t bytes, uint64_t site)
{
    if (HL_UNLIKELY(live_now() == HL_LIVE_NOT) && !hl_ready())
        return calloc_unbooked(count, bytes, site);
    if (HL_UNLIKELY(count * bytes >= HL_QUANTUM))
        return calloc_large(count, bytes, site);
    return book(live_now(), hl.next.calloc(count, bytes), count * bytes, site);
}

HL_INLINE void free_at(void *block)
{
    release(block);
}

/*
 * The entry is taken out before the allocator may hand the address to another
 * thread, and put back if it did not.
 */
static void *realloc_booked(uint32_t live, void *block, size_t bytes, uint64_t site)
{
    uint16_t *entry = hl_map_entry(hl_next_map(), block, hl_next_map()->shift);
    uint16_t before = entry ? *entry : 0;
    hl_held held;
    uint32_t owner = hl_sample_take(block, hl_entry_owner(before), &held);
    if (HL_UNLIKELY(!owner) && hl_arena_owns(block))
        return realloc_arena(block, bytes, site);
    uint64_t freed = owner ? usable(live, block) : 0;
    if (HL_UNLIKELY(bytes >= HL_QUANTUM) && owner && bytes > freed && refuses(bytes - freed)) {
        hl_sample_stays(block, entry, before, &held);
        return refused();
    }
    if (owner)
        hl_entry_put(entry, 0);
    void *moved = hl.next.realloc(block, bytes);
    if (HL_UNLIKELY(!moved && bytes)) {
        if (owner)
            hl_sample_stays(block, entry, before, &held);
        return NULL;
    }
    if (owner)
        hl_unbook_fully(owner, freed, HL_SIDE_C);
    else
        hl_foreign_free();
    hl_sample_freed(&held);
    if (moved)
        hl_book_slow(hl_next_map(), moved, usable(live, moved), bytes, site, HL_SIDE_C, owner != 0);
    return moved;
}

/* The same in mode full. */
static HL_COLD void *realloc_full(uint32_t live, void *block, size_t bytes, uint64_t site)
{
    const hl_return call = {.call = HL_CALL_REALLOC, .side = HL_SIDE_C, .site = site};
    if (hl_arena_owns(block))
        return realloc_arena(block, bytes, site);
    hl_taken taken;
    bool owned = hl_full_take(hl_next_map(), block, &call, &taken);
    uint64_t freed = owned ? hl_full_taken_bytes(&taken, usable(live, block)) : 0;
    bool no = owned && bytes >= HL_QUANTUM && bytes > freed && refuses(bytes - freed);
    void *moved = no ? refused() : hl.next.realloc(block, bytes);
    if (!moved && bytes) {
        if (owned)
            hl_full_stays(&taken);
        return NULL;
    }
    if (owned) {
        hl_unbook_fully(taken.owner, freed, HL_SIDE_C);
        hl_full_freed(&taken);
    } else {
        hl_foreign_free();
    }
    if (moved)
        hl_book_slow(hl_next_map(), moved, usable(live, moved), bytes, site, HL_SIDE_C, owned);
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
    if (HL_UNLIKELY(hl.full))
        return realloc_full(live_now(), block, bytes, site);
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
    if (refuses(bytes))
        return ENOMEM;
    int error = hl.next.posix_memalign(block, alignment, bytes);
    if (!error)
        book(live_now(), *block, bytes, site);
    return error;
}

#define ALIGNED(name)                                                                                          \
    static HL_COLD void *name##_large(size_t alignment, size_t bytes, uint64_t site)                           \
    {                                                                                                          \
        return refuses(bytes) ? refused() : book(live_now(), hl.next.name(alignment, bytes), bytes, site);     \
    }                                                                                                          \
                                                                                                               \
    HL_INLINE void *name##_at(size_t alignment, size_t bytes, uint64_t site)                                   \
    {                                                                                                          \
        if (HL_LIKELY(hl_ready()))                                                                             \
            return HL_UNLIKELY(bytes >= HL_QUANTUM)                                                            \
                       ? name##_large(alignment, bytes, site)                                                  \
                       : book(live_now(), hl.next.name(alignment, bytes), bytes, site);                        \
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
            return refuses(bytes) ? refused() : book(live_now(), hl.next.name(bytes), bytes, site);            \
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

/* malloc_at, with the call site fetched late: it need not outlive the call. */
EXPORT void *malloc(size_t bytes)
{
    void *(*next)(size_t) = glibc_malloc();
    if (HL_UNLIKELY(!next))
        return malloc_other(bytes, HL_CALLER());
    void *block = next(bytes);
    return book_glibc(block, bytes, HL_CALLER());
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

/*
 * Asked during start-up, when what comes to us is served from the arena: the
 * address of malloc says little, since a program may have a stub for it.
 */
bool hl_hooks_are_first(void)
{
    void *(*first)(size_t);
    void (*first_free)(void *);
    *(void **)&first = hl_symbol("malloc");
    *(void **)&first_free = hl_symbol("free");
    void *block = first && first_free ? first(64) : NULL;
    if (!block || hl_arena_owns(block))
        return true;
    first_free(block);
    return false;
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
    /* Asked during our own start-up (the loader allocates for us), the answer is that we will be there. */
    if (!hl_ready() && atomic_load_explicit(&hl.state, memory_order_acquire) != HL_STARTING)
        return NULL;
    if (!hl.header)
        return &core;
    /* Whoever stands in front of us sends everything on. */
    __atomic_fetch_and(&hl.header->flags, ~(uint32_t)HL_FLAG_BYPASSED, __ATOMIC_RELAXED);
    return &core;
}

#endif

#if defined(HL_INTERPOSE)

/* By this section `heapledger run` tells a program whose malloc is ours from those that it cannot track. */
__asm__(".pushsection .note.heapledger,\"a\",%note\n"
        ".balign 4\n"
        ".long 11, 0, 1\n"
        ".asciz \"heapledger\"\n"
        ".balign 4\n"
        ".popsection");

#endif

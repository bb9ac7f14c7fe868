/*
 * rust.c: the Rust global allocator's way in.
 *
 * Over the next allocator the hooks are passed by, so that a block is booked
 * once, on side rust, with the bytes of its Layout. An allocator that brings
 * its own memory is booked around, in a map of its own: its blocks may lie
 * closer together than the next allocator's.
 */
#include "api.h"
#include "book.h"

/* What malloc aligns to, as std's System allocator assumes of this target. */
#define MALLOC_ALIGNMENT 16u

static bool malloc_aligns(size_t bytes, size_t alignment)
{
    return alignment <= MALLOC_ALIGNMENT && alignment <= bytes;
}

static void *aligned(size_t bytes, size_t alignment)
{
    void *block = NULL;
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    return hl.next.posix_memalign(&block, alignment, bytes) == 0 ? block : NULL;
}

HL_INLINE void *next_alloc(size_t bytes, size_t alignment)
{
    return HL_LIKELY(malloc_aligns(bytes, alignment)) ? hl.next.malloc(bytes) : aligned(bytes, alignment);
}

static void *next_alloc_zeroed(size_t bytes, size_t alignment)
{
    if (malloc_aligns(bytes, alignment))
        return hl.next.calloc(1, bytes);
    unsigned char *block = aligned(bytes, alignment);
    for (size_t i = 0; block && i < bytes; i++)
        block[i] = 0;
    return block;
}

static void *next_realloc(void *block, size_t old_bytes, size_t alignment, size_t bytes)
{
    if (malloc_aligns(bytes, alignment))
        return hl.next.realloc(block, bytes);
    void *moved = aligned(bytes, alignment);
    if (moved) {
        hl_copy_bytes(moved, block, bytes < old_bytes ? bytes : old_bytes);
        hl.next.free(block);
    }
    return moved;
}

/*
 * The core that keeps the books instead of this one, once that is known. It is
 * called at once, by its fast way: its own start and forks are its own affair.
 */
HL_INLINE const hl_core_api *kept_elsewhere(void)
{
    return __atomic_load_n(&hl.delegate, __ATOMIC_RELAXED); /* what it points to never changes */
}

HL_INLINE bool kept_here(void)
{
    return HL_LIKELY(live_now() != HL_LIVE_NOT) || (!kept_elsewhere() && hl_ready());
}

/* ---- over the next allocator ---- */

static HL_COLD void *book_slow(void *block, size_t bytes, uint64_t site)
{
    if (block && hl_ready())
        hl_book_slow(hl_next_map(), block, bytes, bytes, site, HL_SIDE_RUST, false);
    return block;
}

static HL_COLD void *quantum_after(void *block, size_t bytes)
{
    if (hl.proven_glibc && (uintptr_t)block - hl_me.strip.base >= hl_me.strip.span)
        hl_strip_follow(&hl_me.strip, &hl.glibc_blocks, block);
    if (HL_UNLIKELY(hl_quantum_here() & 1u << HL_SIDE_RUST))
        hl_sample(hl_next_map(), block, bytes, HL_SITE_OF_OWNER, HL_SIDE_RUST);
    return block;
}

/* As in hooks.c: tail calls only. */
HL_INLINE void *book_placed(hl_place place, void *block, size_t bytes, uint64_t site)
{
    int left = hl_book(place, HL_GLIBC_SHIFT, bytes, bytes, site, HL_SIDE_RUST);
    if (HL_LIKELY(left == HL_BOOKED))
        return block;
    return left == HL_SLOW ? book_slow(block, bytes, site) : quantum_after(block, bytes);
}

static HL_COLD void *book_far(void *block, size_t bytes, uint64_t site)
{
    hl_place place = hl_far_place(&hl.glibc_blocks, block);
    return place.leaf && block ? book_placed(place, block, bytes, site) : book_slow(block, bytes, site);
}

HL_INLINE void *book_glibc(void *block, size_t bytes, uint64_t site)
{
    hl_place place;
    if (HL_UNLIKELY(!hl_near_place(block, &place)))
        return book_far(block, bytes, site);
    return book_placed(place, block, bytes, site);
}

/* For all but alloc, which has a copy of its own. */
static HL_COLD void *book_glibc_called(void *block, size_t bytes, uint64_t site)
{
    return book_glibc(block, bytes, site);
}

HL_INLINE void *book(uint32_t live, void *block, size_t bytes, uint64_t site)
{
    if (HL_LIKELY(live == HL_LIVE_GLIBC))
        return book_glibc_called(block, bytes, site);
    return book_slow(block, bytes, site);
}

HL_INLINE void *booked_alloc(uint32_t live, size_t bytes, size_t alignment, uint64_t site)
{
    return book(live, next_alloc(bytes, alignment), bytes, site);
}

static HL_COLD void *alloc_slow(size_t bytes, size_t alignment, uint64_t site)
{
    if (kept_here())
        return booked_alloc(live_now(), bytes, alignment, site);
    return kept_elsewhere() ? kept_elsewhere()->rust_alloc(bytes, alignment, site) : next_alloc(bytes, alignment);
}

/* As the malloc hook: only what glibc's malloc serves goes the fast way. */
void *hl_do_rust_alloc(size_t bytes, size_t alignment, uint64_t site)
{
    void *(*next)(size_t) = atomic_load_explicit(&hl_wipe.glibc_malloc, memory_order_acquire);
    if (HL_UNLIKELY(!malloc_aligns(bytes, alignment)) || HL_UNLIKELY(!next))
        return alloc_slow(bytes, alignment, site);
    void *block = next(bytes);
    return book_glibc(block, bytes, site);
}

void *hl_do_rust_alloc_zeroed(size_t bytes, size_t alignment, uint64_t site)
{
    if (HL_UNLIKELY(!kept_here()))
        return kept_elsewhere() ? kept_elsewhere()->rust_alloc_zeroed(bytes, alignment, site)
                                : next_alloc_zeroed(bytes, alignment);
    return book(live_now(), next_alloc_zeroed(bytes, alignment), bytes, site);
}

/* What a block is booked with when Rust frees it: its Layout's size, or what C was given. */
static uint64_t bytes_of(void *block, uint32_t owner, size_t bytes)
{
    const hl_owner *row = hl_owner_row(owner);
    if (HL_LIKELY(!row || HL_TAG_SIDE(row->tag) == HL_SIDE_RUST))
        return bytes;
    return hl.proven_glibc ? hl_glibc_usable(block) : hl.next.malloc_usable_size(block);
}

/* In mode full. */
static HL_COLD void release_full(void *block, size_t bytes, uint64_t site)
{
    const hl_return call = {.call = HL_CALL_FREE, .side = HL_SIDE_RUST, .site = site, .said = bytes};
    hl_taken taken;
    if (hl_full_take(hl_next_map(), block, &call, &taken)) {
        hl_unbook_slow(taken.owner, bytes_of(block, taken.owner, bytes), HL_SIDE_RUST);
        hl_full_freed(&taken);
    } else {
        hl_foreign_free();
    }
    hl.next.free(block);
}

/* As in hooks.c, tail calls lead here. */
static HL_COLD void release_slow(void *block, size_t bytes)
{
    if (hl.full) {
        release_full(block, bytes, HL_CALLER());
        return;
    }
    uint16_t *entry = hl_map_entry(hl_next_map(), block, hl_next_map()->shift);
    hl_held held;
    uint32_t owner = entry ? hl_sample_take(block, hl_entry_owner(*entry), &held) : 0;
    if (owner) {
        hl_entry_put(entry, 0);
        hl_unbook_slow(owner, bytes_of(block, owner, bytes), HL_SIDE_RUST);
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

static HL_COLD void dealloc_slow(void *block, size_t bytes)
{
    if (kept_here())
        release_slow(block, bytes);
    else if (kept_elsewhere())
        kept_elsewhere()->rust_dealloc(block, bytes);
    else
        hl.next.free(block);
}

HL_INLINE void release_placed(hl_place place, void *block, size_t bytes)
{
    uint16_t *entry = hl_leaf_entry(place.leaf, place.at, HL_GLIBC_SHIFT);
    /* Slow for what C allocated: `bytes` is not its size. */
    int left = hl_unbook(hl_record_of_entry(*entry, HL_SIDE_RUST), bytes, HL_SIDE_RUST);
    if (HL_UNLIKELY(left == HL_SLOW)) {
        dealloc_slow(block, bytes);
        return;
    }
    hl_entry_clear(entry);
    if (HL_LIKELY(left == HL_BOOKED))
        hl.next.free(block);
    else
        release_after_quantum(block);
}

/* A core that keeps no books has nothing near: whoever keeps them is asked from here. */
static HL_COLD void release_far(void *block, size_t bytes)
{
    if (kept_elsewhere()) {
        kept_elsewhere()->rust_dealloc(block, bytes);
        return;
    }
    hl_place place = hl_far_place(&hl.glibc_blocks, block);
    if (place.leaf)
        release_placed(place, block, bytes);
    else
        dealloc_slow(block, bytes);
}

/* Nothing to look at first, as in hooks.c: what is not booked here goes the slow way. */
HL_INLINE void release(void *block, size_t bytes)
{
    hl_place place;
    if (HL_UNLIKELY(!hl_near_place(block, &place)))
        release_far(block, bytes);
    else
        release_placed(place, block, bytes);
}

void hl_do_rust_dealloc(void *block, size_t bytes)
{
    release(block, bytes);
}

/* In mode full. */
static HL_COLD void *realloc_full(void *block, size_t old_bytes, size_t alignment, size_t bytes, uint64_t site)
{
    const hl_return call = {.call = HL_CALL_REALLOC, .side = HL_SIDE_RUST, .site = site, .said = old_bytes};
    hl_taken taken;
    bool owned = hl_full_take(hl_next_map(), block, &call, &taken);
    uint64_t freed = owned ? bytes_of(block, taken.owner, old_bytes) : 0;
    void *moved = next_realloc(block, old_bytes, alignment, bytes);
    if (!moved) {
        if (owned)
            hl_full_stays(&taken);
        return NULL;
    }
    if (owned) {
        hl_unbook_fully(taken.owner, freed, HL_SIDE_RUST);
        hl_full_freed(&taken);
    } else {
        hl_foreign_free();
    }
    hl_book_slow(hl_next_map(), moved, bytes, bytes, site, HL_SIDE_RUST, owned);
    return moved;
}

void *hl_do_rust_realloc(void *block, size_t old_bytes, size_t alignment, size_t bytes, uint64_t site)
{
    if (HL_UNLIKELY(!kept_here()))
        return kept_elsewhere() ? kept_elsewhere()->rust_realloc(block, old_bytes, alignment, bytes, site)
                                : next_realloc(block, old_bytes, alignment, bytes);
    if (HL_UNLIKELY(hl.full))
        return realloc_full(block, old_bytes, alignment, bytes, site);
    uint16_t *entry = hl_map_entry(hl_next_map(), block, hl_next_map()->shift);
    uint16_t before = entry ? *entry : 0;
    hl_held held;
    uint32_t owner = hl_sample_take(block, hl_entry_owner(before), &held);
    uint64_t freed = owner ? bytes_of(block, owner, old_bytes) : 0;
    if (owner)
        hl_entry_put(entry, 0); /* from now on another thread may be given this address */
    void *moved = next_realloc(block, old_bytes, alignment, bytes);
    if (!moved) {
        if (owner)
            hl_sample_stays(block, entry, before, &held);
        return NULL;
    }
    if (owner)
        hl_unbook_fully(owner, freed, HL_SIDE_RUST);
    else
        hl_foreign_free();
    hl_sample_freed(&held);
    hl_book_slow(hl_next_map(), moved, bytes, bytes, site, HL_SIDE_RUST, owner != 0);
    return moved;
}

/* ---- around an allocator with memory of its own ---- */

void hl_do_wrapped_book(void *block, size_t bytes, uint64_t site, uint32_t is_realloc)
{
    hl_place place = {is_realloc ? 0 : hl_map_leaf(&hl.other_blocks, block), (uintptr_t)block};
    int left = place.leaf ? hl_book(place, HL_OTHER_SHIFT, bytes, bytes, site, HL_SIDE_RUST) : HL_SLOW;
    if (HL_UNLIKELY(left == HL_SLOW))
        hl_book_slow(&hl.other_blocks, block, bytes, bytes, site, HL_SIDE_RUST, is_realloc != 0);
    else if (HL_UNLIKELY(left == HL_QUANTUM_UP) && hl_quantum_here() & 1u << HL_SIDE_RUST)
        hl_sample(&hl.other_blocks, block, bytes, site, HL_SIDE_RUST);
}

/*
 * Takes the block out of the map; its owner, or 0. A sample ends here, also
 * where the block comes back because it could not be moved.
 */
uint32_t hl_do_wrapped_retire(void *block)
{
    if (HL_UNLIKELY(hl.full)) {
        const hl_return call = {.call = HL_CALL_FREE, .side = HL_SIDE_RUST, .site = HL_CALLER()};
        return hl_full_retire(&hl.other_blocks, block, &call);
    }
    uint16_t *entry = hl_map_entry(&hl.other_blocks, block, HL_OTHER_SHIFT);
    hl_held held;
    uint32_t owner = entry ? hl_sample_take(block, hl_entry_owner(*entry), &held) : 0;
    if (owner) {
        hl_entry_put(entry, 0);
        hl_sample_freed(&held);
    }
    return owner;
}

void hl_do_wrapped_restore(void *block, uint32_t owner)
{
    hl_place place = {hl_map_leaf(&hl.other_blocks, block), (uintptr_t)block};
    if (place.leaf)
        hl_entry_set(place, HL_OTHER_SHIFT, &owner);
    if (HL_UNLIKELY(hl.full))
        hl_full_restore(&hl.other_blocks, block);
}

void hl_do_wrapped_unbook(uint32_t owner, size_t bytes)
{
    if (owner)
        hl_unbook_fully(owner, bytes, HL_SIDE_RUST);
    else
        hl_foreign_free();
}

/*
 * Between enter and leave the hooks book nothing for this thread: the block is
 * booked by whoever entered. Having no slot sends every hook the slow way, so
 * that the fast way needs no test.
 */
void hl_do_inner_enter(void)
{
    hl_me.inside++;
    hl_me.fast = &hl_nobody;
}

void hl_do_inner_leave(void)
{
    hl_me.inside--;
    hl_fast_again();
}

/* ---- entries, for the crate: the call site is the caller's ---- */

void *hl_core_rust_alloc(size_t bytes, size_t alignment);
void *hl_core_rust_alloc_zeroed(size_t bytes, size_t alignment);
void hl_core_rust_dealloc(void *block, size_t bytes, size_t alignment);
void *hl_core_rust_realloc(void *block, size_t old_bytes, size_t alignment, size_t bytes);
void hl_core_wrapped_allocated(void *block, size_t bytes, uint32_t is_realloc);

void hl_core_wrapped_allocated(void *block, size_t bytes, uint32_t is_realloc)
{
    hl_core_wrapped_book(block, bytes, HL_CALLER(), is_realloc);
}

/* Says what hl_do_rust_alloc says, without a register that keeps the call site over the call. */
void *hl_core_rust_alloc(size_t bytes, size_t alignment)
{
    void *(*next)(size_t) = atomic_load_explicit(&hl_wipe.glibc_malloc, memory_order_acquire);
    if (HL_UNLIKELY(!malloc_aligns(bytes, alignment)) || HL_UNLIKELY(!next))
        return alloc_slow(bytes, alignment, HL_CALLER());
    void *block = next(bytes);
    return book_glibc(block, bytes, HL_CALLER());
}

void *hl_core_rust_alloc_zeroed(size_t bytes, size_t alignment)
{
    return hl_do_rust_alloc_zeroed(bytes, alignment, HL_CALLER());
}

void hl_core_rust_dealloc(void *block, size_t bytes, size_t alignment)
{
    (void)alignment;
    release(block, bytes);
}

void *hl_core_rust_realloc(void *block, size_t old_bytes, size_t alignment, size_t bytes)
{
    return hl_do_rust_realloc(block, old_bytes, alignment, bytes, HL_CALLER());
}

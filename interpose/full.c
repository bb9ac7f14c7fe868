/*
 * full.c: mode full: every block's stack, the peak, what was freed already.
 *
 * Owners are booked as in the other modes, by book.c. Beside that each block has
 * the row of its stack, in a second table of the map's shape: a word for each
 * granule, which goes on saying after the free who freed it, until the address is
 * given out again. So a second free is known for what it is.
 */
#include "full.h"

#include "book.h"
#include "live.h"
#include "stacks.h"
#include "unwinder.h"
#include "words.h"

/* ---- rows ---- */

/* From here on threads share their rows, so that there is one for each stack. */
#define ROWS_FOR_THREADS (HL_MAX_STACKS / 2)
#define PAGES_FOR_THREADS (HL_MAX_PAGES / 2)

static uint32_t thread_of_rows(const hl_private *own)
{
    if (HL_UNLIKELY(__atomic_load_n(&hl.samples->row_count, __ATOMIC_RELAXED) >= ROWS_FOR_THREADS) ||
        HL_UNLIKELY(__atomic_load_n(&hl.header->next_page, __ATOMIC_RELAXED) >= PAGES_FOR_THREADS))
        return 0;
    return own->slot->tid;
}

static HL_COLD uint32_t row_of_call(uint64_t call_site, uint32_t tag)
{
    hl_stack_key of = hl_key_of_call(&call_site, tag);
    return hl_row_of(&of) - 1;
}

static HL_COLD uint32_t row_of_new_walk(const hl_private *own, hl_walker *walker, uint64_t call_site, uint32_t tag)
{
    hl_stack_key of = hl_key_of_walk(walker, walker->count, &call_site, tag, thread_of_rows(own));
    uint32_t row = hl_row_of(&of);
    if (walker->walk == of.walk)
        hl_unwind_keep(walker, call_site, tag, row);
    return row - 1;
}

/* Where there was no room for what makes walks quick. */
static HL_COLD uint32_t row_without_memo(const hl_private *own, uint64_t call_site, uint32_t tag)
{
    hl_walker *walker = own ? own->full.forgetful : NULL;
    if (!walker)
        return row_of_call(call_site, tag);
    uint32_t count = hl_unwind(walker, call_site);
    hl_stack_key of = hl_key_of_walk(walker, count, &call_site, tag, thread_of_rows(own));
    return hl_row_of(&of) - 1;
}

/* Of the stack that this is called with. */
HL_INLINE uint32_t row_here(hl_private *own, uint64_t call_site, uint32_t side)
{
    uint32_t tag = HL_TAG(side, own ? own->scope : 0);
    hl_walker *walker = own ? own->full.walker : NULL;
    if (HL_UNLIKELY(!walker))
        return row_without_memo(own, call_site, tag);
    uint32_t known = hl_unwind_known(walker, call_site, tag, walker->walk);
    if (HL_LIKELY(known))
        return known - 1;
    return row_of_new_walk(own, walker, call_site, tag);
}

/* Whether no other thread adds to the row's own counters. */
HL_INLINE bool is_ours(const hl_exact *row, const hl_private *own)
{
    return own && row->stack.thread && row->stack.thread == own->slot->tid;
}

HL_INLINE void add(uint64_t *counter, uint64_t by, bool ours)
{
    if (HL_LIKELY(ours))
        hl_bump(counter, by);
    else
        __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

/* ---- the peak by row ---- */

/*
 * What a row held at the peak needs no log of operations: in an excursion below the
 * most a row notes what it holds before it first changes, and once live bytes pass
 * the most, all such notes are void, and what a row holds is what it held.
 */

static HL_COLD void note_row(hl_exact *row, hl_samples *all)
{
    uint64_t now = __atomic_load_n(&all->excursion, __ATOMIC_RELAXED);
    if (!(now & 1)) {
        uint64_t begun = now + 1;
        if (!__atomic_compare_exchange_n(&all->excursion, &now, begun, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            begun = now | 1; /* somebody else began it */
        now = begun;
    }
    if (__atomic_load_n(&row->excursion, __ATOMIC_RELAXED) == now)
        return;
    uint64_t blocks =
        hl_count_of(&row->allocated_blocks) - hl_count_of(&row->freed_blocks) - hl_count_of(&row->elsewhere_blocks);
    uint64_t bytes =
        hl_count_of(&row->allocated_bytes) - hl_count_of(&row->freed_bytes) - hl_count_of(&row->elsewhere_bytes);
    __atomic_store_n(&row->peak_blocks, (int64_t)blocks, __ATOMIC_RELAXED);
    __atomic_store_n(&row->peak_bytes, (int64_t)bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&row->excursion, now, __ATOMIC_RELEASE); /* pairs with the reader's copy of the row */
}

/* A row's excursion is an odd one or none, so that one comparison tells. */
HL_INLINE void note_before_change(hl_exact *row, hl_samples *all)
{
    uint64_t now = __atomic_load_n(&all->excursion, __ATOMIC_RELAXED);
    if (HL_UNLIKELY(!(now & 1)) || HL_UNLIKELY(__atomic_load_n(&row->excursion, __ATOMIC_RELAXED) != now))
        note_row(row, all);
}

/* ---- booking ---- */

HL_INLINE void book_row(hl_exact *row, uint64_t bytes, hl_private *own)
{
    hl_samples *all = hl.samples;
    if (HL_LIKELY(!hl_passes(all, own ? &own->full : NULL, bytes)))
        note_before_change(row, all);
    bool ours = is_ours(row, own);
    add(&row->allocated_blocks, 1, ours);
    add(&row->allocated_bytes, bytes, ours);
}

static HL_COLD void unbook_elsewhere(hl_exact *row, uint64_t bytes, bool temporary)
{
    bool several = !row->stack.thread;
    add(several ? &row->freed_blocks : &row->elsewhere_blocks, 1, false);
    add(several ? &row->freed_bytes : &row->elsewhere_bytes, bytes, false);
    if (temporary) {
        add(&row->temporary_blocks, 1, false);
        add(&row->temporary_bytes, bytes, false);
    }
}

HL_INLINE void unbook_row(hl_exact *row, uint64_t bytes, hl_private *own, bool temporary)
{
    hl_samples *all = hl.samples;
    note_before_change(row, all);
    hl_give_back(all, own ? &own->full : NULL, bytes);
    if (HL_UNLIKELY(!is_ours(row, own))) {
        unbook_elsewhere(row, bytes, temporary);
        return;
    }
    hl_bump(&row->freed_blocks, 1);
    hl_bump(&row->freed_bytes, bytes);
    if (temporary) {
        hl_bump(&row->temporary_blocks, 1);
        hl_bump(&row->temporary_bytes, bytes);
    }
}

/* A block is in its owner's books alone, and no word will say that it was freed. */
static HL_COLD void drop_stack(void)
{
    __atomic_fetch_add(&hl.header->samples_dropped, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&hl.full_blind, true, __ATOMIC_RELAXED);
}

void hl_full_book(hl_map *map, const void *block, uint64_t bytes, uint64_t call_site, uint32_t side)
{
    hl_private *own = hl_me.own;
    uint64_t *word = hl_map_grow_word(map, block);
    if (!word) {
        drop_stack();
        return;
    }
    uint32_t index = row_here(own, call_site, side);
    hl_exact *row = hl_exact_row(index);
    if (!row) {
        __atomic_store_n(word, WORD_NONE, __ATOMIC_RELAXED);
        drop_stack();
        return;
    }
    book_row(row, bytes, own);
    __atomic_store_n(word, live_word(map->shift, block, index, bytes), __ATOMIC_RELAXED);
    if (own)
        own->full.last = block;
}

void hl_full_unseen(hl_map *map, const void *block)
{
    uint64_t *word = hl_map_word(map, block);
    if (word)
        __atomic_store_n(word, WORD_NONE, __ATOMIC_RELAXED);
}

/* ---- misuse ---- */

/* Of a block that may be another thread's, and be freed by it at any time: WORD_NONE unless it is live. */
static uint64_t word_around(const hl_map *map, const void *block)
{
    const uint64_t *word = hl_map_word(map, block);
    uint64_t live = word ? __atomic_load_n(word, __ATOMIC_RELAXED) : WORD_NONE;
    return says(map->shift, live, WORD_LIVE, block) ? live : WORD_NONE;
}

static uint64_t bytes_around(const hl_map *map, const void *block)
{
    uint64_t live = word_around(map, block);
    return live == WORD_NONE ? 0 : live_bytes(live);
}

/* True where no allocator has memory: in an object, or on this thread's stack. */
static bool is_no_heap(const void *block, const hl_private *own)
{
    if (own && own->full.forgetful) {
        const hl_trusted stack = hl_trusted_of(own->full.forgetful, (uintptr_t)&own);
        if ((uintptr_t)block - stack.low < stack.bytes)
            return true;
    }
    return hl_module_of((uint64_t)(uintptr_t)block) != 0;
}

/* Of a process in which no other thread has ever been seen, here or in the process that forked it. */
static bool is_alone(const hl_private *own)
{
    return own && own->slot->generation == 1 && !(hl.header->flags & HL_FLAG_FORKED) &&
           __atomic_load_n(&hl.header->slot_count, __ATOMIC_RELAXED) == 1 &&
           !__atomic_load_n(&hl.header->slots_overflowed, __ATOMIC_RELAXED);
}

/* A call with what is no live block. `word` is its granule's. */
static void note_misuse(const hl_map *map, const void *block, const hl_return *call, uint64_t word, uint32_t called)
{
    hl_misuse record = {
        .block = (uintptr_t)block, .called = 1 + called, .call = call->call, .kind = HL_MISUSE_NEVER_SEEN};
    const void *around = hl_map_around(map, block, bytes_around);
    uint64_t live = around ? word_around(map, around) : WORD_NONE;
    if (around == block || live == WORD_NONE) /* somebody else has been given it, or has freed that one, meanwhile */
        around = NULL;
    bool freed = says(map->shift, word, WORD_FREED, block);
    /* It may have been handed out past the hooks, and what lies around it have been freed so. */
    bool asked = (freed || around) && map == &hl.glibc_blocks;
    int chunk = asked ? hl_chunk_says(block, is_alone(hl_me.own)) : HL_CHUNK_IS_FREE;
    if (chunk == HL_CHUNK_MAY_BE_IN_USE) {
        around = NULL;
        freed = false;
    }
    if (around) {
        record.inside = (uintptr_t)block - (uintptr_t)around;
        record.bytes = live_bytes(live);
        record.allocated = 1 + row_of_word(live);
        record.kind = HL_MISUSE_NEVER_ALLOCATED;
    }
    if (freed) {
        record.bytes = freed_bytes(word);
        record.allocated = 1 + row_of_word(word);
        record.freed = 1 + row_of_free(word);
        record.kind = HL_MISUSE_DOUBLE_FREE;
    } else if (!around && (is_misaligned(map->shift, block) || is_no_heap(block, hl_me.own))) {
        record.kind = HL_MISUSE_NEVER_ALLOCATED;
    }
    if (record.kind == HL_MISUSE_NEVER_SEEN && (__atomic_load_n(&hl.full_blind, __ATOMIC_RELAXED) || hl.header->flags & HL_FLAG_BYPASSED))
        return;
    /* What was freed may have been given out again past us, as may be what lay around it. */
    record.doubt = (freed || around) && (chunk == HL_CHUNK_LOOKS_FREE || hl.has_other_ways);
    hl_misuse_note(&record);
}

/* A live block that the other side has allocated, or of another size than the call says. */
static void check_return(const void *block, const hl_return *call, uint64_t live, uint32_t called)
{
    const hl_exact *row = hl_exact_row(row_of_word(live));
    uint32_t side = HL_TAG_SIDE(row->stack.tag);
    bool other_size = side == HL_SIDE_RUST && call->side == side && call->said && call->said != live_bytes(live);
    if (HL_LIKELY(side == call->side && !other_size))
        return;
    hl_misuse record = {.block = (uintptr_t)block,
                        .bytes = live_bytes(live),
                        .inside = other_size ? call->said : 0,
                        .allocated = 1 + row_of_word(live),
                        .called = 1 + called,
                        .call = call->call,
                        .kind = other_size            ? HL_MISUSE_OTHER_SIZE
                                : side == HL_SIDE_RUST ? HL_MISUSE_RUST_BY_C
                                                       : HL_MISUSE_C_BY_RUST};
    hl_misuse_note(&record);
}

/* ---- giving back ---- */

/* Its word could not be kept: the owners' books alone know of it. */
static bool take_owned(hl_taken *taken)
{
    taken->word = NULL;
    hl_entry_put(taken->entry, 0);
    return true;
}

bool hl_full_take(hl_map *map, const void *block, const hl_return *call, hl_taken *taken)
{
    hl_private *own = hl_thread();
    uint64_t *word = hl_map_word(map, block);
    uint64_t live = word ? __atomic_load_n(word, __ATOMIC_RELAXED) : WORD_NONE;
    uint16_t *entry = hl_map_entry(map, block, map->shift);
    *taken = (hl_taken){.block = block, .entry = entry, .word = word, .was = entry ? hl_entry_get(entry) : 0};
    taken->owner = hl_entry_owner(taken->was);
    if (HL_UNLIKELY((live & 3) == WORD_NONE) && taken->owner && !is_misaligned(map->shift, block) &&
        (taken->was & 1u) == half_of(map->shift, block))
        return take_owned(taken);
    uint32_t row = row_here(own, call->site, call->side);
    const void *last = own ? own->full.last : NULL;
    if (own)
        own->full.last = NULL;
    while (HL_LIKELY(says(map->shift, live, WORD_LIVE, block) && taken->owner)) {
        /* Of two threads that free the same block one is the first. */
        if (!__atomic_compare_exchange_n(word, &live, freed_word(live, row), false, __ATOMIC_RELAXED,
                                         __ATOMIC_RELAXED))
            continue;
        hl_entry_put(entry, 0);
        taken->before = live;
        taken->temporary = last == block;
        check_return(block, call, live, row);
        return true;
    }
    if (!hl_me.inside)
        note_misuse(map, block, call, live, row);
    taken->owner = 0;
    return false;
}

uint64_t hl_full_taken_bytes(const hl_taken *taken, uint64_t usable)
{
    return taken->word ? live_bytes(taken->before) : usable;
}

void hl_full_freed(const hl_taken *taken)
{
    if (taken->word)
        unbook_row(hl_exact_row(row_of_word(taken->before)), live_bytes(taken->before), hl_me.own,
                   taken->temporary);
}

void hl_full_stays(const hl_taken *taken)
{
    if (taken->word)
        __atomic_store_n(taken->word, taken->before, __ATOMIC_RELAXED);
    hl_entry_put(taken->entry, taken->was);
}

/* ---- blocks of glibc's, by this thread's records: most of all ---- */

HL_INLINE bool may_go_fast(const hl_private *own)
{
    return live_now() == HL_LIVE_GLIBC && HL_LIKELY(own != NULL) && HL_LIKELY(!hl_me.inside) &&
           HL_LIKELY(!own->watch.on);
}

bool hl_full_malloc(void *block, uint64_t requested, uint64_t call_site)
{
    hl_private *own = hl_me.own;
    hl_place place;
    uintptr_t near;
    if (HL_UNLIKELY(!may_go_fast(own)) || HL_UNLIKELY(!hl_near_place_at(block, &place, &near)) || hl_glibc_mapped(block))
        return false;
    uint64_t *word;
    if (HL_UNLIKELY(!hl_near_word(near, place, &word)))
        return false;
    uint64_t bytes = hl_glibc_inside(block);
    int left = hl_book_by(own, place, HL_GLIBC_SHIFT, bytes, requested, call_site, HL_SIDE_C);
    if (HL_UNLIKELY(left == HL_SLOW))
        return false;
    uint32_t index = row_here(own, call_site, HL_SIDE_C);
    book_row(hl_exact_row(index), bytes, own);
    __atomic_store_n(word, live_word(HL_GLIBC_SHIFT, block, index, bytes), __ATOMIC_RELAXED);
    own->full.last = block;
    if (HL_UNLIKELY(left == HL_QUANTUM_UP))
        hl_quantum_here();
    return true;
}

bool hl_full_free(void *block, uint64_t call_site)
{
    hl_private *own = hl_me.own;
    hl_place place;
    uintptr_t near;
    if (HL_UNLIKELY(!may_go_fast(own)) || HL_UNLIKELY(!hl_near_place_at(block, &place, &near)))
        return false;
    uint64_t *word;
    if (HL_UNLIKELY(!hl_near_word(near, place, &word)))
        return false;
    uint16_t *entry = hl_leaf_entry(place.leaf, place.at, HL_GLIBC_SHIFT);
    uint64_t live = __atomic_load_n(word, __ATOMIC_RELAXED);
    hl_record *record = own->of_owner[HL_SIDE_C][hl_entry_owner(*entry)];
    if (HL_UNLIKELY(!record) || HL_UNLIKELY(!says(HL_GLIBC_SHIFT, live, WORD_LIVE, block)) || hl_glibc_mapped(block))
        return false;
    uint32_t index = row_here(own, call_site, HL_SIDE_C);
    __atomic_store_n(word, freed_word(live, index), __ATOMIC_RELAXED);
    bool temporary = own->full.last == block;
    own->full.last = NULL;
    unbook_row(hl_exact_row(row_of_word(live)), live_bytes(live), own, temporary);
    int left = hl_unbook(record, live_bytes(live), HL_SIDE_C); /* both books give back what both had */
    hl_entry_clear(entry);
    if (HL_UNLIKELY(left == HL_QUANTUM_UP))
        hl_quantum_here();
    return true;
}

/* ---- wrapped allocators: taken out and freed at once ---- */

uint32_t hl_full_retire(hl_map *map, const void *block, const hl_return *call)
{
    hl_taken taken;
    hl_private *own = hl_thread();
    if (!hl_full_take(map, block, call, &taken))
        return 0;
    hl_full_freed(&taken);
    if (own) {
        own->full.retired = block;
        own->full.retired_word = taken.word ? taken.before : WORD_NONE;
    }
    return taken.owner;
}

/* It could not be moved. As if it had been allocated anew with the same stack. */
void hl_full_restore(hl_map *map, const void *block)
{
    hl_private *own = hl_me.own;
    uint64_t *word = hl_map_word(map, block);
    if (!own || !word || own->full.retired != block || (own->full.retired_word & 3) != WORD_LIVE)
        return;
    uint64_t live = own->full.retired_word;
    own->full.retired = NULL;
    book_row(hl_exact_row(row_of_word(live)), live_bytes(live), own);
    __atomic_store_n(word, live, __ATOMIC_RELAXED);
}

/* ---- blocks from before the books ---- */

uint32_t hl_full_book_call(uint64_t call_site, uint64_t bytes)
{
    if (!hl.full)
        return 0;
    uint32_t row = row_of_call(call_site, HL_TAG(HL_SIDE_C, 0));
    book_row(hl_exact_row(row), bytes, NULL);
    return 1 + row;
}

uint32_t hl_full_free_call(uint32_t row, uint64_t bytes, uint64_t call_site)
{
    if (!hl.full || !row)
        return 0;
    hl_private *own = hl_thread();
    unbook_row(hl_exact_row(row - 1), bytes, own, false);
    return call_site ? 1 + row_here(own, call_site, HL_SIDE_C) : 0;
}

void hl_full_freed_again(const void *block, uint64_t bytes, uint32_t row, uint32_t freed, uint64_t call_site)
{
    if (!hl.full || hl_me.inside)
        return;
    hl_misuse record = {.block = (uintptr_t)block,
                        .bytes = bytes,
                        .allocated = row,
                        .freed = freed,
                        .called = 1 + row_here(hl_thread(), call_site, HL_SIDE_C),
                        .call = HL_CALL_FREE,
                        .kind = HL_MISUSE_DOUBLE_FREE};
    hl_misuse_note(&record);
}

/* ---- beginning ---- */

bool hl_full_begin(void)
{
    return hl_rows_fit() && hl_unwind_begin(hl_symbol("_dl_find_object")) && hl_rows_begin(HL_ROWS_EXACT, 0);
}

void hl_full_start(hl_fullness *full, void *memory)
{
    hl_walker *walker = memory;
    walker->memo = hl_may_take(hl_memo_bytes()) ? hl_reserve(hl_memo_bytes()) : NULL;
    if (walker->memo) {
        hl_memo_forget(walker->memo); /* its cells name nothing yet */
        full->walker = walker;
    }
    full->forgetful = walker;
    hl_lend_to(full);
}

void hl_full_end(const hl_fullness *full)
{
    if (full->walker)
        hl_release(full->walker->memo, hl_memo_bytes());
}

/* ---- a forked child: rows keep their places, so words hold ---- */

bool hl_full_inherit(const hl_header *before, const void *(*page)(const void *, uint32_t), const void *old)
{
    const hl_samples *theirs = before->samples ? page(old, before->samples) : NULL;
    hl.samples = NULL;
    hl_lenders_forget();
    return theirs && hl_rows_inherit(theirs, page, old);
}

static void inherit_row(uint32_t index, uint64_t bytes)
{
    hl_exact *row = hl_row_at(index);
    if (!row || !row->stack.ready)
        return;
    row->allocated_blocks++;
    row->allocated_bytes += bytes;
    hl.samples->held_bytes += (int64_t)bytes;
    hl.samples->most_bytes = hl.samples->held_bytes;
}

/* A thread that was not taken along may have been between its books: then the call is all that is known. */
void hl_full_inherited(hl_map *map, const void *block, uint32_t owner, uint64_t bytes)
{
    if (!hl.full)
        return;
    uint64_t *word = hl_map_word(map, block);
    if (!word) {
        drop_stack();
        return;
    }
    if (!says(map->shift, *word, WORD_LIVE, block)) {
        const hl_owner *row = hl_owner_row(owner);
        if (!row)
            return;
        *word = live_word(map->shift, block, row_of_call(row->call_site, row->tag), bytes);
    }
    inherit_row(row_of_word(*word), live_bytes(*word));
}

void hl_full_inherited_call(uint32_t row, uint64_t bytes)
{
    if (hl.full && row)
        inherit_row(row - 1, bytes);
}

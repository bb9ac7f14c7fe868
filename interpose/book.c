/*
 * book.c: booking off the fast path, and what is done once a quantum.
 */
#include <time.h>

#include "book.h"

/* ---- the shared slot: atomic, for threads that have none ---- */

static void add(uint64_t *counter, uint64_t by)
{
    __atomic_fetch_add(counter, by, __ATOMIC_RELAXED);
}

/* The owner's record in the shared slot, or where there is no room the overflow owner's. */
static hl_record *shared_record(uint32_t *owner, uint32_t tag)
{
    hl_record *record = hl_shared_record(*owner);
    if (record)
        return record;
    *owner = HL_TAG_SIDE(tag) == HL_SIDE_C ? HL_OWNER_C_OVERFLOW : HL_OWNER_RUST_OVERFLOW;
    return hl_shared_record(*owner);
}

static void spend_shared(int64_t *left, uint64_t bytes)
{
    if (__atomic_add_fetch(left, (int64_t)bytes, __ATOMIC_RELAXED) >= 0)
        hl_quantum(hl.shared);
}

static uint32_t book_shared(uint64_t bytes, uint64_t requested, uint32_t owner, uint32_t tag, bool is_realloc)
{
    uint32_t side = HL_TAG_SIDE(tag);
    hl_record *record = shared_record(&owner, tag);
    add(&record->allocated_blocks, 1);
    add(&record->allocated_bytes, bytes);
    if (side == HL_SIDE_C)
        add(&record->requested_bytes, requested);
    if (is_realloc)
        add(&record->reallocs, 1);
    add(&hl.shared->sizes[side][hl_size_bucket(requested)], 1);
    uint64_t longest = __atomic_load_n(&hl.shared->hot.longest[side], __ATOMIC_RELAXED);
    while (requested > longest && !__atomic_compare_exchange_n(&hl.shared->hot.longest[side], &longest, requested,
                                                               true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    spend_shared(&hl.shared->hot.allocated[side], bytes);
    return owner;
}

static void unbook_shared(uint32_t owner, uint64_t bytes, uint32_t side)
{
    const hl_owner *row = hl_owner_row(owner);
    uint32_t tag = row ? row->tag : HL_TAG(side, 0);
    hl_record *record = shared_record(&owner, tag);
    add(&record->freed_bytes, bytes);
    add(&record->freed_blocks, 1);
    if (HL_TAG_SIDE(tag) != side)
        add(&hl.shared->crossed_frees, 1);
    spend_shared(&hl.shared->hot.freed[HL_TAG_SIDE(tag)], bytes);
}

/* ---- a watched thread ---- */

/* A handler that comes between may raise a peak too, so each is looked at again after it was set. */
static void follow(hl_watch *watch, uint32_t side, int64_t bytes)
{
    hl_bump((uint64_t *)&watch->live[side], (uint64_t)bytes);
    while (watch->live[side] > watch->peak[side])
        watch->peak[side] = watch->live[side];
    int64_t *all = &watch->peak[HL_SIDES];
    while (watch->live[HL_SIDE_C] + watch->live[HL_SIDE_RUST] > *all)
        *all = watch->live[HL_SIDE_C] + watch->live[HL_SIDE_RUST];
}

/* ---- a thread's slot ---- */

/* True when the side's sample is due. */
static bool book_record(hl_private *own, hl_record *record, uint64_t bytes, uint64_t requested, bool is_realloc)
{
    hl_slot *slot = own->slot;
    uint32_t side = HL_KEY_SIDE(record->key);
    hl_bump(&record->allocated_blocks, 1);
    hl_bump(&record->allocated_bytes, bytes);
    if (side == HL_SIDE_C)
        hl_bump(&record->requested_bytes, requested);
    if (is_realloc)
        hl_bump(&record->reallocs, 1);
    hl_bump(&slot->sizes[side][hl_size_bucket(requested)], 1);
    if (requested > slot->hot.longest[side])
        hl_longest_set(own, side, requested);
    if (HL_UNLIKELY(own->watch.on))
        follow(&own->watch, side, (int64_t)bytes);
    return hl_spend(&slot->hot.allocated[side], bytes) && hl_quantum(slot) & 1u << side;
}

static void unbook_record(hl_private *own, hl_record *record, uint64_t bytes, uint32_t side)
{
    hl_slot *slot = own->slot;
    hl_bump(&record->freed_bytes, bytes);
    hl_bump(&record->freed_blocks, 1);
    if (HL_KEY_SIDE(record->key) != side)
        hl_bump(&slot->crossed_frees, 1);
    if (HL_UNLIKELY(own->watch.on))
        follow(&own->watch, HL_KEY_SIDE(record->key), -(int64_t)bytes);
    if (hl_spend(&slot->hot.freed[HL_KEY_SIDE(record->key)], bytes))
        hl_quantum(slot);
}

void hl_book_slow(hl_map *map, void *block, uint64_t bytes, uint64_t requested, uint64_t call_site, uint32_t side,
                  bool is_realloc)
{
    if (hl_me.inside) { /* whoever is inside books, or wants nothing booked */
        if (HL_UNLIKELY(hl.full))
            hl_full_unseen(map, block);
        return;
    }
    uint16_t *entry = hl_map_grow(map, block);
    if (!entry) { /* no memory for the map: unseen, and its free will count as foreign */
        __atomic_store_n(&hl.full_blind, true, __ATOMIC_RELAXED);
        add(&hl.header->blocks_unbooked, 1);
        return;
    }
    hl_private *own = hl_thread();
    uint32_t tag = HL_TAG(side, own ? own->scope : 0);
    hl_record *record = own ? hl_record_find(own, call_site, tag) : NULL;
    uint32_t owner;
    bool due = false;
    if (record) {
        due = book_record(own, record, bytes, requested, is_realloc);
        owner = record->owner;
    } else {
        owner = book_shared(bytes, requested, hl_owner_intern(call_site, tag, HL_OWNER_SITE), tag, is_realloc);
    }
    if (HL_UNLIKELY(owner < HL_FIRST_OWNER))
        __atomic_fetch_add(&hl.header->owners_overflowed, 1, __ATOMIC_RELAXED);
    hl_entry_set(hl_far_place(map, block), map->shift, &owner);
    if (hl.full)
        hl_full_book(map, block, bytes, call_site, side);
    else if (HL_UNLIKELY(due))
        hl_sample(map, block, bytes, call_site, side);
}

void hl_unbook_slow(uint32_t owner, uint64_t bytes, uint32_t side)
{
    hl_private *own = hl_thread();
    hl_record *record = own ? hl_record_of(own, owner) : NULL;
    if (record)
        unbook_record(own, record, bytes, side);
    else
        unbook_shared(owner, bytes, side);
}

uint32_t hl_quantum_here(void)
{
    return hl_quantum(hl_me.own ? hl_me.slot : hl.shared);
}

void hl_unbook_fully(uint32_t owner, uint64_t bytes, uint32_t side)
{
    int left = hl_unbook(hl_record_here(owner, side), bytes, side);
    if (left == HL_SLOW)
        hl_unbook_slow(owner, bytes, side);
    else if (left == HL_QUANTUM_UP)
        hl_quantum_here();
}

void hl_charge_slow(uint32_t owner, uint64_t bytes, bool freed)
{
    hl_private *own = hl_thread();
    hl_record *record = own ? hl_record_of(own, owner) : NULL;
    const hl_owner *row = hl_owner_row(owner);
    if (freed && record)
        unbook_record(own, record, bytes, HL_KEY_SIDE(record->key));
    else if (freed)
        unbook_shared(owner, bytes, row ? HL_TAG_SIDE(row->tag) : HL_SIDE_C);
    else if (record)
        book_record(own, record, bytes, bytes, false);
    else
        book_shared(bytes, bytes, owner, row ? row->tag : 0, false);
}

void hl_foreign_free(void)
{
    hl_private *own = hl_thread();
    if (hl_me.inside)
        return;
    if (own)
        hl_bump(&own->slot->foreign_frees, 1);
    else
        add(&hl.shared->foreign_frees, 1);
}

/* ---- once a quantum: publish live bytes, raise the peaks ---- */

static bool raise(int64_t *peak, int64_t live)
{
    int64_t highest = __atomic_load_n(peak, __ATOMIC_RELAXED);
    while (live > highest)
        if (__atomic_compare_exchange_n(peak, &highest, live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return true;
    return false;
}

static uint64_t mono_ns(void)
{
    /* Answered by the vDSO, and without rdtsc, which seccomp's strict mode forbids. */
    return hl_clock_ns(CLOCK_MONOTONIC_COARSE);
}

static void add_slot_to_capture(const hl_slot *slot, uint32_t which, int64_t *sum)
{
    uint32_t count = __atomic_load_n(&slot->record_count, __ATOMIC_RELAXED);
    for (uint32_t page = 0; page < HL_RECORD_PAGES && page * HL_RECORDS_PER_PAGE < count; page++) {
        uint32_t number = __atomic_load_n(&slot->record_pages[page], __ATOMIC_ACQUIRE);
        const hl_record *record = number ? hl_page_address(number) : NULL;
        for (uint32_t i = 0; record && i < HL_RECORDS_PER_PAGE; i++, record++) {
            int64_t bytes = (int64_t)(hl_count_of(&record->allocated_bytes) - hl_count_of(&record->freed_bytes));
            uint32_t owner = __atomic_load_n(&record->owner, __ATOMIC_ACQUIRE);
            hl_owner *row = owner ? hl_owner_row(owner) : NULL;
            if (!row)
                continue;
            row->peak_bytes[which] += bytes;
            row->peak_blocks[which] +=
                (int64_t)(hl_count_of(&record->allocated_blocks) - hl_count_of(&record->freed_blocks));
            *sum += bytes;
        }
    }
}

/*
 * Who captures: the slot, or where a thread has none its thread-local storage,
 * which two threads that live at once have not in common either.
 */
static uint32_t capturer(void)
{
    return hl_me.own ? hl_me.own->slot_page : 1u << 31 | (uint32_t)((uintptr_t)&hl_me >> 6);
}

/*
 * Notes who holds what. Only one thread does so at a time; `capturer` names it,
 * so that one that jumped out of a signal handler in the middle, or died, does
 * not keep the place for good: its own next try begins anew.
 */
static void capture_peak(void)
{
    hl_header *header = hl.header;
    uint32_t holder = 0, me = capturer();
    if (!__atomic_compare_exchange_n(&header->peak_capturer, &holder, me, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED) &&
        holder != me)
        return;
    uint32_t which = header->peak_capture == 1; /* the half that readers do not use now */
    uint32_t owners = __atomic_load_n(&header->owner_count, __ATOMIC_RELAXED);
    for (uint32_t owner = 1; owner < owners && owner < HL_MAX_OWNERS; owner++) {
        hl_owner *row = hl_owner_row(owner);
        if (row)
            row->peak_bytes[which] = row->peak_blocks[which] = 0;
    }
    int64_t sum = 0;
    add_slot_to_capture(hl.shared, which, &sum);
    for (hl_private *own = atomic_load_explicit(&hl.slots, memory_order_acquire); own; own = own->next)
        add_slot_to_capture(own->slot, which, &sum);
    __atomic_store_n(&header->captured_live[which], sum, __ATOMIC_RELAXED);
    __atomic_store_n(&header->captured_mono_ns[which], mono_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&header->peak_capture, which + 1, __ATOMIC_RELEASE); /* pairs with is_far_above, and the reader's header copy */
    __atomic_store_n(&header->peak_capturer, 0, __ATOMIC_RELEASE); /* pairs with the exchange above: the half is written */
}

/* So much more is live than at the last capture that another one is worth it. */
static bool is_far_above(int64_t live)
{
    uint32_t half = __atomic_load_n(&hl.header->peak_capture, __ATOMIC_ACQUIRE);
    int64_t captured = half ? __atomic_load_n(&hl.header->captured_live[half - 1], __ATOMIC_RELAXED) : 0;
    return live > captured + captured / 8;
}

/*
 * Moves what a quantum counted into the flow, and makes room for the next. Whoever
 * interrupts between the two additions sees both sums wrong by as much, and what it
 * moves itself is moved on both sides too.
 */
static void settle(int64_t *counted, uint64_t *flow, int64_t room)
{
    int64_t more = *counted + room;
    hl_bump(flow, (uint64_t)more);
    hl_bump((uint64_t *)counted, -(uint64_t)more);
}

/* The same in the shared slot, where others do so too: each moves what no other does. Gives how much. */
static int64_t settle_shared(int64_t *counted, uint64_t *flow)
{
    int64_t more = __atomic_exchange_n(counted, -HL_QUANTUM, __ATOMIC_RELAXED) + HL_QUANTUM;
    __atomic_fetch_add(flow, (uint64_t)more, __ATOMIC_RELAXED);
    return more;
}

/* The samples of the slot's thread, if that is this one and has any. */
static hl_sampling *sampling_of(const hl_slot *slot)
{
    hl_private *own = hl_me.own;
    return own && own->slot == slot && own->sampling.walker ? &own->sampling : NULL;
}

/* Publishes what a side of the slot has come to hold; gives what the process holds of it. */
static int64_t publish(hl_slot *slot, uint32_t side)
{
    int64_t *live = &hl.header->live[side];
    int64_t told = __atomic_load_n(&slot->published[side], __ATOMIC_RELAXED);
    hl_flow flow = hl_slot_flow(slot, side);
    int64_t now = (int64_t)(flow.allocated_bytes - flow.freed_bytes);
    /* A handler that interrupted us may have told already; exchanging keeps each byte told once. */
    if (now != told && __atomic_compare_exchange_n(&slot->published[side], &told, now, false, __ATOMIC_RELAXED,
                                                   __ATOMIC_RELAXED))
        return __atomic_add_fetch(live, now - told, __ATOMIC_RELAXED);
    return __atomic_load_n(live, __ATOMIC_RELAXED);
}

/* The same of the shared slot: its sums, which others change meanwhile, may not be read one after the other. */
static int64_t publish_shared(hl_slot *slot, uint32_t side)
{
    int64_t more = settle_shared(&slot->hot.allocated[side], &slot->flow[side].allocated_bytes);
    more -= settle_shared(&slot->hot.freed[side], &slot->flow[side].freed_bytes);
    __atomic_fetch_add(&slot->published[side], more, __ATOMIC_RELAXED);
    return __atomic_add_fetch(&hl.header->live[side], more, __ATOMIC_RELAXED);
}

/* What the process holds of a side once the quantum is settled. `due` gets the side where its sample is. */
static int64_t settle_side(hl_slot *slot, hl_sampling *sampling, uint32_t side, uint32_t *due)
{
    if (slot == hl.shared)
        return publish_shared(slot, side);
    int64_t room = HL_QUANTUM;
    if (sampling) {
        *due |= (uint32_t)hl_sample_due(sampling, side, slot->hot.allocated[side]) << side;
        room = sampling->piece_bytes[side];
    }
    settle(&slot->hot.allocated[side], &slot->flow[side].allocated_bytes, room);
    settle(&slot->hot.freed[side], &slot->flow[side].freed_bytes, HL_QUANTUM);
    return publish(slot, side);
}

uint32_t hl_quantum(hl_slot *slot)
{
    hl_header *header = hl.header;
    hl_sampling *sampling = sampling_of(slot);
    uint32_t due = 0;
    int64_t all = 0;
    for (uint32_t side = 0; side < HL_SIDES; side++) {
        int64_t live = settle_side(slot, sampling, side, &due);
        raise(&header->peak[side], live);
        raise(&hl.window_peak[side], live);
        all += live;
    }
    raise(&hl.window_peak[HL_SIDES], all);
    hl_pressure_check(all);
    if (!raise(&header->peak[HL_SIDES], all))
        return due;
    __atomic_store_n(&header->peak_mono_ns, mono_ns(), __ATOMIC_RELAXED);
    if (is_far_above(all))
        capture_peak();
    return due;
}

void hl_window_begin(void)
{
    int64_t all = 0;
    for (uint32_t side = 0; side < HL_SIDES; side++) {
        int64_t live = __atomic_load_n(&hl.header->live[side], __ATOMIC_RELAXED);
        __atomic_store_n(&hl.window_peak[side], live, __ATOMIC_RELAXED);
        all += live;
    }
    __atomic_store_n(&hl.window_peak[HL_SIDES], all, __ATOMIC_RELAXED);
}

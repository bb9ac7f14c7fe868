/*
 * slots.c: which counters a thread writes.
 *
 * A slot belongs to one thread until that thread is gone; then the next new
 * thread takes it over, private part and all, so memory follows the largest
 * number of threads alive at once. Nothing runs when a thread ends.
 */
#include "book.h"
#include "unwinder.h"

#define PROBES 8 /* threads whose end is asked after before a new slot is made */

hl_private hl_nobody;
_Thread_local hl_self hl_me __attribute__((tls_model("initial-exec"))) HL_SELF_ALIGNED = {
    .fast = &hl_nobody,
    .strip.base = HL_NO_STRIP,
};

void hl_slot_begin(hl_slot *slot, uint32_t kind)
{
    slot->kind = kind;
    for (uint32_t side = 0; side < HL_SIDES; side++) {
        slot->flow[side] = (hl_flow){HL_QUANTUM, HL_QUANTUM};
        slot->hot.allocated[side] = slot->hot.freed[side] = -HL_QUANTUM;
    }
}

hl_slot *hl_shared_begin(void)
{
    uint32_t page = hl_pages_take(HL_SLOT_PAGES);
    if (!page)
        return NULL;
    hl_slot *slot = hl_page_address(page);
    hl_slot_begin(slot, HL_SLOT_SHARED);
    slot->record_count = HL_MAX_OWNERS; /* indexed by owner; pages that are missing are skipped */
    hl.shared = slot;
    /* The overflow owners must always have a record. */
    if (!hl_shared_record(HL_OWNER_C_OVERFLOW) || !hl_shared_record(HL_OWNER_RUST_OVERFLOW))
        return NULL;
    hl.header->first_slot = page;
    return slot;
}

hl_record *hl_shared_record(uint32_t owner)
{
    hl_slot *slot = hl.shared;
    uint32_t *published = &slot->record_pages[owner / HL_RECORDS_PER_PAGE];
    uint32_t page = __atomic_load_n(published, __ATOMIC_ACQUIRE);
    if (!page) {
        uint32_t mine = hl_pages_take(1);
        if (!mine)
            return NULL;
        if (__atomic_compare_exchange_n(published, &page, mine, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            page = mine;
    }
    hl_record *records = hl_page_address(page);
    if (!records)
        return NULL;
    hl_record *record = &records[owner % HL_RECORDS_PER_PAGE];
    const hl_owner *row = hl_owner_row(owner);
    if (!__atomic_load_n(&record->owner, __ATOMIC_RELAXED) && row) {
        /* Whoever races us writes the same. */
        __atomic_store_n(&record->key, HL_KEY(row->call_site, row->tag), __ATOMIC_RELAXED);
        __atomic_store_n(&record->owner, owner, __ATOMIC_RELEASE); /* pairs with hl_side_of's caller, and the reader's copy */
    }
    return record;
}

/* ---- claiming ---- */

static bool thread_is_gone(uint32_t tid)
{
    return HL_SYS3(SYS_tgkill, hl.header->pid, tid, 0) == -3 /* ESRCH */;
}

/* What the slot's earlier threads booked is set apart from what the next one will. */
static void take_over(hl_private *own)
{
    hl_slot_totals(own, own->slot->ended);
    own->slot->generation++;
    own->watch.on = 0;
    if (hl.walks)
        hl_walker_reset((hl_walker *)(void *)(own + 1));
    own->full.last = own->full.retired = NULL;
    hl_scope_set(own, 0);
    own->scope_depth = 0;
}

static hl_private *take_from_dead(uint32_t tid)
{
    static _Atomic uint32_t turn;
    uint32_t start = atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) % 64;
    uint32_t position = 0, probed = 0;
    for (hl_private *own = atomic_load_explicit(&hl.slots, memory_order_acquire); own; own = own->next) {
        uint32_t holder = __atomic_load_n(&own->slot->tid, __ATOMIC_ACQUIRE);
        /* A holder with our own tid is a dead thread's: the kernel gave us its number. */
        bool gone = holder == tid;
        if (!gone && holder && position++ >= start % 8 && probed < PROBES) {
            probed++;
            gone = thread_is_gone(holder);
        }
        if (!gone || !holder)
            continue;
        HL_ORDERED_AFTER(own->slot); /* the kernel knows of no thread by that number any more */
        if (__atomic_compare_exchange_n(&own->slot->tid, &holder, tid, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            take_over(own);
            return own;
        }
    }
    return NULL;
}

/* A thread's walker lies behind its private part, so that a walk needs no memory of its own. */
size_t hl_private_bytes(void)
{
    return sizeof(hl_private) + (hl.walks ? sizeof(hl_walker) : 0);
}

hl_private *hl_slot_fresh(uint32_t kind)
{
    if (__atomic_fetch_add(&hl.header->slot_count, 1, __ATOMIC_RELAXED) >= hl.max_slots) {
        __atomic_fetch_sub(&hl.header->slot_count, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    bool fits = kind != HL_SLOT_THREAD || hl_may_take(hl_private_bytes());
    hl_private *own = fits ? hl_reserve(hl_private_bytes()) : NULL;
    uint32_t page = own ? hl_pages_take(HL_SLOT_PAGES) : 0;
    if (!page) {
        if (own)
            hl_release(own, hl_private_bytes());
        __atomic_fetch_sub(&hl.header->slot_count, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    hl_slot *slot = hl_page_address(page);
    hl_slot_begin(slot, kind);
    slot->generation = 1;
    if (hl.full && kind == HL_SLOT_THREAD)
        hl_full_start(&own->full, own + 1);
    else if (hl.samples && !hl.full_wanted && kind == HL_SLOT_THREAD)
        hl_sampling_start(&own->sampling, slot, (hl_walker *)(void *)(own + 1));
    slot->tid = kind == HL_SLOT_THREAD ? hl_gettid() : 0;
    HL_SYS3(SYS_madvise, own, HL_WIPED_BYTES, 18 /* MADV_WIPEONFORK; without, see init.c */);
    hl_scope_set(own, 0);
    own->slot = slot;
    own->slot_page = page;
    /* Readers first find the slot, then (in this process) takers its private part. */
    uint32_t after = __atomic_load_n(&hl.shared->next, __ATOMIC_ACQUIRE);
    do
        slot->next = after;
    while (!__atomic_compare_exchange_n(&hl.shared->next, &after, page, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE));
    own->next = atomic_load_explicit(&hl.slots, memory_order_acquire);
    while (!atomic_compare_exchange_weak_explicit(&hl.slots, &own->next, own, memory_order_acq_rel,
                                                  memory_order_acquire))
        ;
    return own;
}

hl_private *hl_slot_claim(void)
{
    hl_private *own = take_from_dead(hl_gettid());
    return own ? own : hl_slot_fresh(HL_SLOT_THREAD);
}

/* The scopes that the thread that forked was in: it goes on in them with its first slot in the child. */
static struct {
    uint32_t scope, depth;
    uint32_t scopes[HL_SCOPE_DEPTH];
} left;

void hl_scopes_leave(const hl_private *own)
{
    left.scope = own->scope;
    left.depth = own->scope_depth;
    for (uint32_t i = 0; i < HL_SCOPE_DEPTH; i++)
        left.scopes[i] = own->scopes[i];
}

static void resume_scopes(hl_private *own)
{
    uint32_t depth = __atomic_load_n(&left.depth, __ATOMIC_RELAXED);
    if (HL_LIKELY(!depth) || hl_gettid() != hl_getpid())
        return;
    hl_scope_set(own, left.scope);
    own->scope_depth = depth;
    for (uint32_t i = 0; i < HL_SCOPE_DEPTH; i++)
        own->scopes[i] = left.scopes[i];
    __atomic_store_n(&left.depth, 0, __ATOMIC_RELAXED);
}

hl_private *hl_thread(void)
{
    if (HL_LIKELY(hl_me.own != NULL))
        return hl_me.own;
    if (hl_me.no_slot)
        return NULL;
    /*
     * A vfork child runs on its parent's thread-local storage: a slot claimed in
     * its name would stay with the parent's thread, and be free for others to
     * take once the child has gone.
     */
    if (hl_getpid() != hl.header->pid)
        return NULL;
    hl_private *own = hl_slot_claim();
    if (hl_me.own) /* a signal handler that allocated was faster: leave ours to the next thread */
        return hl_me.own;
    if (!own) {
        hl_me.no_slot = true;
        __atomic_fetch_add(&hl.header->slots_overflowed, 1, __ATOMIC_RELAXED);
        return NULL;
    }
    hl_me.own = own;
    hl_me.slot = own->slot;
    resume_scopes(own);
    hl_fast_again();
    return own;
}

void hl_scope_set(hl_private *own, uint32_t scope)
{
    own->scope = scope;
    for (uint32_t side = 0; side < HL_SIDES; side++)
        own->key_bits[side] = HL_KEY(0, HL_TAG(side, scope));
}

/* ---- records ---- */

static hl_record *new_record(hl_private *own, uint32_t owner, const hl_owner *row)
{
    hl_slot *slot = own->slot;
    uint32_t index;
    if (slot->record_count >= HL_MAX_OWNERS) /* or it would come round after 2^32 refusals */
        return NULL;
    do /* atomic, since a signal handler may want a record meanwhile */
        index = __atomic_fetch_add(&slot->record_count, 1, __ATOMIC_RELAXED);
    while (HL_RECORD_UNUSED(index));
    if (index >= HL_MAX_OWNERS)
        return NULL;
    uint32_t in = index / HL_RECORDS_PER_PAGE;
    if (!own->records[in]) {
        uint32_t page = hl_pages_take(1);
        if (!page)
            return NULL;
        if (!own->records[in]) {
            __atomic_store_n(&slot->record_pages[in], page, __ATOMIC_RELEASE); /* pairs with the reader's copy */
            own->records[in] = hl_page_address(page);
        }
    }
    hl_record *record = own->records[in] + index % HL_RECORDS_PER_PAGE;
    record->key = HL_KEY(row->call_site, row->tag);
    __atomic_store_n(&record->owner, owner, __ATOMIC_RELEASE);
    own->of_owner[HL_TAG_SIDE(row->tag)][owner] = record;
    return record;
}

hl_record *hl_record_of(hl_private *own, uint32_t owner)
{
    for (uint32_t side = 0; side < HL_SIDES; side++)
        if (own->of_owner[side][owner])
            return own->of_owner[side][owner];
    const hl_owner *row = hl_owner_row(owner);
    return row && row->kind ? new_record(own, owner, row) : NULL;
}

hl_record *hl_record_find(hl_private *own, uint64_t call_site, uint32_t tag)
{
    uint64_t key = HL_KEY(call_site, tag);
    hl_record **first = &own->cache[hl_cache_first(call_site)], **second = &own->cache[hl_cache_second(key)];
    hl_record *cached = *first;
    if (cached && cached->key == key)
        return cached;
    if ((cached = *second) && cached->key == key)
        return cached;
    if (HL_TAG_SIDE(tag) == HL_SIDE_RUST && !(__atomic_load_n(&hl.header->hooks, __ATOMIC_RELAXED) & HL_HOOKS_RUST))
        __atomic_fetch_or(&hl.header->hooks, HL_HOOKS_RUST, __ATOMIC_RELAXED);
    uint32_t owner = hl_owner_intern(call_site, tag, HL_OWNER_SITE);
    hl_record *record = hl_record_of(own, owner);
    if (record && owner >= HL_FIRST_OWNER)
        *(*first ? second : first) = record;
    return record;
}

void hl_slot_totals(const hl_private *own, hl_totals totals[HL_SIDES])
{
    hl_totals sums[HL_SIDES] = {{0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}};
    uint32_t count = own->slot->record_count;
    for (uint32_t i = 0; i < count && i < HL_MAX_OWNERS; i++) {
        const hl_record *page = own->records[i / HL_RECORDS_PER_PAGE];
        if (!page)
            continue;
        const hl_record *record = page + i % HL_RECORDS_PER_PAGE;
        hl_totals *sum = &sums[HL_KEY_SIDE(record->key)];
        sum->allocated_bytes += record->allocated_bytes;
        sum->allocated_blocks += record->allocated_blocks;
        sum->requested_bytes += hl_requested(record);
        sum->freed_bytes += record->freed_bytes;
        sum->freed_blocks += record->freed_blocks;
        sum->reallocs += record->reallocs;
    }
    for (uint32_t side = 0; side < HL_SIDES; side++)
        totals[side] = sums[side];
}

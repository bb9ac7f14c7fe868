/*
 * api.c: snapshots, scopes, charges; and for each function of api.h the
 * entry that the crate calls, which goes to whoever keeps the books.
 */
#include "api.h"
#include "book.h"

/* ---- readers ---- */

static void add_slot(const hl_slot *slot, hl_totals sums[HL_SIDES])
{
    uint32_t count = __atomic_load_n(&slot->record_count, __ATOMIC_RELAXED);
    for (uint32_t page = 0; page < HL_RECORD_PAGES && page * HL_RECORDS_PER_PAGE < count; page++) {
        uint32_t number = __atomic_load_n(&slot->record_pages[page], __ATOMIC_ACQUIRE);
        const hl_record *record = number ? hl_page_address(number) : NULL;
        for (uint32_t i = 0; record && i < HL_RECORDS_PER_PAGE; i++, record++) {
            if (!__atomic_load_n(&record->owner, __ATOMIC_ACQUIRE))
                continue;
            hl_totals *sum = &sums[hl_side_of(record)];
            sum->freed_bytes += hl_count_of(&record->freed_bytes);
            sum->freed_blocks += hl_count_of(&record->freed_blocks);
            sum->allocated_bytes += hl_count_of(&record->allocated_bytes);
            sum->allocated_blocks += hl_count_of(&record->allocated_blocks);
            sum->requested_bytes += hl_requested(record);
            sum->reallocs += hl_count_of(&record->reallocs);
        }
    }
}

static struct hl_counts counts_of(const hl_totals *sum, int64_t peak)
{
    struct hl_counts counts = {
        .live_bytes = (int64_t)(sum->allocated_bytes - sum->freed_bytes),
        .live_blocks = (int64_t)(sum->allocated_blocks - sum->freed_blocks),
        .allocated_bytes = sum->allocated_bytes,
        .allocated_blocks = sum->allocated_blocks,
        .freed_bytes = sum->freed_bytes,
        .freed_blocks = sum->freed_blocks,
        .reallocs = sum->reallocs,
        .requested_bytes = sum->requested_bytes,
        .peak_live_bytes = peak,
    };
    if (counts.live_bytes > peak) /* the published peak is late by up to a quantum a thread */
        counts.peak_live_bytes = counts.live_bytes;
    return counts;
}

static int64_t published_peak(uint32_t side)
{
    return __atomic_load_n(&hl.header->peak[side], __ATOMIC_RELAXED);
}

int hl_do_snapshot(struct hl_books *books)
{
    if (books->bytes < sizeof *books)
        return -1;
    hl_totals sums[HL_SIDES + 1] = {{0, 0, 0, 0, 0, 0}};
    add_slot(hl.shared, sums);
    /* Pairs with hl_slot_fresh's exchange: the slot is there. Only of the shared one it ever changes. */
    uint32_t next = __atomic_load_n(&hl.shared->next, __ATOMIC_ACQUIRE);
    for (const hl_slot *slot; next && (slot = hl_page_address(next)); next = slot->next)
        add_slot(slot, sums);
    hl_totals *all = &sums[HL_SIDES];
    for (uint32_t side = 0; side < HL_SIDES; side++) {
        all->allocated_bytes += sums[side].allocated_bytes;
        all->allocated_blocks += sums[side].allocated_blocks;
        all->requested_bytes += sums[side].requested_bytes;
        all->freed_bytes += sums[side].freed_bytes;
        all->freed_blocks += sums[side].freed_blocks;
        all->reallocs += sums[side].reallocs;
    }
    uint32_t hooks = __atomic_load_n(&hl.header->hooks, __ATOMIC_RELAXED);
    books->sees_c = (hooks & HL_HOOKS_C) != 0;
    books->sees_rust = (hooks & HL_HOOKS_RUST) != 0;
    books->c = counts_of(&sums[HL_SIDE_C], published_peak(HL_SIDE_C));
    books->rust = counts_of(&sums[HL_SIDE_RUST], published_peak(HL_SIDE_RUST));
    books->all = counts_of(all, published_peak(HL_SIDES));
    return 0;
}

int hl_do_copy_words(uint64_t reference, uint64_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++, reference += 8) {
        uint64_t page = reference / HL_PAGE_BYTES;
        const char *address = page < __atomic_load_n(&hl.header->next_page, __ATOMIC_RELAXED) ? hl_page_address((uint32_t)page) : NULL;
        if (!address)
            return -1;
        words[i] = __atomic_load_n((const uint64_t *)(const void *)(address + reference % HL_PAGE_BYTES),
                                   __ATOMIC_ACQUIRE);
    }
    return 0;
}

void hl_do_thread_totals(hl_totals *totals)
{
    hl_private *own = hl_thread();
    for (uint32_t side = 0; side < HL_SIDES; side++)
        totals[side] = (hl_totals){0, 0, 0, 0, 0, 0};
    if (own)
        hl_slot_totals(own, totals);
}

/* ---- peaks of a piece of work ---- */

/* Exchanges this thread's watch with another one: so watches nest, and what one has seen comes out. */
void hl_do_watch(hl_watch *watch)
{
    hl_private *own = hl_thread();
    if (!own)
        return; /* books to the shared slot: measures nothing */
    hl_watch before = own->watch;
    own->watch = *watch;
    *watch = before;
    if (own->watch.on)
        hl_me.fast = &hl_nobody;
    hl_fast_again();
}

/* The process's highest live bytes as published, since the last call that began anew with what is live. */
void hl_do_process_peaks(int64_t *peaks, uint32_t anew)
{
    hl_thread();
    hl_quantum_here(); /* what this thread has not told yet */
    if (anew)
        hl_window_begin();
    for (uint32_t side = 0; side <= HL_SIDES; side++)
        peaks[side] = __atomic_load_n(&hl.window_peak[side], __ATOMIC_RELAXED);
}

/* ---- scopes ---- */

uint32_t hl_do_scope_id(const char *name, size_t bytes)
{
    return hl_scope_intern(name, bytes);
}

void hl_do_scope_enter(uint32_t scope)
{
    hl_private *own = hl_thread();
    if (!own)
        return; /* the shared slot has no scopes: booked without */
    if (own->scope_depth < HL_SCOPE_DEPTH) {
        own->scopes[own->scope_depth] = own->scope;
        hl_scope_set(own, scope);
    }
    own->scope_depth++;
}

void hl_do_scope_leave(void)
{
    hl_private *own = hl_thread();
    if (!own || !own->scope_depth)
        return;
    own->scope_depth--;
    if (own->scope_depth < HL_SCOPE_DEPTH)
        hl_scope_set(own, own->scopes[own->scope_depth]);
}

void hl_do_charge(const char *what, size_t bytes, uint32_t freed)
{
    uint32_t name = what ? hl_scope_intern(what, hl_length(what)) : 0;
    __atomic_store_n(&hl.charges_seen, true, __ATOMIC_RELAXED);
    uint32_t owner = name ? hl_owner_intern(name, HL_TAG(HL_SIDE_C, 0), HL_OWNER_CHARGE) : HL_OWNER_C_OVERFLOW;
    hl_charge_slow(owner, bytes, freed != 0);
}

/* ---- entries ---- */

#define ENTRY(result, otherwise, name, parameters, arguments)                                                  \
    result hl_core_##name parameters                                                                           \
    {                                                                                                          \
        if (HL_LIKELY(hl_ready()))                                                                             \
            return hl_do_##name arguments;                                                                     \
        return hl.delegate ? hl.delegate->name arguments : otherwise;                                          \
    }
HL_CORE_FUNCTIONS(ENTRY)
#undef ENTRY

#define ENTRY(name, parameters, arguments)                                                                     \
    void hl_core_##name parameters                                                                             \
    {                                                                                                          \
        if (HL_LIKELY(hl_ready()))                                                                             \
            hl_do_##name arguments;                                                                            \
        else if (hl.delegate)                                                                                  \
            hl.delegate->name arguments;                                                                       \
    }
HL_CORE_PROCEDURES(ENTRY)
#undef ENTRY

/* ---- the public functions ---- */

#define PUBLIC __attribute__((visibility("default")))

PUBLIC int hl_abi_version(void)
{
    return HEAPLEDGER_ABI;
}

PUBLIC int hl_snapshot(struct hl_books *books)
{
    return books ? hl_core_snapshot(books) : -1;
}

PUBLIC void hl_scope_push(const char *name)
{
    hl_core_scope_enter(name ? hl_core_scope_id(name, hl_length(name)) : 0);
}

PUBLIC void hl_scope_pop(void)
{
    hl_core_scope_leave();
}

PUBLIC void hl_charge(const char *what, size_t bytes)
{
    hl_core_charge(what, bytes, 0);
}

PUBLIC void hl_uncharge(const char *what, size_t bytes)
{
    hl_core_charge(what, bytes, 1);
}

PUBLIC uint32_t hl_pressure_level(void)
{
    hl_pressure words;
    return hl_core_pressure_read(&words) == 0 ? words.level : HL_LEVEL_CALM;
}

PUBLIC int hl_pressure_fd(void)
{
    return hl_core_pressure_fd();
}

PUBLIC uint64_t hl_register(const struct hl_reclaimer *reclaimer)
{
    return reclaimer ? hl_core_reclaim_register(reclaimer, 1) : 0;
}

PUBLIC void hl_unregister(uint64_t handle)
{
    hl_core_reclaim_unregister(handle);
}

PUBLIC int hl_request_cleanup(size_t target_bytes)
{
    return hl_core_pressure_ask(target_bytes);
}

/*
 * fork.c: the ledger of a forked child.
 *
 * The child inherits the parent's mapping, which it must not write, and a
 * private copy of the owner map. From the map it learns exactly which blocks
 * it has inherited; they are what its own ledger begins with. Owner, module
 * and scope identifiers stay what they were.
 */
#include <sys/mman.h>

#include "book.h"

#define SUM_BYTES (sizeof(live_sum) * HL_MAX_OWNERS)

typedef struct live_sum {
    uint64_t bytes;
    uint64_t blocks;
} live_sum;

/* ---- in the parent, before fork: what only the counters know ---- */

/*
 * The map says which blocks are live, and the allocator how much of each is
 * usable. What Rust asked for (its Layout's size, which side rust books) and
 * what was charged by name stands in the records alone. The forking thread
 * notes both; a raw clone does without.
 */

static bool only_counters_know(const hl_record *record, uint32_t owner)
{
    const hl_owner *row = hl_owner_row(owner);
    return hl_side_of(record) == HL_SIDE_RUST || (row && row->kind == HL_OWNER_CHARGE);
}

static void note_slot(const hl_slot *slot, live_sum *noted)
{
    uint32_t count = __atomic_load_n(&slot->record_count, __ATOMIC_RELAXED);
    for (uint32_t page = 0; page < HL_RECORD_PAGES && page * HL_RECORDS_PER_PAGE < count; page++) {
        uint32_t number = __atomic_load_n(&slot->record_pages[page], __ATOMIC_ACQUIRE);
        const hl_record *record = number ? hl_page_address(number) : NULL;
        for (uint32_t i = 0; record && i < HL_RECORDS_PER_PAGE; i++, record++) {
            uint32_t owner = __atomic_load_n(&record->owner, __ATOMIC_ACQUIRE);
            if (!owner || owner >= HL_MAX_OWNERS || !only_counters_know(record, owner))
                continue;
            noted[owner].bytes += hl_count_of(&record->allocated_bytes) - hl_count_of(&record->freed_bytes);
            noted[owner].blocks += hl_count_of(&record->allocated_blocks) - hl_count_of(&record->freed_blocks);
        }
    }
}

/* Each forking thread has a note of its own: several may fork at once. */
void hl_fork_begin(void)
{
    if (live_now() == HL_LIVE_NOT || !(__atomic_load_n(&hl.charges_seen, __ATOMIC_RELAXED) ||
                                       __atomic_load_n(&hl.header->hooks, __ATOMIC_RELAXED) & HL_HOOKS_RUST))
        return;
    live_sum *noted = hl_reserve(SUM_BYTES);
    if (!noted)
        return;
    note_slot(hl.shared, noted);
    for (hl_private *own = atomic_load_explicit(&hl.slots, memory_order_acquire); own; own = own->next)
        note_slot(own->slot, noted);
    hl_me.noted = noted;
}

static void drop_note(void)
{
    live_sum *noted = hl_me.noted;
    hl_me.noted = NULL;
    if (noted)
        hl_release(noted, SUM_BYTES);
}

/* What the thread that forked had in the parent, for whichever thread of the child begins its ledger. */
static struct {
    hl_private *own;
    live_sum *noted;
} forker;

/* In the child, on the thread that forked. A child that forks before it has booked anything hands on what it was given. */
void hl_fork_hand_over(void)
{
    if (hl_me.own)
        forker.own = hl_me.own;
    if (hl_me.noted)
        forker.noted = hl_me.noted;
    hl_me.own = NULL; /* its slot stays an address, see left_over */
    hl_me.noted = NULL;
    hl_me.no_slot = false;
}

/* A child that forks before it has booked anything still needs its parent's note. */
void hl_fork_parent(void)
{
    if (live_now() != HL_LIVE_NOT)
        drop_note();
}

/* ---- in the child: forked by a handler within one of our functions ---- */

/*
 * Such a function goes on in the child and writes to where its parent's books are, if
 * the child has none of its own by then. So it gets them at once, which others get
 * when they first allocate, since most children run another program. Known by what the
 * kernel keeps of an interrupted thread on the stack of its handler: where it was,
 * within this library or what that has called. In a program's own code that lies beside ours cannot be told.
 */
#if defined(HL_PRELOAD)
#define LOOKED_THROUGH ((uintptr_t)64 << 10) /* of the stack: what a handler and fork itself take, and more */

/* From the linker. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

static bool is_ours(uint64_t code)
{
    return code - (uintptr_t)__ehdr_start < (uintptr_t)(etext - __ehdr_start);
}

#if defined(__x86_64__)
#define RETURNS 16u /* words on the stack, among which a function that was called has where it returns to */

static HL_READS_FREE bool returns_here(uint64_t stack)
{
    const uint64_t *words = (const uint64_t *)(uintptr_t)stack;
    if (stack % sizeof *words || !hl_can_be_read(stack) || !hl_can_be_read((uintptr_t)(words + RETURNS - 1)))
        return false;
    for (unsigned i = 0; i < RETURNS; i++)
        if (is_ours(words[i]))
            return true;
    return false;
}

/* At the word of a signal's frame that says where the thread was: stack, code, flags, segments. */
static HL_READS_FREE bool is_interrupted_here(const uint64_t *word)
{
    bool is_frame = (word[1] & 2) && word[1] >> 22 == 0 && (word[2] == 0x33 || word[2] == 0x002b000000000033);
    return is_frame && (is_ours(word[0]) || returns_here(word[-1]));
}
#else
/* ... link register, stack, code, processor state. */
static HL_READS_FREE bool is_interrupted_here(const uint64_t *word)
{
    bool may_be_frame = (word[1] & 0x1f) == 0 && word[1] >> 32 == 0 && word[-1] % 16 == 0;
    return may_be_frame && (is_ours(word[0]) || is_ours(word[-2]));
}
#endif

bool hl_forks_within(void)
{
    uintptr_t from = (uintptr_t)__builtin_frame_address(0) + 2 * sizeof(uint64_t), page = from / HL_PAGE_BYTES;
    for (uintptr_t at = from; at < from + LOOKED_THROUGH; at += sizeof(uint64_t)) {
        uintptr_t last = at + 2 * sizeof(uint64_t); /* the last word that is looked at with it */
        if (last / HL_PAGE_BYTES != page && !hl_can_be_read(last))
            return false;
        page = last / HL_PAGE_BYTES;
        if (is_interrupted_here((const uint64_t *)at))
            return true;
    }
    return false;
}
#else
bool hl_forks_within(void)
{
    return false;
}
#endif

/* ---- in the child: what it inherited ---- */

static void add_glibc_block(void *context, void *block, uint32_t owner)
{
    live_sum *sum = (live_sum *)context + hl_sample_owner(block, owner);
    sum->bytes += hl_glibc_usable(block);
    sum->blocks++;
    hl_full_inherited(&hl.glibc_blocks, block, owner, hl_glibc_usable(block));
}

/* Where the next allocator is glibc's, these are blocks of which only Rust knows the size. */
static void add_other_block(void *context, void *block, uint32_t owner)
{
    live_sum *sum = (live_sum *)context + hl_sample_owner(block, owner);
    uint64_t bytes = hl.proven_glibc ? 0 : hl.next.malloc_usable_size(block);
    sum->bytes += bytes;
    sum->blocks++;
    hl_full_inherited(&hl.other_blocks, block, owner, bytes);
}

static void add_arena_block(void *context, uint32_t owner, uint32_t row, uint64_t bytes)
{
    live_sum *sum = (live_sum *)context + owner;
    sum->bytes += bytes;
    sum->blocks++;
    hl_full_inherited_call(row, bytes);
}

/* The blocks are the map's; where the note agrees on them it knows the bytes. Charges are in no map. */
static void correct_by_note(uint32_t owner, live_sum *sum)
{
    const live_sum *noted = hl_me.noted;
    const hl_owner *row = noted ? hl_owner_row(owner) : NULL;
    if (row && (row->kind == HL_OWNER_CHARGE || noted[owner].blocks == sum->blocks) && noted[owner].blocks)
        *sum = noted[owner];
}

static bool book_inherited(void)
{
    live_sum *sums = hl_reserve(SUM_BYTES);
    hl_private *own = sums ? hl_slot_fresh(HL_SLOT_INHERITED) : NULL;
    if (!own) {
        if (sums)
            hl_release(sums, SUM_BYTES);
        return false;
    }
    hl_map_each(&hl.glibc_blocks, add_glibc_block, sums);
    hl_map_each(&hl.other_blocks, add_other_block, sums);
    hl_arena_each_live(add_arena_block, sums);
    for (uint32_t owner = 1; owner < hl.header->owner_count && owner < HL_MAX_OWNERS; owner++) {
        correct_by_note(owner, &sums[owner]);
        if (!sums[owner].blocks)
            continue;
        hl_record *record = hl_record_of(own, owner);
        if (!record && !(record = hl_shared_record(owner)))
            continue;
        record->allocated_bytes += sums[owner].bytes;
        record->allocated_blocks += sums[owner].blocks;
        record->requested_bytes += sums[owner].bytes;
        own->slot->flow[HL_KEY_SIDE(record->key)].allocated_bytes += sums[owner].bytes;
    }
    hl_release(sums, SUM_BYTES);
    hl_quantum(own->slot);
    return true;
}

/* ---- in the child: tables keep their identifiers ---- */

/* What the child needs of its parent's ledger until its own is complete. */
typedef struct inheritance {
    const hl_header *header;
    char *windows[HL_WINDOWS];
    hl_private *slots;
    hl_private *own; /* of the thread that forked */
} inheritance;

static const void *old_page(const void *inherited, uint32_t page)
{
    const inheritance *old = inherited;
    const char *window = page && page < HL_MAX_PAGES ? old->windows[page / HL_WINDOW_PAGES] : NULL;
    return window ? window + (size_t)(page % HL_WINDOW_PAGES) * HL_PAGE_BYTES : NULL;
}

static hl_text copy_text(const inheritance *old, hl_text text)
{
    const char *page = old_page(old, text.reference / HL_PAGE_BYTES);
    return page ? hl_text_add(page + text.reference % HL_PAGE_BYTES, text.bytes) : (hl_text){0, 0};
}

/* Copies a table page by page; false where the child's ledger has no room. */
static bool copy_table(const inheritance *old, const uint32_t *from, void *_Atomic *rows, uint32_t *to, uint32_t pages)
{
    for (uint32_t i = 0; i < pages; i++)
        atomic_store_explicit(&rows[i], NULL, memory_order_relaxed);
    for (uint32_t i = 0; i < pages; i++) {
        const void *page = old_page(old, from[i]);
        if (!page)
            continue;
        void *copy = hl_table_page(&rows[i], &to[i]);
        if (!copy)
            return false;
        hl_copy_bytes(copy, page, HL_PAGE_BYTES);
    }
    return true;
}

static bool copy_tables(const inheritance *old)
{
    hl_header *header = hl.header;
    const hl_header *from = old->header;
    header->next_allocator = from->next_allocator;
    header->granule_shift = from->granule_shift;
    header->hooks = from->hooks;
    header->flags |= (from->flags & (HL_FLAG_PRELOAD | HL_FLAG_BYPASSED)) | HL_FLAG_FORKED;
    header->exe = copy_text(old, from->exe);
    header->args = copy_text(old, from->args);
    if (!copy_table(old, from->owner_pages, (void *_Atomic *)hl.owner_rows, header->owner_pages, HL_OWNER_PAGES) ||
        !copy_table(old, from->module_pages, (void *_Atomic *)hl.module_rows, header->module_pages,
                    HL_MODULE_PAGES) ||
        !copy_table(old, from->scope_pages, (void *_Atomic *)hl.scope_rows, header->scope_pages, HL_SCOPE_PAGES))
        return false;
    header->owner_count = from->owner_count;
    header->module_count = from->module_count;
    header->scope_count = from->scope_count;
    for (uint32_t i = 0; i < header->module_count && i < HL_MAX_MODULES; i++) {
        hl_module *page = hl.module_rows[i / HL_MODULES_PER_PAGE];
        if (page)
            page[i % HL_MODULES_PER_PAGE].path = copy_text(old, page[i % HL_MODULES_PER_PAGE].path);
    }
    for (uint32_t i = 0; i < header->scope_count && i < HL_MAX_SCOPES; i++) {
        hl_text *page = hl.scope_rows[i / HL_SCOPES_PER_PAGE];
        if (page)
            page[i % HL_SCOPES_PER_PAGE] = copy_text(old, page[i % HL_SCOPES_PER_PAGE]);
    }
    return true;
}

static void remember(inheritance *old)
{
    old->header = hl.header;
    for (uint32_t i = 0; i < HL_WINDOWS; i++)
        old->windows[i] = atomic_load_explicit(&hl.windows[i], memory_order_relaxed);
    old->slots = atomic_load_explicit(&hl.slots, memory_order_relaxed);
    /* After a raw clone nobody has handed anything over. */
    hl_fork_hand_over();
    old->own = forker.own;
    hl_me.noted = forker.noted;
    forker.own = NULL;
    forker.noted = NULL;
    if (old->own)
        hl_scopes_leave(old->own);
}

/*
 * A signal handler may have forked, within one of our functions that go on in the
 * child with addresses of what was the parent's. So that these stay addresses, the
 * thread keeps its private part, and zeros lie where its parent's pages were: what is
 * written there is lost, in place of ending the child. Until it forks itself.
 */
static struct {
    hl_private *own;
    char *windows[HL_WINDOWS];
} left_over;

#define WINDOW_BYTES ((size_t)HL_WINDOW_PAGES * HL_PAGE_BYTES)

static void release_private(hl_private *own)
{
    hl_full_end(&own->full);
    hl_release(own, hl_private_bytes());
}

static void release_left_over(void)
{
    if (left_over.own)
        release_private(left_over.own);
    left_over.own = NULL;
    for (uint32_t i = 0; i < HL_WINDOWS; i++)
        if (left_over.windows[i])
            hl_release(left_over.windows[i], WINDOW_BYTES);
}

static void forget(const inheritance *old)
{
    for (hl_private *own = old->slots, *next; own; own = next) {
        next = own->next;
        if (own != old->own)
            release_private(own);
    }
    left_over.own = old->own;
    for (uint32_t i = 0; i < HL_WINDOWS; i++) {
        left_over.windows[i] = old->windows[i];
        if (old->windows[i] && hl_sys_failed(HL_SYS6(SYS_mmap, old->windows[i], WINDOW_BYTES, PROT_READ | PROT_WRITE,
                                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0))) {
            hl_release(old->windows[i], WINDOW_BYTES);
            left_over.windows[i] = NULL;
        }
    }
}

/* Where there is no room for the stacks, the child counts only. */
static void inherit_full(inheritance *old)
{
    hl.full = hl_full_inherit(old->header, old_page, old);
    if (!hl.full) {
        hl.samples = NULL;
        hl.header->samples = 0;
        __atomic_fetch_add(&hl.header->samples_dropped, 1, __ATOMIC_RELAXED);
    }
}

bool hl_fork_child(void)
{
    inheritance old;
    release_left_over();
    remember(&old);
    hl_room_forked();
    hl_me.fast = &hl_nobody;
    atomic_store_explicit(&hl.slots, NULL, memory_order_relaxed);
    bool kept = !hl.children_off && hl_ledger_create(hl.directory);
    if (kept) {
        hl.header->pressure.refuse_bytes = old.header->pressure.refuse_bytes;
        hl_header_identify();
        kept = copy_tables(&old) && hl_shared_begin();
        if (kept && hl.full)
            inherit_full(&old);
        kept = kept && book_inherited();
        if (kept) {
            if (!hl.full_wanted)
                hl_sampling_inherit(old.header, old_page, &old);
            __atomic_store_n(&hl.header->state, HL_STATE_READY, __ATOMIC_RELEASE); /* pairs with the reader's header copy */
        }
    }
    if (!kept && !hl.children_off)
        __atomic_fetch_add(&((hl_header *)(uintptr_t)old.header)->children_untracked, 1, __ATOMIC_RELAXED);
    drop_note();
    forget(&old);
    return kept;
}

/*
 * stacks.c: the table of stacks, each kept once by side, scope and thread.
 *
 * What a row counts beside its stack is its writer's: sample.c, or full.c.
 */
#include <sys/mman.h>

#include "core.h"
#include "stacks.h"
#include "unwinder.h"

#define INDEX_CELLS (2 * HL_MAX_STACKS)
static _Atomic uint32_t *row_index; /* hash -> 1 + row; written once, release */
hl_row_space *_Atomic hl_row_pages[HL_STACK_PAGES];

void *hl_row_at(uint32_t index)
{
    if (index >= HL_MAX_STACKS || !hl.samples)
        return NULL;
    hl_row_space *page = hl_table_page((void *_Atomic *)&hl_row_pages[index / HL_STACKS_PER_PAGE],
                                     &hl.samples->row_pages[index / HL_STACKS_PER_PAGE]);
    return page ? &page[index % HL_STACKS_PER_PAGE] : NULL;
}

static uint64_t mixed(uint64_t into, uint64_t word)
{
    into = (into ^ word) * 0x9e3779b97f4a7c15ull;
    return into ^ into >> 29;
}

static uint64_t hash_of(const hl_stack_key *of, uint64_t objects)
{
    uint64_t hash = mixed(mixed(objects, (uint64_t)of->tag << 32 | of->thread), of->how);
    for (uint32_t i = 0; i < of->count; i++)
        hash = mixed(hash, of->frames[i]);
    return hash;
}

static bool is_row_of(const hl_stack *row, const hl_stack_key *of)
{
    if (!row || !__atomic_load_n(&row->ready, __ATOMIC_ACQUIRE) || row->hash != of->hash || row->tag != of->tag ||
        row->thread != of->thread || row->how != of->how || row->frames.bytes != of->count * sizeof(uint64_t))
        return false;
    const char *there = hl_text_at(row->frames.reference);
    for (uint32_t i = 0; i < of->count; i++) {
        uint64_t frame;
        hl_copy_bytes(&frame, there + i * sizeof frame, sizeof frame);
        if (HL_FRAME_ADDRESS(frame) != HL_FRAME_ADDRESS(of->frames[i]))
            return false;
    }
    return true;
}

/* Frames with their modules, which are looked up while they are on the stack. */
static hl_text keep_frames(const hl_stack_key *of)
{
    hl_text text = hl_text_room(of->count * sizeof(uint64_t));
    char *to = (char *)(uintptr_t)hl_text_at(text.reference);
    for (uint32_t i = 0; text.reference && i < of->count; i++) {
        uint64_t frame = of->frames[i];
        if (of->walker)
            frame = HL_FRAME(frame, hl_module_of(frame - 1));
        hl_copy_bytes(to + i * sizeof frame, &frame, sizeof frame);
    }
    return text;
}

static bool interrupted(const hl_stack_key *of)
{
    return of->walker && of->walker->walk != of->walk;
}

#define MOST_PAGES (HL_MAX_PAGES / 4 * 3) /* the rest is for the exact books */
#define ROW_PAGES 2u /* what one more row may take: for itself, and for its frames */

/* 1 + the new row, or 0. */
static uint32_t new_row(const hl_stack_key *of)
{
    uint32_t index = __atomic_load_n(&hl.samples->row_count, __ATOMIC_RELAXED);
    if (index >= HL_MAX_STACKS || __atomic_load_n(&hl.header->next_page, __ATOMIC_RELAXED) >= MOST_PAGES ||
        !hl_pages_spare(ROW_PAGES) || !hl_row_at(index))
        return 0;
    hl_text frames = keep_frames(of);
    if (interrupted(of) || (of->count && !frames.reference))
        return 0;
    index = __atomic_fetch_add(&hl.samples->row_count, 1, __ATOMIC_RELAXED);
    hl_stack *row = hl_row_at(index);
    if (!row)
        return 0;
    row->hash = of->hash;
    row->frames = frames;
    row->tag = of->tag;
    row->thread = of->thread;
    row->how = of->how;
    __atomic_store_n(&row->ready, 1, __ATOMIC_RELEASE); /* pairs with is_row_of and the reader's copy of the row */
    return index + 1;
}

/* 1 + the row; where there is no room for another, the side's row of all that found none. */
uint32_t hl_row_of(const hl_stack_key *of)
{
    uint32_t cell = (uint32_t)(of->hash >> 40) % INDEX_CELLS;
    for (uint32_t tries = 0; tries < INDEX_CELLS; cell = (cell + 1) % INDEX_CELLS, tries++) {
        uint32_t there = atomic_load_explicit(&row_index[cell], memory_order_acquire);
        if (!there) {
            uint32_t mine = new_row(of);
            if (!mine)
                break;
            if (atomic_compare_exchange_strong_explicit(&row_index[cell], &there, mine, memory_order_acq_rel,
                                                        memory_order_acquire))
                return mine;
        }
        if (is_row_of(hl_row_at(there - 1), of))
            return there;
    }
    __atomic_fetch_add(&hl.header->stacks_overflowed, 1, __ATOMIC_RELAXED);
    return 1 + HL_TAG_SIDE(of->tag);
}

hl_stack_key hl_key_of_walk(const hl_walker *walker, uint32_t count, const uint64_t *call_site, uint32_t tag,
                            uint32_t thread)
{
    hl_stack_key of = {.frames = walker->frames,
                       .count = count,
                       .tag = tag,
                       .thread = thread,
                       .how = walker->how,
                       .walker = walker,
                       .walk = walker->walk};
    if (!count) { /* the call itself is always known */
        of.frames = call_site;
        of.count = 1;
    }
    of.hash = hash_of(&of, walker->objects);
    return of;
}

hl_stack_key hl_key_of_call(const uint64_t *call_site, uint32_t tag)
{
    hl_stack_key of = {.frames = call_site, .count = 1, .tag = tag, .how = HL_STACK_TORN};
    of.hash = hash_of(&of, 0);
    return of;
}

static bool begin_table(uint32_t rows, uint64_t mean_bytes)
{
    uint32_t page = hl_pages_take(HL_SAMPLES_PAGES);
    hl.samples = page ? hl_page_address(page) : NULL;
    if (!hl.samples)
        return false;
    for (uint32_t i = 0; i < HL_STACK_PAGES; i++)
        atomic_store_explicit(&hl_row_pages[i], NULL, memory_order_relaxed);
    hl.samples->mean_bytes = mean_bytes;
    hl.samples->rows = rows;
    hl.header->samples = page;
    return true;
}

bool hl_rows_fit(void)
{
    return hl_may_take(sizeof *row_index * INDEX_CELLS + hl_unwind_bytes());
}

/* The two rows of those that find no room come first. */
bool hl_rows_begin(uint32_t rows, uint64_t mean_bytes)
{
    /* Where a handler forked within one of our functions, that goes on with the index where it was. */
    if (row_index)
        HL_SYS3(SYS_madvise, row_index, sizeof *row_index * INDEX_CELLS, MADV_DONTNEED);
    else
        row_index = hl_reserve(sizeof *row_index * INDEX_CELLS);
    if (!row_index || !begin_table(rows, mean_bytes))
        return false;
    for (uint32_t side = 0; side < HL_SIDES; side++) {
        hl_stack_key overflow = {.tag = HL_TAG(side, 0), .how = HL_STACK_OVERFLOW};
        if (new_row(&overflow) != 1 + side) {
            hl.samples = NULL;
            hl.header->samples = 0;
            return false;
        }
    }
    return true;
}

/* ---- a forked child ---- */

static bool copy_row(hl_stack *to, const hl_stack *from, const void *(*page)(const void *, uint32_t), const void *old)
{
    if (!from->ready)
        return true;
    const char *text = page(old, from->frames.reference / HL_PAGE_BYTES);
    *to = *from;
    to->frames = text && from->frames.reference
                     ? hl_text_add(text + from->frames.reference % HL_PAGE_BYTES, from->frames.bytes)
                     : (hl_text){0, 0};
    return !from->frames.reference || to->frames.reference;
}

/* The index is the process's own memory, and names the same rows. */
bool hl_rows_inherit(const hl_samples *before, const void *(*page)(const void *, uint32_t), const void *old)
{
    if (!begin_table(before->rows, before->mean_bytes))
        return false;
    uint32_t count = before->row_count < HL_MAX_STACKS ? before->row_count : HL_MAX_STACKS;
    for (uint32_t first = 0; first < count; first += HL_STACKS_PER_PAGE) {
        const hl_row_space *rows = page(old, before->row_pages[first / HL_STACKS_PER_PAGE]);
        for (uint32_t i = 0; rows && i < HL_STACKS_PER_PAGE && first + i < count; i++) {
            hl_stack *mine = hl_row_at(first + i);
            if (!mine || !copy_row(mine, &rows[i].stack, page, old))
                return false;
        }
    }
    hl.samples->row_count = count;
    return true;
}

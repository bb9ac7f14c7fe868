/*
 * arena.c: memory for the time before the next allocator is known.
 *
 * Finding the next allocator allocates (dlsym on a missing name does, three
 * times), and IFUNC resolvers may allocate before this library is even
 * relocated. Such blocks come from here, are never given back, and are told by
 * their address ever after. Nothing here may use thread-local storage or a
 * pointer that the loader still has to relocate.
 */
#include "core.h"

#define ARENA_BYTES (256u * 1024)

static _Alignas(64) char arena[ARENA_BYTES];
static _Atomic size_t used;

/* Before each block. */
typedef struct hl_arena_head {
    uint64_t bytes;
    uint64_t call_site; /* 0: allocated by the loader on our behalf, not booked */
    uint32_t owner;     /* once booked */
    uint32_t freed;
    uint32_t row;       /* 1 + that of its allocation in mode full; 0: none */
    uint32_t freed_row; /* the same of its free */
} hl_arena_head;

static hl_arena_head *head_of(const void *block)
{
    return (hl_arena_head *)(uintptr_t)block - 1;
}

void *hl_arena_alloc(size_t alignment, size_t bytes, uint64_t call_site)
{
    if (alignment < 16)
        alignment = 16;
    if (bytes > ARENA_BYTES / 2 || alignment > ARENA_BYTES / 2)
        return NULL;
    size_t at = atomic_load_explicit(&used, memory_order_relaxed), start, end;
    do {
        uintptr_t base = (uintptr_t)arena;
        start = ((base + at + sizeof(hl_arena_head) + alignment - 1) & ~(alignment - 1)) - base;
        end = (start + bytes + 15) & ~(size_t)15;
        if (end > ARENA_BYTES)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&used, &at, end, memory_order_relaxed, memory_order_relaxed));
    hl_arena_head *head = head_of(arena + start);
    head->bytes = bytes ? bytes : 1; /* 0 is how the walk knows padding */
    head->call_site = call_site;
    return arena + start;
}

bool hl_arena_owns(const void *block)
{
    return (uintptr_t)block - (uintptr_t)arena < ARENA_BYTES;
}

size_t hl_arena_usable(const void *block)
{
    return head_of(block)->bytes;
}

void hl_arena_free(void *block, uint64_t call_site)
{
    hl_arena_head *head = head_of(block);
    if (HL_UNLIKELY(head->freed) && head->row)
        hl_full_freed_again(block, head->bytes, head->row, head->freed_row, call_site);
    head->freed = 1;
    if (head->owner) {
        uint32_t owner = head->owner;
        head->owner = 0;
        hl_unbook_slow(owner, head->bytes, HL_SIDE_C);
        head->freed_row = hl_full_free_call(head->row, head->bytes, call_site);
    }
}

/* Walks by the heads: each block begins at the next 16-aligned place that has one. */
static void each(void (*visit)(hl_arena_head *head, void *context), void *context)
{
    size_t end = atomic_load_explicit(&used, memory_order_relaxed);
    for (size_t at = 0; at + sizeof(hl_arena_head) < end;) {
        hl_arena_head *head = (hl_arena_head *)(void *)(arena + at);
        if (!head->bytes) { /* padding in front of an aligned block */
            at += 16;
            continue;
        }
        at += sizeof *head + ((head->bytes + 15) & ~(size_t)15);
        visit(head, context);
    }
}

static void book(hl_arena_head *head, void *context)
{
    (void)context;
    if (!head->call_site)
        return;
    uint32_t owner = hl_owner_intern(head->call_site, HL_TAG(HL_SIDE_C, 0), HL_OWNER_SITE);
    hl_charge_slow(owner, head->bytes, false);
    head->row = hl_full_book_call(head->call_site, head->bytes);
    if (head->freed) {
        hl_unbook_slow(owner, head->bytes, HL_SIDE_C);
        hl_full_free_call(head->row, head->bytes, 0);
    } else {
        head->owner = owner;
    }
}

void hl_arena_book(void)
{
    each(book, NULL);
}

typedef struct live_visit {
    void (*visit)(void *context, uint32_t owner, uint32_t row, uint64_t bytes);
    void *context;
} live_visit;

static void visit_live(hl_arena_head *head, void *context)
{
    const live_visit *live = context;
    if (head->owner)
        live->visit(live->context, head->owner, head->row, head->bytes);
}

void hl_arena_each_live(void (*visit)(void *context, uint32_t owner, uint32_t row, uint64_t bytes), void *context)
{
    live_visit live = {visit, context};
    each(visit_live, &live);
}

/*
 * A library with a core of its own, as one of Rust's has it that names
 * `heapledger::Alloc`: opened late, when threads are there already.
 */
#include "heapledger.h"

#define OFFERED __attribute__((visibility("default"), noinline))

void *hl_core_rust_alloc(size_t bytes, size_t alignment);
void hl_core_rust_dealloc(void *block, size_t bytes, size_t alignment);
int hl_core_snapshot(struct hl_books *books);

OFFERED void *late_alloc(size_t bytes)
{
    void *block = hl_core_rust_alloc(bytes, 16);
    __asm__ volatile("" : : : "memory"); /* no tail call */
    return block;
}

OFFERED void late_free(void *block, size_t bytes)
{
    hl_core_rust_dealloc(block, bytes, 16);
    __asm__ volatile("" : : : "memory");
}

OFFERED int late_books(struct hl_books *books)
{
    return hl_core_snapshot(books);
}

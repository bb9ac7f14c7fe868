/*
 * api.h: what a core offers to the Rust crate, and the preload's core to the
 * core of a crate in the same process, which then stands down.
 */
#ifndef HL_API_H
#define HL_API_H

#include "core.h"
#include "heapledger.h"

#define HL_CORE_ABI 2u

/*
 * `site` is a return address: the call site that the caller stands for.
 * X(result, name, parameters): the Rust global allocator over the next allocator.
 */
#define HL_RUST_FUNCTIONS(X)                                                                                   \
    X(void *, rust_alloc, (size_t bytes, size_t alignment, uint64_t site))                                     \
    X(void *, rust_alloc_zeroed, (size_t bytes, size_t alignment, uint64_t site))                              \
    X(void *, rust_realloc,                                                                                    \
      (void *block, size_t old_bytes, size_t alignment, size_t bytes, uint64_t site))                          \
    X(void, rust_dealloc, (void *block, size_t bytes))

/* X(result, otherwise, name, parameters, arguments); `otherwise` is the result without books. */
#define HL_CORE_FUNCTIONS(X)                                                                                   \
    X(int, -1, snapshot, (struct hl_books * books), (books))                                                   \
    X(int, -1, copy_words, (uint64_t reference, uint64_t * words, size_t count), (reference, words, count))    \
    X(uint32_t, 0, scope_id, (const char *name, size_t bytes), (name, bytes))                                  \
    X(uint32_t, 0, wrapped_retire, (void *block), (block))

/* X(name, parameters, arguments) */
#define HL_CORE_PROCEDURES(X)                                                                                  \
    X(wrapped_book, (void *block, size_t bytes, uint64_t site, uint32_t is_realloc),                           \
      (block, bytes, site, is_realloc))                                                                        \
    X(wrapped_restore, (void *block, uint32_t owner), (block, owner))                                          \
    X(wrapped_unbook, (uint32_t owner, size_t bytes), (owner, bytes))                                          \
    X(inner_enter, (void), ())                                                                                 \
    X(inner_leave, (void), ())                                                                                 \
    X(scope_enter, (uint32_t scope), (scope))                                                                  \
    X(scope_leave, (void), ())                                                                                 \
    X(charge, (const char *what, size_t bytes, uint32_t freed), (what, bytes, freed))                          \
    X(thread_totals, (hl_totals * totals), (totals))                                                           \
    X(watch, (hl_watch * watch), (watch))                                                                      \
    X(process_peaks, (int64_t * peaks, uint32_t anew), (peaks, anew))

/* The malloc family with the call site given: for hooks that stand down. */
#define HL_HOOK_FUNCTIONS(X)                                                                                   \
    X(void *, malloc, (size_t bytes, uint64_t site))                                                           \
    X(void *, calloc, (size_t count, size_t bytes, uint64_t site))                                             \
    X(void *, realloc, (void *block, size_t bytes, uint64_t site))                                             \
    X(void, free, (void *block))                                                                               \
    X(int, posix_memalign, (void **block, size_t alignment, size_t bytes, uint64_t site))                      \
    X(void *, aligned_alloc, (size_t alignment, size_t bytes, uint64_t site))                                  \
    X(void *, memalign, (size_t alignment, size_t bytes, uint64_t site))                                       \
    X(void *, valloc, (size_t bytes, uint64_t site))                                                           \
    X(void *, pvalloc, (size_t bytes, uint64_t site))                                                          \
    X(size_t, malloc_usable_size, (void *block))

typedef struct hl_core_api {
    uint32_t abi;
    uint32_t bytes;
#define FIELD(result, name, parameters) result(*name) parameters;
    HL_RUST_FUNCTIONS(FIELD)
    HL_HOOK_FUNCTIONS(FIELD)
#undef FIELD
#define FIELD(result, otherwise, name, parameters, arguments) result(*name) parameters;
    HL_CORE_FUNCTIONS(FIELD)
#undef FIELD
#define FIELD(name, parameters, arguments) void(*name) parameters;
    HL_CORE_PROCEDURES(FIELD)
#undef FIELD
} hl_core_api;

/*
 * hl_do_NAME works on this core's books, which must be kept (hl_ready);
 * hl_core_NAME goes to whoever keeps them. The Rust and hook functions look
 * for themselves.
 */
#define DECLARE(result, name, parameters) result hl_do_##name parameters;
HL_RUST_FUNCTIONS(DECLARE)
HL_HOOK_FUNCTIONS(DECLARE)
#undef DECLARE
#define DECLARE(result, otherwise, name, parameters, arguments)                                                \
    result hl_do_##name parameters;                                                                            \
    result hl_core_##name parameters;
HL_CORE_FUNCTIONS(DECLARE)
#undef DECLARE
#define DECLARE(name, parameters, arguments)                                                                   \
    void hl_do_##name parameters;                                                                              \
    void hl_core_##name parameters;
HL_CORE_PROCEDURES(DECLARE)
#undef DECLARE

#endif

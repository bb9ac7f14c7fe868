/*
 * heapledger.h: the ledger, from C.
 *
 * Every function may be missing at run time: link nothing, declare
 * HEAPLEDGER_WEAK before including, and test the address first,
 *
 *     #define HEAPLEDGER_WEAK
 *     #include <heapledger.h>
 *     if (hl_scope_push) hl_scope_push("decode");
 *
 * or call the HEAPLEDGER_* macros below, which do so. The functions are there
 * when libheapledger.so is preloaded, and in programs that link the crate.
 * All may be called from any thread; none prints, exits or takes a lock.
 */
#ifndef HEAPLEDGER_H
#define HEAPLEDGER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef HEAPLEDGER_WEAK
#define HEAPLEDGER_API __attribute__((weak))
#else
#define HEAPLEDGER_API
#endif

#define HEAPLEDGER_ABI 1

/* What one side, or both together, allocated and freed: exact once writers are quiet. */
struct hl_counts {
    int64_t live_bytes; /* usable bytes of C's blocks, requested bytes of Rust's */
    int64_t live_blocks;
    uint64_t allocated_bytes;
    uint64_t allocated_blocks;
    uint64_t freed_bytes;
    uint64_t freed_blocks;
    uint64_t reallocs;
    uint64_t requested_bytes;
    int64_t peak_live_bytes; /* within 64 KiB a thread */
};

/* Set `bytes` to sizeof(struct hl_books) first: later versions may append fields. */
struct hl_books {
    size_t bytes;
    uint32_t sees_c;    /* 1: the malloc family is booked; 0: c is unknown, not zero */
    uint32_t sees_rust; /* 1: a heapledger::Alloc has allocated */
    struct hl_counts c, rust, all;
};

/* The version of this interface that is running: HEAPLEDGER_ABI or later. */
HEAPLEDGER_API int hl_abi_version(void);

/* Fills the books of this process. 0, or -1 when no ledger is kept (untracked) or `bytes` is too small. */
HEAPLEDGER_API int hl_snapshot(struct hl_books *books);

/*
 * Books what this thread allocates from now on, C and Rust, to the scope
 * `name`, until the matching pop. Scopes nest; the innermost counts.
 */
HEAPLEDGER_API void hl_scope_push(const char *name);
HEAPLEDGER_API void hl_scope_pop(void);

/*
 * Books memory that malloc never sees (mmap, GPU), by name: each charge is one
 * block of side c. What is uncharged must have been charged under that name.
 */
HEAPLEDGER_API void hl_charge(const char *what, size_t bytes);
HEAPLEDGER_API void hl_uncharge(const char *what, size_t bytes);

#ifdef HEAPLEDGER_WEAK
#define HEAPLEDGER_SCOPE_PUSH(name) ((void)(hl_scope_push && (hl_scope_push(name), 0)))
#define HEAPLEDGER_SCOPE_POP() ((void)(hl_scope_pop && (hl_scope_pop(), 0)))
#define HEAPLEDGER_CHARGE(what, bytes) ((void)(hl_charge && (hl_charge(what, bytes), 0)))
#define HEAPLEDGER_UNCHARGE(what, bytes) ((void)(hl_uncharge && (hl_uncharge(what, bytes), 0)))
#endif

#ifdef __cplusplus
}
#endif

#endif

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
 * All may be called from any thread; none prints or exits. Those above the
 * line "cleanup pressure" take no lock; hl_register, hl_unregister and
 * hl_pressure_fd do, and are not for signal handlers.
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

/* ---- cleanup pressure ---- */

/*
 * When memory grows past what was set (`heapledger run --soft-limit`, or a
 * Rust program's own settings), clean-ups are asked for, one at a time.
 */
enum {
    HL_LEVEL_CALM = 0,
    HL_LEVEL_MODERATE = 1,
    HL_LEVEL_HIGH = 2,
    HL_LEVEL_CRITICAL = 3
};

/* The level now; HL_LEVEL_CALM when nobody watches. */
HEAPLEDGER_API uint32_t hl_pressure_level(void);

/*
 * A new eventfd (non-blocking, close-on-exec) that becomes readable when a
 * clean-up is asked for or the level changes. The caller closes it. -1 when no
 * ledger is kept or nothing more can be opened. A forked child opens its own.
 */
HEAPLEDGER_API int hl_pressure_fd(void);

/* The order in which reclaimers are called in a clean-up. */
enum {
    HL_RECLAIM_CACHE = 0,    /* cheap: what can be dropped at once */
    HL_RECLAIM_HOST = 1,     /* a collector, whose finalizers free */
    HL_RECLAIM_ALLOCATOR = 2 /* returns to the system what the others freed */
};

/* What is asked of a reclaimer. Later versions may append fields, and set `bytes` to what they know. */
struct hl_reclaim_request {
    size_t bytes;
    uint32_t number; /* of the clean-up */
    uint32_t level;
    int64_t target_bytes;      /* 0: as much as there is */
    uint64_t deadline_mono_ns; /* CLOCK_MONOTONIC; 0: none */
};

/*
 * Set `bytes` to sizeof(struct hl_reclaimer) first. `reclaim` gives the bytes
 * that it believes it freed, or a negative number if it cannot tell; what it did
 * free the ledger knows. It is called on a thread of heapledger's with signals
 * blocked, never from inside malloc, and never twice at a time; it may allocate,
 * free, fork, register and unregister, itself as well. It must return: no
 * longjmp, no exception, no pthread_exit. A child that it forks and that returns
 * from it ends there.
 */
struct hl_reclaimer {
    size_t bytes;
    const char *name; /* copied, cut to 47 bytes */
    uint32_t priority;
    uint32_t reserved;
    int64_t (*reclaim)(void *context, const struct hl_reclaim_request *request);
    void *context;
};

/* A handle for hl_unregister; 0 when no ledger is kept, `bytes` is too small or 64 are registered. */
HEAPLEDGER_API uint64_t hl_register(const struct hl_reclaimer *reclaimer);

/*
 * When it returns, the reclaimer is not called any more: it waits for a call in
 * flight, except from inside that call. Handles that are none are ignored.
 */
HEAPLEDGER_API void hl_unregister(uint64_t handle);

/*
 * Wishes for a clean-up of so many bytes, 0 for as much as there is. Does not
 * wait for it. 0, or -1 when no ledger is kept; whoever drives clean-ups decides.
 */
HEAPLEDGER_API int hl_request_cleanup(size_t target_bytes);

#ifdef HEAPLEDGER_WEAK
#define HEAPLEDGER_SCOPE_PUSH(name) ((void)(hl_scope_push && (hl_scope_push(name), 0)))
#define HEAPLEDGER_SCOPE_POP() ((void)(hl_scope_pop && (hl_scope_pop(), 0)))
#define HEAPLEDGER_CHARGE(what, bytes) ((void)(hl_charge && (hl_charge(what, bytes), 0)))
#define HEAPLEDGER_UNCHARGE(what, bytes) ((void)(hl_uncharge && (hl_uncharge(what, bytes), 0)))
#define HEAPLEDGER_PRESSURE_LEVEL() (hl_pressure_level ? hl_pressure_level() : (uint32_t)HL_LEVEL_CALM)
#define HEAPLEDGER_PRESSURE_FD() (hl_pressure_fd ? hl_pressure_fd() : -1)
#define HEAPLEDGER_REGISTER(reclaimer) (hl_register ? hl_register(reclaimer) : (uint64_t)0)
#define HEAPLEDGER_UNREGISTER(handle) ((void)(hl_unregister && (hl_unregister(handle), 0)))
#define HEAPLEDGER_REQUEST_CLEANUP(bytes) (hl_request_cleanup ? hl_request_cleanup(bytes) : -1)
#endif

#ifdef __cplusplus
}
#endif

#endif

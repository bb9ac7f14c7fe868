/*
 * api.h: what a core offers to the Rust crate, and the preload's core to the
 * core of a crate in the same process, which then stands down.
 */
#ifndef HL_API_H
#define HL_API_H

#include "core.h"
#include "heapledger.h"

#define HL_CORE_ABI 4u

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

#define HL_RECLAIMER_NAME_BYTES 48u
#define HL_MAX_RECLAIMERS 64u

/* What one call of a reclaimer came to. */
typedef struct hl_claim {
    uint64_t handle;
    int64_t claimed_bytes; /* negative: it cannot tell */
    uint64_t took_ns;
    uint32_t priority;
    uint32_t reserved;
    char name[HL_RECLAIMER_NAME_BYTES]; /* ended by NUL */
} hl_claim;

/* For pressure_wait. */
enum {
    HL_WORD_CROSSED = 0,
    HL_WORD_REQUEST = 1,
    HL_WORD_DONE = 2,
};

/* X(result, otherwise, name, parameters, arguments); `otherwise` is the result without books. */
#define HL_CORE_FUNCTIONS(X)                                                                                   \
    X(int, -1, snapshot, (struct hl_books * books), (books))                                                   \
    X(int, -1, copy_words, (uint64_t reference, uint64_t * words, size_t count), (reference, words, count))    \
    X(uint32_t, 0, scope_id, (const char *name, size_t bytes), (name, bytes))                                  \
    X(uint32_t, 0, wrapped_retire, (void *block), (block))                                                     \
    X(int, -1, pressure_read, (hl_pressure * words), (words))                                                  \
    X(int, -1, pressure_arm, (int64_t live_bytes), (live_bytes))                                               \
    X(uint32_t, 0, pressure_take, (void), ())                                                                  \
    X(int, -1, pressure_wait, (uint32_t word, uint32_t seen, uint64_t at_most_ns), (word, seen, at_most_ns))   \
    X(int, -1, pressure_ask, (uint64_t target_bytes), (target_bytes))                                          \
    X(int, -1, pressure_fd, (void), ())                                                                        \
    X(int, -1, pressure_drive, (uint32_t drives), (drives))                                                    \
    X(int, -1, allocator_trim, (void), ())                                                                     \
    X(int, -1, reclaim_name, (uint64_t handle, char *name), (handle, name))                                    \
    X(uint64_t, 0, reclaim_register, (const struct hl_reclaimer *reclaimer, uint32_t helped),                  \
      (reclaimer, helped))                                                                                     \
    X(uint32_t, 0, reclaim_list, (uint32_t priority, uint64_t * handles, uint32_t room),                       \
      (priority, handles, room))                                                                               \
    X(int, -1, reclaim_call, (uint64_t handle, const struct hl_reclaim_request *request, hl_claim *claim),     \
      (handle, request, claim))

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
    X(process_peaks, (int64_t * peaks, uint32_t anew), (peaks, anew))                                          \
    X(pressure_poke, (void), ())                                                                               \
    X(pressure_level_set, (uint32_t level), (level))                                                           \
    X(pressure_request, (uint32_t level, int64_t target_bytes), (level, target_bytes))                         \
    X(pressure_signal, (void), ())                                                                             \
    X(pressure_refuse, (int64_t live_bytes), (live_bytes))                                                     \
    X(cleanup_note, (const hl_cleanup *cleanup), (cleanup))                                                    \
    X(reclaim_unregister, (uint64_t handle), (handle))

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

/* ---- cleanup pressure: what reclaim.c, watchers.c, hosts.c and helper.c share ---- */

#define HL_WATCHERS 64u

/*
 * What must not outlive a fork, on a page of its own: a child finds zeros here,
 * so it inherits no lock, waits for no call and knows that it has no helper.
 */
typedef struct hl_transient {
    uint32_t lock;                       /* futex: 0 free, 1 held, 2 held and waited for */
    uint32_t ended;                      /* futex: grows when a call of a reclaimer has ended */
    uint32_t caller[HL_MAX_RECLAIMERS];  /* the thread that calls it now, 0: none */
    uint32_t helper;                     /* the helper's thread; HL_HELPER_STARTS; 0: none */
    struct {
        int number; /* 1 + the program's descriptor; 0: free */
        uint64_t identifier;
    } watchers[HL_WATCHERS];
} hl_transient;
#define HL_HELPER_STARTS (~0u)

#pragma GCC visibility push(hidden)
extern hl_transient *hl_transient_now(void);

/* ---- reclaim.c: held for a few instructions, with signals blocked ---- */
uint64_t hl_pressure_lock(void);
void hl_pressure_unlock(uint64_t mask);
uint64_t hl_reclaim_add(const struct hl_reclaimer *reclaimer);
void hl_reclaim_inherit(void); /* in a forked child: says in its ledger what it has */
/* Calls all of a priority, and adds what they claim. */
uint64_t hl_mono_ns(void);

/* ---- watchers.c ---- */
int hl_watcher_open(void);

/* ---- hosts.c: each says whether it could ---- */
bool hl_python_collect(void);
bool hl_jvm_collect(void);
bool hl_allocator_trim(void);
#pragma GCC visibility pop

#endif

/*
 * core.h: what the core's files share.
 *
 * Order of the files, each using only those above it:
 *   objects.c what objects ask of each other, at start-up
 *   clock.c   the kernel's clocks
 *   files.c   reading small files
 *   room.c    what may be taken where address space is limited
 *   pages.c   the mapping: creating it, committing pages, texts
 *   map.c     block address -> owner
 *   owners.c  call sites, modules and scopes -> owner identifiers
 *   stacks.c  the table of stacks
 *   lifetimes.c  how long sampled blocks live
 *   sample.c  which allocations are sampled, their stacks, what these hold
 *   misuse.c  calls that no program may make
 *   chunks.c  whether a block of glibc's that was freed is still free
 *   slots.c   a thread's slot: claiming, taking over, its records
 *   pressure.c  the words of cleanup pressure, and crossing the armed threshold
 *   live.c    mode full: live bytes of the process, and whether they pass the most
 *   full.c    mode full: every block's stack, the peak, what was freed already
 *   book.c    booking off the fast path, the quantum, the peak
 *   fork.c    the ledger of a forked child
 *   arena.c   memory for the time before the next allocator is known
 *   init.c    start-up: next allocator, self-check, ledger, delegation
 *   reclaim.c the program's reclaimers, and calling them
 *   watchers.c  the eventfds that tell the program of pressure
 *   hosts.c   collectors and the allocator's purge, found at run time
 *   helper.c  the thread that serves clean-ups
 *   api.c     the public C functions
 *   rust.c    the Rust global allocator's way in
 *   hooks.c   the exported malloc family
 */
#ifndef HL_CORE_H
#define HL_CORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"
#include "full.h"
#include "map.h"
#include "sample.h"
#include "sys.h"

/* Said of declarations too, so that shared data is reached without the GOT. */
#pragma GCC visibility push(hidden)

#define HL_CALLER() ((uint64_t)(uintptr_t)__builtin_return_address(0))

/* ---- the next allocator ------------------------------------------------ */

typedef struct hl_next {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*memalign)(size_t, size_t);
    void (*free)(void *);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    size_t (*malloc_usable_size)(void *);
    void (*free_sized)(void *, size_t);                 /* NULL where it has none */
    void (*free_aligned_sized)(void *, size_t, size_t); /* NULL where it has none */
} hl_next;

/* ---- a thread ------------------------------------------------------------ */

#define HL_CACHE_RECORDS 512u
#define HL_SCOPE_DEPTH 120u

/*
 * What a thread has come to hold since somebody began to watch it: exact, since
 * a watched thread books the slow way. All in 64 bits: the crate mirrors it.
 */
typedef struct hl_watch {
    int64_t on;
    int64_t live[HL_SIDES];
    int64_t peak[HL_SIDES + 1]; /* c, rust, all; never below 0 */
} hl_watch;

/* What a slot's thread keeps for itself, outside the ledger. Stays with the slot. */
typedef struct hl_private {
    /* The kernel hands a forked child zeros here, which send it the slow way. */
    /*
     * By call site; NULL: none yet. The record says itself whose it is: a key
     * beside it could be another's, when a signal handler comes between.
     */
    hl_record *cache[HL_CACHE_RECORDS];
    hl_record *of_owner[HL_SIDES][HL_MAX_OWNERS]; /* an owner of that side's record here, NULL until it has one */
    /* From here on it gets its copy. */
    struct hl_private *next;             /* all of them; grows at the front, release */
    hl_slot *slot;
    hl_watch watch;
    hl_sampling sampling;
    hl_fullness full;
    hl_record *records[HL_RECORD_PAGES]; /* slot->record_pages as addresses */
    uint32_t slot_page;
    uint32_t scope;                  /* current scope */
    uint32_t scope_depth;            /* counts pushes past HL_SCOPE_DEPTH too */
    uint32_t scopes[HL_SCOPE_DEPTH]; /* those to go back to */
    char unused[HL_PAGE_BYTES - 32 - 8 * HL_RECORD_PAGES - 4 * HL_SCOPE_DEPTH - sizeof(hl_watch) - sizeof(hl_sampling) - sizeof(hl_fullness) - 32 + 4]; /* see hl_hot for why the next lie where they do */
    uint64_t usual[HL_SIDES];        /* at most the longest request of each side so far, and below HL_LINEAR_SIZES */
    uint64_t key_bits[HL_SIDES];     /* HL_KEY(0, tag) of each side in the current scope */
} hl_private;
#define HL_WIPED_BYTES offsetof(hl_private, next)
_Static_assert(HL_WIPED_BYTES % HL_PAGE_BYTES == 0, "what is wiped is whole pages");
_Static_assert(sizeof(hl_private) % HL_PAGE_BYTES == 0, "key_bits end a page");

void hl_scope_set(hl_private *own, uint32_t scope);
void hl_scopes_leave(const hl_private *own);

/* Written by its own thread only. */
typedef struct hl_self {
    hl_private *own;     /* NULL: none yet */
    void *noted;         /* fork.c's, while this thread forks */
    uint32_t inside;     /* depth of calls into an allocator whose blocks are booked elsewhere */
    bool no_slot;        /* found no slot: books to the shared one */
    hl_slot *slot;       /* own->slot */
    const hl_private *fast; /* what the fast paths look into: `own`, or hl_nobody to go the slow way */
    hl_strip strip;      /* where it allocates */
} hl_self;
#if defined(__x86_64__)
#define HL_SELF_ALIGNED __attribute__((aligned(64)))
#else
#define HL_SELF_ALIGNED /* a library with more than the loader's own alignment cannot be opened late (glibc, dl_tls_static_align) */
#endif
/* Where a record has what bookings do not write: see hl_hot. */
_Static_assert(offsetof(hl_self, strip) == offsetof(hl_record, reallocs), "loads of the strip wait for no store");
/*
 * A resolver may free before the loader has relocated us, and our offset from the
 * thread's register is 0 then. What glibc has there on x86_64 is never anything but 0
 * (tcbhead_t, vgetcpu_cache, sysdeps/x86_64/nptl/tls.h): no strip.
 */
_Static_assert(offsetof(hl_self, strip.span) == 56, "no strip before relocation");

extern _Thread_local hl_self hl_me __attribute__((tls_model("initial-exec"))) HL_SELF_ALIGNED;

/* Has no record of anything, so that a thread without a slot needs no test. Never written. */
extern hl_private hl_nobody;

/* ---- the process ----------------------------------------------------------- */

/* hl_wipe.live */
enum {
    HL_LIVE_NOT = 0,   /* not started, off, delegated, or just forked: ask hl_ready */
    HL_LIVE_GLIBC = 1, /* book; usable size stands in the chunk header */
    HL_LIVE_OTHER = 2, /* book; usable size is asked for */
};

/* A page of its own: the kernel hands a forked child zeros here (MADV_WIPEONFORK). */
typedef struct hl_wiped {
    char unused[HL_PAGE_BYTES - 16]; /* see hl_hot for why the words are at the end */
    /* next.malloc, once books are kept and it is proven glibc's: all that malloc has to know first, in one word. */
    void *(*_Atomic glibc_malloc)(size_t);
    _Atomic uint32_t live;
    uint32_t unused_tail;
} hl_wiped;
extern hl_wiped hl_wipe;

HL_INLINE uint32_t live_now(void)
{
    return atomic_load_explicit(&hl_wipe.live, memory_order_acquire); /* pairs with go_live: what books need is there */
}

struct hl_core_api;

#define HL_WINDOW_PAGES 256u
#define HL_WINDOWS (HL_MAX_PAGES / HL_WINDOW_PAGES)

/* Private to the process; a forked child gets its copy and starts from it. */
typedef struct hl_process {
    hl_next next;
    hl_map glibc_blocks; /* of the next allocator where it is glibc's: 32 bytes a granule */
    hl_map other_blocks; /* of any other allocator: 8 bytes a granule */

    _Atomic int state;      /* HL_FRESH ... */
    _Atomic uint64_t starter; /* process and thread that is starting up; 0: nobody */
    const struct hl_core_api *delegate; /* whoever keeps the books instead of us */

    char *_Atomic windows[HL_WINDOWS]; /* the ledger's pages, HL_WINDOW_PAGES each */
    hl_header *header;
    uint32_t committed; /* pages from the first on that have memory */
    bool charges_seen;  /* somebody charged by name */
    int64_t refuse_bytes; /* HEAPLEDGER_REFUSE_PAST; INT64_MAX: not said */
    hl_owner *_Atomic owner_rows[HL_OWNER_PAGES];
    hl_module *_Atomic module_rows[HL_MODULE_PAGES];
    hl_text *_Atomic scope_rows[HL_SCOPE_PAGES];
    hl_private *_Atomic slots;
    hl_slot *shared;
    uint32_t max_slots;
    bool proven_glibc;
    uint64_t sample_mean_bytes; /* 0: nothing is sampled */
    uint64_t sample_seed;       /* 0: chance is the kernel's */
    hl_samples *samples;        /* NULL: no stacks are kept */
    bool walks;                 /* threads have walkers; set once */
    bool full_wanted;           /* HEAPLEDGER_MODE=full; set once */
    bool full;                  /* every block is booked with its stack, by no fast path */
    bool full_blind;            /* mode full has missed blocks: a free of what was not seen says nothing */
    bool abort_on_misuse;       /* HEAPLEDGER_ABORT_ON_MISUSE=1 */
    bool has_other_ways;        /* the next allocator hands memory out by functions that nobody hooks */
    int sample_clock;           /* HEAPLEDGER_CLOCK: HL_CLOCK_ANY, ... */
    bool children_off;  /* HEAPLEDGER_CHILDREN=0: forked children keep no ledger */
    int64_t window_peak[HL_SIDES + 1]; /* highest published live bytes since hl_window_begin: c, rust, all */
    char directory[256]; /* "" = keep the ledger in anonymous memory */
} hl_process;
extern hl_process hl;
_Static_assert(offsetof(hl_process, next.free) == offsetof(hl_record, key), "see hl_hot");

/* Sends this thread the fast way, unless there is a reason for the slow one. */
HL_INLINE void hl_fast_again(void)
{
    if (hl_me.own && !hl_me.inside && HL_LIKELY(!hl_me.own->watch.on) && !hl.full)
        hl_me.fast = hl_me.own;
}

/* False where the leaf is not near. */
HL_INLINE bool hl_near_place(const void *block, hl_place *place)
{
    uintptr_t near;
#if !defined(HL_X86_64)
    if (HL_UNLIKELY(live_now() == HL_LIVE_NOT)) /* perhaps not relocated: see hl_self */
        return hl_near_place_at(block, place, &near);
#endif
    return hl_strip_place(&hl_me.strip, block, place) || hl_near_place_at(block, place, &near);
}

/* The map that the next allocator's blocks are in. */
HL_INLINE hl_map *hl_next_map(void)
{
    return HL_LIKELY(hl.proven_glibc) ? &hl.glibc_blocks : &hl.other_blocks;
}

enum { HL_CLOCK_ANY = 0, HL_CLOCK_PRECISE = 1, HL_CLOCK_COARSE = 2 };
enum { HL_FRESH = 0, HL_STARTING = 1, HL_ON = 2, HL_OFF = 3 };

/* True when this core keeps books: starts it on first use and after a fork. */
bool hl_ready(void);

/* ---- room.c ---- */
/* Where asking how much is left may be in the way of an allocation, stands before what `next` names. */
void hl_room_begin(hl_next *next);
void hl_room_forked(void); /* in the child */

/* ---- pages.c ---- */
bool hl_ledger_create(const char *directory);
void *hl_page_address(uint32_t page);
uint32_t hl_pages_take(uint32_t count); /* committed, zeroed, consecutive; 0 = refused */
bool hl_pages_spare(uint32_t count);    /* so many more take no address space that the program may need */
hl_text hl_text_add(const char *bytes, size_t count);
hl_text hl_text_room(size_t count); /* to be filled */
const char *hl_text_at(uint32_t reference);
/* A page of a table, committed on first use. */
void *hl_table_page(void *_Atomic *rows, uint32_t *published);

/* ---- owners.c ---- */
uint32_t hl_owner_intern(uint64_t call_site, uint32_t tag, uint32_t kind);
hl_owner *hl_owner_row(uint32_t owner);
uint32_t hl_scope_intern(const char *name, size_t bytes);
bool hl_owners_begin(void);
void hl_modules_at_start(void);
uint32_t hl_module_of(uint64_t address); /* 1 + its index; 0: in none that we know */

/* ---- sample.c ---- */
/*
 * Of a block that was just booked, and whose sample is due. A fast path keeps no
 * register for the call site: its owner has it, which is never an overflow owner.
 */
#define HL_SITE_OF_OWNER 0
HL_COLD void hl_sample(hl_map *map, void *block, uint64_t bytes, uint64_t call_site, uint32_t side);

/* ---- chunks.c ---- */
/* Once, where the next allocator is glibc's; `mangled`: it is 2.32 or later. */
void hl_chunks_learn(const hl_next *next, bool mangled);
/* Of a block of glibc's that was freed: whether it has been handed out since. */
enum {
    HL_CHUNK_MAY_BE_IN_USE = 0,
    HL_CHUNK_LOOKS_FREE = 1, /* by its first words, which stay when it is handed out, until somebody writes there */
    HL_CHUNK_IS_FREE = 2,
};
HL_COLD int hl_chunk_says(const void *block, bool alone); /* no other thread has ever been */

/* ---- slots.c ---- */
hl_private *hl_slot_claim(void); /* NULL: none left */
hl_private *hl_slot_fresh(uint32_t kind);
size_t hl_private_bytes(void); /* what it takes */
hl_slot *hl_shared_begin(void);
HL_COLD hl_record *hl_record_find(hl_private *own, uint64_t call_site, uint32_t tag); /* NULL: no room */
hl_record *hl_record_of(hl_private *own, uint32_t owner);                     /* NULL: no room */
hl_record *hl_shared_record(uint32_t owner);
void hl_slot_begin(hl_slot *slot, uint32_t kind);
void hl_slot_totals(const hl_private *own, hl_totals totals[HL_SIDES]);
hl_private *hl_thread(void); /* this thread's, claimed on first use; NULL: books to the shared slot */

/* ---- pressure.c ---- */
void hl_pressure_check(int64_t live_bytes); /* published, of both sides */
HL_COLD bool hl_refuses(uint64_t bytes);    /* of a request of HL_QUANTUM and more: counted if so */
bool hl_may_refuse(void);                   /* malloc is to take the long way, and ask */
void hl_wake(uint32_t *word);               /* everybody who waits for it, in any process */
void hl_pressure_ring(void);               /* the helper's bell */
void hl_wait(const uint32_t *word, uint32_t seen, uint64_t at_most_ns); /* while it is `seen`; also returns early */

/* ---- book.c ---- */
HL_COLD void hl_book_slow(hl_map *map, void *block, uint64_t bytes, uint64_t requested, uint64_t call_site,
                          uint32_t side, bool is_realloc);
HL_COLD uint32_t hl_quantum_here(void); /* of this thread's slot */
HL_COLD void hl_unbook_slow(uint32_t owner, uint64_t bytes, uint32_t side);
HL_COLD void hl_foreign_free(void);
HL_COLD uint32_t hl_quantum(hl_slot *slot); /* the sides whose sample is due, a set */
HL_COLD void hl_charge_slow(uint32_t owner, uint64_t bytes, bool freed);
void hl_window_begin(void); /* peaks of the process are noted anew */

/* ---- fork.c ---- */
bool hl_fork_child(void);
void hl_fork_begin(void);
void hl_fork_hand_over(void);
void hl_fork_parent(void);
bool hl_forks_within(void); /* whether a signal handler forked, within a function of ours: asked in the child */

/* ---- arena.c ---- */
void *hl_arena_alloc(size_t alignment, size_t bytes, uint64_t call_site);
bool hl_arena_owns(const void *block);
size_t hl_arena_usable(const void *block);
void hl_arena_free(void *block, uint64_t call_site); /* of its free */
void hl_arena_book(void); /* books what was allocated before there was a ledger */
void hl_arena_each_live(void (*visit)(void *context, uint32_t owner, uint32_t row, uint64_t bytes), void *context);

/* ---- init.c ---- */
void hl_header_identify(void);
bool hl_hooks_are_first(void); /* hooks.c: the program's calls of malloc come here first */
void *hl_symbol(const char *name); /* from anywhere in the program; NULL: not there */

/* Bytes of a side that went through a slot. */
HL_INLINE hl_flow hl_slot_flow(const hl_slot *slot, uint32_t side)
{
    return (hl_flow){slot->flow[side].allocated_bytes + (uint64_t)slot->hot.allocated[side],
                     slot->flow[side].freed_bytes + (uint64_t)slot->hot.freed[side]};
}

#pragma GCC visibility pop

#endif

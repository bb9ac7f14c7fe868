/*
 * ledger.h: the layout of a ledger, the one place where it is written down.
 *
 * A ledger is one shared mapping that holds the books of one process. The
 * process writes it, readers in other processes map it read-only, and it
 * outlives its writer: SIGKILL loses nothing but the operation in flight.
 * src/ledger/layout.rs mirrors these types; build.rs compiles the offsets
 * below into constants, and the mirror does not compile where it disagrees.
 *
 * Words
 *   page      4096 bytes of the ledger, named by its number (0 = the header).
 *             A page is committed (its memory is really there) before its
 *             number is published anywhere.
 *   reference the byte offset of something from the start of the ledger.
 *   slot      one thread's counters. The thread is their only writer, apart
 *             from the one shared slot, whose counters are added to atomically.
 *   owner     (side, call site, scope), the key every live block is booked to.
 *   record    the counters of one owner in one slot.
 *   quantum   HL_QUANTUM bytes of traffic of one thread; rare work is done
 *             once a quantum.
 *
 * Counters are monotone sums; what is live is a difference that the reader
 * takes. A field is written with relaxed stores unless its line says release;
 * a reader pairs a release store with an acquire load of the same field.
 */
#ifndef HL_LEDGER_H
#define HL_LEDGER_H

#include <stddef.h>
#include <stdint.h>

#define HL_MAGIC 0x5247444c50414548ull /* "HEAPLDGR" in memory, little endian */
#define HL_LAYOUT 8u

#define HL_PAGE_BYTES 4096u
#define HL_MAX_PAGES 32768u /* 128 MiB, the size of the sparse file */

#define HL_QUANTUM 65536

#define HL_SIDES 2u
enum { HL_SIDE_C = 0, HL_SIDE_RUST = 1 };

/* hl_header.state */
enum {
    HL_STATE_NONE = 0,    /* being written: not a ledger yet */
    HL_STATE_READY = 1,   /* complete */
};

/* hl_header.hooks, a set */
enum {
    HL_HOOKS_C = 1,    /* the malloc family is booked */
    HL_HOOKS_RUST = 2, /* a heapledger::Alloc has allocated */
};

/* hl_header.next_allocator */
enum {
    HL_NEXT_OTHER = 0, /* usable size is asked of the allocator */
    HL_NEXT_GLIBC = 1, /* proven glibc: usable size is read from the chunk header */
};

/* hl_header.flags, a set */
enum {
    HL_FLAG_FORKED = 1,   /* began with what a forked parent had live */
    HL_FLAG_PRELOAD = 2,  /* kept by the preload library, not by a linked crate */
    HL_FLAG_DETACHED = 4, /* kept in anonymous memory: nobody outside can read it */
    HL_FLAG_BYPASSED = 8, /* the program's malloc is another library's that does not come to us */
};

/* hl_owner.kind */
enum {
    HL_OWNER_NONE = 0,     /* not complete yet: skip it */
    HL_OWNER_SITE = 1,     /* call_site is a return address */
    HL_OWNER_OVERFLOW = 2, /* stands for all owners that found no room */
    HL_OWNER_CHARGE = 3,   /* memory charged by name with hl_charge; call_site is the name's scope identifier */
};

/* hl_slot.kind */
enum {
    HL_SLOT_THREAD = 1,    /* one thread at a time */
    HL_SLOT_SHARED = 2,    /* whoever has no slot of its own; atomic adds */
    HL_SLOT_INHERITED = 3, /* what a forked parent had live; never written after start-up */
};

/* Owner identifiers are 14 bits wide: a map entry needs two bits for itself. */
#define HL_MAX_OWNERS 16384u
#define HL_OWNER_C_OVERFLOW 1u
#define HL_OWNER_RUST_OVERFLOW 2u
#define HL_FIRST_OWNER 3u

#define HL_OWNERS_PER_PAGE 64u
#define HL_OWNER_PAGES (HL_MAX_OWNERS / HL_OWNERS_PER_PAGE)
#define HL_MODULES_PER_PAGE 32u
#define HL_MODULE_PAGES 64u
#define HL_SCOPES_PER_PAGE 512u
#define HL_SCOPE_PAGES 16u
#define HL_RECORDS_PER_PAGE 64u
/* Unused, but in the shared slot: see hl_hot. */
#define HL_RECORD_UNUSED(index)                                            \
    ((index) % HL_RECORDS_PER_PAGE == HL_RECORDS_PER_PAGE - 1 ||           \
     (index) % HL_RECORDS_PER_PAGE == HL_HOT_OFFSET / sizeof(hl_record))

#define HL_RECORD_PAGES (HL_MAX_OWNERS / HL_RECORDS_PER_PAGE)
#define HL_STACKS_PER_PAGE 32u
#define HL_STACK_PAGES 8192u
#define HL_MAX_STACKS (HL_STACKS_PER_PAGE * HL_STACK_PAGES)
#define HL_MISUSES_PER_PAGE 64u
#define HL_MISUSE_PAGES 16u
#define HL_MAX_MISUSES (HL_MISUSES_PER_PAGE * HL_MISUSE_PAGES)
#define HL_MAX_SCOPES (HL_SCOPES_PER_PAGE * HL_SCOPE_PAGES)
#define HL_MAX_MODULES (HL_MODULES_PER_PAGE * HL_MODULE_PAGES)

#define HL_BUILD_ID_BYTES 32u

/*
 * Size histogram: 8 bytes a bucket below 1 KiB; above, 16 buckets a power of
 * two, as in hdrhistogram with one significant digit, so that it converts
 * without loss (2^40 - 1 and above share the last bucket).
 */
#define HL_LINEAR_SIZES 1024u
#define HL_LINEAR_SHIFT 3u
#define HL_LINEAR_EXTRA 16u /* buckets more below 1 KiB than hdrhistogram has there */
#define HL_SIZE_BITS 5u
#define HL_SIZE_BUCKETS 608u

/* A length-counted text: a path, a name, the command line with its NULs. */
typedef struct hl_text {
    uint32_t reference; /* 0: none */
    uint32_t bytes;
} hl_text;

/* The counters of one owner in one slot. Written by the slot's thread. */
typedef struct hl_record {
    uint64_t allocated_bytes;
    uint64_t allocated_blocks;
    uint64_t requested_bytes; /* of side c; what side rust asks for is what it is given: allocated_bytes */
    uint64_t freed_bytes;
    uint64_t freed_blocks;
    uint64_t reallocs;
    uint64_t key;   /* the owner's call site and tag in one: makes one comparison enough */
    uint32_t owner; /* release, last: 0 = not complete yet */
    uint32_t reserved;
} hl_record;

/* Addresses end below bit 48 on both machines; a tag has 14 bits that matter. */
#define HL_KEY(call_site, tag) \
    ((uint64_t)(call_site) ^ ((uint64_t)HL_TAG_SIDE(tag) << 63 | (uint64_t)HL_TAG_SCOPE(tag) << 48))
#define HL_KEY_SIDE(key) ((uint32_t)((key) >> 63))

/* An owner's tag: its scope, and its side in the top bit. */
#define HL_TAG(side, scope) (((uint32_t)(side) << 31) | (uint32_t)(scope))
#define HL_TAG_SIDE(tag) ((tag) >> 31)
#define HL_TAG_SCOPE(tag) ((tag) & 0x7fffffffu)

/* Written once by whoever interns it; the peak fields by whoever captures the peak. */
typedef struct hl_owner {
    uint64_t call_site;
    uint32_t tag;
    uint32_t module; /* 1 + index of the module, 0 = in none that we know */
    uint32_t kind;   /* release, last */
    uint32_t reserved;
    int64_t peak_bytes[2];  /* live at the captured peak; hl_header.peak_capture says which is whole */
    int64_t peak_blocks[2];
    uint64_t reserved2;
} hl_owner;

/* A mapped object that holds call sites. Written once by whoever interns it. */
typedef struct hl_module {
    uint64_t start; /* first mapped address */
    uint64_t end;   /* one past the last */
    uint64_t bias;  /* address in memory - address in the file's own terms */
    hl_text path;
    uint32_t build_id_bytes; /* 0: none */
    uint32_t ready;          /* release, last */
    uint8_t build_id[HL_BUILD_ID_BYTES];
    uint8_t reserved[56];
} hl_module;

/* hl_stack.how: how far a stack goes, and how sure it is */
enum {
    HL_STACK_WHOLE = 0,
    HL_STACK_DEEP = 1,     /* the innermost calls of more */
    HL_STACK_LOST = 2,     /* up to code that nothing is known of */
    HL_STACK_TORN = 3,     /* the call alone: a signal handler came between */
    HL_STACK_GUESSED = 4,  /* a bit more: some frames by frame pointers alone */
    HL_STACK_OVERFLOW = 8, /* stands for all stacks of a side that found no room */
};

/* A frame: an address, one byte behind which the call or the interrupted code is, and its module as in hl_owner. */
#define HL_FRAME(address, module) ((uint64_t)(address) | (uint64_t)(module) << 48)
#define HL_FRAME_ADDRESS(frame) ((uint64_t)(frame) & 0xffffffffffffull)

/*
 * Sums over samples of what each stands for. A sample of a block of s bytes
 * stands for w = 1 / (1 - exp(-s / mean)) blocks; an estimate's variance is the
 * sum of w * (w - 1) times the square of what is estimated.
 */
#define HL_WEIGHT_BLOCK 65536u
#define HL_WEIGHT_SPREAD 16777216u
typedef struct hl_weights {
    uint64_t samples;
    uint64_t blocks;        /* HL_WEIGHT_BLOCK a block */
    uint64_t bytes;
    uint64_t spread_blocks; /* variance of blocks */
    uint64_t spread_bytes;  /* variance of bytes: HL_WEIGHT_SPREAD the square of the mean */
} hl_weights;

/* A stack as a thread had it: what a row of the stacks' table begins with. Written once by whoever interns it. */
typedef struct hl_stack {
    uint64_t hash;
    hl_text frames; /* 64 bits each, innermost first, at any byte */
    uint32_t tag;
    uint32_t thread; /* tid; 0: several threads' */
    uint32_t how;
    uint32_t ready;  /* release, last */
} hl_stack;

/* A row where the mode is to sample. Sums by atomic adds. */
typedef struct hl_sampled {
    hl_stack stack;
    hl_weights allocated;
    hl_weights freed;
    uint64_t short_blocks; /* of these, freed within HL_SHORT_NS; HL_WEIGHT_BLOCK a block */
    uint64_t lived_ns;     /* in sum, by all blocks that were freed: a double's bits */
} hl_sampled;

/*
 * How long sampled blocks lived, in nanoseconds: buckets as of hdrhistogram with one
 * significant digit, so that they convert without loss (2^48 - 1, three days, and
 * above share the last bucket).
 */
#define HL_SHORT_NS 1000000u
#define HL_LIFETIME_BITS 5u
#define HL_LIFETIME_BUCKETS 720u

/* Lives that have ended, of one side. Atomic adds. */
typedef struct hl_lives {
    uint64_t samples;
    uint64_t longest_ns;
    uint64_t buckets[HL_LIFETIME_BUCKETS]; /* HL_WEIGHT_BLOCK a block */
} hl_lives;

/* Three pages, in ledgers whose mode is to sample. */
typedef struct hl_lifetimes {
    uint64_t step_ns; /* of the clock */
    hl_lives sides[HL_SIDES];
    uint64_t reserved[91];
} hl_lifetimes;

#define HL_LIFETIMES_PAGES 3u

/*
 * A row where the mode is full: all that was allocated with this stack. A free is
 * booked to the row of its allocation, and a stack that only frees came from holds
 * nothing. Counters of one thread's row are that thread's alone, but for what other
 * threads free; those of a row of several are added to atomically.
 */
typedef struct hl_exact {
    hl_stack stack;
    uint64_t allocated_blocks;
    uint64_t allocated_bytes;
    uint64_t freed_blocks;     /* by the row's own thread; by anybody where it has none */
    uint64_t freed_bytes;
    uint64_t elsewhere_blocks; /* freed by other threads; atomic */
    uint64_t elsewhere_bytes;
    uint64_t temporary_blocks; /* of all freed: by the next operation of the thread that allocated */
    uint64_t temporary_bytes;
    int64_t peak_blocks;       /* live when the process last held its most: where `excursion` is hl_samples' */
    int64_t peak_bytes;
    uint64_t excursion;        /* else what is live now was live then, too */
    uint64_t reserved;
} hl_exact;

/* hl_misuse.kind */
enum {
    HL_MISUSE_NONE = 0,            /* not complete yet: skip it */
    HL_MISUSE_DOUBLE_FREE = 1,     /* of a block that was freed already */
    HL_MISUSE_NEVER_ALLOCATED = 2, /* of what is no block: inside one, or where no allocator's memory is */
    HL_MISUSE_NEVER_SEEN = 3,      /* of a block that may be one, but whose allocation did not come to us */
    HL_MISUSE_RUST_BY_C = 4,       /* allocated by Rust, freed by C */
    HL_MISUSE_C_BY_RUST = 5,       /* the other way round */
    HL_MISUSE_OTHER_SIZE = 6,      /* Rust frees it with another size than it asked for; `inside` is that size */
};

/* hl_misuse.call */
enum {
    HL_CALL_FREE = 1,
    HL_CALL_REALLOC = 2,
};

/* A call that no program may make. The same kind with the same stacks, as sure, is one record. */
typedef struct hl_misuse {
    uint64_t block;     /* the pointer given, the first time */
    uint64_t bytes;     /* of the block that it is, was, or lies inside; 0: of none, or not known */
    uint64_t inside;    /* how far inside a live block the pointer is; 0: not at all */
    uint32_t allocated; /* 1 + the row of that block's allocation; 0: none */
    uint32_t freed;     /* the same of its first free */
    uint32_t called;    /* the same of this call */
    uint32_t thread;    /* tid */
    uint64_t mono_ns;   /* CLOCK_MONOTONIC, the first time */
    uint64_t count;     /* atomic */
    uint16_t call;
    uint16_t doubt;     /* 1: its block may have been handed out again past us, and the call be right */
    uint32_t kind;      /* release, last but for `count` */
} hl_misuse;

/* hl_samples.rows */
enum {
    HL_ROWS_SAMPLED = 0, /* hl_sampled */
    HL_ROWS_EXACT = 1,   /* hl_exact */
};

/* Nine pages, in ledgers that keep stacks. */
typedef struct hl_samples {
    uint64_t mean_bytes; /* between samples; 0: every block is booked */
    uint32_t row_count;  /* rows handed out; some may not be complete */
    uint32_t rows;       /* what they are */
    uint32_t misuse_count;    /* records handed out; some may not be complete */
    uint32_t reserved;
    uint64_t misuses_dropped; /* atomic: calls that found no room for another record */
    uint32_t misuse_pages[HL_MISUSE_PAGES]; /* release */
    uint64_t reserved1[4];
    /*
     * Of exact rows, on a line of their own. An excursion is a time in which less is
     * live than was at most: it is odd while one lasts that rows have noted something of.
     */
    int64_t held_bytes; /* atomic: live, or promised to threads; see full.c */
    int64_t most_bytes; /* atomic */
    uint64_t excursion; /* atomic */
    uint64_t reserved2[493];
    uint32_t row_pages[HL_STACK_PAGES]; /* release */
} hl_samples;

#define HL_SAMPLES_PAGES 9u

/* Bytes of one side in one slot: enough for a time series without the records. */
typedef struct hl_flow {
    uint64_t allocated_bytes;
    uint64_t freed_bytes;
} hl_flow;

/* Sums of a side over a slot's records. */
typedef struct hl_totals {
    uint64_t allocated_bytes;
    uint64_t allocated_blocks;
    uint64_t requested_bytes;
    uint64_t freed_bytes;
    uint64_t freed_blocks;
    uint64_t reallocs;
} hl_totals;

/*
 * What a slot's thread touches at every booking: one cache line. The processor holds
 * a load back behind an earlier store 4 KiB apart, which costs a pair of bookings a
 * twentieth to more than double. So where in its page each of them lies is chosen:
 * this line, which is written, where no record is; the end of a page, where linkers
 * put the tables that programs load from (.got) and where hl_wipe and a thread's
 * private part have theirs, is for what is loaded, and no record lies there either.
 * A further word that every booking loads lies, in its line, where records have what
 * bookings do not write, from hl_record.reallocs on.
 */
#define HL_HOT_OFFSET 0xe00u
typedef struct hl_hot {
    /*
     * Bytes of this quantum, counted up from -HL_QUANTUM, or from where the next
     * sample is nearer: the sign tells when it is used up. A side's flow is
     * hl_slot.flow plus this.
     */
    int64_t allocated[HL_SIDES];
    int64_t freed[HL_SIDES];
    uint64_t longest[HL_SIDES]; /* largest request */
    uint64_t unused[2];
} hl_hot;

/* Three pages. All fields are written by the slot's thread; `shared` slots by atomic adds. */
typedef struct hl_slot {
    uint32_t tid;        /* release, by compare-and-swap from a dead thread's */
    uint32_t kind;
    uint32_t next;       /* page of the next slot, 0 = last; release */
    uint32_t generation; /* threads that have had this slot */
    hl_flow flow[HL_SIDES];      /* what came before this quantum, and as much more as it counts up from below 0 */
    int64_t published[HL_SIDES]; /* what of flow is in hl_header.live already */
    uint64_t foreign_frees;
    uint64_t crossed_frees; /* blocks of one side freed by the other */
    uint32_t record_count;  /* identifiers handed out; some may not be complete */
    uint32_t reserved;
    hl_totals ended[HL_SIDES]; /* what threads that had this slot before booked in it */
    uint32_t record_pages[HL_RECORD_PAGES]; /* release */
    uint64_t sizes[HL_SIDES][HL_SIZE_BUCKETS]; /* requests by size */
    uint64_t reserved2[105];
    hl_hot hot;
    uint64_t reserved3[56];
} hl_slot;

#define HL_SLOT_PAGES 3u

/* hl_pressure.crossed, a set */
enum {
    HL_CROSSED_ARMED = 1, /* live bytes are past armed_bytes */
    HL_CROSSED_ASKED = 2, /* the program wishes for a clean-up */
    HL_CROSSED_POKED = 4, /* the driver's own: to wake its thread */
};

/* What a program is asked to do beside its own reclaimers, hl_pressure.actions and .acted: sets */
enum {
    HL_ACTION_TRIM = 1,
    HL_ACTION_PYTHON = 2,
    HL_ACTION_JVM = 4,
};

/* Beside the level in hl_pressure.request_level: how much of a clean-up is asked for; without these, all of it */
enum {
    HL_REQUEST_NO_PURGE = 0x100, /* nothing of the allocator's: the driver waits first until live bytes have settled */
    HL_REQUEST_PURGE = 0x200,    /* the allocator's alone, at once */
};

/*
 * Cleanup pressure: the words between allocating threads, whoever drives
 * clean-ups (a thread of the process, or a recorder that writes here from
 * outside) and the process's helper thread, which runs them. The futexes are
 * shared between processes. The first cache line begins with what every
 * quantum reads; all else is written a few times a second at most.
 */
typedef struct hl_pressure {
    int64_t armed_bytes;     /* release, driver: live bytes past which to wake it; INT64_MAX: not armed */
    uint32_t crossed;        /* futex: who wants the driver; a bit is set once until the driver takes it */
    uint32_t level;          /* release, driver: 0 calm, 1 moderate, 2 high, 3 critical */
    uint32_t request;        /* futex; release, driver: number of the clean-up asked for, 0 = none yet */
    uint32_t request_level;  /* of that clean-up, with HL_REQUEST_ bits */
    int64_t request_target_bytes; /* of that clean-up; 0 = as much as there is */
    uint32_t done;           /* futex; release, helper: number of the clean-up that it has finished */
    uint32_t asked;          /* how often the program asked for a clean-up */
    int64_t claimed_bytes;   /* helper: what reclaimers claimed in clean-up `done`; who cannot tell adds nothing */
    int64_t asked_bytes;     /* what the program last asked for; 0 = as much as there is */
    uint32_t bell;           /* futex, driver: grows when `request` or `level` has changed */
    uint32_t crossings;      /* how often an allocating thread woke the driver */

    uint32_t helper;         /* release, helper: its thread's identifier; 0: nobody serves requests */
    uint32_t actions;        /* what the helper was told to do beside registered reclaimers */
    uint32_t acted;          /* helper: which of these it could do in clean-up `done` */
    uint32_t reclaimers;     /* registered now */
    uint32_t driver;         /* release, its thread: process that drives its own clean-ups, whom a recorder leaves alone; 0: none */
    uint32_t history;        /* release, the driver in the process: page of the clean-ups that it keeps; 0: none */
    uint32_t answers;        /* release, helper: page of what it did in its last request; 0: none */
    uint32_t beat;           /* driver outside: grows while a level stands; 0: it never does, and a level stands for ever */
    int64_t refuse_bytes;    /* live bytes past which C's large requests are refused; INT64_MAX: none */
    uint64_t refused;        /* atomic: requests that were, each counted before its caller hears of it */
    uint64_t refused_bytes;  /* atomic: of these */
    uint64_t reserved;
} hl_pressure;

/* Why a clean-up was started, hl_cleanup.trigger */
enum {
    HL_TRIGGER_GROWTH = 1,
    HL_TRIGGER_SOFT_LIMIT = 2,
    HL_TRIGGER_HARD_LIMIT = 3,
    HL_TRIGGER_CGROUP = 4,
    HL_TRIGGER_PSI = 5,
    HL_TRIGGER_ASKED = 6,
};

/* How a reclaimer's call ended, hl_cleanup_call.ending */
enum {
    HL_ENDING_NONE = 0, /* the call is under way */
    HL_ENDING_RETURNED = 1,
    HL_ENDING_PANICKED = 2,
    HL_ENDING_LATE = 3, /* its deadline passed, and it was left alone */
};

#define HL_CLEANUP_NAME_BYTES 24u
#define HL_CLEANUP_CALLS 4u
#define HL_CLEANUPS 16u
#define HL_CLAIM_UNKNOWN UINT64_MAX /* in the place of claimed bytes: whoever frees cannot tell */

/* What one reclaimer did in a clean-up. */
typedef struct hl_cleanup_call {
    uint64_t claimed_bytes; /* or HL_CLAIM_UNKNOWN */
    uint32_t took_us; /* the largest number for all that is longer */
    uint32_t ending;
    uint8_t name[HL_CLEANUP_NAME_BYTES]; /* UTF-8, cut, filled up with zeros */
} hl_cleanup_call;

#define HL_ANSWERS 102u

/*
 * What the helper does in one request, the page that hl_pressure.answers names:
 * reclaimers as they are called, then actions. Who asks reads it when the request
 * is done, or to see with whom the helper is late.
 */
typedef struct hl_answers {
    uint32_t request; /* release: number of the request that the rest is about */
    uint32_t count;   /* release: calls begun */
    uint64_t reserved;
    hl_cleanup_call calls[HL_ANSWERS]; /* `ending` is written last, release */
} hl_answers;

/*
 * A clean-up that is over; HL_CLEANUPS of them are the page that hl_pressure.history
 * names, and clean-up n lies in place (n - 1) % HL_CLEANUPS. Its number is taken
 * away before anything else is written there, and set last: a reader that finds the
 * same number before and after its copy has one whole.
 */
typedef struct hl_cleanup {
    uint64_t number;          /* release, last; counts from 1 in this ledger; 0: none, or not whole */
    uint64_t started_mono_ns; /* CLOCK_MONOTONIC */
    uint64_t took_ns;         /* until the allocator had given memory back */
    uint64_t settle_ns;       /* of that, from the last reclaimer's return until live bytes were flat */
    uint64_t before_bytes;    /* live at the start */
    uint64_t freed_bytes;     /* by the ledger */
    uint64_t claimed_bytes;   /* by all reclaimers that can tell; HL_CLAIM_UNKNOWN: none can */
    uint64_t target_bytes;
    uint32_t trigger;
    uint32_t level;
    uint32_t called;          /* reclaimers; those that claimed most stand in `calls` */
    uint32_t reserved;
    hl_cleanup_call calls[HL_CLEANUP_CALLS];
    uint64_t reserved2[2];
} hl_cleanup;

/* One page. Written at start-up, or as each field says. */
typedef struct hl_header {
    uint64_t magic;
    uint32_t layout;
    uint32_t page_bytes;
    uint32_t state; /* release, last of start-up */
    uint32_t flags;
    uint32_t pid;
    uint32_t parent_pid;
    uint32_t uid;
    uint32_t hooks;          /* grows */
    uint32_t next_allocator;
    uint32_t granule_shift;  /* log2 of the least distance of two blocks */
    uint64_t start_ticks;    /* field 22 of /proc/PID/stat: with pid it names the process; 0 = unknown */
    uint64_t created_mono_ns; /* CLOCK_MONOTONIC */
    uint64_t created_unix_ns; /* CLOCK_REALTIME */
    hl_text exe;
    hl_text args;            /* arguments, each ended by NUL; cut to what fits in a page */

    /* Growth. All are atomic counters of everybody. */
    uint32_t next_page;
    uint32_t owner_count;    /* identifiers handed out, starting at HL_FIRST_OWNER */
    uint32_t module_count;
    uint32_t scope_count;
    uint32_t slot_count;
    uint32_t first_slot;     /* page of the shared slot, from which all others are chained */
    uint64_t text_cursor;    /* reference of the next free byte for texts */

    /* Live bytes by side as published, and their peaks; late by one quantum a thread. */
    int64_t live[HL_SIDES];
    int64_t peak[HL_SIDES + 1]; /* c, rust, all */
    uint64_t peak_mono_ns;   /* when peak of all was last raised */

    /* Who made up the peak: captured whenever the peak has grown by an eighth. */
    uint32_t peak_capture;   /* 0 = none, else 1 + index into hl_owner.peak_*; release */
    uint32_t peak_capturer;  /* page of the slot whose thread captures now, or, from 2^31 on, a thread without; 0 = nobody */
    int64_t captured_live[2];
    uint64_t captured_mono_ns[2];

    /* What could not be booked in full. Atomic counters of everybody. */
    uint64_t owners_overflowed; /* allocations booked to an overflow owner */
    uint64_t slots_overflowed;
    uint64_t scopes_overflowed;
    uint64_t pages_refused;
    uint64_t children_untracked; /* forked children that could not have a ledger */
    uint64_t samples_dropped;    /* sampled blocks that could not be kept; in mode full, blocks without a stack */
    uint64_t stacks_overflowed;  /* samples booked to an overflow stack */
    uint64_t blocks_unbooked;    /* allocated, and in no books: address space for the owner map was refused */
    uint64_t reserved_losses[6];

    hl_pressure pressure;

    uint32_t samples;            /* page of hl_samples; 0: this ledger has none */
    uint32_t lifetimes;          /* release: page of hl_lifetimes; 0: this ledger has none */
    uint64_t reserved[1];
    uint32_t module_pages[HL_MODULE_PAGES]; /* release */
    uint32_t scope_pages[HL_SCOPE_PAGES];   /* release; each holds HL_SCOPES_PER_PAGE hl_text */
    uint32_t owner_pages[HL_OWNER_PAGES];   /* release */
} hl_header;

#define HL_HEADER_PAGES 1u

_Static_assert(sizeof(hl_record) == 64, "a record is one cache line");
_Static_assert(sizeof(hl_owner) == HL_PAGE_BYTES / HL_OWNERS_PER_PAGE, "owners fill a page");
_Static_assert(sizeof(hl_module) == HL_PAGE_BYTES / HL_MODULES_PER_PAGE, "modules fill a page");
_Static_assert(sizeof(hl_sampled) == HL_PAGE_BYTES / HL_STACKS_PER_PAGE && sizeof(hl_exact) == sizeof(hl_sampled), "stacks fill a page");
_Static_assert(offsetof(hl_exact, freed_bytes) < 64 && offsetof(hl_exact, elsewhere_blocks) == 64, "other threads write the second line alone");
_Static_assert(sizeof(hl_misuse) == HL_PAGE_BYTES / HL_MISUSES_PER_PAGE, "misuses fill a page");
_Static_assert(offsetof(hl_samples, held_bytes) == 128, "what all threads write is a line of its own");
_Static_assert(sizeof(hl_samples) == HL_SAMPLES_PAGES * HL_PAGE_BYTES, "samples fill their pages");
_Static_assert(sizeof(hl_lifetimes) == HL_LIFETIMES_PAGES * HL_PAGE_BYTES, "lifetimes fill their pages");
_Static_assert(sizeof(hl_text) == HL_PAGE_BYTES / HL_SCOPES_PER_PAGE, "scope names fill a page");
_Static_assert(sizeof(hl_hot) == 64, "what is hot is one cache line");
_Static_assert(sizeof(hl_slot) == HL_SLOT_PAGES * HL_PAGE_BYTES, "a slot fills its pages");
_Static_assert(offsetof(hl_slot, hot) % HL_PAGE_BYTES == HL_HOT_OFFSET, "no record lies where the hot line does");
_Static_assert(offsetof(hl_header, pressure) % 64 == 0 && sizeof(hl_pressure) == 128, "pressure has its own two lines");
_Static_assert(sizeof(hl_answers) == HL_PAGE_BYTES, "answers fill a page");
_Static_assert(sizeof(hl_cleanup) * HL_CLEANUPS == HL_PAGE_BYTES, "clean-ups fill a page");
_Static_assert(sizeof(hl_header) <= HL_HEADER_PAGES * HL_PAGE_BYTES, "the header fits its pages");

#endif

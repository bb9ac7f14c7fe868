//! The Rust mirror of `interpose/ledger.h`.
//!
//! The meaning of each field stands in the C header, the single source; the
//! assertions made here compare every offset and size with what the C compiler
//! said of it, so a change on one side alone does not build.

#[cfg(heapledger_core)]
#[allow(dead_code)] // a use in an assertion alone is none to older compilers
mod facts {
    include!(concat!(env!("OUT_DIR"), "/layout_facts.rs"));
}

/// Declares constants and compares them with the C header's.
macro_rules! constants {
    ($($name:ident: $kind:ty = $value:expr;)*) => {
        $(#[allow(dead_code)] // as above
        pub(crate) const $name: $kind = $value;
        #[cfg(heapledger_core)]
        const _: () = assert!($name as u64 == facts::constant::$name, stringify!($name));)*
    };
}

constants! {
    MAGIC: u64 = u64::from_le_bytes(*b"HEAPLDGR");
    LAYOUT: u32 = 8;
    PAGE_BYTES: usize = 4096;
    MAX_PAGES: u32 = 32_768;
    QUANTUM: u64 = 65_536;
    STATE_READY: u32 = 1;
    HOOKS_C: u32 = 1;
    HOOKS_RUST: u32 = 2;
    NEXT_GLIBC: u32 = 1;
    FLAG_FORKED: u32 = 1;
    FLAG_PRELOAD: u32 = 2;
    FLAG_DETACHED: u32 = 4;
    FLAG_BYPASSED: u32 = 8;
    OWNER_SITE: u32 = 1;
    OWNER_OVERFLOW: u32 = 2;
    OWNER_CHARGE: u32 = 3;
    SLOT_THREAD: u32 = 1;
    SLOT_SHARED: u32 = 2;
    SLOT_INHERITED: u32 = 3;
    CROSSED_ARMED: u32 = 1;
    CROSSED_ASKED: u32 = 2;
    CROSSED_POKED: u32 = 4;
    ACTION_TRIM: u32 = 1;
    ACTION_PYTHON: u32 = 2;
    ACTION_JVM: u32 = 4;
    REQUEST_NO_PURGE: u32 = 0x100;
    REQUEST_PURGE: u32 = 0x200;
    TRIGGER_GROWTH: u32 = 1;
    TRIGGER_SOFT_LIMIT: u32 = 2;
    TRIGGER_HARD_LIMIT: u32 = 3;
    TRIGGER_CGROUP: u32 = 4;
    TRIGGER_PSI: u32 = 5;
    TRIGGER_ASKED: u32 = 6;
    ENDING_RETURNED: u32 = 1;
    ENDING_PANICKED: u32 = 2;
    ENDING_LATE: u32 = 3;
    CLEANUP_NAME_BYTES: usize = 24;
    CLEANUP_CALLS: usize = 4;
    CLAIM_UNKNOWN: u64 = u64::MAX;
    CLEANUPS: usize = 16;
    ANSWERS: usize = 102;
    ENDING_NONE: u32 = 0;
    MAX_OWNERS: u32 = 16_384;
    FIRST_OWNER: u32 = 3;
    OWNERS_PER_PAGE: usize = 64;
    OWNER_PAGES: usize = 256;
    MODULES_PER_PAGE: usize = 32;
    MODULE_PAGES: usize = 64;
    SCOPES_PER_PAGE: usize = 512;
    SCOPE_PAGES: usize = 16;
    RECORDS_PER_PAGE: usize = 64;
    RECORD_PAGES: usize = 256;
    STACKS_PER_PAGE: usize = 32;
    STACK_PAGES: usize = 8192;
    MISUSES_PER_PAGE: usize = 64;
    MISUSE_PAGES: usize = 16;
    ROWS_SAMPLED: u32 = 0;
    ROWS_EXACT: u32 = 1;
    MISUSE_DOUBLE_FREE: u32 = 1;
    MISUSE_NEVER_ALLOCATED: u32 = 2;
    MISUSE_NEVER_SEEN: u32 = 3;
    MISUSE_RUST_BY_C: u32 = 4;
    MISUSE_C_BY_RUST: u32 = 5;
    MISUSE_OTHER_SIZE: u32 = 6;
    CALL_FREE: u16 = 1;
    CALL_REALLOC: u16 = 2;
    STACK_WHOLE: u32 = 0;
    STACK_DEEP: u32 = 1;
    STACK_LOST: u32 = 2;
    STACK_TORN: u32 = 3;
    STACK_GUESSED: u32 = 4;
    STACK_OVERFLOW: u32 = 8;
    WEIGHT_BLOCK: u64 = 65_536;
    WEIGHT_SPREAD: u64 = 16_777_216;
    BUILD_ID_BYTES: usize = 32;
    LINEAR_SIZES: u64 = 1024;
    LINEAR_SHIFT: u32 = 3;
    LINEAR_EXTRA: usize = 16;
    SIZE_BITS: u32 = 5;
    SIZE_BUCKETS: usize = 608;
    LIFETIME_BITS: u32 = 5;
    LIFETIME_BUCKETS: usize = 720;
}

/// A type of the layout: plain integers in C order, any bit pattern valid.
///
/// # Safety
/// The type is `repr(C)` and made of integers only.
pub(crate) unsafe trait Mirror: Copy {}

/// Declares a mirrored struct and compares each offset, the number of fields and the size with the C header's.
macro_rules! mirror {
    ($(#[$note:meta])* $name:ident = $c:ident { $($field:ident: $kind:ty,)* }) => {
        $(#[$note])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub(crate) struct $name { $(pub $field: $kind,)* }
        // SAFETY: the macro makes the struct repr(C), and every use below names integers only.
        unsafe impl Mirror for $name {}
        #[cfg(heapledger_core)]
        const _: () = {
            $(assert!(core::mem::offset_of!($name, $field) as u64 == facts::$c::$field,
                concat!(stringify!($c), ".", stringify!($field)));)*
            assert!([$(stringify!($field)),*].len() == facts::$c::FIELDS, concat!("fields of ", stringify!($c)));
            assert!(core::mem::size_of::<$name>() as u64 == facts::$c::SIZE, concat!("size of ", stringify!($c)));
        };
    };
}

mirror! {
    /// A length-counted text elsewhere in the ledger.
    Text = hl_text { reference: u32, bytes: u32, }
}

mirror! {
    /// Sums over samples of what each stands for.
    Weights = hl_weights {
        samples: u64, blocks: u64, bytes: u64, spread_blocks: u64, spread_bytes: u64,
    }
}

mirror! {
    /// A stack as a thread had it.
    Stack = hl_stack { hash: u64, frames: Text, tag: u32, thread: u32, how: u32, ready: u32, }
}

mirror! {
    /// A stack and its samples.
    Sampled = hl_sampled {
        stack: Stack, allocated: Weights, freed: Weights, short_blocks: u64, lived_ns: u64,
    }
}

mirror! {
    /// A stack and all that was allocated with it.
    Exact = hl_exact {
        stack: Stack, allocated_blocks: u64, allocated_bytes: u64, freed_blocks: u64, freed_bytes: u64,
        elsewhere_blocks: u64, elsewhere_bytes: u64, temporary_blocks: u64, temporary_bytes: u64,
        peak_blocks: i64, peak_bytes: i64, excursion: u64, reserved: u64,
    }
}

mirror! {
    /// Lives of one side that have ended.
    Lives = hl_lives { samples: u64, longest_ns: u64, buckets: [u64; LIFETIME_BUCKETS], }
}

mirror! {
    /// How long sampled blocks lived.
    Lifetimes = hl_lifetimes { step_ns: u64, sides: [Lives; 2], reserved: [u64; 91], }
}

mirror! {
    /// A call that no program may make.
    Misuse = hl_misuse {
        block: u64, bytes: u64, inside: u64, allocated: u32, freed: u32, called: u32, thread: u32,
        mono_ns: u64, count: u64, call: u16, doubt: u16, kind: u32,
    }
}

mirror! {
    /// What stands before the stacks.
    Samples = hl_samples {
        mean_bytes: u64, row_count: u32, rows: u32, misuse_count: u32, reserved: u32,
        misuses_dropped: u64, misuse_pages: [u32; MISUSE_PAGES], reserved1: [u64; 4],
        held_bytes: i64, most_bytes: i64, excursion: u64, reserved2: [u64; 493],
        row_pages: [u32; STACK_PAGES],
    }
}

mirror! {
    /// The counters of one owner in one slot.
    Record = hl_record {
        allocated_bytes: u64, allocated_blocks: u64, requested_bytes: u64, freed_bytes: u64,
        freed_blocks: u64, reallocs: u64, key: u64, owner: u32, reserved: u32,
    }
}

mirror! {
    /// The key that live blocks are booked to.
    Owner = hl_owner {
        call_site: u64, tag: u32, module: u32, kind: u32, reserved: u32,
        peak_bytes: [i64; 2], peak_blocks: [i64; 2], reserved2: u64,
    }
}

mirror! {
    /// A mapped object that holds call sites.
    Module = hl_module {
        start: u64, end: u64, bias: u64, path: Text, build_id_bytes: u32, ready: u32,
        build_id: [u8; BUILD_ID_BYTES], reserved: [u8; 56],
    }
}

mirror! {
    /// Bytes of one side in one slot.
    Flow = hl_flow { allocated_bytes: u64, freed_bytes: u64, }
}

mirror! {
    /// Sums of a side over a slot's records.
    #[derive(Default)]
    Totals = hl_totals {
        allocated_bytes: u64, allocated_blocks: u64, requested_bytes: u64, freed_bytes: u64,
        freed_blocks: u64, reallocs: u64,
    }
}

mirror! {
    /// What a slot's thread touches at every booking.
    Hot = hl_hot { allocated: [i64; 2], freed: [i64; 2], longest: [u64; 2], unused: [u64; 2], }
}

mirror! {
    /// One thread's counters.
    Slot = hl_slot {
        tid: u32, kind: u32, next: u32, generation: u32, flow: [Flow; 2], published: [i64; 2], foreign_frees: u64,
        crossed_frees: u64, record_count: u32, reserved: u32, ended: [Totals; 2],
        record_pages: [u32; RECORD_PAGES], sizes: [[u64; SIZE_BUCKETS]; 2], reserved2: [u64; 105],
        hot: Hot, reserved3: [u64; 56],
    }
}

mirror! {
    /// The words of cleanup pressure.
    Pressure = hl_pressure {
        armed_bytes: i64, crossed: u32, level: u32, request: u32, request_level: u32,
        request_target_bytes: i64, done: u32, asked: u32, claimed_bytes: i64, asked_bytes: i64,
        bell: u32, crossings: u32, helper: u32, actions: u32, acted: u32, reclaimers: u32,
        driver: u32, history: u32, answers: u32, beat: u32, refuse_bytes: i64, refused: u64,
        refused_bytes: u64, reserved: u64,
    }
}

mirror! {
    /// What one reclaimer did in a clean-up.
    #[derive(Default)]
    CleanupCall = hl_cleanup_call {
        claimed_bytes: u64, took_us: u32, ending: u32, name: [u8; CLEANUP_NAME_BYTES],
    }
}

mirror! {
    /// What a helper does in one request.
    Answers = hl_answers {
        request: u32, count: u32, reserved: u64, calls: [CleanupCall; ANSWERS],
    }
}

mirror! {
    /// A clean-up that is over.
    #[derive(Default)]
    Cleanup = hl_cleanup {
        number: u64, started_mono_ns: u64, took_ns: u64, settle_ns: u64, before_bytes: u64,
        freed_bytes: u64, claimed_bytes: u64, target_bytes: u64, trigger: u32, level: u32,
        called: u32, reserved: u32, calls: [CleanupCall; CLEANUP_CALLS], reserved2: [u64; 2],
    }
}

mirror! {
    /// The first page.
    Header = hl_header {
        magic: u64, layout: u32, page_bytes: u32, state: u32, flags: u32, pid: u32, parent_pid: u32,
        uid: u32, hooks: u32, next_allocator: u32, granule_shift: u32, start_ticks: u64,
        created_mono_ns: u64, created_unix_ns: u64, exe: Text, args: Text, next_page: u32,
        owner_count: u32, module_count: u32, scope_count: u32, slot_count: u32, first_slot: u32,
        text_cursor: u64, live: [i64; 2], peak: [i64; 3], peak_mono_ns: u64, peak_capture: u32,
        peak_capturer: u32, captured_live: [i64; 2], captured_mono_ns: [u64; 2],
        owners_overflowed: u64, slots_overflowed: u64, scopes_overflowed: u64, pages_refused: u64,
        children_untracked: u64, samples_dropped: u64, stacks_overflowed: u64,
        blocks_unbooked: u64, reserved_losses: [u64; 6],
        pressure: Pressure, samples: u32, lifetimes: u32, reserved: [u64; 1],
        module_pages: [u32; MODULE_PAGES], scope_pages: [u32; SCOPE_PAGES],
        owner_pages: [u32; OWNER_PAGES],
    }
}

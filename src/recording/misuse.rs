//! What a recording holds of misuse: calls that no correct program makes.

/// A call into the allocator that no correct program makes, and its like: calls of one
/// kind with the same stacks, all as sure, are one record.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct Misuse {
    /// What was wrong.
    pub kind: MisuseKind,
    /// The block may have been handed out again past the hooks, so that what looks like
    /// misuse would be right: its allocator does so, or the block alone says that it is free.
    pub may_be_right: bool,
    /// Address that the allocator was given, the first time.
    pub address: u64,
    /// The block was to be resized, and not only freed.
    pub is_realloc: bool,
    /// Bytes of the block, as booked when it was allocated; 0 where none is known.
    pub bytes: u64,
    /// How far inside that block the address lies, where it is not the block's own.
    pub inside_bytes: Option<u64>,
    /// The size that Rust gave back with it, where that was another.
    pub said_bytes: Option<u64>,
    /// The thread that made the call, by the kernel's identifier; 0 = unknown.
    pub tid: u32,
    /// Seconds from the start of the process to the first such call.
    pub t_s: f64,
    /// How many such calls there were.
    pub count: u64,
    /// Where the block was allocated; `None` where nobody saw that.
    pub allocated: Option<MisuseStack>,
    /// Where it was freed before, if it was.
    pub first_freed: Option<MisuseStack>,
    /// Where the call itself was made.
    pub freed: Option<MisuseStack>,
}

impl Misuse {
    /// Tells whether no correct program does that, for all that is known of these calls.
    pub fn is_certain(&self) -> bool {
        self.kind.is_certain() && !self.may_be_right
    }

    /// Gives the stacks that are known, with what happened there, the last call first.
    pub fn stacks(&self) -> impl Iterator<Item = (MisuseEnd, &MisuseStack)> {
        [
            (MisuseEnd::Freed, &self.freed),
            (MisuseEnd::FirstFreed, &self.first_freed),
            (MisuseEnd::Allocated, &self.allocated),
        ]
        .into_iter()
        .filter_map(|(end, stack)| Some((end, stack.as_ref()?)))
    }
}

/// What was wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub enum MisuseKind {
    /// The block was free already, and its address not given out again since.
    DoubleFree,
    /// No block begins there: the address lies inside one, or in no allocator's memory.
    FreeOfUnknown,
    /// Nobody saw a block allocated there, which another allocator may have done.
    FreeOfUnseen,
    /// Rust's global allocator gave the block out, and C's `free` or `realloc` got it.
    RustFreedByC,
    /// C's `malloc` gave the block out, and Rust's global allocator got it back.
    CFreedByRust,
    /// Rust gave a block back with another size than it had asked for.
    OtherSize,
}

impl MisuseKind {
    /// Every kind, in the order in which reports sum them up.
    pub const ALL: [MisuseKind; 6] = [
        MisuseKind::DoubleFree,
        MisuseKind::FreeOfUnknown,
        MisuseKind::RustFreedByC,
        MisuseKind::CFreedByRust,
        MisuseKind::OtherSize,
        MisuseKind::FreeOfUnseen,
    ];

    /// Tells whether no correct program does that. Who frees what nobody saw allocated
    /// may well be right.
    pub fn is_certain(self) -> bool {
        self != MisuseKind::FreeOfUnseen
    }

    /// Gives its name in JSON: `double_free`.
    pub fn name(self) -> &'static str {
        match self {
            MisuseKind::DoubleFree => "double_free",
            MisuseKind::FreeOfUnknown => "free_of_unknown",
            MisuseKind::RustFreedByC => "rust_freed_by_c",
            MisuseKind::CFreedByRust => "c_freed_by_rust",
            MisuseKind::OtherSize => "other_size",
            MisuseKind::FreeOfUnseen => "free_of_unseen",
        }
    }
}

/// What happened at one of a misuse's stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MisuseEnd {
    /// The block was allocated.
    Allocated,
    /// It was freed, as it should be.
    FirstFreed,
    /// The call that is misuse.
    Freed,
}

/// One end of a misuse, with all callers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize, serde::Deserialize))]
pub struct MisuseStack {
    /// Indices into the recording's sites, innermost first.
    pub frames: Vec<u32>,
    /// The outermost frames are missing.
    pub is_truncated: bool,
    /// The thread, by the kernel's identifier; 0 where threads share the stack.
    pub tid: u32,
}

//! What a program sets before clean-ups are driven.

use super::handle::Pressure;
use crate::Result;

/// How clean-ups are driven: growth, limits, what is followed besides.
///
/// Whoever starts the program may set HEAPLEDGER_SOFT_LIMIT and HEAPLEDGER_HARD_LIMIT (bytes)
/// and HEAPLEDGER_GROWTH (a ratio) in its environment, as `heapledger run --soft-limit` does. Of
/// this word and the program's own the lower is in force, also after
/// [`Pressure::set_limits`](crate::pressure::Pressure::set_limits). A value that is no such number
/// is ignored, and [`Pressure::notes`](crate::pressure::Pressure::notes) says so.
///
/// ```no_run
/// # #[global_allocator]
/// # static ALLOC: heapledger::Alloc = heapledger::Alloc::system();
/// let pressure = heapledger::ledger().pressure().growth(1.0).soft_limit(512 << 20).start()?;
/// # Ok::<(), heapledger::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Settings {
    /// `None`: not said, which is 1.0.
    pub(super) growth_ratio: Option<f64>,
    pub(super) soft_bytes: Option<u64>,
    pub(super) hard_bytes: Option<u64>,
    pub(super) follows_group: bool,
    pub(super) trims: bool,
    pub(super) refuses: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            growth_ratio: None,
            soft_bytes: None,
            hard_bytes: None,
            follows_group: true,
            trims: true,
            refuses: false,
        }
    }
}

impl Settings {
    /// Cleans up when live bytes have grown by this part of what was left after the last clean-up,
    /// and by 64 MiB at least. 1.0 unless set, and for what is no ratio;
    /// infinity for no such trigger.
    #[must_use]
    pub fn growth(mut self, ratio: f64) -> Settings {
        self.growth_ratio = Some(if ratio >= 0.0 { ratio } else { 1.0 });
        self
    }

    /// Cleans up at 80, 90 and 95 % of so many live bytes.
    #[must_use]
    pub fn soft_limit(mut self, bytes: u64) -> Settings {
        self.soft_bytes = Some(bytes);
        self
    }

    /// As [`Settings::soft_limit`]; besides, [`crate::Ledger::try_reserve`] refuses what goes past it.
    #[must_use]
    pub fn hard_limit(mut self, bytes: u64) -> Settings {
        self.hard_bytes = Some(bytes);
        self
    }

    /// Whether C's requests of 64 KiB and more fail, with ENOMEM, where they would go past the hard
    /// limit; false unless set. For libraries that handle a malloc that fails.
    ///
    /// Live bytes are known to within 64 KiB a thread here, and threads that ask at the same moment
    /// may go past the limit together. Each refusal is counted before its caller hears of it
    /// ([`Pressure::refused`](crate::pressure::Pressure::refused)), and asks for a clean-up. Smaller
    /// requests and Rust's own never fail. While it is set a malloc costs some nanoseconds more. A
    /// forked child inherits it. Whoever starts the program sets the same with HEAPLEDGER_REFUSE_PAST
    /// (bytes) in its environment; the lower limit is in force.
    #[must_use]
    pub fn refuse_past_hard_limit(mut self, refuses: bool) -> Settings {
        self.refuses = refuses;
        self
    }

    /// Whether the control groups' limits and the kernel's reports of stalls count. True unless set.
    #[must_use]
    pub fn follow_group(mut self, follows: bool) -> Settings {
        self.follows_group = follows;
        self
    }

    /// Whether glibc is asked to give memory back after each clean-up. True unless set.
    ///
    /// With false it keeps what came free for the next blocks, but for large ones that it had mapped
    /// each for itself: `mallopt(M_MMAP_THRESHOLD, ...)` at the start makes it keep those too.
    #[must_use]
    pub fn trim(mut self, trims: bool) -> Settings {
        self.trims = trims;
        self
    }

    /// Starts the thread that drives clean-ups, one a process.
    ///
    /// # Errors
    /// [`crate::Error::NoLedger`], [`crate::Error::PressureRunning`], or no thread is to be had.
    pub fn start(self) -> Result<Pressure> {
        Pressure::start(self)
    }
}

//! Feature `tokio`: levels as a stream, and reservations that are awaited.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use tokio::io::{Interest, unix::AsyncFd};
use tokio::time::{sleep, timeout};

use super::limits::Level;
use super::reserve::{LOOK_EVERY, Reservation, Wait};
use super::subscribe::Subscription;
use crate::snapshot::Ledger;
use crate::{Error, Result};

/// Levels, each time that there is something to tell: the level has changed, or a clean-up begins
/// or has ended. What comes while nobody looks is told once. Never ends.
///
/// ```no_run
/// use futures_util::StreamExt;
///
/// # async fn watch() -> Result<(), Box<dyn std::error::Error>> {
/// let mut levels = heapledger::ledger().subscribe()?.levels()?;
/// while let Some(level) = levels.next().await {
///     println!("{}", level?.name());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Levels {
    file: AsyncFd<File>,
}

impl Subscription {
    /// Hands the subscription to the runtime that this is called in.
    ///
    /// # Errors
    /// When the runtime cannot watch the descriptor.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one whose I/O is not enabled.
    pub fn levels(self) -> io::Result<Levels> {
        #[allow(
            deprecated,
            reason = "a File keeps its descriptor for its life; what asks for that promise came with tokio 1.54"
        )]
        let file = AsyncFd::with_interest(self.into_file(), Interest::READABLE)?;
        Ok(Levels { file })
    }
}

impl Levels {
    /// Gives the level as it is now, without a wait.
    pub fn level(&self) -> Level {
        super::subscribe::level_now()
    }

    /// Waits until there is something to tell; gives the level then. Nothing is lost when the
    /// wait is given up.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn changed(&mut self) -> io::Result<Level> {
        std::future::poll_fn(|context| self.poll_changed(context)).await
    }

    fn poll_changed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Level>> {
        loop {
            let mut ready = ready!(self.file.poll_read_ready_mut(context))?;
            // An eventfd gives its whole count at once, or would block.
            match ready.try_io(|file| file.get_mut().read(&mut [0; 8])) {
                Ok(Ok(_)) => return Poll::Ready(Ok(self.level())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl Stream for Levels {
    type Item = io::Result<Level>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_changed(context).map(Some)
    }
}

impl Ledger {
    /// As [`Ledger::reserve_within`], awaiting room in place of blocking the thread. What is given
    /// up in the middle has booked nothing.
    ///
    /// ```no_run
    /// # async fn decode() -> heapledger::Result<()> {
    /// let second = std::time::Duration::from_secs(1);
    /// let texture = heapledger::ledger().reserve_within_async(64 << 20, second).await?;
    /// // ... mmap 64 MiB, and drop `texture` after munmap.
    /// # drop(texture);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoRoom`] when the time is over.
    ///
    /// # Panics
    /// If it has to wait outside a tokio runtime, or in one whose timers or I/O are not enabled.
    pub async fn reserve_within_async(
        self,
        bytes: usize,
        at_most: Duration,
    ) -> Result<Reservation> {
        let start = Instant::now();
        let mut result = Reservation::try_new(bytes);
        if !matches!(result, Err(Error::NoRoom { .. })) || at_most.is_zero() {
            return result;
        }
        let _counted = Wait::begin();
        // Without a descriptor of its own it looks from time to time.
        let mut levels = Subscription::new().ok().and_then(|told| told.levels().ok());
        while matches!(result, Err(Error::NoRoom { .. })) && start.elapsed() < at_most {
            let nap = at_most.saturating_sub(start.elapsed()).min(LOOK_EVERY);
            match &mut levels {
                // What goes wrong with the wait shortens it, no more.
                Some(levels) => drop(timeout(nap, levels.changed()).await),
                None => sleep(nap).await,
            }
            result = Reservation::try_new(bytes);
        }
        result
    }
}

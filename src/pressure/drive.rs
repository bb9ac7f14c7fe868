//! The loop of whoever drives clean-ups, inside a program or outside it.

use super::cycle::Cycle;
use super::exchange::{Decision, Event, Order, Readings};
use super::limits::Level;
use super::policy::Policy;

/// What a driver can do; when to do it is the policy's business.
pub(crate) trait Driver {
    /// Reads what is known now, before the policy hears of `event`; `None` ends the loop.
    fn readings(&mut self, event: &Event) -> Option<Readings>;

    /// Makes known what was decided: a level, a cycle that ended, what is to be said.
    fn publish(&mut self, decision: &Decision);

    /// Runs a cycle's round of reclaimers, and answers.
    fn reclaim(&mut self, cycle: &Cycle) -> Event;

    /// Lets the allocator give memory back, and answers.
    fn purge(&mut self, number: u64, level: Level) -> Event;

    /// Waits for something to happen, at most until the decision's next look.
    fn wait(&mut self, decision: &Decision) -> Event;
}

/// Drives until there are no more readings.
pub(crate) fn drive(driver: &mut impl Driver, policy: &mut Policy) {
    let mut event = Event::Look;
    while let Some(readings) = driver.readings(&event) {
        let decision = policy.step(&readings, event);
        driver.publish(&decision);
        event = match decision.order {
            Some(Order::Reclaim(cycle)) => driver.reclaim(&cycle),
            Some(Order::Purge { number }) => driver.purge(number, decision.level),
            None => driver.wait(&decision),
        };
    }
}

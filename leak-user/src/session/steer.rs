//! What is worth a burst: a target that works, or whose memory grows; and of pymalloc's size classes, those that grow.
//!
//! A hit on the way to another class costs the trap alone, and neither a walk of the stack nor room in a map, so that
//! what a burst may spend goes further where it matters.

use super::Session;
use crate::probe::account::Moment;
use crate::target::elsewhere;
use crate::units::Nanos;

/// One burst on functions of so many records all classes: what does not grow yet is known when it does.
const ALL_EVERY: u32 = 2;

/// A class that has grown by less than this part of what the one that has grown most has is not worth a walk.
const WORTH: f64 = 0.1;

/// Breakpoints on words are there within a tenth of a millisecond, so that a burst of those can begin amid a request,
/// and not while the target waits for the next one. Whether it works is looked at so often: were that oftener, all would
/// begin where requests do.
pub(super) const LOOK_EVERY: Nanos = Nanos(5_000_000);

/// It is looked at so many times before the burst begins all the same.
const LOOKS: u32 = 10;

/// All of them.
pub(super) const ALL: u64 = u64::MAX;

impl Session {
    /// Is the target left alone for now? One that works less than it would be made to pay, and whose memory stands
    /// still, gets no bursts: they could name no line, and counts alone will clear it.
    pub(super) fn is_left_alone(&self, at: Moment) -> bool {
        self.budget.pace(at) < self.options.overhead && !self.ledger.has_grown_lately()
    }

    /// Does the target wait, so that a burst on words had better wait too?
    pub(super) fn waits(&mut self) -> bool {
        let waits = self.looks < LOOKS && !elsewhere::is_at_work(self.target.pid);
        self.looks = if waits { self.looks + 1 } else { 0 };
        waits
    }

    /// For the next burst, a bit each.
    pub(super) fn classes_to_record(&self) -> u64 {
        if self.churn.is_some() || self.rare.bursts_on_functions().is_multiple_of(ALL_EVERY) {
            ALL
        } else {
            growing(&self.ledger.class_growth())
        }
    }
}

/// The classes that grow, of `(size class, bytes)`; all where none does.
fn growing(growth: &[(u32, f64)]) -> u64 {
    let bits = worth_it(growth, WORTH)
        .fold(0, |bits, class| bits | 1_u64.checked_shl(class - 1).unwrap_or(0));
    if bits == 0 { ALL } else { bits }
}

/// Those that have grown by this part at least of what the one that has grown most has.
pub(super) fn worth_it(growth: &[(u32, f64)], part: f64) -> impl Iterator<Item = u32> {
    let most = growth.iter().map(|(_, grown)| *grown).fold(0.0, f64::max);
    let worth = growth.iter().filter(move |(_, grown)| *grown > 0.0 && *grown >= part * most);
    worth.map(|(class, _)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_is_recorded() {
        let growth = [(1, 9000.0), (2, -500.0), (4, 800.0), (32, 2000.0)];
        assert_eq!(growing(&growth), 1 | 1 << 31);
        assert_eq!(growing(&[(1, 0.0), (2, -500.0)]), ALL);
        assert_eq!(growing(&[]), ALL);
    }
}

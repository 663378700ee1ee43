//! What one subscriber of one topic should get, and what it got.
//!
//! *Invariant:* every publish that was sent is at the end exactly one of received, refused or lost; what is received
//! again is doubled, what is received after a later one is reordered.
//! Leaves out: sockets and clocks.

use std::collections::BTreeSet;

/// What became of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// For the first time.
    New,
    /// Again.
    Doubled,
}

/// The numbers 1, 2, 3, ... of a topic's publishes, as one subscriber sees them arrive.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The highest number received.
    highest: u64,
    /// Ranges below `highest` that did not arrive yet, both ends included, ascending.
    missing: Vec<(u64, u64)>,
    doubled: u64,
    reordered: u64,
}

/// What went wrong, summed over subscribers. All zero is what a cluster promises.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Faults {
    /// Published, not refused, and never received.
    pub(crate) lost: u64,
    /// Received again.
    pub(crate) doubled: u64,
    /// Received after a later one.
    pub(crate) reordered: u64,
    /// Received by a subscriber of something else, or altered.
    pub(crate) misrouted: u64,
}

impl Faults {
    /// Whether nothing went wrong.
    pub(crate) fn is_none(self) -> bool {
        self == Faults::default()
    }
}

impl Account {
    /// Takes note of `number`, which starts at 1.
    pub(crate) fn receive(&mut self, number: u64) -> Received {
        if number > self.highest {
            if number > self.highest + 1 {
                self.missing.push((self.highest + 1, number - 1));
            }
            self.highest = number;
            return Received::New;
        }
        let found = self
            .missing
            .iter()
            .position(|&(first, last)| (first..=last).contains(&number));
        let Some(at) = found else {
            self.doubled += 1;
            return Received::Doubled;
        };
        self.reordered += 1;
        let (first, last) = self.missing.remove(at);
        if number < last {
            self.missing.insert(at, (number + 1, last));
        }
        if first < number {
            self.missing.insert(at, (first, number - 1));
        }
        Received::New
    }

    /// Adds to `faults` what is wrong when `published` messages were sent, of which `refused` never left.
    pub(crate) fn settle(&self, published: u64, refused: &BTreeSet<u64>, faults: &mut Faults) {
        let never = (self.highest < published).then_some((self.highest + 1, published));
        for (first, last) in self.missing.iter().copied().chain(never) {
            let excused = refused.range(first..=last).count() as u64;
            faults.lost += last - first + 1 - excused;
        }
        faults.doubled += self.doubled;
        faults.reordered += self.reordered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(lost, doubled, reordered)` after these arrived of so many.
    fn settled(arrived: &[u64], published: u64, refused: &[u64]) -> (u64, u64, u64) {
        let mut account = Account::default();
        for &number in arrived {
            account.receive(number);
        }
        let mut faults = Faults::default();
        account.settle(published, &refused.iter().copied().collect(), &mut faults);
        (faults.lost, faults.doubled, faults.reordered)
    }

    #[test]
    fn each_once_in_order_is_no_fault() {
        assert_eq!(settled(&[1, 2, 3, 4], 4, &[]), (0, 0, 0));
        assert_eq!(settled(&[], 0, &[]), (0, 0, 0));
    }

    #[test]
    fn what_never_arrives_is_lost_wherever_it_was() {
        assert_eq!(settled(&[2, 3, 6], 8, &[]), (5, 0, 0));
        assert_eq!(settled(&[], 8, &[]), (8, 0, 0));
    }

    #[test]
    fn what_arrives_late_is_reordered_and_not_lost() {
        assert_eq!(settled(&[1, 5, 3, 2, 4], 5, &[]), (0, 0, 3));
    }

    #[test]
    fn what_arrives_again_is_doubled_even_if_it_came_late_before() {
        assert_eq!(settled(&[1, 1, 3, 2, 2, 3], 3, &[]), (0, 3, 1));
    }

    #[test]
    fn what_was_refused_is_not_lost() {
        assert_eq!(settled(&[1, 4], 6, &[2, 6]), (2, 0, 0));
    }

    #[test]
    fn only_the_first_arrival_is_a_delivery() {
        let mut account = Account::default();
        assert_eq!(account.receive(2), Received::New);
        assert_eq!(account.receive(1), Received::New);
        assert_eq!(account.receive(1), Received::Doubled);
        assert_eq!(account.receive(2), Received::Doubled);
    }
}

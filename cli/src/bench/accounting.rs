//! What one subscriber of one topic should get, and what it got.
//!
//! *Invariant:* every publish that was sent is at the end exactly one of received, lost, missed while away, or excused
//! because it was refused or never answered; what is received again is doubled, what is received after a later one is
//! reordered.
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
    /// Ranges of numbers that it was not there for, or may not have been; both ends included, ascending.
    away: Vec<(u64, u64)>,
    /// The highest number received when its connection ended, while it has none.
    left_at: Option<u64>,
    doubled: u64,
    reordered: u64,
}

/// The publishes of one topic, as far as accounts need to know them.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// So many were sent.
    pub(crate) count: u64,
    /// Answered with an error. One that arrives all the same is received: an answer of "timeout" says no more than that.
    pub(crate) refused: BTreeSet<u64>,
    /// Never answered: whether they exist is not known.
    pub(crate) unanswered: BTreeSet<u64>,
}

/// What went wrong, summed over subscribers. All zero is what a cluster promises.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Faults {
    /// Answered with ok, and never received.
    pub(crate) lost: u64,
    /// Received again.
    pub(crate) doubled: u64,
    /// Received after a later one.
    pub(crate) reordered: u64,
    /// Received by a subscriber of something else, or altered.
    pub(crate) misrouted: u64,
}

/// What did not arrive and is no fault, summed over subscribers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Excused {
    /// Of publishes that were refused.
    pub(crate) refused: u64,
    /// Of publishes that were never answered.
    pub(crate) unanswered: u64,
    /// Published while the subscriber had no connection.
    pub(crate) missed_while_away: u64,
}

impl Account {
    /// The highest number received.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Takes note of `number`, which starts at 1.
    pub(crate) fn receive(&mut self, number: u64) -> Received {
        if number > self.highest {
            if number > self.highest + 1 {
                self.missing.push((self.highest + 1, number - 1));
            }
            self.highest = number;
            return Received::New;
        }
        let at = self.missing.partition_point(|&(_, last)| last < number);
        let Some(&(first, last)) = self.missing.get(at).filter(|(first, _)| *first <= number) else {
            self.doubled += 1;
            return Received::Doubled;
        };
        self.reordered += 1;
        self.missing.remove(at);
        if number < last {
            self.missing.insert(at, (number + 1, last));
        }
        if first < number {
            self.missing.insert(at, (first, number - 1));
        }
        Received::New
    }

    /// Its connection ended. What comes after `highest` it may miss.
    pub(crate) fn leave(&mut self) {
        self.left_at.get_or_insert(self.highest);
    }

    /// It is back, and up to now `published` messages were sent.
    pub(crate) fn come_back(&mut self, published: u64) {
        let Some(left_at) = self.left_at.take() else {
            return;
        };
        let first = self.away.last().map_or(0, |&(_, last)| last).max(left_at) + 1;
        if first <= published {
            self.away.push((first, published));
        }
    }

    /// What of `published` can no longer come while nothing is reordered: the holes below what has come.
    pub(crate) fn settle_so_far(&self, published: &Published, faults: &mut Faults, excused: &mut Excused) {
        for &range in &self.missing {
            self.explain(range, published, faults, excused);
        }
        faults.doubled += self.doubled;
        faults.reordered += self.reordered;
    }

    /// What became of all of `published`, now that nothing more is to come, nor who is away.
    pub(crate) fn settle(&mut self, published: &Published, faults: &mut Faults, excused: &mut Excused) {
        self.come_back(published.count);
        if self.highest < published.count {
            self.explain((self.highest + 1, published.count), published, faults, excused);
        }
        self.settle_so_far(published, faults, excused);
    }

    /// Why these were not received.
    fn explain(
        &self,
        (first, last): (u64, u64),
        published: &Published,
        faults: &mut Faults,
        excused: &mut Excused,
    ) {
        let refused = |first, last| published.refused.range(first..=last).count() as u64;
        let unanswered = |first, last| published.unanswered.range(first..=last).count() as u64;
        excused.refused += refused(first, last);
        excused.unanswered += unanswered(first, last);
        let owed = last - first + 1 - refused(first, last) - unanswered(first, last);
        let mut away = 0;
        let from = self.away.partition_point(|&(_, away_last)| away_last < first);
        for &(away_first, away_last) in self.away[from..].iter().take_while(|range| range.0 <= last) {
            let (first, last) = (away_first.max(first), away_last.min(last));
            away += last - first + 1 - refused(first, last) - unanswered(first, last);
        }
        excused.missed_while_away += away;
        faults.lost += owed - away;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(count: u64, refused: &[u64], unanswered: &[u64]) -> Published {
        Published {
            count,
            refused: refused.iter().copied().collect(),
            unanswered: unanswered.iter().copied().collect(),
        }
    }

    fn arrived(numbers: &[u64]) -> Account {
        let mut account = Account::default();
        for &number in numbers {
            account.receive(number);
        }
        account
    }

    fn settle(account: &mut Account, published: &Published) -> (Faults, Excused) {
        let (mut faults, mut excused) = (Faults::default(), Excused::default());
        account.settle(published, &mut faults, &mut excused);
        (faults, excused)
    }

    /// `(lost, doubled, reordered)` after these arrived of so many.
    fn settled(numbers: &[u64], count: u64, refused: &[u64]) -> (u64, u64, u64) {
        let (faults, _) = settle(&mut arrived(numbers), &published(count, refused, &[]));
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
    fn what_was_never_answered_is_neither_lost_nor_forgotten() {
        let (faults, excused) = settle(&mut arrived(&[1, 4]), &published(6, &[2], &[3, 4, 6]));
        assert_eq!(faults.lost, 1);
        assert_eq!((excused.refused, excused.unanswered), (1, 2));
    }

    #[test]
    fn what_was_published_while_away_is_missed_and_what_came_after_is_owed() {
        let mut account = arrived(&[1, 2]);
        account.leave();
        account.receive(5); // comes with the answer to its join, before it counts as back
        account.come_back(5);
        for number in [7, 8] {
            account.receive(number);
        }
        account.leave();
        account.come_back(8); // away and back without a publish
        account.leave();
        account.come_back(9);
        let (faults, excused) = settle(&mut account, &published(12, &[4], &[]));
        assert_eq!(faults.lost, 1 + 3, "6, and 10 to 12");
        assert_eq!((excused.missed_while_away, excused.refused), (2, 1), "3, and 9");
    }

    #[test]
    fn what_arrives_although_it_seemed_missed_is_received() {
        let mut account = arrived(&[1]);
        account.leave();
        account.come_back(3);
        for number in [3, 4] {
            account.receive(number);
        }
        let (faults, excused) = settle(&mut account, &published(4, &[], &[]));
        assert_eq!((faults, excused.missed_while_away), (Faults::default(), 1));
    }

    #[test]
    fn who_never_comes_back_has_lost_nothing_by_the_cluster() {
        let mut account = arrived(&[1]);
        account.leave();
        let (faults, excused) = settle(&mut account, &published(4, &[], &[]));
        assert_eq!((faults.lost, excused.missed_while_away), (0, 3));
    }

    #[test]
    fn so_far_only_holes_are_lost() {
        let (mut faults, mut excused) = (Faults::default(), Excused::default());
        arrived(&[1, 4]).settle_so_far(&published(9, &[2], &[]), &mut faults, &mut excused);
        assert_eq!(faults.lost, 1);
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

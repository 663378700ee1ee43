//! Exact bookkeeping: what was published, what was answered, and what every member got of it.
//!
//! A topic has one publisher, which numbers what it publishes 1, 2, 3, ...; so a member that is told everything sees
//! just these numbers, each once and rising. *Invariant:* whatever lies outside the stated windows and was answered ok
//! reached every member exactly once and in order, or [`Ledger::account`] names it.
//! Leaves out: sockets (`load`).

mod account;
mod timing;

pub use self::account::Account;
pub use self::timing::{Timing, quantile};

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Which topic, as a number.
pub type TopicNumber = usize;

/// What became of a publish, for its publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Reply ok.
    Ok,
    /// Reply error, with its reason.
    Refused(String),
}

/// A publish; times count from the beginning of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// When it was sent.
    pub sent: Duration,
    /// When it was answered, and how; `None`: never.
    pub answered: Option<(Duration, Outcome)>,
}

/// A time in which anything may be lost or doubled, because the test broke something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From here ...
    pub from: Duration,
    /// ... to here.
    pub to: Duration,
}

impl Window {
    /// Whether a publish was under way in it.
    #[must_use]
    pub fn covers(&self, publish: &Publish) -> bool {
        let until = publish.answered.as_ref().map_or(Duration::MAX, |(at, _)| *at);
        publish.sent < self.to && until > self.from
    }
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// By topic and number.
    pub publishes: BTreeMap<(TopicNumber, u64), Publish>,
    /// By topic and member: the numbers in the order they came.
    pub received: BTreeMap<(TopicNumber, usize), Vec<u64>>,
    /// The same for when they came.
    pub received_at: BTreeMap<(TopicNumber, usize), Vec<Duration>>,
    /// Members that vanished with what was killed: nothing is expected of what they got.
    pub gone: BTreeSet<usize>,
    /// Topics whose publisher vanished: it cannot know what became of its last publishes.
    pub orphaned: BTreeSet<TopicNumber>,
    /// Frames that no member should have seen: `phx_error`, `phx_close`, a closed socket.
    pub disturbances: Vec<String>,
}

impl Ledger {
    /// Goes through everything; `window` says in which time a topic was broken by the test, if at all.
    #[must_use]
    pub fn account(&self, window: impl Fn(TopicNumber) -> Option<Window>) -> Account {
        self.account_outside(|topic, publish| window(topic).is_some_and(|window| window.covers(publish)))
    }

    /// The same where a topic may have been broken several times.
    #[must_use]
    pub fn account_outside(&self, inside: impl Fn(TopicNumber, &Publish) -> bool) -> Account {
        let mut account = Account::default();
        for (&(topic, number), publish) in &self.publishes {
            if inside(topic, publish) {
                account.inside += 1;
                continue;
            }
            account.exact += 1;
            match &publish.answered {
                Some((_, Outcome::Ok)) => {}
                Some((at, Outcome::Refused(reason))) => {
                    account
                        .refused
                        .push(format!("{topic}/{number} {reason} at {at:?}"));
                }
                None if self.orphaned.contains(&topic) => {}
                None => account
                    .unanswered
                    .push(format!("{topic}/{number} sent at {:?}", publish.sent)),
            }
        }
        for (&(topic, member), received) in &self.received {
            if self.gone.contains(&member) {
                continue;
            }
            let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
            let (mut highest, mut highest_of_all) = (0, 0);
            for &number in received {
                *counts.entry(number).or_default() += 1;
                match self.publishes.get(&(topic, number)) {
                    None => account
                        .invented
                        .push(format!("{topic}/{number} at member {member}")),
                    Some(publish) if inside(topic, publish) => {
                        if counts[&number] == 1 && number < highest_of_all {
                            account.reordered_inside.push(format!(
                                "{topic}/{number} after {highest_of_all} at member {member}"
                            ));
                        }
                    }
                    Some(publish) => {
                        if certainly_refused(publish) {
                            account
                                .invented
                                .push(format!("{topic}/{number} (refused) at member {member}"));
                        }
                        if counts[&number] == 1 && number < highest {
                            account
                                .reordered
                                .push(format!("{topic}/{number} after {highest} at member {member}"));
                        }
                        highest = highest.max(number);
                    }
                }
                highest_of_all = highest_of_all.max(number);
            }
            self.count_member(topic, member, &counts, &inside, &mut account);
        }
        self.compare_members(&inside, &mut account);
        account
    }

    /// When a topic was first answered ok for something published at `from` or later.
    #[must_use]
    pub fn served_since(&self, topic: TopicNumber, from: Duration) -> Option<Duration> {
        let publishes = self
            .publishes
            .range((topic, 0)..=(topic, u64::MAX))
            .map(|(_, publish)| publish);
        publishes
            .filter(|publish| publish.sent >= from)
            .filter_map(|publish| match &publish.answered {
                Some((at, Outcome::Ok)) => Some(*at),
                _ => None,
            })
            .min()
    }

    fn count_member(
        &self,
        topic: TopicNumber,
        member: usize,
        counts: &BTreeMap<u64, usize>,
        inside: &impl Fn(TopicNumber, &Publish) -> bool,
        account: &mut Account,
    ) {
        for (&(_, number), publish) in self.publishes.range((topic, 0)..=(topic, u64::MAX)) {
            let count = counts.get(&number).copied().unwrap_or(0);
            let must = matches!(publish.answered, Some((_, Outcome::Ok)));
            match (inside(topic, publish), count) {
                (true, 0) => account.lost_inside += 1,
                (true, 2..) => account
                    .doubled_inside
                    .push(format!("{topic}/{number} x {count} at member {member}")),
                (false, 0) if must => account.lost.push(format!("{topic}/{number} at member {member}")),
                (false, 2..) => account
                    .doubled
                    .push(format!("{topic}/{number} x {count} at member {member}")),
                _ => {}
            }
        }
    }

    /// Outside a window a publish without a known outcome reached all members or none.
    fn compare_members(&self, inside: &impl Fn(TopicNumber, &Publish) -> bool, account: &mut Account) {
        for (&(topic, number), publish) in &self.publishes {
            if inside(topic, publish) || matches!(publish.answered, Some((_, Outcome::Ok))) {
                continue;
            }
            let members = self.received.range((topic, 0)..=(topic, usize::MAX));
            let living = members.filter(|((_, member), _)| !self.gone.contains(member));
            let saw: Vec<bool> = living.map(|(_, received)| received.contains(&number)).collect();
            if saw.contains(&true) && saw.contains(&false) {
                account.divided.push(format!("{topic}/{number}"));
            }
        }
    }
}

/// `timeout` is the one refusal after which a publish may have happened.
fn certainly_refused(publish: &Publish) -> bool {
    matches!(&publish.answered, Some((_, Outcome::Refused(reason))) if reason != "timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Topic 0 with two members: publishes 1, 2, 3 sent at 100, 200, 300 ms and answered ok 10 ms later.
    fn ledger(first: &[u64], second: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            let sent = MS * 100 * number;
            let answered = Some((sent + MS * 10, Outcome::Ok));
            ledger
                .publishes
                .insert((0, u64::from(number)), Publish { sent, answered });
        }
        ledger.received.insert((0, 0), first.to_vec());
        ledger.received.insert((0, 1), second.to_vec());
        ledger
    }

    fn account(ledger: &Ledger) -> Account {
        ledger.account(|_| None)
    }

    #[test]
    fn each_once_and_in_order_is_exact() {
        let account = account(&ledger(&[1, 2, 3], &[1, 2, 3]));
        assert!(account.is_exact(), "{account}");
        assert_eq!(account.exact, 3);
    }

    #[test]
    fn a_loss_is_found_and_named() {
        assert_eq!(account(&ledger(&[1, 2, 3], &[1, 3])).lost, ["0/2 at member 1"]);
    }

    #[test]
    fn a_double_is_found_and_named() {
        let account = account(&ledger(&[1, 2, 2, 3], &[1, 2, 3]));
        assert_eq!(account.doubled, ["0/2 x 2 at member 0"]);
        assert!(account.lost.is_empty() && account.reordered.is_empty());
    }

    #[test]
    fn a_change_of_order_is_found_and_named() {
        assert_eq!(
            account(&ledger(&[1, 3, 2], &[1, 2, 3])).reordered,
            ["0/2 after 3 at member 0"]
        );
    }

    #[test]
    fn a_number_nobody_published_is_found() {
        assert_eq!(
            account(&ledger(&[1, 2, 3, 9], &[1, 2, 3])).invented,
            ["0/9 at member 0"]
        );
    }

    #[test]
    fn what_was_refused_must_not_be_seen_and_is_itself_counted() {
        let mut ledger = ledger(&[1, 2, 3], &[1, 3]);
        let refused = Some((MS * 210, Outcome::Refused("owner_lease_lost".into())));
        ledger.publishes.insert(
            (0, 2),
            Publish {
                sent: MS * 200,
                answered: refused,
            },
        );
        let account = account(&ledger);
        assert_eq!(account.invented, ["0/2 (refused) at member 0"]);
        assert_eq!(account.refused.len(), 1);
    }

    #[test]
    fn what_nobody_knows_reaches_all_members_or_none() {
        for (first, second, divided) in [(&[1, 2, 3][..], &[1, 3][..], 1), (&[1, 3], &[1, 3], 0)] {
            let mut ledger = ledger(first, second);
            ledger.publishes.insert(
                (0, 2),
                Publish {
                    sent: MS * 200,
                    answered: None,
                },
            );
            let account = account(&ledger);
            assert_eq!((account.divided.len(), account.unanswered.len()), (divided, 1));
        }
    }

    #[test]
    fn inside_a_window_anything_goes_and_outside_nothing_does() {
        let ledger = ledger(&[1, 2, 2, 3], &[1, 3]);
        let window = |from: u32, to: u32| {
            Some(Window {
                from: MS * from,
                to: MS * to,
            })
        };
        let account = ledger.account(|_| window(205, 250));
        assert!(account.is_exact(), "{account}");
        assert_eq!((account.exact, account.inside, account.lost_inside), (2, 1, 1));
        // Answered before it opened, or sent after it closed: outside.
        assert!(!ledger.account(|_| window(210, 250)).is_exact());
        assert!(!ledger.account(|_| window(150, 200)).is_exact());
        assert!(
            !ledger
                .account(|topic| window(0, 900).filter(|_| topic == 1))
                .is_exact()
        );
    }

    #[test]
    fn inside_a_window_what_comes_twice_or_late_is_told_all_the_same() {
        let everything = Window {
            from: Duration::ZERO,
            to: Duration::MAX,
        };
        let account = ledger(&[1, 2, 2, 3], &[1, 3, 2]).account(|_| Some(everything));
        assert!(account.is_exact(), "{account}");
        assert_eq!(account.doubled_inside, ["0/2 x 2 at member 0"]);
        assert_eq!(account.reordered_inside, ["0/2 after 3 at member 1"]);
    }

    #[test]
    fn members_that_died_with_their_gateway_are_not_asked() {
        let mut ledger = ledger(&[1, 2, 3], &[1]);
        ledger.gone.insert(1);
        assert!(account(&ledger).is_exact());
    }
}

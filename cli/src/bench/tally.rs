//! Everything that is counted while load runs.
//!
//! *Invariant:* a publish is in the end exactly one of accepted, refused, interrupted and unanswered; outstanding
//! deliveries are those published to subscribers that are there, and neither received nor refused nor given up.
//! Leaves out: sockets and clocks.

use std::collections::{BTreeSet, VecDeque};

use super::accounting::{Account, Excused, Faults, Published, Received};
use super::histogram::Histogram;
use super::reasons::Reasons;
use super::timing::Timing;
use super::wire::Delivery;

/// phoenix.js gives a push up after this.
const TIMEOUT_NS: u64 = 10_000_000_000;

/// The publishes of one topic.
#[derive(Debug)]
struct Topic {
    published: Published,
    /// Number and due time of those that are not answered yet, ascending.
    in_flight: VecDeque<(u64, u64)>,
    /// Subscribers that have a connection.
    present: u64,
}

/// The count of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    topics: Vec<Topic>,
    /// Of subscriber `n` of topic `t` at `t * subscribers + n`.
    accounts: Vec<Account>,
    subscribers: u32,
    /// Deliveries owed by the publishes so far.
    owed: u64,
    delivered: u64,
    given_up: u64,
    misrouted: u64,
    pub(crate) answers: Answers,
    pub(crate) connections: Connections,
    pub(crate) timing: Timing,
}

/// What became of publishes.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Answered with ok.
    pub(crate) accepted: u64,
    /// Answered with an error, or never sent; why.
    pub(crate) refused: Reasons,
    /// The connection ended before the answer.
    pub(crate) interrupted: u64,
    /// Answered after phoenix.js would have given them up; of the accepted and the refused.
    pub(crate) late: u64,
}

/// What became of connections.
#[derive(Debug)]
pub(crate) struct Connections {
    /// Ended by the server, and why.
    pub(crate) closed: Reasons,
    /// Tries to come back that failed, and why.
    pub(crate) failures: Reasons,
    /// That are ended now.
    pub(crate) away: u64,
    /// How long those that came back were away.
    pub(crate) away_ns: Histogram,
}

/// The sums of a run, when nothing more is to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled {
    pub(crate) faults: Faults,
    pub(crate) excused: Excused,
    /// Publishes whose connection stands, and that no answer came to.
    pub(crate) unanswered: u64,
}

impl Tally {
    /// Of nothing yet; every subscriber is there.
    pub(crate) fn new(topics: u32, subscribers: u32) -> Tally {
        let topic = || Topic {
            published: Published::default(),
            in_flight: VecDeque::new(),
            present: subscribers.into(),
        };
        Tally {
            topics: (0..topics).map(|_| topic()).collect(),
            accounts: (0..topics as usize * subscribers as usize)
                .map(|_| Account::default())
                .collect(),
            subscribers,
            owed: 0,
            delivered: 0,
            given_up: 0,
            misrouted: 0,
            answers: Answers::default(),
            connections: Connections {
                closed: Reasons::default(),
                failures: Reasons::default(),
                away: 0,
                away_ns: Histogram::new(),
            },
            timing: Timing::new(topics, subscribers),
        }
    }

    /// The number of the topic's next publish, which is due at `due_ns`.
    pub(crate) fn publish(&mut self, topic: u32, due_ns: u64) -> u64 {
        let topic = &mut self.topics[topic as usize];
        self.owed += topic.present;
        topic.published.count += 1;
        topic.in_flight.push_back((topic.published.count, due_ns));
        topic.published.count
    }

    /// A publish was answered.
    pub(crate) fn answer(&mut self, topic: u32, number: u64, answer: Result<(), &str>, now_ns: u64) {
        let Some(due_ns) = self.take_in_flight(topic, number) else {
            return; // the server answers twice, or what nobody asked; neither changes what became of it
        };
        if now_ns.saturating_sub(due_ns) > TIMEOUT_NS {
            self.answers.late += 1;
        }
        match answer {
            Ok(()) => {
                self.answers.accepted += 1;
                self.timing.published(topic, due_ns, now_ns);
            }
            Err(reason) => {
                self.answers.refused.count(reason);
                let topic = &mut self.topics[topic as usize];
                topic.published.refused.insert(number);
                self.given_up += topic.present;
            }
        }
    }

    /// The connection that published these topics ended: what was sent and not answered never will be. `unsent` was not
    /// sent yet.
    pub(crate) fn interrupt(&mut self, topics: impl IntoIterator<Item = u32>, unsent: &BTreeSet<(u32, u64)>) {
        for index in topics {
            let topic = &mut self.topics[index as usize];
            let (unanswered, present) = (&mut topic.published.unanswered, topic.present);
            let (interrupted, given_up) = (&mut self.answers.interrupted, &mut self.given_up);
            topic.in_flight.retain(|&(number, _)| {
                let stays = unsent.contains(&(index, number));
                if !stays {
                    unanswered.insert(number);
                    *interrupted += 1;
                    *given_up += present;
                }
                stays
            });
        }
    }

    /// A subscriber received what it should have.
    pub(crate) fn receive(&mut self, subscriber: u32, delivery: Delivery, now_ns: u64) {
        if delivery.number == 0 {
            self.misrouted += 1;
            return;
        }
        if self.accounts[subscriber as usize].receive(delivery.number) == Received::New {
            self.delivered += 1;
            self.timing.delivered(subscriber, delivery.sent_ns, now_ns);
        }
    }

    /// A subscriber received what nobody meant for it.
    pub(crate) fn misroute(&mut self) {
        self.misrouted += 1;
    }

    /// A connection ended.
    pub(crate) fn close(&mut self, because: &str) {
        self.connections.closed.count(because);
        self.connections.away += 1;
    }

    /// A subscriber's connection ended, so that nothing is outstanding for it.
    pub(crate) fn leave(&mut self, subscriber: u32) {
        let topic = &mut self.topics[(subscriber / self.subscribers) as usize];
        topic.present = topic.present.saturating_sub(1);
        let account = &mut self.accounts[subscriber as usize];
        account.leave();
        self.given_up += topic.published.count.saturating_sub(account.highest());
    }

    /// A connection is there again.
    pub(crate) fn come_back(&mut self, away_ns: u64) {
        self.connections.away = self.connections.away.saturating_sub(1);
        self.connections.away_ns.record(away_ns);
    }

    /// A subscriber has joined again, and is owed what is published from now on.
    pub(crate) fn rejoin(&mut self, subscriber: u32) {
        let topic = &mut self.topics[(subscriber / self.subscribers) as usize];
        topic.present += 1;
        self.accounts[subscriber as usize].come_back(topic.published.count);
    }

    /// Deliveries that are still to come.
    pub(crate) fn outstanding(&self) -> u64 {
        self.owed.saturating_sub(self.delivered + self.given_up)
    }

    /// Waits no longer for what is outstanding, as it did not come for long.
    pub(crate) fn give_up(&mut self) {
        self.given_up += self.outstanding();
    }

    /// Deliveries so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Publishes so far, refused ones too.
    pub(crate) fn published(&self) -> u64 {
        self.topics.iter().map(|topic| topic.published.count).sum()
    }

    /// Publishes that no answer came to yet.
    pub(crate) fn in_flight(&self) -> u64 {
        self.topics.iter().map(|topic| topic.in_flight.len() as u64).sum()
    }

    /// Holes below what has come: what is lost, if nothing is reordered.
    pub(crate) fn lost_so_far(&self) -> u64 {
        let (mut faults, mut excused) = (Faults::default(), Excused::default());
        let by_topic = self.accounts.chunks(self.subscribers as usize);
        for (topic, accounts) in self.topics.iter().zip(by_topic) {
            for account in accounts {
                account.settle_so_far(&topic.published, &mut faults, &mut excused);
            }
        }
        faults.lost
    }

    /// What went wrong, now that nothing more is to come.
    pub(crate) fn settle(&mut self) -> Settled {
        let mut settled = Settled {
            faults: Faults {
                misrouted: self.misrouted,
                ..Faults::default()
            },
            excused: Excused::default(),
            unanswered: 0,
        };
        for topic in &mut self.topics {
            settled.unanswered += topic.in_flight.len() as u64;
            let numbers = topic.in_flight.drain(..).map(|(number, _)| number);
            topic.published.unanswered.extend(numbers);
        }
        let by_topic = self.accounts.chunks_mut(self.subscribers as usize);
        for (topic, accounts) in self.topics.iter().zip(by_topic) {
            for account in accounts {
                account.settle(&topic.published, &mut settled.faults, &mut settled.excused);
            }
        }
        settled
    }

    fn take_in_flight(&mut self, topic: u32, number: u64) -> Option<u64> {
        let in_flight = &mut self.topics.get_mut(topic as usize)?.in_flight;
        let at = in_flight
            .binary_search_by_key(&number, |&(number, _)| number)
            .ok()?;
        in_flight.remove(at).map(|(_, due_ns)| due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u64) -> Delivery {
        Delivery { number, sent_ns: 0 }
    }

    #[test]
    fn outstanding_falls_by_what_arrives_and_what_is_refused_and_by_nothing_twice() {
        let mut tally = Tally::new(2, 3);
        assert_eq!(
            (tally.publish(0, 0), tally.publish(0, 0), tally.publish(1, 0)),
            (1, 2, 1)
        );
        assert_eq!(tally.outstanding(), 9);
        tally.receive(0, number(1), 5);
        tally.receive(0, number(1), 5);
        assert_eq!(tally.outstanding(), 8);
        for (topic, number) in [(1, 1), (1, 1), (7, 1), (0, 99)] {
            tally.answer(topic, number, Err("no"), 5);
        }
        assert_eq!(
            (
                tally.outstanding(),
                tally.answers.refused.total(),
                tally.published()
            ),
            (5, 1, 3)
        );
        tally.give_up();
        assert_eq!((tally.outstanding(), tally.delivered()), (0, 1));
    }

    #[test]
    fn every_subscriber_of_every_topic_is_accounted_for() {
        let mut tally = Tally::new(2, 2);
        tally.publish(0, 0);
        tally.publish(1, 0);
        tally.answer(0, 1, Ok(()), 5);
        tally.answer(1, 1, Err("no"), 5);
        tally.receive(1, number(1), 5);
        tally.misroute();
        tally.receive(1, number(0), 5);
        let faults = Faults {
            lost: 1,
            misrouted: 2,
            ..Faults::default()
        };
        let settled = tally.settle();
        assert_eq!((settled.faults, settled.excused.refused), (faults, 2));
    }

    #[test]
    fn every_publish_has_one_end() {
        let mut tally = Tally::new(2, 1);
        for _ in 0..5 {
            tally.publish(0, 0);
        }
        tally.publish(1, 0);
        tally.answer(0, 2, Ok(()), 5);
        tally.answer(0, 2, Err("again"), 5);
        tally.answer(0, 1, Err("no"), TIMEOUT_NS + 1);
        tally.interrupt([0], &BTreeSet::from([(0, 5)]));
        let settled = tally.settle();
        let answers = &tally.answers;
        assert_eq!(
            (answers.accepted, answers.refused.total(), answers.late),
            (1, 1, 1)
        );
        assert_eq!((answers.interrupted, settled.unanswered), (2, 2));
        assert_eq!((settled.faults.lost, settled.excused.unanswered), (1, 4));
    }

    #[test]
    fn a_subscriber_that_is_away_is_owed_nothing_until_it_is_back() {
        let mut tally = Tally::new(1, 2);
        tally.publish(0, 0);
        tally.receive(0, number(1), 5);
        tally.close("1012");
        tally.leave(1);
        assert_eq!(tally.outstanding(), 0);
        tally.publish(0, 0);
        assert_eq!(tally.outstanding(), 1);
        tally.rejoin(1);
        tally.come_back(7);
        tally.publish(0, 0);
        assert_eq!(tally.outstanding(), 3);
        for of in 1..=3 {
            tally.answer(0, of, Ok(()), 5);
        }
        let settled = tally.settle();
        assert_eq!((settled.faults.lost, settled.excused.missed_while_away), (3, 2));
        assert_eq!((tally.connections.away, tally.connections.away_ns.len()), (0, 1));
    }

    #[test]
    fn before_the_end_only_holes_are_lost() {
        let mut tally = Tally::new(1, 1);
        for _ in 0..4 {
            tally.publish(0, 0);
        }
        tally.receive(0, number(1), 5);
        assert_eq!(tally.lost_so_far(), 0);
        tally.receive(0, number(3), 5);
        assert_eq!(tally.lost_so_far(), 1);
        assert_eq!(tally.in_flight(), 4);
    }
}

//! Everything that is counted while load runs.
//!
//! *Invariant:* outstanding deliveries are those published and neither received nor refused nor given up.
//! Leaves out: sockets and clocks.

use std::collections::BTreeSet;

use super::accounting::{Account, Faults, Received};
use super::histogram::Histogram;
use super::wire::Delivery;

/// The publishes of one topic.
#[derive(Debug, Default)]
struct Topic {
    published: u64,
    refused: BTreeSet<u64>,
}

/// The count of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    topics: Vec<Topic>,
    /// Of subscriber `n` of topic `t` at `t * subscribers + n`.
    accounts: Vec<Account>,
    subscribers: u64,
    /// Deliveries owed by the publishes so far.
    owed: u64,
    delivered: u64,
    given_up: u64,
    refused: u64,
    misrouted: u64,
    closed: u64,
    closed_because: Option<String>,
    latency_ns: Option<Histogram>,
}

impl Tally {
    /// Of nothing yet.
    pub(crate) fn new(topics: u32, subscribers: u32) -> Tally {
        Tally {
            topics: (0..topics).map(|_| Topic::default()).collect(),
            accounts: (0..topics as usize * subscribers as usize)
                .map(|_| Account::default())
                .collect(),
            subscribers: subscribers.into(),
            owed: 0,
            delivered: 0,
            given_up: 0,
            refused: 0,
            misrouted: 0,
            closed: 0,
            closed_because: None,
            latency_ns: None,
        }
    }

    /// The number of the topic's next publish, which is sent now.
    pub(crate) fn publish(&mut self, topic: u32) -> u64 {
        self.owed += self.subscribers;
        let topic = &mut self.topics[topic as usize];
        topic.published += 1;
        topic.published
    }

    /// A publish was answered with an error.
    pub(crate) fn refuse(&mut self, topic: u32, number: u64) {
        if let Some(topic) = self.topics.get_mut(topic as usize)
            && number <= topic.published
            && topic.refused.insert(number)
        {
            self.refused += 1;
            self.owed = self.owed.saturating_sub(self.subscribers);
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
            if let Some(latency_ns) = &mut self.latency_ns {
                latency_ns.record(now_ns.saturating_sub(delivery.sent_ns));
            }
        }
    }

    /// A subscriber received what nobody meant for it.
    pub(crate) fn misroute(&mut self) {
        self.misrouted += 1;
    }

    /// A connection ended.
    pub(crate) fn close(&mut self, because: String) {
        self.closed += 1;
        self.closed_because.get_or_insert(because);
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
        self.topics.iter().map(|topic| topic.published).sum()
    }

    /// Publishes that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Connections that ended, and why the first did.
    pub(crate) fn closed(&self) -> (u64, Option<&str>) {
        (self.closed, self.closed_because.as_deref())
    }

    /// From now on latencies are recorded.
    pub(crate) fn start_latencies(&mut self) {
        self.latency_ns = Some(Histogram::new());
    }

    /// What was recorded; from now on nothing is.
    pub(crate) fn take_latencies(&mut self) -> Histogram {
        self.latency_ns.take().unwrap_or_else(Histogram::new)
    }

    /// What went wrong, now that nothing more is to come.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults {
            misrouted: self.misrouted,
            ..Faults::default()
        };
        let subscribers = self.subscribers as usize;
        for (topic, accounts) in self.topics.iter().zip(self.accounts.chunks(subscribers)) {
            for account in accounts {
                account.settle(topic.published, &topic.refused, &mut faults);
            }
        }
        faults
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
        assert_eq!((tally.publish(0), tally.publish(0), tally.publish(1)), (1, 2, 1));
        assert_eq!(tally.outstanding(), 9);
        tally.receive(0, number(1), 5);
        tally.receive(0, number(1), 5);
        assert_eq!(tally.outstanding(), 8);
        tally.refuse(1, 1);
        tally.refuse(1, 1);
        tally.refuse(7, 1);
        tally.refuse(0, 99);
        assert_eq!(
            (tally.outstanding(), tally.refused(), tally.published()),
            (5, 1, 3)
        );
        tally.give_up();
        assert_eq!((tally.outstanding(), tally.delivered()), (0, 1));
    }

    #[test]
    fn every_subscriber_of_every_topic_is_accounted_for() {
        let mut tally = Tally::new(2, 2);
        tally.publish(0);
        tally.publish(1);
        tally.refuse(1, 1);
        tally.receive(1, number(1), 5);
        tally.misroute();
        tally.receive(1, number(0), 5);
        let faults = Faults {
            lost: 1,
            misrouted: 2,
            ..Faults::default()
        };
        assert_eq!(tally.faults(), faults);
        assert!(!faults.is_none() && Faults::default().is_none());
    }

    #[test]
    fn latencies_are_those_of_the_measurement_only() {
        let mut tally = Tally::new(1, 1);
        tally.receive(0, number(1), 1000);
        tally.start_latencies();
        tally.receive(
            0,
            Delivery {
                number: 2,
                sent_ns: 3,
            },
            103,
        );
        tally.receive(0, number(2), 9000);
        let latencies = tally.take_latencies();
        tally.receive(0, number(3), 9000);
        assert_eq!((latencies.len(), latencies.max()), (1, 100));
        assert_eq!(tally.take_latencies().len(), 0);
    }
}

//! How long things took in the measured time.
//!
//! *Invariant:* what was due in the measured time counts, whenever it comes: a message that hangs at the end of the
//! measurement is as slow as one that hangs in the middle. Silence counts from the first moment to the last.
//! Leaves out: clocks.

use super::histogram::Histogram;

/// The longest of something, and where and when.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Longest {
    pub(crate) ns: u64,
    pub(crate) topic: u32,
    /// When it began, since the start of the measured time.
    pub(crate) at_ns: u64,
}

/// The times of a run.
#[derive(Debug)]
pub(crate) struct Timing {
    from_ns: u64,
    to_ns: u64,
    subscribers: u32,
    /// When each subscriber got something last.
    last_ns: Vec<u64>,
    delivery_ns: Histogram,
    publish_ns: Histogram,
    longest_publish: Longest,
    longest_gap: Longest,
}

impl Timing {
    /// Nothing is measured before [`Timing::start`].
    pub(crate) fn new(topics: u32, subscribers: u32) -> Timing {
        Timing {
            from_ns: u64::MAX,
            to_ns: u64::MAX,
            subscribers,
            last_ns: vec![0; topics as usize * subscribers as usize],
            delivery_ns: Histogram::new(),
            publish_ns: Histogram::new(),
            longest_publish: Longest::default(),
            longest_gap: Longest::default(),
        }
    }

    /// The measured time begins.
    pub(crate) fn start(&mut self, now_ns: u64) {
        self.from_ns = now_ns;
    }

    /// The measured time ends.
    pub(crate) fn stop(&mut self, now_ns: u64) {
        for subscriber in 0..self.last_ns.len() {
            self.silent_until(subscriber as u32, now_ns);
        }
        self.to_ns = now_ns;
    }

    /// A subscriber got a message that was due at `due_ns`.
    pub(crate) fn delivered(&mut self, subscriber: u32, due_ns: u64, now_ns: u64) {
        if self.measures(due_ns) {
            self.delivery_ns.record(now_ns.saturating_sub(due_ns));
        }
        if self.measures(now_ns) {
            self.silent_until(subscriber, now_ns);
        }
        self.last_ns[subscriber as usize] = now_ns;
    }

    /// A publish that was due at `due_ns` was answered with ok.
    pub(crate) fn published(&mut self, topic: u32, due_ns: u64, now_ns: u64) {
        if !self.measures(due_ns) {
            return;
        }
        let ns = now_ns.saturating_sub(due_ns);
        self.publish_ns.record(ns);
        if ns > self.longest_publish.ns {
            self.longest_publish = Longest {
                ns,
                topic,
                at_ns: due_ns - self.from_ns,
            };
        }
    }

    /// From due to received.
    pub(crate) fn delivery_ns(&self) -> &Histogram {
        &self.delivery_ns
    }

    /// From due to the answer.
    pub(crate) fn publish_ns(&self) -> &Histogram {
        &self.publish_ns
    }

    /// The publish that took longest; `None` if none was answered.
    pub(crate) fn longest_publish(&self) -> Option<Longest> {
        (self.publish_ns.len() > 0).then_some(self.longest_publish)
    }

    /// The longest time a subscriber got nothing.
    pub(crate) fn longest_gap(&self) -> Longest {
        self.longest_gap
    }

    fn measures(&self, at_ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&at_ns)
    }

    fn silent_until(&mut self, subscriber: u32, now_ns: u64) {
        let since_ns = self.last_ns[subscriber as usize].max(self.from_ns);
        let ns = now_ns.saturating_sub(since_ns);
        if ns > self.longest_gap.ns {
            self.longest_gap = Longest {
                ns,
                topic: subscriber / self.subscribers,
                at_ns: since_ns.saturating_sub(self.from_ns),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_in_the_measured_time_counts_whenever_it_comes() {
        let mut timing = Timing::new(1, 1);
        timing.delivered(0, 10, 90);
        timing.start(100);
        timing.delivered(0, 99, 150); // due before
        timing.delivered(0, 120, 160);
        timing.published(0, 99, 170); // due before
        timing.published(0, 130, 180);
        timing.stop(200);
        timing.delivered(0, 199, 900);
        timing.published(0, 199, 950);
        timing.delivered(0, 200, 901); // due after
        timing.published(0, 200, 951);
        assert_eq!((timing.delivery_ns().len(), timing.delivery_ns().max()), (2, 701));
        assert_eq!((timing.publish_ns().len(), timing.publish_ns().max()), (2, 751));
        let longest = Longest {
            ns: 751,
            topic: 0,
            at_ns: 99,
        };
        assert_eq!(timing.longest_publish(), Some(longest));
    }

    #[test]
    fn silence_counts_from_the_first_moment_to_the_last_and_names_its_topic() {
        let mut timing = Timing::new(2, 2);
        timing.start(100);
        for subscriber in 0..4 {
            timing.delivered(subscriber, 110, 120);
        }
        timing.delivered(3, 150, 170);
        let longest = |timing: &Timing| {
            let longest = timing.longest_gap();
            (longest.ns, longest.topic, longest.at_ns)
        };
        assert_eq!(longest(&timing), (50, 1, 20));
        timing.stop(200);
        assert_eq!(longest(&timing), (80, 0, 20));
        timing.delivered(3, 150, 900);
        assert_eq!(longest(&timing), (80, 0, 20));
        assert_eq!(timing.longest_publish(), None);
    }
}

//! The pace at which a gateway that ends lets its clients go.
//!
//! All that are let go at once come back at once, to the other gateways: a full gateway's clients go over some seconds,
//! those of one with few go at once. *Invariant:* the last is let go within the time given, however many there are.

use std::collections::VecDeque;
use std::time::Duration;

use ringcast_proto::{Millis, SessionId};

/// Between two batches.
const BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// So many at a time are no storm.
const BATCH_MIN: usize = 200;

/// What a client said is answered before it is let go, for so long at most.
const ANSWERS_MIN: Duration = Duration::from_millis(300);
const ANSWERS_MAX: Duration = Duration::from_secs(1);

/// How a gateway's clients are let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    batch_len: usize,
    answers: Duration,
}

impl Pace {
    /// All of `connections_max` clients are gone after `drain`; zero: none of them waits for another.
    pub(crate) fn new(drain: Duration, connections_max: usize) -> Pace {
        let answers = (drain / 5).clamp(ANSWERS_MIN, ANSWERS_MAX);
        let batches = drain.saturating_sub(answers).as_millis() / BATCH_INTERVAL.as_millis();
        let batches = usize::try_from(batches).unwrap_or(usize::MAX);
        let batch_len = match batches {
            0 => usize::MAX,
            batches => connections_max.div_ceil(batches).max(BATCH_MIN),
        };
        Pace { batch_len, answers }
    }

    /// How long the answers to what a client said are waited for.
    pub(crate) fn answers(&self) -> Duration {
        self.answers
    }
}

/// The clients that are still to be let go.
#[derive(Debug)]
pub(crate) struct Leaving {
    pace: Pace,
    waiting: VecDeque<SessionId>,
    due: Millis,
    /// Batches that have not been taken yet.
    under_way: usize,
}

impl Leaving {
    pub(crate) fn new(pace: Pace, clients: impl IntoIterator<Item = SessionId>, now: Millis) -> Leaving {
        Leaving {
            pace,
            waiting: clients.into_iter().collect(),
            due: now,
            under_way: 0,
        }
    }

    /// When the next batch goes; none when all have gone.
    pub(crate) fn due(&self) -> Option<Millis> {
        (!self.waiting.is_empty()).then_some(self.due)
    }

    /// The next batch, and until when its clients' answers are waited for.
    pub(crate) fn batch(&mut self, now: Millis) -> (Vec<SessionId>, Millis) {
        self.due = now + BATCH_INTERVAL;
        self.under_way += 1;
        let len = self.pace.batch_len.min(self.waiting.len());
        (self.waiting.drain(..len).collect(), now + self.pace.answers)
    }

    /// The hub has taken a batch.
    pub(crate) fn taken(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether every batch has been taken.
    pub(crate) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of the batches, and when the last was due.
    fn batches(drain: Duration, connections_max: usize, clients: u64) -> (Vec<usize>, Duration) {
        let pace = Pace::new(drain, connections_max);
        let begun = Millis(1_000);
        let mut leaving = Leaving::new(pace, (1..=clients).map(SessionId), begun);
        let (mut sizes, mut last) = (Vec::new(), begun);
        while let Some(due) = leaving.due() {
            let (batch, until) = leaving.batch(due);
            assert_eq!(until, due + pace.answers());
            sizes.push(batch.len());
            last = due;
            assert!(!leaving.is_over());
            leaving.taken();
        }
        assert!(leaving.is_over());
        (sizes, last.since(begun))
    }

    #[test]
    fn a_full_gateway_lets_its_clients_go_over_seconds_and_in_time() {
        let (sizes, last) = batches(Duration::from_secs(5), 20_000, 20_000);
        assert_eq!((sizes.len(), sizes[0], sizes[39]), (40, 500, 500));
        assert!(last + ANSWERS_MAX <= Duration::from_secs(5), "{last:?}");
        for connections_max in [201, 1_000, 99_999, 1_000_000] {
            let (_, last) = batches(Duration::from_secs(5), connections_max, connections_max as u64);
            assert!(
                last + ANSWERS_MAX <= Duration::from_secs(5),
                "{last:?} for {connections_max}"
            );
        }
    }

    #[test]
    fn few_clients_go_at_once() {
        for clients in [0, 1, 200] {
            let (sizes, last) = batches(Duration::from_secs(5), 20_000, clients);
            assert_eq!(sizes.iter().sum::<usize>() as u64, clients);
            assert_eq!(last, Duration::ZERO);
        }
    }

    #[test]
    fn without_a_time_to_drain_all_go_at_once() {
        for drain in [Duration::ZERO, Duration::from_millis(300)] {
            assert_eq!(batches(drain, 20_000, 20_000), (vec![20_000], Duration::ZERO));
        }
        assert_eq!(Pace::new(Duration::ZERO, 1).answers(), ANSWERS_MIN);
    }
}

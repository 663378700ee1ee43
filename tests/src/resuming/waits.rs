//! How long a crew had to wait, from when each publish was due.

use std::fmt;
use std::time::Duration;

use super::story::{Answer, Seen, Story};
use crate::ledger::quantile;

/// Waits, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    times: Vec<Duration>,
}

impl Waits {
    /// Of these.
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Waits {
        times.sort_unstable();
        Waits { times }
    }

    /// So large a part waited no longer.
    #[must_use]
    pub fn within(&self, part: f64) -> Duration {
        quantile(&self.times, part)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.times.len()
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| self.within(part));
        write!(
            f,
            "{}: p50 {p50:.1?}, p99 {p99:.1?}, longest {longest:.1?}",
            self.times.len()
        )
    }
}

impl Story {
    /// Until publishes were answered ok.
    #[must_use]
    pub fn answers(&self) -> Waits {
        let first = |answers: &[(Duration, Answer)]| {
            let committed = answers
                .iter()
                .filter(|(_, answer)| matches!(answer, Answer::Committed { .. }));
            committed.map(|(at, _)| *at).min()
        };
        let waits = self
            .publishes
            .values()
            .filter_map(|publish| Some(first(&publish.answers)?.saturating_sub(publish.sent)));
        Waits::new(waits.collect())
    }

    /// Until subscribers had them that were joined by then.
    #[must_use]
    pub fn deliveries(&self) -> Waits {
        let mut times = Vec::new();
        for (&(topic, _), trail) in &self.trails {
            let mut joined = Duration::ZERO;
            for (at, seen) in &trail.seen {
                match seen {
                    Seen::Joined { .. } => joined = *at,
                    Seen::Got { number, .. } => {
                        let sent = self.publishes.get(&(topic, *number)).map(|publish| publish.sent);
                        times.extend(
                            sent.filter(|&sent| sent > joined)
                                .map(|sent| at.saturating_sub(sent)),
                        );
                    }
                    Seen::Gap { .. } | Seen::Lost(_) => {}
                }
            }
        }
        Waits::new(times)
    }
}

//! How long publishers and members had to wait, as they saw it.
//!
//! *Invariant:* everything counts from the moment a publish was due, so that one stuck call is not seen once but by every
//! publish that should have gone out behind it.

use std::fmt;
use std::time::Duration;

use super::{Ledger, Outcome, Publish, TopicNumber, Window};

/// The waits of a part of the load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timing {
    /// Publishes that were answered ok.
    pub publishes: usize,
    /// Of ten thousand of them 5,000 were answered within this.
    pub p50: Duration,
    /// And 9,900 within this.
    pub p99: Duration,
    /// The longest wait for an answer.
    pub longest_publish: Duration,
    /// Which one that was, and when it was sent.
    pub longest_publish_at: (TopicNumber, u64, Duration),
    /// The longest time from a publish to its delivery at a member.
    pub longest_delivery: Duration,
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, number, at) = self.longest_publish_at;
        write!(
            f,
            "{} publishes, answered within p50 {:.1?}, p99 {:.1?}, longest {:.1?} ({topic}/{number} at {at:.1?}); \
             longest delivery {:.1?}",
            self.publishes, self.p50, self.p99, self.longest_publish, self.longest_delivery
        )
    }
}

impl Ledger {
    /// The waits of what was published in `window`.
    #[must_use]
    pub fn timing(&self, window: Window) -> Timing {
        let is_in = |publish: &Publish| (window.from..window.to).contains(&publish.sent);
        let mut waits = Vec::new();
        for (&(topic, number), publish) in self.publishes.iter().filter(|(_, publish)| is_in(publish)) {
            if let Some((at, Outcome::Ok)) = publish.answered {
                waits.push((at.saturating_sub(publish.sent), (topic, number, publish.sent)));
            }
        }
        waits.sort_unstable();
        let times: Vec<Duration> = waits.iter().map(|(wait, _)| *wait).collect();
        let (longest_publish, longest_publish_at) = waits.last().copied().unwrap_or_default();
        Timing {
            publishes: times.len(),
            p50: quantile(&times, 0.5),
            p99: quantile(&times, 0.99),
            longest_publish,
            longest_publish_at,
            longest_delivery: self.longest_delivery(is_in),
        }
    }

    fn longest_delivery(&self, is_in: impl Fn(&Publish) -> bool) -> Duration {
        let mut longest = Duration::ZERO;
        for (member, times) in &self.received_at {
            let numbers = self.received.get(member).map_or(&[][..], Vec::as_slice);
            for (number, at) in numbers.iter().zip(times) {
                if let Some(publish) = self
                    .publishes
                    .get(&(member.0, *number))
                    .filter(|publish| is_in(publish))
                {
                    longest = longest.max(at.saturating_sub(publish.sent));
                }
            }
        }
        longest
    }
}

/// The smallest of `sorted` that so large a part of them does not exceed; zero of none.
#[must_use]
pub fn quantile<T: Copy + Default>(sorted: &[T], part: f64) -> T {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_count_from_when_a_publish_was_due_and_only_within_the_window() {
        let mut ledger = Ledger::default();
        for (number, sent, answered) in [(1, 10, 12), (2, 20, 70), (3, 30, 31), (4, 90, 900)] {
            let answered = Some((MS * answered, Outcome::Ok));
            ledger.publishes.insert(
                (7, number),
                Publish {
                    sent: MS * sent,
                    answered,
                },
            );
        }
        ledger.received.insert((7, 0), vec![1, 2, 3, 4]);
        ledger
            .received_at
            .insert((7, 0), vec![MS * 13, MS * 95, MS * 96, MS * 990]);
        let timing = ledger.timing(Window {
            from: MS * 10,
            to: MS * 90,
        });
        assert_eq!(timing.publishes, 3);
        assert_eq!((timing.p50, timing.longest_publish), (MS * 2, MS * 50));
        assert_eq!(timing.longest_publish_at, (7, 2, MS * 20));
        assert_eq!(timing.longest_delivery, MS * 75);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!(
            [0.5, 0.99, 1.0].map(|part| quantile(&values, part)),
            [100, 198, 200]
        );
        assert_eq!(quantile::<u32>(&[], 0.5), 0);
    }
}

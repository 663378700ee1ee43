//! How much one connection may ask for.
//!
//! *Invariant:* a size or a count is always bounded; only rates can be lifted (`[limits] profile = "bench"`).
//! Leaves out: limits of bytes on the wire (`websocket`) and of the outbox (the shell).

use std::time::Duration;

use ringcast_proto::Millis;

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Allowed a second in the long run.
    pub per_second: u32,
    /// Allowed at once after a quiet time.
    pub burst: u32,
}

/// The limits of a gateway's core. The defaults are those of the wire document, X8 and H11.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Channels of a connection (H11).
    pub channels_max: usize,
    /// Joins of a connection; `None` lifts the rate.
    pub joins: Option<Rate>,
    /// Pushes of a connection; `None` lifts the rate. The burst covers what phoenix.js buffers before a join (J9).
    pub pushes: Option<Rate>,
    /// Unanswered messages of a session at which its socket is not read until half of them are answered.
    pub unanswered_max: usize,
    /// The same in bytes of payload.
    pub unanswered_bytes_max: usize,
    /// Publishes of a slot waiting in this gateway, in count.
    pub slot_queue_max: usize,
    /// Publishes of a slot waiting in this gateway, in payload bytes.
    pub slot_queue_bytes_max: usize,
    /// A join or publish that takes longer is answered with an error (J2: phoenix.js gives up after 10 s).
    pub deadline: Duration,
    /// What is to go wrong.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::planted::PlantedBug>,
}

impl Limits {
    /// The limits for people.
    pub const DEFAULT: Limits = Limits {
        channels_max: 100,
        joins: Some(Rate {
            per_second: 20,
            burst: 100,
        }),
        pushes: Some(Rate {
            per_second: 50,
            burst: 100,
        }),
        unanswered_max: 128,
        unanswered_bytes_max: 256 * 1024,
        slot_queue_max: 4096,
        slot_queue_bytes_max: 4 * 1024 * 1024,
        deadline: Duration::from_secs(5),
        #[cfg(feature = "planted-bugs")]
        planted: None,
    };

    /// The same with every rate lifted.
    pub const BENCH: Limits = Limits {
        joins: None,
        pushes: None,
        ..Limits::DEFAULT
    };
}

/// A token bucket of 16 bytes, counted in thousandths of a token.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    milli_tokens: u64,
    filled_at: Millis,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: Option<Rate>, now: Millis) -> Bucket {
        Bucket {
            milli_tokens: rate.map_or(0, |rate| u64::from(rate.burst) * 1000),
            filled_at: now,
        }
    }

    /// Takes a token; `false` where there is none.
    pub(crate) fn take(&mut self, rate: Option<Rate>, now: Millis) -> bool {
        let Some(rate) = rate else { return true };
        let elapsed_ms = u64::try_from(now.since(self.filled_at).as_millis()).unwrap_or(u64::MAX);
        let refill = elapsed_ms.saturating_mul(u64::from(rate.per_second));
        self.milli_tokens = self
            .milli_tokens
            .saturating_add(refill)
            .min(u64::from(rate.burst) * 1000);
        self.filled_at = now;
        match self.milli_tokens.checked_sub(1000) {
            Some(rest) => {
                self.milli_tokens = rest;
                true
            }
            None => false,
        }
    }

    /// How long after the last [`Bucket::take`] there is a token again.
    pub(crate) fn next_token_in(&self, rate: Option<Rate>) -> Duration {
        let Some(rate) = rate else { return Duration::ZERO };
        let missing = 1000_u64.saturating_sub(self.milli_tokens);
        Duration::from_millis(missing.div_ceil(u64::from(rate.per_second.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let rate = Some(Rate {
            per_second: 50,
            burst: 100,
        });
        let mut bucket = Bucket::full(rate, Millis(0));
        let at_once = (0..150).filter(|_| bucket.take(rate, Millis(0))).count();
        assert_eq!(at_once, 100);
        let in_a_second = (1..=1000).filter(|&ms| bucket.take(rate, Millis(ms))).count();
        assert_eq!(in_a_second, 50);
    }

    #[test]
    fn a_lifted_rate_never_refuses() {
        let mut bucket = Bucket::full(None, Millis(0));
        assert!((0..10_000).all(|_| bucket.take(None, Millis(0))));
    }

    #[test]
    fn who_comes_back_when_told_finds_a_token() {
        for per_second in [1, 3, 50, 999, 7000] {
            let rate = Some(Rate { per_second, burst: 2 });
            let mut bucket = Bucket::full(rate, Millis(0));
            while bucket.take(rate, Millis(0)) {}
            let wait = bucket.next_token_in(rate);
            let (mut early, a_little) = (bucket, Duration::from_millis(1));
            assert!(!early.take(rate, Millis(0) + (wait - a_little)), "{per_second}");
            assert!(bucket.take(rate, Millis(0) + wait), "{per_second}");
        }
        assert_eq!(Bucket::full(None, Millis(0)).next_token_in(None), Duration::ZERO);
    }
}

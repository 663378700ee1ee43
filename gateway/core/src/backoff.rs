//! When to try again: 25 ms doubling to 400 ms, with full jitter, so that gateways do not retry in step. A slot that is
//! about to change owner is asked for sooner: that takes milliseconds, and clients wait.

use std::time::Duration;

/// The pause while a new owner has not heard of its slot yet, which the store tells it any moment.
const SOON: Duration = Duration::from_millis(5);
/// So often in a row; after that it is no move but a fault, and the pauses grow.
const SOON_MAX: u32 = 4;

/// The pause that an owner asks for, within bounds: a sealed slot is open again in milliseconds.
pub(crate) fn sealed_pause(retry_after_ms: u32) -> Duration {
    Duration::from_millis(u64::from(retry_after_ms.clamp(5, 25)))
}

/// A small generator of jitter (SplitMix64), seeded by the shell. Not for secrets.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(entropy: u64) -> Jitter {
        Jitter(entropy)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    /// How long to wait after `attempts` failures in a row; at least 1 ms, at most 400 ms.
    pub(crate) fn delay(&mut self, attempts: u32) -> Duration {
        let ceiling_ms = (25_u64 << attempts.min(4)).min(400);
        Duration::from_millis(1 + self.below(ceiling_ms))
    }

    /// How long to wait for news that is on its way: a few times 5 ms, then as [`Jitter::delay`].
    pub(crate) fn soon(&mut self, attempts: u32) -> Duration {
        match attempts.checked_sub(SOON_MAX) {
            None => SOON,
            Some(attempts) => self.delay(attempts),
        }
    }
}

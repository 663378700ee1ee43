//! Numbers that look random and come again with the same seed (SplitMix64).

use std::time::Duration;

/// A sequence of them.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// The sequence of a seed.
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `things`, of which there is at least one.
    pub(super) fn one<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[(self.next() % things.len() as u64) as usize]
    }

    /// A time below `longest`.
    pub(super) fn time(&mut self, longest: Duration) -> Duration {
        let longest_us = longest.as_micros().max(1) as u64;
        Duration::from_micros(self.next() % longest_us)
    }
}

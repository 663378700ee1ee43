//! Choices that are random to everyone outside and repeat exactly in a replay.

use crate::epochs::{STEP, mix};

/// Random numbers out of entropy the shell drew.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(entropy: u128) -> Chance {
        // Not as epochs are made: clients see those.
        Chance(mix((entropy >> 64) as u64) ^ !(entropy as u64))
    }

    /// A number below `end`, each as likely as the next; 0 where there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(STEP);
        // The high half of a product of 64 bits each: too fair by far to notice for any count of members.
        let scaled = u128::from(mix(self.0)) * end as u128;
        usize::try_from(scaled >> 64).expect("below `end`, which is a usize")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_below_the_end_comes_as_often_as_the_others() {
        let mut chance = Chance::new(7);
        let mut seen = [0; 7];
        for _ in 0..70_000 {
            seen[chance.below(7)] += 1;
        }
        assert!(
            seen.iter().all(|times| (9_500..10_500).contains(times)),
            "{seen:?}"
        );
        assert_eq!((chance.below(1), chance.below(0)), (0, 0));
    }
}

//! Names for offset sequences.

use ringcast_proto::Epoch;

/// The digits of RFC 4648 base32 in lower case.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Sixteen digits of five bits.
const LEN: usize = 16;

/// Makes epochs out of entropy the shell drew when the slot began empty.
///
/// *Invariant:* one source never makes the same epoch twice. Two sources do with the probability of 80 random bits.
#[derive(Debug)]
pub(crate) struct Epochs {
    entropy: u128,
    made: u64,
}

impl Epochs {
    pub(crate) fn new(entropy: u128) -> Epochs {
        Epochs { entropy, made: 0 }
    }

    pub(crate) fn next(&mut self) -> Epoch {
        self.made = self.made.wrapping_add(1);
        let (high, low) = ((self.entropy >> 64) as u64, self.entropy as u64);
        // The low word is a bijection of the counter, which is why no epoch repeats; the high word adds 16 bits.
        let low = mix(low.wrapping_add(self.made.wrapping_mul(STEP)));
        let high = mix(high ^ low);
        let mut bits = (u128::from(high & 0xffff) << 64) | u128::from(low);
        let mut text = [0; LEN];
        for digit in &mut text {
            *digit = DIGITS[(bits & 31) as usize];
            bits >>= 5;
        }
        Epoch::parse(&text).expect("sixteen letters and digits are an epoch")
    }
}

/// What SplitMix64 counts in: the golden ratio's bits, which are odd.
pub(crate) const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection whose every output bit depends on every input bit.
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn epochs_of_one_source_and_of_two_never_meet() {
        let mut one = Epochs::new(7);
        let mut other = Epochs::new(8);
        let made: BTreeSet<Epoch> = (0..10_000).flat_map(|_| [one.next(), other.next()]).collect();
        assert_eq!(made.len(), 20_000);
        assert!(made.iter().all(|epoch| epoch.as_str().len() == LEN));
    }
}

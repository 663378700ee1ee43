//! How often something happened, by reason.
//!
//! *Invariant:* however many different reasons servers give, at most [`KINDS_MAX`] are told apart, and the counts add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const KINDS_MAX: usize = 32;
const OTHER: &str = "other reasons";

/// Counts by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    /// One more, because of this.
    pub(crate) fn count(&mut self, reason: &str) {
        self.add(reason, 1);
    }

    /// Takes over what another counted.
    pub(crate) fn merge(&mut self, other: &Reasons) {
        for (reason, count) in &other.0 {
            self.add(reason, *count);
        }
    }

    /// Of all reasons together.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn add(&mut self, reason: &str, count: u64) {
        let reason = match self.0.contains_key(reason) || self.0.len() < KINDS_MAX - 1 {
            true => reason,
            false => OTHER,
        };
        *self.0.entry(reason.to_owned()).or_default() += count;
    }
}

/// `3 x this, 1 x that`, the most frequent first.
impl std::fmt::Display for Reasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut reasons: Vec<_> = self.0.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (index, (reason, count)) in reasons.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{count} x {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_however_many_reasons_there_are() {
        let mut reasons = Reasons::default();
        for reason in 0..1000 {
            reasons.count(&reason.to_string());
        }
        reasons.count("0");
        assert_eq!((reasons.total(), reasons.0.len()), (1001, KINDS_MAX));
        let mut both = Reasons::default();
        both.count("0");
        both.merge(&reasons);
        assert_eq!((both.total(), both.0["0"]), (1002, 3));
    }

    #[test]
    fn the_most_frequent_reason_is_named_first() {
        let mut reasons = Reasons::default();
        for reason in ["a", "b", "b"] {
            reasons.count(reason);
        }
        assert_eq!(reasons.to_string(), "2 x b, 1 x a");
        assert_eq!(Reasons::default().to_string(), "");
    }
}

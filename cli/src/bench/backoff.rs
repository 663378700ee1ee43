//! When a client of phoenix.js tries again.
//!
//! Leaves out: chance. phoenix.js adds none, so all clients of a gateway that is gone are back at the same moment.

use std::time::Duration;

const RECONNECT_MS: [u64; 10] = [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000];
const REJOIN_MS: [u64; 4] = [1000, 2000, 5000, 10_000];

/// How long it waits before it connects again, after so many tries without success.
pub(crate) fn before_connect(tries: usize) -> Duration {
    nth(&RECONNECT_MS, tries)
}

/// How long it waits before it joins again, after so many refusals.
pub(crate) fn before_join(refusals: usize) -> Duration {
    nth(&REJOIN_MS, refusals.saturating_sub(1))
}

fn nth(waits_ms: &[u64], index: usize) -> Duration {
    Duration::from_millis(waits_ms[index.min(waits_ms.len() - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_those_of_phoenix_js_and_the_last_one_repeats() {
        let waits = |of: fn(usize) -> Duration, from: usize| -> Vec<u128> {
            (from..from + 12).map(|tries| of(tries).as_millis()).collect()
        };
        assert_eq!(
            waits(before_connect, 0),
            [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000, 5000, 5000]
        );
        assert_eq!(waits(before_join, 1)[..5], [1000, 2000, 5000, 10_000, 10_000]);
        assert_eq!(before_join(0), before_join(1));
    }
}

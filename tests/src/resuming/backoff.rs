//! When phoenix.js tries again.

use std::time::Duration;

/// Milliseconds until the next attempt to connect; the last goes for all further ones.
const CONNECT_MS: [u64; 10] = [10, 50, 100, 150, 200, 250, 500, 1000, 2000, 5000];

/// Milliseconds until a refused join is tried again.
const JOIN_MS: [u64; 4] = [1000, 2000, 5000, 10_000];

/// How long to wait before connecting again after so many failures.
pub(super) fn connect(failures: usize) -> Duration {
    Duration::from_millis(CONNECT_MS[failures.min(CONNECT_MS.len() - 1)])
}

/// How long to wait before joining again after so many refusals, the last one counted.
pub(super) fn join(refusals: usize) -> Duration {
    Duration::from_millis(JOIN_MS[refusals.saturating_sub(1).min(JOIN_MS.len() - 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_as_phoenix_js_does() {
        let ms = |waits: Vec<Duration>| waits.iter().map(Duration::as_millis).collect::<Vec<_>>();
        assert_eq!(ms((0..3).map(connect).collect()), [10, 50, 100]);
        assert_eq!(ms([9, 10, 99].map(connect).into()), [5000; 3]);
        assert_eq!(ms((1..6).map(join).collect()), [1000, 2000, 5000, 10_000, 10_000]);
    }
}

//! True time, which only the simulation knows, and the clocks of nodes, which run fast or slow and stand anywhere.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use ringcast_proto::Millis;

/// Microseconds of true time since the simulation began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub(crate) fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, duration: Duration) -> Time {
        Time(self.0 + micros(duration))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(micros(duration)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

/// The clock of one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Microseconds it gains in a second of true time; up to 10,000 either way is 1 %.
    pub(crate) gains: i32,
    /// What it showed when the simulation began.
    pub(crate) offset_us: u64,
}

impl Clock {
    /// What it shows at `now`, in microseconds.
    fn shows_us(self, now: Time) -> u64 {
        let rate = u64::try_from(1_000_000 + i64::from(self.gains)).expect("a clock gains less than it runs");
        self.offset_us + muldiv(now.0, rate, 1_000_000)
    }

    /// What it shows at `now`, as nodes read it.
    #[must_use]
    pub(crate) fn shows(self, now: Time) -> Millis {
        Millis(self.shows_us(now) / 1000)
    }

    /// The true time at which it will show `at`; `now` if it has.
    #[must_use]
    pub(crate) fn when(self, at: Millis, now: Time) -> Time {
        let ahead_us = at.0.saturating_mul(1000).saturating_sub(self.shows_us(now));
        now + self.lasts(Duration::from_micros(ahead_us))
    }

    /// How long `duration` of this clock is in truth; rounded up, so that no timer is early.
    #[must_use]
    pub(crate) fn lasts(self, duration: Duration) -> Duration {
        let rate = u64::try_from(1_000_000 + i64::from(self.gains)).expect("a clock gains less than it runs");
        let us = micros(duration).min(u64::MAX / 4);
        if us == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(muldiv(us, 1_000_000, rate) + 1)
    }
}

fn muldiv(value: u64, by: u64, of: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(by) / u128::from(of)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_never_early_on_any_clock() {
        for gains in [-10_000, 0, 10_000] {
            let clock = Clock {
                gains,
                offset_us: 12_345_678,
            };
            for now in [0, 999_999, 60_000_000].map(Time) {
                for ahead_ms in [0, 1, 20, 5_000] {
                    let at = clock.shows(now) + Duration::from_millis(ahead_ms);
                    let due = clock.when(at, now);
                    assert!(clock.shows(due) >= at, "{gains} {now} {ahead_ms}");
                    assert!(due.since(now) <= clock.lasts(Duration::from_millis(ahead_ms + 1)));
                }
            }
        }
    }

    #[test]
    fn a_clock_that_gains_one_percent_ends_two_seconds_early() {
        let fast = Clock {
            gains: 10_000,
            offset_us: 0,
        };
        let slow = Clock {
            gains: -10_000,
            offset_us: 0,
        };
        assert_eq!(fast.lasts(Duration::from_secs(2)).as_millis(), 1980);
        assert_eq!(slow.lasts(Duration::from_secs(2)).as_millis(), 2020);
    }
}

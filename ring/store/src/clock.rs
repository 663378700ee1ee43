//! The clock that leases are counted on.
//!
//! *Invariant:* it never goes back, and it goes on while the machine is suspended: a node that slept past its lease must
//! not wake up believing in it.

use ringcast_proto::Millis;

/// Milliseconds since the machine started.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
#[must_use]
pub fn now() -> Millis {
    millis(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
}

/// Milliseconds since the machine started. Apple's `CLOCK_MONOTONIC` counts while asleep (Linux's does not).
#[cfg(target_vendor = "apple")]
#[must_use]
pub fn now() -> Millis {
    millis(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

/// Milliseconds since the first call. It may stand still while the machine sleeps.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "fuchsia",
    target_vendor = "apple"
)))]
#[must_use]
pub fn now() -> Millis {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    Millis(0) + START.get_or_init(std::time::Instant::now).elapsed()
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "fuchsia",
    target_vendor = "apple"
))]
fn millis(time: rustix::time::Timespec) -> Millis {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Millis(
        seconds
            .saturating_mul(1000)
            .saturating_add(nanoseconds / 1_000_000),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_milliseconds() {
        let (before, instant) = (now(), std::time::Instant::now());
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        let (passed, expected) = (now().since(before).as_millis(), instant.elapsed().as_millis());
        assert!(
            passed.abs_diff(expected) <= 5,
            "{passed} ms passed, {expected} expected"
        );
    }
}

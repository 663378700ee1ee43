//! How fast a node takes slots in, all moves together, so that moving leaves the network to publishing.
//!
//! *Invariant:* nobody waits longer than what was taken before them is worth.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A gigabit network has four times as much, and a slot of 20,000 small topics is there within a second.
const BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;

/// When the next page may be asked for: what has been taken is paid for by waiting, after the fact, because the size of
/// a page is known when it is there.
#[derive(Default)]
pub(crate) struct Pace {
    paid_until: Mutex<Option<Instant>>,
}

impl Pace {
    /// When to ask, for whoever wants to at `now`.
    pub(crate) fn turn(&self, now: Instant) -> Instant {
        self.paid_until().map_or(now, |paid| paid.max(now))
    }

    /// So many bytes came at `now`.
    pub(crate) fn took(&self, bytes: usize, now: Instant) {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / BYTES_PER_SECOND;
        let mut paid = self.paid_until();
        // Time in which nothing was taken is not saved up.
        let from = paid.map_or(now, |paid| paid.max(now));
        *paid = Some(from + Duration::from_nanos(nanos));
    }

    fn paid_until(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing in here can panic half way.
        self.paid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_32_mib_are_taken_in_a_second_however_many_ask() {
        let pace = Pace::default();
        let start = Instant::now();
        let (mut now, mut taken) = (start, 0);
        let page = 256 * 1024;
        while now < start + Duration::from_secs(2) {
            // Two moves ask at the same time.
            now = pace.turn(now);
            pace.took(page, now);
            pace.took(page, now);
            taken += 2 * page;
        }
        let allowed = 2 * 32 * 1024 * 1024;
        assert!((allowed..=allowed + 2 * page).contains(&taken), "{taken} bytes");
    }

    #[test]
    fn who_took_nothing_for_a_while_need_not_wait_and_has_saved_nothing_up() {
        let pace = Pace::default();
        let start = Instant::now();
        assert_eq!(pace.turn(start), start);
        pace.took(32 * 1024 * 1024, start);
        assert_eq!(pace.turn(start), start + Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.turn(later), later);
        pace.took(16 * 1024 * 1024, later);
        assert_eq!(pace.turn(later), later + Duration::from_millis(500));
    }
}

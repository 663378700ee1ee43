//! How long entries have waited on a lane, without a time in every entry.
//!
//! What waits is counted in bytes, in the order it came, and of everything that came between two calls only the first has
//! its time noted: that is the oldest of its batch, and one look at the clock a call.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The times of what waits on one lane.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Bytes that were ever put on the lane.
    put: u64,
    /// The first of every batch that waits: how many bytes were put before it, and when it was.
    firsts: VecDeque<(u64, Instant)>,
    /// The batch that is being made has its first.
    noted: bool,
}

impl Waits {
    /// Something was put on the lane, on which `before` bytes waited and now `after` do.
    pub(crate) fn put(&mut self, before: usize, after: usize, now: impl FnOnce() -> Instant) {
        if !std::mem::replace(&mut self.noted, true) {
            self.firsts.push_back((self.put, now()));
        }
        self.put += (after as u64).saturating_sub(before as u64);
    }

    /// A call leaves, before which `before` bytes waited, and after which `after` do: how long the oldest of it waited.
    pub(crate) fn left(&mut self, before: usize, after: usize, now: Instant) -> Option<Duration> {
        let oldest = self.put.saturating_sub(before as u64);
        while self.firsts.get(1).is_some_and(|(put, _)| *put <= oldest) {
            self.firsts.pop_front();
        }
        let wait = self
            .firsts
            .front()
            .map(|(_, first)| now.saturating_duration_since(*first));
        self.noted = false;
        if after == 0 {
            self.firsts.clear();
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_call_waited_as_long_as_the_first_that_came_since_the_last_one() {
        let (mut waits, start) = (Waits::default(), Instant::now());
        waits.put(0, 10, || start);
        waits.put(10, 20, || panic!("one look at the clock a call"));
        assert_eq!(waits.left(20, 0, start + 5 * MS), Some(5 * MS));
        waits.put(0, 10, || start + 7 * MS);
        assert_eq!(waits.left(10, 0, start + 8 * MS), Some(MS));
    }

    #[test]
    fn what_was_left_behind_goes_on_waiting() {
        let (mut waits, start) = (Waits::default(), Instant::now());
        waits.put(0, 30, || start);
        // A call takes the first 10 bytes, then more comes.
        assert_eq!(waits.left(30, 20, start + MS), Some(MS));
        waits.put(20, 40, || start + 2 * MS);
        assert_eq!(waits.left(40, 20, start + 3 * MS), Some(3 * MS));
        assert_eq!(
            waits.left(20, 0, start + 4 * MS),
            Some(2 * MS),
            "what came first is gone"
        );
    }

    #[test]
    fn what_was_dropped_no_longer_waits() {
        let (mut waits, start) = (Waits::default(), Instant::now());
        waits.put(0, 30, || start);
        assert_eq!(waits.left(30, 20, start), Some(Duration::ZERO));
        // An answer makes the lane forget those 20 bytes.
        waits.put(0, 10, || start + 5 * MS);
        assert_eq!(waits.left(10, 0, start + 6 * MS), Some(MS));
    }
}

//! Writing to many connections: a few at a time, with a look at what came in between.
//!
//! What comes while a pass over many connections is under way joins what still waits for them, so one write carries more
//! the busier the gateway is, and a publish does not wait for the fan-out of the one before it. Where others want this
//! thread's core (clients on the same machine, other nodes), a rest after a pass leaves it to them: then the next pass
//! finds more for each write, and all together need less.
//! *Invariant:* a connection is written within the pass that is under way or the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::Millis;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::connection::Connection;

/// Writes to sockets between two looks at whether other tasks of this thread want to run: about a tenth of a millisecond,
/// for which a message between two nodes waits wherever it arrives. Measured with two gateways and their clients on two
/// cores: 64 let a publish wait a millisecond longer, and as what comes late joins no write, a delivery took a tenth more.
const WRITES_PER_YIELD: usize = 16;

/// Fewer than this a look at what came in is not worth.
const WRITES_PER_TURN_MIN: usize = 64;

/// How often in a pass is looked at what came in, at most: for tens of thousands of sockets more would be many small calls.
const TURNS_PER_PASS_MAX: usize = 32;

/// A timer is not much finer.
const REST_MIN: Duration = Duration::from_micros(500);

/// What a rest may add to a delivery. A rest is as long as this thread had to wait for a core in the pass before. Measured:
/// with one gateway and nothing else on its core there is no rest; with two and their clients on two cores a delivery takes
/// a tenth less. Rests of twice the wait, or up to 10 ms, take no more off, and make the slowest deliveries slower.
const REST_MAX: Duration = Duration::from_millis(4);

/// Connections whose outbox was empty before something was put into it.
#[derive(Debug, Default)]
pub(super) struct Pass {
    due: VecDeque<Arc<Connection>>,
    /// Of these so many belong to the pass that is under way.
    left: usize,
    /// How many are written before the next look at what came in.
    turn: usize,
    began: Millis,
    /// How long this pass waited for a core, as far as it was looked.
    waited: Duration,
    /// No pass begins before.
    rests_until: Option<Instant>,
}

impl Pass {
    pub(super) fn add(&mut self, connection: &Arc<Connection>) {
        self.due.push_back(Arc::clone(connection));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Since when it is under way; none between two passes.
    pub(super) fn since(&self) -> Option<Millis> {
        (self.left > 0).then_some(self.began)
    }

    /// Waits until these may be written.
    pub(super) async fn rest(&self) {
        if let Some(until) = self.rests_until {
            tokio::time::sleep_until(until).await;
        }
    }

    /// One write to each of the next connections, however much waits for it; none during a rest. `true`: with these a
    /// pass is over.
    pub(super) async fn write(&mut self, now: Millis) -> bool {
        if self.left == 0 && !self.begin(now) {
            return false;
        }
        let mut turn = self.left.min(self.turn);
        self.left -= turn;
        let many = turn >= WRITES_PER_TURN_MIN;
        while turn > 0 {
            if many {
                // At first too: a lane that was just given something runs on this thread and no other.
                tokio::task::yield_now().await;
            }
            let few = turn.min(WRITES_PER_YIELD);
            turn -= few;
            let began = many.then(Clocks::now);
            for connection in self.due.drain(..few) {
                connection.flush();
            }
            self.waited += began.map_or(Duration::ZERO, |began| began.waited());
        }
        let is_over = self.left == 0;
        if is_over {
            self.rests_until = rest_after(self.waited).map(|rest| Instant::now() + rest);
        }
        is_over
    }

    /// A pass over all that are due now; `false` during a rest.
    fn begin(&mut self, now: Millis) -> bool {
        if self.rests_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        (self.left, self.began) = (self.due.len(), now);
        self.turn = self.left.div_ceil(TURNS_PER_PASS_MAX).max(WRITES_PER_TURN_MIN);
        (self.waited, self.rests_until) = (Duration::ZERO, None);
        true
    }
}

/// How long to rest after a pass in which this thread had to wait so long for a core.
fn rest_after(waited: Duration) -> Option<Duration> {
    let rest = waited.min(REST_MAX);
    (rest >= REST_MIN).then_some(rest)
}

/// What the wall says, and how long this thread has had a core.
struct Clocks {
    wall: std::time::Instant,
    thread: Duration,
}

impl Clocks {
    fn now() -> Clocks {
        Clocks {
            wall: std::time::Instant::now(),
            thread: of_thread(),
        }
    }

    /// Since then, and on the same thread: how long it had no core.
    fn waited(&self) -> Duration {
        let worked = of_thread().saturating_sub(self.thread);
        self.wall.elapsed().saturating_sub(worked)
    }
}

/// How long this thread has had a core.
fn of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default() // it is not negative
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::connected;

    #[test]
    fn a_pass_that_was_not_kept_waiting_is_followed_by_the_next_at_once() {
        assert_eq!(rest_after(Duration::ZERO), None);
        assert_eq!(rest_after(Duration::from_micros(499)), None);
    }

    #[test]
    fn a_rest_is_as_long_as_the_wait_and_never_long() {
        let wait = Duration::from_millis(2);
        assert_eq!(rest_after(wait), Some(wait));
        assert_eq!(rest_after(Duration::from_secs(1)), Some(REST_MAX));
    }

    #[test]
    fn a_thread_that_sleeps_has_no_core_and_one_that_works_has() {
        let asleep = Clocks::now();
        std::thread::sleep(Duration::from_millis(30));
        assert!(asleep.waited() >= Duration::from_millis(25));
        let awake = Clocks::now();
        while of_thread() < awake.thread + Duration::from_millis(5) {}
        assert!(awake.waited() <= awake.wall.elapsed() - Duration::from_millis(5));
    }

    #[tokio::test]
    async fn during_a_rest_nothing_is_written_and_after_it_everything() {
        let (connection, _client, _desk) = connected();
        let until = Instant::now() + Duration::from_millis(50);
        let mut pass = Pass {
            rests_until: Some(until),
            ..Pass::default()
        };
        pass.add(&connection);
        pass.write(Millis(0)).await;
        assert!(!pass.is_empty() || until <= Instant::now());
        pass.rest().await;
        assert!(until <= Instant::now());
        pass.write(Millis(0)).await;
        assert!(pass.is_empty());
    }
}

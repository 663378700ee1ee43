//! Which connections are to be written to, and when: a few at a time, with a look at what came in between.
//!
//! What comes while a pass over many connections is under way joins what still waits for them, so one write carries more
//! the busier the gateway is, and a publish does not wait for the fan-out of the one before it.
//! *Invariant:* a connection is written within the pass that is under way or the next one, and a pass that lasts long is
//! finished before anything more is taken in: so what waits in outboxes because of us has a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::Millis;

use crate::connection::Connection;

/// Writes to sockets between two looks at whether other tasks of this thread want to run.
const WRITES_PER_YIELD: usize = 64;

/// How often in a pass is looked at what came in. More often what comes would leave in many small calls.
const TURNS_PER_PASS: usize = 4;

/// So long into a pass more is taken in.
const PASS_MAX: Duration = Duration::from_millis(20);

/// Connections whose outbox was empty before something was put into it.
#[derive(Debug, Default)]
pub(super) struct Writes {
    due: VecDeque<Arc<Connection>>,
    /// Of these so many belong to the pass that is under way.
    left: usize,
    /// How many are written before the next look at what came in.
    turn: usize,
    began: Millis,
}

impl Writes {
    pub(super) fn add(&mut self, connection: &Arc<Connection>) {
        self.due.push_back(Arc::clone(connection));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether more may be taken in before these are written.
    pub(super) fn may_wait(&self, now: Millis) -> bool {
        self.left == 0 || now.since(self.began) < PASS_MAX
    }

    /// One write to each of the next connections, however much waits for it.
    pub(super) async fn write(&mut self, now: Millis) {
        if self.left == 0 {
            (self.left, self.began) = (self.due.len(), now);
            self.turn = self.left.div_ceil(TURNS_PER_PASS).max(WRITES_PER_YIELD);
        }
        let count = self.left.min(self.turn);
        self.left -= count;
        for (index, connection) in self.due.drain(..count).enumerate() {
            // At first too: a lane that was just given something runs on this thread and no other.
            if index % WRITES_PER_YIELD == 0 && (index > 0 || count >= WRITES_PER_YIELD) {
                tokio::task::yield_now().await;
            }
            connection.flush();
        }
    }
}

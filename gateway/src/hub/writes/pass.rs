//! Writing to many connections: a few at a time, with a look at what came in between.
//!
//! What comes while a pass over many connections is under way joins what still waits for them, so one write carries more
//! the busier the gateway is, and a publish does not wait for the fan-out of the one before it.
//! *Invariant:* a connection is written within the pass that is under way or the next one.
//! Leaves out: who else wants this thread's core (`offers`).

use std::collections::VecDeque;
use std::sync::Arc;

use ringcast_proto::Millis;

use super::offers::Offers;
use crate::connection::Connection;

/// Writes to sockets before other tasks of this thread, and whoever else wants its core, may run: about a tenth of a
/// millisecond, for which a message between two nodes waits wherever it arrives.
const WRITES_PER_YIELD: usize = 16;

/// Fewer than this a look at what came in is not worth. Measured with two gateways and their clients on two cores, where a
/// publish waits for such a look twice: 64 cost half of all deliveries 0.8 ms; 16, with one gateway, a tenth more CPU.
const WRITES_PER_TURN_MIN: usize = 32;

/// How often in a pass is looked at what came in, at most: for tens of thousands of sockets more would be many small calls.
const TURNS_PER_PASS_MAX: usize = 32;

/// Connections whose outbox was empty before something was put into it.
#[derive(Debug, Default)]
pub(super) struct Pass {
    due: VecDeque<Arc<Connection>>,
    /// Of these so many belong to the pass that is under way.
    left: usize,
    /// How many are written before the next look at what came in.
    turn: usize,
    began: Millis,
    offers: Offers,
}

impl Pass {
    pub(super) fn add(&mut self, connection: Arc<Connection>) {
        self.due.push_back(connection);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Since when it is under way; none between two passes.
    pub(super) fn since(&self) -> Option<Millis> {
        (self.left > 0).then_some(self.began)
    }

    /// One write to each of the next connections, however much waits for it. `true`: with these a pass is over.
    pub(super) async fn write(&mut self, now: Millis) -> bool {
        if self.left == 0 {
            (self.left, self.began) = (self.due.len(), now);
            self.turn = self.left.div_ceil(TURNS_PER_PASS_MAX).max(WRITES_PER_TURN_MIN);
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
            for connection in self.due.drain(..few) {
                connection.flush();
            }
            if many {
                self.offers.offer();
            }
        }
        if many {
            // What was sent to us meanwhile is read before the look at what came in.
            tokio::task::yield_now().await;
        }
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::connected;

    #[tokio::test]
    async fn a_pass_over_many_has_turns_with_a_look_at_what_came_in_between() {
        let mut pass = Pass::default();
        let clients: Vec<_> = (0..2 * WRITES_PER_TURN_MIN + 1).map(|_| connected()).collect();
        let add = |pass: &mut Pass, count| {
            for (connection, ..) in &clients[..count] {
                connection.push("x".into(), None, Millis(1));
                pass.add(Arc::clone(connection));
            }
        };
        add(&mut pass, clients.len());
        assert_eq!(pass.since(), None);
        assert!(!pass.write(Millis(1)).await);
        assert_eq!(pass.since(), Some(Millis(1)));
        // Joins the next pass, as its connection has been written in this one.
        add(&mut pass, 1);
        assert!(!pass.write(Millis(2)).await);
        assert_eq!(pass.since(), Some(Millis(1)));
        assert!(pass.write(Millis(3)).await);
        assert_eq!((pass.since(), pass.is_empty()), (None, false));
        assert!(pass.write(Millis(4)).await);
        assert!(pass.is_empty());
        for (connection, ..) in &clients {
            assert_eq!(connection.stats().frames, 0);
        }
    }
}

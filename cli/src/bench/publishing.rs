//! When the next message is published, and to which topic: as fast as deliveries allow, or at a rate.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::publisher::Outgoing;
use super::state::State;

/// Without a delivery for so long, what is outstanding is lost, and a closed loop goes on without it.
const STALL: Duration = Duration::from_secs(2);

/// A timer fires up to this much late, which is nobody's fault. Of a message that is later than this, lateness is
/// latency: whoever had to send it waited.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// Messages of an open loop that are sent without a look at anything else.
const BURST_LEN: usize = 64;

/// Publishes to one topic after another; topic `t` is published to by connection `t` modulo their number.
#[derive(Debug)]
pub(crate) struct Publishing {
    state: Rc<State>,
    connections: Vec<Rc<Outgoing>>,
    topics: u32,
    next_topic: u32,
    message: Vec<u8>,
}

impl Publishing {
    /// By these connections, which have joined their topics.
    pub(crate) fn new(state: Rc<State>, connections: Vec<Rc<Outgoing>>, topics: u32) -> Publishing {
        Publishing {
            state,
            connections,
            topics,
            next_topic: 0,
            message: Vec::new(),
        }
    }

    /// Publishes whenever `window` allows. A window below one publish's deliveries allows one at a time.
    pub(crate) async fn closed_loop(mut self, window: u64, subscribers: u64) -> Infallible {
        let state = Rc::clone(&self.state);
        state.wake_below.set(window.saturating_sub(subscribers));
        let mut delivered = 0;
        loop {
            // What a connection does not take is owed to nobody, so without an end this would go on for ever. Nor may
            // more be published at once than the window has room for, when nobody is there to owe it to.
            let mut burst = window / subscribers.max(1) + 1;
            while burst > 0 && self.has_room(window, subscribers) && self.publish(state.now_ns()) {
                burst -= 1;
            }
            self.send();
            let waited = tokio::time::timeout(STALL, state.room.notified()).await;
            let mut tally = state.tally.borrow_mut();
            if waited.is_err() && tally.delivered() == delivered {
                tally.give_up();
            }
            delivered = tally.delivered();
        }
    }

    fn has_room(&self, window: u64, subscribers: u64) -> bool {
        let outstanding = self.state.tally.borrow().outstanding();
        outstanding == 0 || outstanding + subscribers <= window
    }

    /// Publishes `rate` messages a second, whatever becomes of them. Latencies count from when a message was due.
    pub(crate) async fn open_loop(mut self, rate: f64) -> Infallible {
        let start = Instant::now();
        let mut sent = 0_u64;
        loop {
            for _ in 0..BURST_LEN {
                let due = start + Duration::from_secs_f64(sent as f64 / rate);
                let late = due.elapsed();
                if late.is_zero() {
                    self.send();
                    tokio::time::sleep_until(due.into()).await;
                    continue;
                }
                let lateness = if late > TIMER_GRAIN { late } else { Duration::ZERO };
                let since_ns = u64::try_from(lateness.as_nanos()).unwrap_or(u64::MAX);
                self.publish(self.state.now_ns().saturating_sub(since_ns));
                sent += 1;
            }
            self.send();
            tokio::task::yield_now().await;
        }
    }

    /// Hands the next message to its connection; `false` if that takes none.
    fn publish(&mut self, due_ns: u64) -> bool {
        let topic = self.next_topic;
        self.next_topic = (topic + 1) % self.topics;
        let mut tally = self.state.tally.borrow_mut();
        let number = tally.publish(topic, due_ns);
        self.message.clear();
        self.state.plan.publish(topic, number, due_ns, &mut self.message);
        let pushed =
            self.connections[topic as usize % self.connections.len()].push(topic, number, &self.message);
        if let Err(reason) = pushed {
            tally.answer(topic, number, Err(reason), due_ns);
        }
        pushed.is_ok()
    }

    fn send(&self) {
        for connection in &self.connections {
            connection.send();
        }
    }
}

//! The connections that publish: one at a time decides what, each writes its own.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use super::client::{MASK, Receiver};
use super::frames::{self, Frame};
use super::load::State;
use super::wire;

/// Without a delivery for so long, what is outstanding is lost, and a closed loop goes on without it.
const STALL: Duration = Duration::from_secs(2);

/// A timer fires up to this much late. Of a message that is later than this, lateness is latency: whoever had to send
/// it waited.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// Messages of an open loop that are sent without a look at anything else.
const BURST_LEN: usize = 64;

/// What waits to be written by one connection.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    frames: RefCell<Vec<u8>>,
    some: Notify,
}

impl Outgoing {
    /// Puts a text frame behind what waits.
    fn push(&self, message: &[u8]) {
        frames::text(message, MASK, &mut self.frames.borrow_mut());
    }
}

/// Writes what is put into `outgoing`, and heartbeats when that is nothing for long.
pub(crate) async fn write(mut sender: OwnedWriteHalf, outgoing: Rc<Outgoing>) -> Result<Infallible> {
    const QUIET: Duration = Duration::from_secs(20);
    loop {
        if tokio::time::timeout(QUIET, outgoing.some.notified())
            .await
            .is_err()
        {
            outgoing.push(wire::HEARTBEAT);
        }
        let frames = outgoing.frames.take();
        sender.write_all(&frames).await.context("write to the server")?;
    }
}

/// Reads the answers to publishes. The copies a publisher gets of its own messages are not looked at.
pub(crate) async fn read(mut receiver: Receiver, state: Rc<State>) -> Result<Infallible> {
    loop {
        receiver
            .receive(|frame| {
                if let Frame::Message(message) = frame
                    && let Some((topic, number, false)) = wire::published(message)
                {
                    state.tally.borrow_mut().refuse(topic, number);
                    state.room.notify_one();
                }
            })
            .await?;
    }
}

/// Publishes to one topic after another; topic `t` is published to by connection `t` modulo their number.
#[derive(Debug)]
pub(crate) struct Publishers {
    state: Rc<State>,
    connections: Vec<Rc<Outgoing>>,
    topics: u32,
    next_topic: u32,
    message: Vec<u8>,
}

impl Publishers {
    /// Of these connections, which have joined their topics.
    pub(crate) fn new(state: Rc<State>, connections: Vec<Rc<Outgoing>>, topics: u32) -> Publishers {
        Publishers {
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
        let room = |outstanding: u64| outstanding == 0 || outstanding + subscribers <= window;
        state.wake_below.set(window.saturating_sub(subscribers));
        let mut delivered = 0;
        loop {
            while room(state.tally.borrow().outstanding()) {
                self.publish(state.now_ns());
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

    /// Publishes `rate` messages a second, whatever becomes of them.
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

    fn publish(&mut self, sent_ns: u64) {
        let topic = self.next_topic;
        self.next_topic = (topic + 1) % self.topics;
        let number = self.state.tally.borrow_mut().publish(topic);
        self.message.clear();
        self.state.plan.publish(topic, number, sent_ns, &mut self.message);
        self.connections[topic as usize % self.connections.len()].push(&self.message);
    }

    fn send(&self) {
        for connection in &self.connections {
            if !connection.frames.borrow().is_empty() {
                connection.some.notify_one();
            }
        }
    }
}

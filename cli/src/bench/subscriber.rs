//! One subscriber: it counts what it receives, and comes back if it should.
//!
//! *Invariant:* no end of its connection passes without being counted, nor any frame that it did not expect.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use super::client::{Error, Receiver};
use super::crowd::Senders;
use super::entry::Entry;
use super::frames::Frame;
use super::state::State;
use super::wire::{self, Expected};

/// A subscriber of one topic.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) index: u32,
    pub(crate) entry: Entry,
    pub(crate) expected: Expected,
    pub(crate) state: Rc<State>,
    /// Where its writing half is.
    pub(crate) senders: Senders,
}

impl Subscriber {
    /// Counts for ever, or to the end of its connection if it shall not come back.
    pub(crate) async fn run(self, mut receiver: Receiver) {
        let state = &self.state;
        loop {
            let error = self.receive(receiver).await;
            self.senders.clear(self.index);
            let left = Instant::now();
            {
                let mut tally = state.tally.borrow_mut();
                tally.close(&error.to_string());
                tally.leave(self.index);
            }
            state.wake();
            if !state.reconnect {
                return;
            }
            let failed = |error: &Error| {
                let mut tally = state.tally.borrow_mut();
                tally.connections.failures.count(&error.to_string());
            };
            let on_frame = |frame: Frame<'_>| {
                self.on_frame(frame, &mut None);
            };
            let (back, sender) = self.entry.insist(true, failed, on_frame).await;
            receiver = back;
            self.senders.set(self.index, sender);
            let mut tally = state.tally.borrow_mut();
            tally.rejoin(self.index);
            tally.come_back(u64::try_from(left.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Counts until the connection, or the channel on it, ends.
    async fn receive(&self, mut receiver: Receiver) -> Error {
        let ended = Cell::new(None);
        loop {
            let mut now_ns = None;
            let received = receiver
                .receive(|frame| {
                    if let Some(end) = self.on_frame(frame, &mut now_ns) {
                        ended.set(Some(end));
                    }
                })
                .await;
            self.state.wake();
            match (received, ended.get()) {
                (Err(error), _) => return error,
                (Ok(()), Some(end)) => return Error::ChannelEnded(end),
                (Ok(()), None) => {}
            }
        }
    }

    /// Counts a frame; how the server ended the channel, if it did. The clock is read once for what is read at once.
    fn on_frame(&self, frame: Frame<'_>, now_ns: &mut Option<u64>) -> Option<&'static str> {
        match frame {
            Frame::Message(message) => {
                let now_ns = *now_ns.get_or_insert_with(|| self.state.now_ns());
                let mut tally = self.state.tally.borrow_mut();
                match self.expected.read(message) {
                    Some(delivery) => tally.receive(self.index, delivery, now_ns),
                    None if wire::is_heartbeat_reply(message) => {}
                    None => match wire::channel_end(message) {
                        Some(end) => return Some(end),
                        None => tally.misroute(),
                    },
                }
            }
            Frame::Ping(payload) => self.senders.pong(self.index, payload),
            Frame::Pong | Frame::Close(..) => {}
        }
        None
    }
}

//! A connection that publishes: what waits to be written, what was answered, and what becomes of both when it ends.
//!
//! *Invariant:* a publish that was handed over is answered, refused as not sent, or counted as interrupted; what waits
//! is bounded.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use super::client::{Error, MASK, Receiver};
use super::entry::Entry;
use super::frames::{self, Frame};
use super::state::State;
use super::wire;

/// A connection that takes nothing, or is away, has so much waiting at most.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// For the server to say why, after a write has failed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a publish was not sent.
const ENDED: &str = "not sent, as its connection has ended";
const FULL: &str = "not sent, as its connection takes no more";

/// What waits to be written by one connection.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    frames: RefCell<Vec<u8>>,
    /// The publishes among it.
    unsent: RefCell<Vec<(u32, u64)>>,
    some: Notify,
    ended: Cell<bool>,
}

impl Outgoing {
    /// Puts a publish behind what waits, or says why not.
    pub(crate) fn push(&self, topic: u32, number: u64, message: &[u8]) -> Result<(), &'static str> {
        if self.ended.get() {
            return Err(ENDED);
        }
        let mut frames = self.frames.borrow_mut();
        if frames.len() + message.len() > WAITING_BYTES_MAX {
            return Err(FULL);
        }
        frames::text(message, MASK, &mut frames);
        self.unsent.borrow_mut().push((topic, number));
        Ok(())
    }

    /// Wakes the writer if something waits.
    pub(crate) fn send(&self) {
        if !self.frames.borrow().is_empty() {
            self.some.notify_one();
        }
    }

    fn take(&self) -> Vec<u8> {
        self.unsent.borrow_mut().clear();
        self.frames.take()
    }
}

/// One connection that publishes to some topics.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) entry: Entry,
    pub(crate) topics: Vec<u32>,
    pub(crate) outgoing: Rc<Outgoing>,
    pub(crate) state: Rc<State>,
}

impl Publisher {
    /// Writes and reads for ever, or to the end of its connection if it shall not come back.
    pub(crate) async fn run(self, mut receiver: Receiver, mut sender: OwnedWriteHalf) {
        let state = &self.state;
        loop {
            let Err(error) = self.serve(&mut receiver, &mut sender).await;
            let left = Instant::now();
            drop((receiver, sender));
            self.interrupted(&error);
            state.room.notify_one();
            if !state.reconnect {
                return;
            }
            let failed = |error: &Error| {
                let mut tally = state.tally.borrow_mut();
                tally.connections.failures.count(&error.to_string());
            };
            (receiver, sender) = self.entry.insist(true, failed, |_| {}).await;
            let away_ns = u64::try_from(left.elapsed().as_nanos()).unwrap_or(u64::MAX);
            state.tally.borrow_mut().come_back(away_ns);
            self.outgoing.send();
        }
    }

    fn interrupted(&self, error: &Error) {
        let mut tally = self.state.tally.borrow_mut();
        tally.close(&format!("of a publisher: {error}"));
        let unsent: BTreeSet<(u32, u64)> = self.outgoing.unsent.borrow().iter().copied().collect();
        tally.interrupt(self.topics.iter().copied(), &unsent);
        if !self.state.reconnect {
            self.outgoing.ended.set(true);
            self.outgoing.take();
            let now_ns = self.state.now_ns();
            for (topic, number) in unsent {
                tally.answer(topic, number, Err(ENDED), now_ns);
            }
        }
    }

    async fn serve(&self, receiver: &mut Receiver, sender: &mut OwnedWriteHalf) -> Result<Infallible, Error> {
        let broken = tokio::select! {
            biased;
            Err(ended) = self.read(receiver) => return Err(ended), // the server closed
            Err(broken) = self.write(sender) => broken,            // the connection broke
        };
        match tokio::time::timeout(LAST_WORDS, self.read(receiver)).await {
            Ok(Err(ended)) => Err(ended),
            Err(_) => Err(broken),
        }
    }

    /// Writes what waits, and heartbeats when that is nothing for long.
    async fn write(&self, sender: &mut OwnedWriteHalf) -> Result<Infallible, Error> {
        const QUIET: Duration = Duration::from_secs(20);
        loop {
            let some = tokio::time::timeout(QUIET, self.outgoing.some.notified()).await;
            let mut frames = self.outgoing.take();
            if some.is_err() {
                frames::text(wire::HEARTBEAT, MASK, &mut frames);
            }
            sender.write_all(&frames).await?;
        }
    }

    /// Reads the answers to publishes. The copies a publisher gets of its own messages are not looked at.
    async fn read(&self, receiver: &mut Receiver) -> Result<Infallible, Error> {
        let (mut ended, mut pongs) = (None, Vec::new());
        loop {
            let mut now_ns = None;
            receiver
                .receive(|frame| match frame {
                    Frame::Message(message) => {
                        if let Some((topic, number, answer)) = wire::publish_answer(message) {
                            let now_ns = *now_ns.get_or_insert_with(|| self.state.now_ns());
                            let refused = answer.is_err();
                            let answer = answer.as_ref().copied().map_err(String::as_str);
                            self.state
                                .tally
                                .borrow_mut()
                                .answer(topic, number, answer, now_ns);
                            if refused {
                                self.state.room.notify_one();
                            }
                        } else if let Some(end) = wire::channel_end(message) {
                            ended = Some(end);
                        }
                    }
                    Frame::Ping(payload) => frames::pong(payload, MASK, &mut pongs),
                    Frame::Pong | Frame::Close(..) => {}
                })
                .await?;
            if !pongs.is_empty() {
                self.outgoing.frames.borrow_mut().append(&mut pongs);
                self.outgoing.some.notify_one();
            }
            if let Some(end) = ended {
                return Err(Error::ChannelEnded(end));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_what_is_not_taken_is_told() {
        let outgoing = Outgoing::default();
        let message = vec![b'x'; 1024 * 1024];
        let mut taken = 0;
        while outgoing.push(0, taken + 1, &message).is_ok() {
            taken += 1;
        }
        assert_eq!(outgoing.push(0, 99, &message), Err(FULL));
        assert!((14..=16).contains(&taken), "{taken}");
        assert_eq!(outgoing.unsent.borrow().len() as u64, taken);
        assert!(outgoing.take().len() <= WAITING_BYTES_MAX + 64);
        assert_eq!(outgoing.push(0, 1, &message), Ok(()));
        outgoing.ended.set(true);
        assert_eq!(outgoing.push(0, 2, &message), Err(ENDED));
    }
}

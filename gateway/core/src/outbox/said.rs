//! What an outbox says of frames, of the time, of what it lost, and of itself.

use ringcast_proto::{Millis, Offset, Topic};

use crate::route::SlowConsumer;

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is the only one: somebody has to write it.
    First,
    /// It waits behind others, which somebody writes already.
    Queued,
    /// The same, and older ones were left out for it: [`take_lost`](super::Outbox::take_lost) tells which.
    Shed,
    /// Nothing follows a close frame.
    Closing,
    /// There is no room for it: the client is to be closed with 4008.
    Slow(Why),
}

/// What the time has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticked {
    /// Nothing.
    Fine,
    /// What had waited too long was left out: [`take_lost`](super::Outbox::take_lost) tells what.
    Shed,
    /// The client is to be closed with 4008.
    Slow(Why),
}

/// Why a client is closed as a slow consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There was no room, and nothing that may be left out.
    Full,
    /// What may not be left out has waited too long.
    Late,
    /// It has been losing publications for [`SLOW_MAX`](super::SLOW_MAX) without catching up once.
    StillSlow,
    /// It has taken nothing for [`STUCK_MAX`](super::STUCK_MAX).
    Stuck,
}

impl Why {
    /// For a person who asks.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Full => "its outbox is full of what may not be left out",
            Why::Late => "what may not be left out has waited too long",
            Why::StillSlow => "it did not catch up",
            Why::Stuck => "it reads nothing",
        }
    }
}

/// Publications that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// With these the client has become slow; it was not before.
    pub begins: bool,
    /// How many.
    pub publications: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Gaps that stand for them and that did not wait before.
    pub gaps: u64,
    /// The topic of the first of them.
    pub topic: Topic,
    /// The first of that topic.
    pub from: Offset,
    /// The last of that topic.
    pub to: Offset,
    /// What that topic does with slow consumers.
    pub policy: SlowConsumer,
}

/// How an outbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames that wait.
    pub frames: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Since when the oldest waits.
    pub oldest: Option<Millis>,
    /// Bytes written in all.
    pub sent_bytes: u64,
    /// Publications left out in all.
    pub dropped: u64,
    /// Gaps written for them.
    pub gaps: u64,
    /// It loses publications and has not caught up since.
    pub slow: bool,
}

/// How a write ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits any more.
    All,
    /// The socket takes no more now.
    Blocked,
}

//! What a crew saw: every publish and what was answered, every subscriber and what it was told, in the order it came.
//!
//! A topic's publishes are numbered 1, 2, 3, ... by the crew; the number travels in the payload and in the msg_id.
//! *Invariant:* nothing is left out and nothing is judged here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::TopicNumber;

/// Which socket of a crew; a topic's subscriber is a socket's channel.
pub type SubscriberNumber = usize;

/// A place in a topic's sequence, as clients are told it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Which sequence.
    pub epoch: Arc<str>,
    /// The last publication that was seen; 0: none.
    pub offset: u64,
}

impl Position {
    /// The place `offset` of the sequence `epoch`.
    #[must_use]
    pub fn new(epoch: &str, offset: u64) -> Position {
        Position {
            epoch: epoch.into(),
            offset,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.epoch, self.offset)
    }
}

/// What a join asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// `true`: from now on.
    FromNow,
    /// What follows this.
    After(Position),
}

/// What a subscriber was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The join was answered ok.
    Joined {
        /// What it had asked for.
        asked: Asked,
        /// The position in the reply.
        position: Position,
        /// Whether what was missed follows.
        is_recovered: bool,
    },
    /// An event with `"@OFFSET"`.
    Got {
        /// Its offset.
        offset: u64,
        /// The number of the publish.
        number: u64,
    },
    /// The event `gap`.
    Gap {
        /// Of this sequence ...
        epoch: Arc<str>,
        /// ... from here ...
        from: u64,
        /// ... to here, both included.
        to: u64,
        /// Why.
        reason: String,
    },
    /// The connection was lost, with this close code.
    Lost(Option<u16>),
}

/// What one subscriber of one topic was told, in the order it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail {
    /// And when, from the beginning of the crew's work.
    pub seen: Vec<(Duration, Seen)>,
}

/// How a publish was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Ok, with its place.
    Committed {
        /// Where.
        position: Position,
        /// It was there before.
        is_dup: bool,
    },
    /// An error, with its reason.
    Refused(String),
}

/// A publish, however often it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Publish {
    /// When it was due.
    pub sent: Duration,
    /// Who sent it.
    pub senders: BTreeSet<SubscriberNumber>,
    /// Its senders need not get it.
    pub is_to_others: bool,
    /// What came back, from whichever sending.
    pub answers: Vec<(Duration, Answer)>,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// By topic and number.
    pub publishes: BTreeMap<(TopicNumber, u64), Publish>,
    /// By topic and subscriber.
    pub trails: BTreeMap<(TopicNumber, SubscriberNumber), Trail>,
    /// Subscribers that were away at the end: they owe nothing but what they were told.
    pub away: BTreeSet<SubscriberNumber>,
    /// Joins that were refused, and tried again as the refusal allowed.
    pub put_off: Vec<String>,
    /// What nobody should have been told: `phx_error`, `phx_close`, refused joins, frames that are none.
    pub disturbances: Vec<String>,
}

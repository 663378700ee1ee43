//! What the gateway remembers of a connection and of its channels.
//!
//! Leaves out: what is done with it (`gateway::clients`).

use std::collections::VecDeque;

use bytes::Bytes;
use ringcast_proto::{Millis, Offset, Slot, SmallMap, Topic};

use crate::gateway::Published;
use crate::limits::{Bucket, Limits};
use crate::phoenix::{Json, Message, Resume, Serializer};
use crate::route::Route;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) serializer: Serializer,
    pub(crate) subject: Bytes,
    pub(crate) channels: SmallMap<Topic, Channel>,
    /// Messages taken and not answered yet: publishes under way and messages that wait for them.
    pub(crate) unanswered: usize,
    /// The bytes of their payloads.
    pub(crate) unanswered_bytes: usize,
    pub(crate) paused: bool,
    pub(crate) ending: Ending,
    pub(crate) joins: Bucket,
    pub(crate) pushes: Bucket,
}

impl Session {
    pub(crate) fn new(serializer: Serializer, subject: Bytes, limits: &Limits, now: Millis) -> Session {
        Session {
            serializer,
            subject,
            channels: SmallMap::default(),
            unanswered: 0,
            unanswered_bytes: 0,
            paused: false,
            ending: Ending::Not,
            joins: Bucket::full(limits.joins, now),
            pushes: Bucket::full(limits.pushes, now),
        }
    }
}

/// How far the gateway is with ending a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It does not.
    Not,
    /// What the client said is answered first, until then at the latest.
    Answering(Millis),
    /// Its connection is being closed.
    Closed,
}

/// One join of one session.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) slot: Slot,
    pub(crate) route: Route,
    /// As the join gave it; what later messages are held against.
    pub(crate) join_ref: Json,
    /// What replies and pushes carry: the join_ref, or where it was null the join's ref (S12).
    pub(crate) push_ref: Json,
    /// Its join asked for positions: `resume`, offsets, gaps, and what errors mean.
    pub(crate) positions: bool,
    /// Set until the owner knows the session.
    pub(crate) joining: Option<Box<Joining>>,
    /// Publishes under way.
    pub(crate) unanswered: usize,
    /// Outcomes of publishes whose replies wait for the publisher's own copy, and what came after them.
    pub(crate) settled: VecDeque<Settled>,
    /// Messages that may not overtake what is under way.
    pub(crate) waiting: VecDeque<Message>,
}

impl Channel {
    /// Whether a message has to wait: everything while the join is under way, and a join or leave until every publish
    /// before it is answered (O3, O5).
    pub(crate) fn holds_back(&self, event: Option<&str>) -> bool {
        let ends_the_channel = matches!(event, Some("phx_join" | "phx_leave"));
        self.joining.is_some() || !self.waiting.is_empty() || (ends_the_channel && self.unanswered > 0)
    }

    /// A message whose join_ref is another join's is dropped (S10); null always means the present one (S11).
    pub(crate) fn is_stale(&self, message: &Message) -> bool {
        !message.join_ref.is_null() && message.join_ref != self.join_ref
    }
}

/// The outcome of a publish that is not replied to yet.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) reference: Json,
    /// The client's id of the publish, for what an unknown outcome has to say; empty: none.
    pub(crate) msg_id: Bytes,
    pub(crate) result: Result<Published, &'static str>,
    /// The reply waits for this offset to be passed on, until then.
    pub(crate) copy: Option<(Offset, Millis)>,
    pub(crate) bytes: usize,
}

/// A join the owner has not confirmed.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) reference: Json,
    /// From where it is to go on, if it asked for positions.
    pub(crate) resume: Option<Resume>,
    /// The join_ref of the channel this one replaces, which is closed after the reply (S13).
    pub(crate) replaces: Option<Json>,
    pub(crate) deadline: Millis,
}

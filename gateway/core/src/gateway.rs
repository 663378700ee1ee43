//! The state machine of a gateway: inputs in, effects out.
//!
//! *Invariant:* a join's reply is its channel's first frame, `topics:*` gets its reply before its own copy (O1), every
//! other channel its own copy before the reply (O2), and each publication is passed on once, in offset order (O4).

mod clients;
mod fanout;
mod look;
mod pushes;
mod replies;
mod resume;
mod retire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::v1::{self, Target};
use ringcast_proto::{Epoch, Incarnation, Millis, NodeRef, Offset, SessionId, Topic};
use ringcast_ring::SlotTable;

use crate::backoff::Jitter;
use crate::fetching::Fetching;
use crate::interest::Interest;
use crate::limits::Limits;
use crate::owners::Owners;
use crate::phoenix::{Frame, Message, Serializer};
use crate::place::Place;
use crate::policy::{AllowAll, Policy};
use crate::publishing::Publishing;
use crate::reason;
use crate::route::{Namespace, Routes};
use crate::session::Session;
use replies::{Held, Waiter};

pub use look::Client;

/// Names one call to a topic server, or one delivery to be answered, until its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What happens to a gateway.
#[derive(Debug)]
pub enum Input {
    /// A client's handshake is done.
    Open {
        /// Its id, unique in the cluster.
        session: SessionId,
        /// How it writes.
        serializer: Serializer,
        /// Who it is, empty when anonymous.
        subject: Bytes,
    },
    /// A client sent a message that could be decoded.
    Message {
        /// Which client.
        session: SessionId,
        /// What.
        message: Message,
    },
    /// A client's connection is gone, whoever ended it.
    Closed {
        /// Which client.
        session: SessionId,
    },
    /// The gateway is about to end: read no more of this client, and close it once what it said is answered.
    Retire {
        /// Which client.
        session: SessionId,
        /// It is closed then, answered or not.
        until: Millis,
    },
    /// The ring store told who owns which slot.
    Table(Arc<SlotTable>),
    /// This gateway's lease was lost and it registered anew: owners have forgotten its members.
    Registered(Incarnation),
    /// The answer to [`Effect::Bind`], or why there is none (then the outcome is unknown).
    Bound(CallId, Result<v1::BindAnswer, CallFailed>),
    /// The answer to [`Effect::Publish`], or why there is none (then the outcome is unknown).
    Published(CallId, Result<v1::PublishAnswer, CallFailed>),
    /// The answer to [`Effect::Fetch`], or why there is none.
    Fetched(CallId, Result<v1::FetchAnswer, CallFailed>),
    /// A topic server delivers. Answered by [`Effect::Delivered`].
    Deliver(CallId, Vec<v1::DeliverEntry>),
    /// The HTTP or admin API publishes. Answered by [`Effect::ServerPublished`].
    ServerPublish(CallId, ServerPublish),
    /// A deadline passed.
    Tick,
}

/// A publish by the server's own API.
#[derive(Debug)]
pub struct ServerPublish {
    /// Where to.
    pub topic: Topic,
    /// Under which event name.
    pub event: Bytes,
    /// A JSON object, as text.
    pub payload: Bytes,
    /// The caller's own id of it; empty: none.
    pub msg_id: Bytes,
    /// Who receives it.
    pub target: Target,
    /// With [`Target::Members`]: their names.
    pub names: Vec<Bytes>,
}

/// Where a publish took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The topic's epoch.
    pub epoch: Epoch,
    /// Its place in the sequence; none of what takes none.
    pub offset: Option<Offset>,
    /// Without an offset: the sessions it was meant for.
    pub matched: Option<u32>,
    /// An earlier publish with the same msg_id did, and this is its outcome.
    pub dup: bool,
}

/// Why a call got no answer. It may have been carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailed {
    /// Timed out, cut off, refused: try the same again later.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The node in question is another incarnation by now, or never heard of us: wait for the table.
    #[error("refused: {0}")]
    Refused(String),
}

/// What a gateway wants done.
#[derive(Debug)]
pub enum Effect {
    /// Write these bytes to the client, or close it if they do not fit.
    Write(SessionId, Frame),
    /// Write this to a channel with positions; if it does not fit, publications may be left out and a gap written in their
    /// place.
    Publication(SessionId, Frame, Place),
    /// Close the connection with this WebSocket code, after what was written before.
    Close(SessionId, u16, &'static str),
    /// Read no more from this client until [`Effect::Resume`].
    Pause(SessionId),
    /// Read from this client again.
    Resume(SessionId),
    /// Call `Bind` on this node; answer by [`Input::Bound`].
    Bind(CallId, NodeRef, Vec<v1::Bind>),
    /// Call `Fetch` on this node; answer by [`Input::Fetched`].
    Fetch(CallId, NodeRef, Vec<v1::Fetch>),
    /// Call `Publish` on this node; answer by [`Input::Published`].
    Publish(CallId, NodeRef, Vec<v1::SlotPublishes>),
    /// The answer to [`Input::Deliver`]; `incarnation` is left to the shell.
    Delivered(CallId, v1::DeliverAnswer),
    /// The answer to [`Input::ServerPublish`]: where it took effect, or the reason it did not.
    ServerPublished(CallId, Result<Published, &'static str>),
}

/// What a gateway has done since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Joins answered ok. Less [`Gateway::joined`] they are the channels that ended.
    pub joins: u64,
    /// Publishes taken from clients.
    pub client_publishes: u64,
    /// Publications written, once for each member that got one.
    pub deliveries: u64,
    /// Binary publications left out, because their receiver's serializer has no words for them (F5).
    pub left_out: u64,
    /// Joins with a position that recovered all they missed.
    pub resumed: u64,
    /// Joins with a position that begin at the head.
    pub not_resumed: u64,
    /// Of these, those with a position ahead of the topic, which should not happen (X2e).
    pub resumed_ahead: u64,
    /// Gaps told because of what the owner no longer has.
    pub gaps: u64,
}

/// How a gateway is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Declared namespaces, the first match wins; `topics:*` and `room:*` need no declaration.
    pub namespaces: Vec<Namespace>,
    /// What one connection may ask for.
    pub limits: Limits,
}

/// How often what waits is looked at again, deadlines above all, which are seconds.
const RETRY_TICK: Duration = Duration::from_millis(10);

/// A gateway: its sessions, what it wants of which topic, and the publishes on their way.
pub struct Gateway {
    routes: Routes,
    limits: Limits,
    policy: Box<dyn Policy>,
    sessions: BTreeMap<SessionId, Session>,
    join_deadlines: BTreeSet<(Millis, SessionId, Topic)>,
    /// Sessions that are to end and wait for answers.
    retiring: BTreeSet<(Millis, SessionId)>,
    owners: Owners,
    interest: Interest,
    fetching: Fetching,
    publishing: Publishing<Waiter>,
    held: Held,
    jitter: Jitter,
    last_call: u64,
    joined: usize,
    counts: Counts,
    now: Millis,
    /// The last [`Input::Tick`]. The next is due by it and not by `now`, or a steady stream of inputs would put it
    /// off for ever.
    ticked: Millis,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("sessions", &self.sessions.len())
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway without clients, under a policy that allows everything. `entropy` seeds the jitter of its retries.
    #[must_use]
    pub fn new(config: Config, entropy: u64) -> Gateway {
        Gateway::with_policy(config, entropy, Box::new(AllowAll))
    }

    /// The same under a policy of its own.
    #[must_use]
    pub fn with_policy(config: Config, entropy: u64, policy: Box<dyn Policy>) -> Gateway {
        Gateway {
            routes: Routes::new(config.namespaces),
            limits: config.limits,
            policy,
            sessions: BTreeMap::new(),
            join_deadlines: BTreeSet::new(),
            retiring: BTreeSet::new(),
            owners: Owners::default(),
            interest: Interest::default(),
            fetching: Fetching::default(),
            publishing: Publishing::new(config.limits),
            held: Held::default(),
            jitter: Jitter::new(entropy),
            last_call: 0,
            joined: 0,
            counts: Counts::default(),
            now: Millis(0),
            ticked: Millis(0),
        }
    }

    /// Channels joined now, over all sessions.
    #[must_use]
    pub fn joined(&self) -> usize {
        self.joined
    }

    /// Sessions that are to end and whose answers are not there yet.
    #[must_use]
    pub fn retiring(&self) -> usize {
        self.retiring.len()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes one input. What it causes at topic servers leaves with the next [`Gateway::flush`].
    pub fn apply(&mut self, input: Input, now: Millis, effects: &mut Vec<Effect>) {
        self.now = now;
        match input {
            Input::Open {
                session,
                serializer,
                subject,
            } => {
                self.sessions
                    .insert(session, Session::new(serializer, subject, &self.limits, now));
            }
            Input::Message { session, message } => self.message(session, message, effects),
            Input::Closed { session } => self.closed(session),
            Input::Retire { session, until } => self.retire(session, until, effects),
            Input::Table(table) => {
                self.owners.replace(table);
                self.moved();
            }
            Input::Registered(_) => {
                self.interest.forget_bindings(now);
                self.fetching.forget_calls();
                let mut decided = Vec::new();
                self.publishing.forget_sent(&mut decided);
                self.settle_all(decided, effects);
            }
            Input::Bound(call, answer) => {
                let events = self
                    .interest
                    .bound(call, answer, &mut self.owners, now, &mut self.jitter);
                self.moved();
                for event in events {
                    self.membership(event, effects);
                }
            }
            Input::Published(call, answer) => {
                let mut decided = Vec::new();
                self.publishing.answered(
                    call,
                    answer,
                    &mut self.owners,
                    now,
                    &mut self.jitter,
                    &mut decided,
                );
                self.moved();
                self.settle_all(decided, effects);
            }
            Input::Fetched(call, answer) => self.fetched(call, answer, effects),
            Input::Deliver(call, entries) => self.deliver(call, entries, effects),
            Input::ServerPublish(call, publish) => self.server_publish(call, publish, effects),
            Input::Tick => {
                self.ticked = now;
                self.expire(effects);
            }
        }
    }

    /// Sends what has gathered: one call to each node whose lane is idle.
    pub fn flush(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        self.now = now;
        self.interest
            .flush(&self.owners, now, &mut self.last_call, effects);
        self.fetching
            .flush(&self.owners, now, &mut self.last_call, effects);
        self.publishing
            .flush(&self.owners, now, &mut self.last_call, effects);
    }

    /// When [`Input::Tick`] is due, if ever. A late one is harmless.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let join = self.join_deadlines.first().map(|(at, ..)| *at);
        let waiting =
            self.publishing.busy() || self.interest.busy() || self.fetching.busy() || !self.held.is_empty();
        let tick = waiting.then(|| self.ticked + RETRY_TICK);
        let retiring = self.retiring.first().map(|(until, _)| *until);
        let retries = [
            self.publishing.retry_at(),
            self.interest.retry_at(),
            self.fetching.retry_at(),
            retiring,
        ];
        join.into_iter()
            .chain(tick)
            .chain(retries.into_iter().flatten())
            .min()
    }

    /// Since when the first of what left with this call had waited for its lane. To be asked before the call's answer is
    /// taken; none where it carries only what was sent before.
    #[must_use]
    pub fn waiting_since(&self, call: CallId) -> Option<Millis> {
        self.publishing
            .waiting_since(call)
            .or_else(|| self.interest.waiting_since(call))
    }

    /// Slots may have other owners: what waited for the old ones waits no longer.
    fn moved(&mut self) {
        let slots = self.owners.take_moved();
        self.interest.moved(&slots, &self.owners, self.now);
        self.fetching.moved(&slots);
        self.publishing.moved(&slots);
    }

    fn expire(&mut self, effects: &mut Vec<Effect>) {
        let mut decided = Vec::new();
        self.publishing.expire(self.now, &mut decided);
        self.settle_all(decided, effects);
        self.release_overdue(effects);
        self.close_overdue(effects);
        while let Some((_, session, topic)) = self
            .join_deadlines
            .first()
            .filter(|(at, ..)| *at <= self.now)
            .cloned()
        {
            self.refuse_join(session, &topic, reason::TOPIC_UNAVAILABLE, effects);
        }
    }
}

#[cfg(test)]
mod tests;

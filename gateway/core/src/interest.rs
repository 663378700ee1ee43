//! What this gateway wants of which topic, and how far it has passed it on.
//!
//! The gateway is a resumable subscriber of every topic its sessions joined. It binds at the owner with its members and
//! its cursor, and whatever happens - a lost call, a move, a takeover - it binds again and goes on from there. A new owner
//! is first told no more than what changed since the last confirmed bind: after a planned move it holds the rest.
//!
//! *Invariant:* one bind a topic is in flight at most.
//! Leaves out: which frames a session sees (`gateway`).

mod answers;
mod changes;
mod deliver;
mod kept;
mod wanted;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringcast_proto::v1;
use ringcast_proto::{Epoch, Millis, NodeRef, Offset, SessionId, Slot, SmallMap, Topic};

use crate::gateway::{CallId, Effect};
use crate::lanes::Lanes;
use crate::owners::Owners;
use crate::place::Stream;
pub(crate) use deliver::{Missed, Passed};
pub(crate) use kept::Kept;
pub(crate) use wanted::{Member, Wanted};

/// Topics a Bind call carries at most.
const CALL_TOPICS_MAX: usize = 512;
/// Members a Bind call carries at most, unless one topic alone has more: some 24 bytes each, far below the 4 MiB limit.
const CALL_MEMBERS_MAX: usize = 32_768;

/// A change in a session's membership.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The owner knows the session, which sees what is published from now on.
    Joined(Topic, SessionId),
    /// The owner knows the session, whose position is still to be judged; this was the topic's head then.
    Known(Topic, SessionId, Option<(Epoch, Offset)>),
    /// The topic has another epoch, of which so much is missed already: all who are joined have to be told.
    Anew(Topic, Epoch, Offset),
    /// The owner will not have the topic.
    Refused(Topic, SessionId),
}

/// The topics of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    slots: BTreeMap<Slot, SmallMap<Topic, Wanted>>,
    /// Topics of a slot that have something to tell its owner.
    ready: BTreeMap<Slot, VecDeque<Topic>>,
    not_before: BTreeMap<Slot, (Millis, u32)>,
    calls: BTreeMap<CallId, Call>,
    lanes: Lanes,
    seq: u64,
    /// Where the next round begins, so that the many topics of a slot that moved do not starve the slots after it.
    next_slot: Slot,
    /// When the first of what waits for its time may leave.
    retry_at: Option<Millis>,
}

/// A Bind call in flight.
#[derive(Debug)]
struct Call {
    to: NodeRef,
    topics: Vec<(Slot, Topic)>,
    /// Since when the one that waited longest had waited.
    since: Millis,
}

impl Interest {
    /// The bind counter, for the answers to Deliver.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether anything waits to be told or answered.
    pub(crate) fn busy(&self) -> bool {
        !self.ready.is_empty() || !self.calls.is_empty()
    }

    /// When the next thing that waits for its time may leave.
    pub(crate) fn retry_at(&self) -> Option<Millis> {
        self.retry_at
    }

    /// Since when the first topic in a call had something to tell.
    pub(crate) fn waiting_since(&self, call: CallId) -> Option<Millis> {
        Some(self.calls.get(&call)?.since)
    }

    /// The topic as this gateway wants it.
    pub(crate) fn topic(&self, slot: Slot, topic: &str) -> Option<&Wanted> {
        self.slots.get(&slot)?.get(topic)
    }

    /// How far the topic was passed on.
    pub(crate) fn cursor(&self, slot: Slot, topic: &Topic) -> Option<&(Epoch, Offset)> {
        self.topic(slot, topic.as_str())?.cursor.as_ref()
    }

    /// A session whose position was judged sees what is published after the cursor and after what it `has`.
    pub(crate) fn begin(
        &mut self,
        slot: Slot,
        topic: &Topic,
        session: SessionId,
        stream: Arc<Stream>,
        has: Offset,
    ) {
        let member = self
            .wanted(slot, topic)
            .and_then(|wanted| wanted.members.get_mut(&session));
        if let Some(member) = member {
            member.joined = true;
            member.has = has;
            member.stream = Some(stream);
        }
    }

    /// Keeps what is passed on of the topic from now on, until told otherwise.
    pub(crate) fn keep(&mut self, slot: Slot, topic: &Topic) {
        if let Some(wanted) = self.wanted(slot, topic)
            && let Some((_, cursor)) = &wanted.cursor
        {
            let cursor = *cursor;
            wanted.kept.get_or_insert_with(|| Kept::from(cursor));
        }
    }

    /// What was kept of it.
    pub(crate) fn kept(&self, slot: Slot, topic: &Topic) -> Option<&Kept> {
        self.topic(slot, topic.as_str())?.kept.as_ref()
    }

    /// Keeps nothing any more.
    pub(crate) fn keep_no_more(&mut self, slot: Slot, topic: &Topic) {
        if let Some(wanted) = self.wanted(slot, topic) {
            wanted.kept = None;
        }
    }

    /// The members with positions who see what is published, to be told something.
    pub(crate) fn streams(
        &mut self,
        slot: Slot,
        topic: &Topic,
    ) -> impl Iterator<Item = (SessionId, &mut Offset, &mut Arc<Stream>)> {
        let wanted = self.wanted(slot, topic);
        wanted.into_iter().flat_map(|wanted| {
            let joined = (&mut wanted.members)
                .into_iter()
                .filter(|(_, member)| member.joined);
            joined.filter_map(|(session, member)| Some((*session, &mut member.has, member.stream.as_mut()?)))
        })
    }

    fn wanted(&mut self, slot: Slot, topic: &Topic) -> Option<&mut Wanted> {
        self.slots.get_mut(&slot)?.get_mut(topic)
    }

    /// A session wants the topic. Answered later by [`Event::Joined`] or [`Event::Known`], or by [`Event::Refused`].
    pub(crate) fn join(
        &mut self,
        slot: Slot,
        topic: &Topic,
        session: SessionId,
        member: Member,
        now: Millis,
    ) {
        let topics = self.slots.entry(slot).or_default();
        topics.or_default(topic.clone()).join(session, member);
        self.queue(slot, topic, now);
    }

    /// A session no longer wants the topic.
    pub(crate) fn leave(&mut self, slot: Slot, topic: &Topic, session: SessionId, now: Millis) {
        let wanted = self.slots.get_mut(&slot).and_then(|topics| topics.get_mut(topic));
        if wanted.is_some_and(|wanted| wanted.leave(session)) {
            self.queue(slot, topic, now);
        }
    }

    /// The slots' owners changed: bind there anew.
    pub(crate) fn moved(&mut self, slots: &[Slot], owners: &Owners, now: Millis) {
        for &slot in slots {
            self.not_before.remove(&slot);
            let Some(topics) = self.slots.get_mut(&slot) else {
                continue;
            };
            let owner = owners.owner(slot);
            // Without a look-up each: there may be tens of thousands, and clients wait.
            for (topic, wanted) in topics {
                wanted.moved(owner.as_ref());
                if wanted.has_to_tell() {
                    wanted.queued = Some(now);
                    self.ready.entry(slot).or_default().push_back(topic.clone());
                }
            }
        }
    }

    /// This gateway is another incarnation: no owner knows it, and answers to the old one no longer count.
    pub(crate) fn forget_bindings(&mut self, now: Millis) {
        self.calls.clear();
        self.lanes.clear();
        self.not_before.clear();
        let mut all = Vec::new();
        for (slot, topics) in &mut self.slots {
            for (topic, wanted) in topics {
                wanted.in_flight = None;
                wanted.bound = None;
                all.push((*slot, topic.clone()));
            }
        }
        for (slot, topic) in all {
            self.queue(slot, &topic, now);
        }
    }

    fn queue(&mut self, slot: Slot, topic: &Topic, now: Millis) {
        let Some(topics) = self.slots.get_mut(&slot) else {
            return;
        };
        let Some(wanted) = topics.get_mut(topic) else {
            return;
        };
        if wanted.is_over() {
            topics.remove(topic);
            if topics.is_empty() {
                self.slots.remove(&slot);
            }
        } else if wanted.has_to_tell() {
            wanted.queued = Some(now);
            self.ready.entry(slot).or_default().push_back(topic.clone());
        }
    }

    /// Sends what is ready to every owner whose lane is idle.
    pub(crate) fn flush(
        &mut self,
        owners: &Owners,
        now: Millis,
        next_call: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        self.retry_at = None;
        if self.ready.is_empty() {
            return;
        }
        let mut batches: BTreeMap<NodeRef, Batch> = BTreeMap::new();
        let (before, from): (Vec<Slot>, Vec<Slot>) =
            self.ready.keys().partition(|slot| **slot < self.next_slot);
        let mut full = None;
        for slot in from.into_iter().chain(before) {
            let Some((to, owner_epoch)) = owners.owner(slot) else {
                continue;
            };
            let Some(free_at) = self.lanes.free_at(&to) else {
                continue;
            };
            let at = self
                .not_before
                .get(&slot)
                .map_or(free_at, |(at, _)| free_at.max(*at));
            if at > now {
                self.retry_at = Some(self.retry_at.map_or(at, |first| first.min(at)));
                continue;
            }
            let batch = batches
                .entry(to.clone())
                .or_insert_with(|| Batch::new(next_call, now));
            while !batch.is_full() {
                let Some(topic) = self.ready.get_mut(&slot).and_then(VecDeque::pop_front) else {
                    break;
                };
                let Some(wanted) = self
                    .slots
                    .get_mut(&slot)
                    .and_then(|topics| topics.get_mut(&topic))
                else {
                    continue;
                };
                batch.since = batch.since.min(wanted.queued.take().unwrap_or(now));
                self.seq += 1;
                let bind = wanted.bind(slot, &topic, &to, owner_epoch, self.seq, batch.call);
                batch.members += bind.joined.len() + bind.left.len();
                batch.binds.push(bind);
                batch.topics.push((slot, topic));
            }
            if self.ready.get(&slot).is_some_and(VecDeque::is_empty) {
                self.ready.remove(&slot);
            } else {
                full = full.or(Some(Slot(slot.0.saturating_add(1))));
            }
        }
        self.next_slot = full.unwrap_or(Slot(0));
        for (to, batch) in batches.into_iter().filter(|(_, batch)| !batch.binds.is_empty()) {
            self.lanes.take(&to, batch.call);
            let call = Call {
                to: to.clone(),
                topics: batch.topics,
                since: batch.since,
            };
            self.calls.insert(batch.call, call);
            effects.push(Effect::Bind(batch.call, to, batch.binds));
        }
        self.lanes.retain(now, |node| owners.knows(node));
    }
}

/// What gathers for one owner.
struct Batch {
    call: CallId,
    binds: Vec<v1::Bind>,
    topics: Vec<(Slot, Topic)>,
    members: usize,
    since: Millis,
}

impl Batch {
    fn new(next_call: &mut u64, now: Millis) -> Batch {
        *next_call += 1;
        Batch {
            call: CallId(*next_call),
            binds: Vec::new(),
            topics: Vec::new(),
            members: 0,
            since: now,
        }
    }

    fn is_full(&self) -> bool {
        self.topics.len() >= CALL_TOPICS_MAX || self.members >= CALL_MEMBERS_MAX
    }
}

/// A position of another node, if it is one.
pub(crate) fn position(position: &v1::Position) -> Option<(Epoch, Offset)> {
    Some((Epoch::parse(&position.epoch).ok()?, Offset(position.offset)))
}

#[cfg(test)]
mod tests;

//! What this gateway wants of which topic, and how far it has passed it on.
//!
//! The gateway is a resumable subscriber of every topic its sessions joined. It binds at the owner with its members and
//! its cursor, and whatever happens - a lost call, a move, a takeover - it binds again and goes on from there.
//!
//! *Invariant:* one bind a topic is in flight at most; a publication is passed on only if it follows the cursor.
//! Leaves out: which frames a session sees (`gateway`).

mod wanted;

use std::collections::{BTreeMap, VecDeque};

use ringcast_proto::v1::{self, BindStatus, DeliverStatus};
use ringcast_proto::{Epoch, Millis, NodeRef, Offset, OwnerEpoch, SessionId, Slot, Topic};

use crate::backoff::Jitter;
use crate::gateway::{CallFailed, CallId, Effect};
use crate::lanes::Lanes;
use crate::owners::Owners;
use wanted::Bound;
pub(crate) use wanted::{Member, Wanted};

/// Topics a Bind call carries at most.
const CALL_TOPICS_MAX: usize = 512;
/// Members a Bind call carries at most, unless one topic alone has more: some 24 bytes each, far below the 4 MiB limit.
const CALL_MEMBERS_MAX: usize = 32_768;

/// What became of a delivered entry.
#[derive(Debug)]
pub(crate) enum Passed {
    /// Pass on `publications[from..]`, after admitting these sessions.
    On { admitted: Vec<SessionId>, from: usize },
    /// Nothing to pass on; the owner is told why.
    No(v1::DeliverException),
}

/// A change in a session's membership.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The owner knows the session.
    Joined(Topic, SessionId),
    /// The owner will not have the topic.
    Refused(Topic, SessionId),
}

/// The topics of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    slots: BTreeMap<Slot, BTreeMap<Topic, Wanted>>,
    /// Topics of a slot that have something to tell its owner.
    ready: BTreeMap<Slot, VecDeque<Topic>>,
    not_before: BTreeMap<Slot, (Millis, u32)>,
    calls: BTreeMap<CallId, (NodeRef, Vec<(Slot, Topic)>)>,
    lanes: Lanes,
    seq: u64,
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

    /// The topic as this gateway wants it.
    pub(crate) fn topic(&self, slot: Slot, topic: &str) -> Option<&Wanted> {
        self.slots.get(&slot)?.get(topic)
    }

    /// How far the topic was passed on.
    pub(crate) fn cursor(&self, slot: Slot, topic: &Topic) -> Option<&(Epoch, Offset)> {
        self.topic(slot, topic.as_str())?.cursor.as_ref()
    }

    /// A session wants the topic. Answered later by [`Event::Joined`] or [`Event::Refused`].
    pub(crate) fn join(&mut self, slot: Slot, topic: &Topic, session: SessionId, member: Member) {
        let wanted = self
            .slots
            .entry(slot)
            .or_default()
            .entry(topic.clone())
            .or_default();
        wanted.members.insert(session, member);
        wanted.joining.insert(session, 0);
        wanted.joined_since.insert(session);
        wanted.left_since.remove(&session);
        self.queue(slot, topic);
    }

    /// A session no longer wants the topic.
    pub(crate) fn leave(&mut self, slot: Slot, topic: &Topic, session: SessionId) {
        let Some(wanted) = self.slots.get_mut(&slot).and_then(|topics| topics.get_mut(topic)) else {
            return;
        };
        if wanted.members.remove(&session).is_none() {
            return;
        }
        wanted.joining.remove(&session);
        let untold = wanted.joined_since.remove(&session);
        if !untold || wanted.bound.is_some() || wanted.in_flight.is_some() {
            wanted.left_since.insert(session);
        }
        self.queue(slot, topic);
    }

    /// The slots' owners changed: bind there anew.
    pub(crate) fn moved(&mut self, slots: impl IntoIterator<Item = Slot>) {
        for slot in slots {
            self.not_before.remove(&slot);
            let Some(topics) = self.slots.get_mut(&slot) else {
                continue;
            };
            let names: Vec<Topic> = topics.keys().cloned().collect();
            for wanted in topics.values_mut() {
                wanted.bound = None;
            }
            for topic in names {
                self.queue(slot, &topic);
            }
        }
    }

    /// This gateway is another incarnation: no owner knows it, and answers to the old one no longer count.
    pub(crate) fn forget_bindings(&mut self) {
        self.calls.clear();
        self.lanes.clear();
        for topics in self.slots.values_mut() {
            for wanted in topics.values_mut() {
                wanted.in_flight = None;
            }
        }
        let all: Vec<Slot> = self.slots.keys().copied().collect();
        self.moved(all);
    }

    fn queue(&mut self, slot: Slot, topic: &Topic) {
        let Some(topics) = self.slots.get_mut(&slot) else {
            return;
        };
        let Some(wanted) = topics.get_mut(topic) else {
            return;
        };
        if wanted.in_flight.is_some() || wanted.queued {
            return;
        }
        if wanted.members.is_empty() && !wanted.owner_knows {
            topics.remove(topic);
            if topics.is_empty() {
                self.slots.remove(&slot);
            }
            return;
        }
        if wanted.up_to_date() {
            return;
        }
        wanted.queued = true;
        self.ready.entry(slot).or_default().push_back(topic.clone());
    }

    /// Sends what is ready to every owner whose lane is idle.
    pub(crate) fn flush(
        &mut self,
        owners: &Owners,
        now: Millis,
        next_call: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.ready.is_empty() {
            return;
        }
        let mut batches: BTreeMap<NodeRef, (OwnerBatch, usize)> = BTreeMap::new();
        let slots: Vec<Slot> = self.ready.keys().copied().collect();
        for slot in slots {
            if self.not_before.get(&slot).is_some_and(|(at, _)| *at > now) {
                continue;
            }
            let Some((to, owner_epoch)) = owners.owner(slot) else {
                continue;
            };
            if !self.lanes.idle(&to, now) {
                continue;
            }
            let (batch, members) = batches
                .entry(to.clone())
                .or_insert_with(|| (OwnerBatch::new(next_call), 0));
            while batch.topics.len() < CALL_TOPICS_MAX && *members < CALL_MEMBERS_MAX {
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
                wanted.queued = false;
                self.seq += 1;
                let bind = wanted.bind(slot, &topic, &to, owner_epoch, self.seq, batch.call);
                *members += bind.joined.len() + bind.left.len();
                batch.binds.push(bind);
                batch.topics.push((slot, topic));
            }
            if self.ready.get(&slot).is_some_and(VecDeque::is_empty) {
                self.ready.remove(&slot);
            }
        }
        for (to, (batch, _)) in batches
            .into_iter()
            .filter(|(_, (batch, _))| !batch.binds.is_empty())
        {
            self.lanes.take(&to, batch.call);
            self.calls.insert(batch.call, (to.clone(), batch.topics));
            effects.push(Effect::Bind(batch.call, to, batch.binds));
        }
        self.lanes.retain(|node| owners.knows(node));
    }

    /// Takes the answer to a Bind call.
    pub(crate) fn bound(
        &mut self,
        call: CallId,
        answer: Result<v1::BindAnswer, CallFailed>,
        owners: &mut Owners,
        now: Millis,
        jitter: &mut Jitter,
    ) -> Vec<Event> {
        let Some((to, topics)) = self.calls.remove(&call) else {
            return Vec::new();
        };
        let outcomes = match answer {
            // An answer that does not fit the call tells nothing.
            Ok(answer) if answer.outcomes.len() == topics.len() => {
                self.lanes.done(&to, call);
                answer.outcomes.into_iter().map(Some).collect()
            }
            Ok(_) | Err(_) => {
                self.lanes.failed(&to, call, now, jitter);
                vec![None; topics.len()]
            }
        };
        let mut events = Vec::new();
        for ((slot, topic), outcome) in topics.into_iter().zip(outcomes) {
            self.settle(slot, &topic, call, outcome, owners, now, jitter, &mut events);
        }
        events
    }

    #[expect(clippy::too_many_arguments, reason = "one call's context, used once")]
    fn settle(
        &mut self,
        slot: Slot,
        topic: &Topic,
        call: CallId,
        outcome: Option<v1::BindOutcome>,
        owners: &mut Owners,
        now: Millis,
        jitter: &mut Jitter,
        events: &mut Vec<Event>,
    ) {
        let Some(wanted) = self.slots.get_mut(&slot).and_then(|topics| topics.get_mut(topic)) else {
            return;
        };
        let Some(sent) = wanted.in_flight.take_if(|sent| sent.call == call) else {
            return;
        };
        // Whatever is not a clear yes is told again, in full.
        wanted.bound = None;
        match outcome {
            Some(outcome)
                if outcome.status() == BindStatus::Ok
                    && owners.see(slot, OwnerEpoch(outcome.owner_epoch)) =>
            {
                self.not_before.remove(&slot);
                wanted.owner_knows = !sent.empty;
                // The slot may have moved on while the answer was on its way.
                let still_there = owners.owner(slot).is_some_and(|(owner, _)| owner == sent.to);
                // Of a group without members the owner keeps nothing that a change could be made to.
                if still_there && !sent.empty {
                    wanted.bound = Some(Bound {
                        to: sent.to,
                        owner_epoch: sent.owner_epoch,
                        seq: sent.seq,
                    });
                }
                if let Some((epoch, offset)) = outcome.cursor.as_ref().and_then(position)
                    && wanted.cursor.as_ref().is_none_or(|(known, _)| *known != epoch)
                {
                    wanted.cursor = Some((epoch, offset));
                }
                if sent.empty {
                    // Nobody was left: who joins now begins at the head, not where the others stopped.
                    wanted.cursor = None;
                }
                events.extend(
                    wanted
                        .admit(sent.seq)
                        .into_iter()
                        .map(|session| Event::Joined(topic.clone(), session)),
                );
            }
            Some(outcome)
                if matches!(
                    outcome.status(),
                    BindStatus::TooManyTopics | BindStatus::BadRequest
                ) =>
            {
                for session in std::mem::take(&mut wanted.joining).into_keys() {
                    wanted.members.remove(&session);
                    wanted.joined_since.remove(&session);
                    events.push(Event::Refused(topic.clone(), session));
                }
                // It made nothing of it. Those who were joined before are told again, at a pace; those who were refused
                // come again by themselves, and must not slow the slot's other topics.
                wanted.owner_knows = false;
                if !wanted.members.is_empty() {
                    self.pause(slot, now, jitter);
                }
            }
            Some(outcome)
                if outcome.status() == BindStatus::NotOwner && owners.hint(slot, outcome.owner.as_ref()) => {}
            Some(outcome) if outcome.status() == BindStatus::NeedFull => {}
            _ => self.pause(slot, now, jitter),
        }
        self.queue(slot, topic);
    }

    fn pause(&mut self, slot: Slot, now: Millis, jitter: &mut Jitter) {
        let (not_before, failures) = self.not_before.entry(slot).or_default();
        if *not_before <= now {
            *not_before = now + jitter.delay(*failures);
            *failures = failures.saturating_add(1);
        }
    }

    /// Holds a delivered entry against the cursor.
    pub(crate) fn deliver(&mut self, entry: &v1::DeliverEntry, slot: Slot, owners: &mut Owners) -> Passed {
        let no = |status: DeliverStatus| v1::DeliverException {
            status: status.into(),
            ..Default::default()
        };
        if !owners.see(slot, OwnerEpoch(entry.owner_epoch)) {
            let owner_epoch = owners.seen(slot).0;
            return Passed::No(v1::DeliverException {
                owner_epoch,
                ..no(DeliverStatus::Stale)
            });
        }
        let wanted = std::str::from_utf8(&entry.topic)
            .ok()
            .and_then(|topic| self.slots.get_mut(&slot)?.get_mut(topic))
            .filter(|wanted| !wanted.members.is_empty());
        let Some(wanted) = wanted else {
            return Passed::No(no(DeliverStatus::NoInterest));
        };
        let Ok(epoch) = Epoch::parse(&entry.epoch) else {
            return Passed::No(no(DeliverStatus::NoInterest));
        };

        let mut admitted = Vec::new();
        let known = match &wanted.cursor {
            Some((known, offset)) if *known == epoch => *offset,
            // A delivery from a group of before the last leave: those who joined since have not asked for it.
            None if wanted.in_flight.is_none() => {
                return Passed::On {
                    admitted,
                    from: entry.publications.len(),
                };
            }
            // The owner knows us, though its answer to the bind is still on its way.
            _ => {
                if let Some(seq) = wanted.in_flight.as_ref().map(|sent| sent.seq) {
                    admitted = wanted.admit(seq);
                }
                Offset(entry.prev_offset)
            }
        };
        if entry.prev_offset > known.0 {
            let cursor = Some(v1::Position {
                epoch: entry.epoch.clone(),
                offset: known.0,
            });
            return Passed::No(v1::DeliverException {
                cursor,
                ..no(DeliverStatus::NeedFrom)
            });
        }
        let gap_to = entry.gap.as_ref().map_or(0, |gap| gap.to);
        let last = entry
            .publications
            .last()
            .map_or(entry.prev_offset, |publication| publication.offset);
        let from = entry
            .publications
            .partition_point(|publication| publication.offset <= known.0);
        wanted.cursor = Some((epoch, Offset(known.0.max(gap_to).max(last))));
        Passed::On { admitted, from }
    }
}

struct OwnerBatch {
    call: CallId,
    binds: Vec<v1::Bind>,
    topics: Vec<(Slot, Topic)>,
}

impl OwnerBatch {
    fn new(next_call: &mut u64) -> OwnerBatch {
        *next_call += 1;
        OwnerBatch {
            call: CallId(*next_call),
            binds: Vec::new(),
            topics: Vec::new(),
        }
    }
}

/// A position of another node, if it is one.
pub(crate) fn position(position: &v1::Position) -> Option<(Epoch, Offset)> {
    Some((Epoch::parse(&position.epoch).ok()?, Offset(position.offset)))
}

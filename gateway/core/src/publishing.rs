//! Publishes on their way to the owners: one queue a slot, numbered, answered in order.
//!
//! *Invariant:* the publishes of a slot reach its owner in the order they were made, under numbers that rise; whatever is
//! sent again is sent as it was, so the owner appends it once. Every publish is answered within the deadline.
//! Leaves out: what the answer looks like to a client (`gateway`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ringcast_proto::v1::{self, Refusal, SlotStatus, publish_outcome::Outcome};
use ringcast_proto::{Epoch, Millis, NodeRef, Offset, OwnerEpoch, Slot};

use crate::backoff::Jitter;
use crate::gateway::{CallFailed, CallId, Effect};
use crate::interest::position;
use crate::lanes::Lanes;
use crate::limits::Limits;
use crate::owners::Owners;

/// Publishes a call carries at most.
const CALL_PUBLISHES_MAX: usize = 512;
/// Payload bytes a call carries at most, unless one publish alone has more.
const CALL_BYTES_MAX: usize = 256 * 1024;

/// Why a publish failed; the `reason` a client sees.
pub(crate) mod reason {
    pub(crate) const UNMATCHED_TOPIC: &str = "unmatched topic";
    pub(crate) const BAD_REQUEST: &str = "bad_request";
    pub(crate) const UNAUTHORIZED: &str = "unauthorized";
    pub(crate) const TOO_LARGE: &str = "too_large";
    pub(crate) const OVERLOADED: &str = "overloaded";
    pub(crate) const RATE_LIMITED: &str = "rate_limited";
    pub(crate) const TOO_MANY_TOPICS: &str = "too_many_topics";
    pub(crate) const OWNER_LEASE_LOST: &str = "owner_lease_lost";
    pub(crate) const TOPIC_UNAVAILABLE: &str = "topic unavailable";
    pub(crate) const TIMEOUT: &str = "timeout";
}

/// A publish and whoever waits for its answer.
#[derive(Debug)]
struct Pending<W> {
    message: v1::Publish,
    waiter: W,
    deadline: Millis,
    /// Ever left for an owner: then the outcome is unknown until told.
    sent: bool,
    lease_lost: bool,
}

#[derive(Debug)]
struct Queue<W> {
    last_number: u64,
    /// Numbers up to this one are in a call that is not answered yet.
    in_flight_to: u64,
    not_before: Millis,
    failures: u32,
    bytes: usize,
    pending: VecDeque<Pending<W>>,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Queue {
            last_number: 0,
            in_flight_to: 0,
            not_before: Millis(0),
            failures: 0,
            bytes: 0,
            pending: VecDeque::new(),
        }
    }
}

impl<W> Queue<W> {
    fn find(&self, number: u64) -> Option<usize> {
        self.pending
            .binary_search_by_key(&number, |pending| pending.message.number)
            .ok()
    }

    fn take(&mut self, index: usize) -> Option<Pending<W>> {
        let pending = self.pending.remove(index)?;
        self.bytes -= pending.message.payload.len();
        Some(pending)
    }
}

/// The answer to a publish: where it was committed, or the reason it was not.
pub(crate) type Answer = Result<(Epoch, Offset), &'static str>;

/// The publishes of a gateway. `W` is whoever waits for an answer.
#[derive(Debug)]
pub(crate) struct Publishing<W> {
    queues: BTreeMap<Slot, Queue<W>>,
    /// Slots with something pending.
    active: BTreeSet<Slot>,
    calls: BTreeMap<CallId, (NodeRef, Vec<Slot>)>,
    lanes: Lanes,
    /// Where the next round begins, so that low slots do not starve high ones.
    next_slot: Slot,
    limits: Limits,
}

impl<W> Publishing<W> {
    pub(crate) fn new(limits: Limits) -> Publishing<W> {
        Publishing {
            queues: BTreeMap::new(),
            active: BTreeSet::new(),
            calls: BTreeMap::new(),
            lanes: Lanes::default(),
            next_slot: Slot(0),
            limits,
        }
    }

    /// Whether any publish waits for its answer.
    pub(crate) fn busy(&self) -> bool {
        !self.active.is_empty()
    }

    /// Queues a publish; its number is given here. The waiter comes back where the slot's queue is full.
    pub(crate) fn push(
        &mut self,
        slot: Slot,
        mut message: v1::Publish,
        waiter: W,
        now: Millis,
    ) -> Result<(), W> {
        let queue = self.queues.entry(slot).or_default();
        let bytes = queue.bytes + message.payload.len();
        if queue.pending.len() >= self.limits.slot_queue_max || bytes > self.limits.slot_queue_bytes_max {
            return Err(waiter);
        }
        queue.last_number += 1;
        queue.bytes = bytes;
        message.number = queue.last_number;
        let deadline = now + self.limits.deadline;
        queue.pending.push_back(Pending {
            message,
            waiter,
            deadline,
            sent: false,
            lease_lost: false,
        });
        self.active.insert(slot);
        Ok(())
    }

    /// Sends what is ready to every owner whose lane is idle.
    pub(crate) fn flush(
        &mut self,
        owners: &Owners,
        now: Millis,
        next_call: &mut u64,
        effects: &mut Vec<Effect>,
    ) {
        if self.active.is_empty() {
            return;
        }
        let mut batches: BTreeMap<NodeRef, Batch> = BTreeMap::new();
        let mut full = None;
        for &slot in self
            .active
            .range(self.next_slot..)
            .chain(self.active.range(..self.next_slot))
        {
            let Some(queue) = self.queues.get_mut(&slot).filter(|queue| queue.in_flight_to == 0) else {
                continue;
            };
            if queue.not_before > now || queue.pending.is_empty() {
                continue;
            }
            let Some((to, owner_epoch)) = owners.owner(slot) else {
                continue;
            };
            if !self.lanes.idle(&to, now) {
                continue;
            }
            let batch = batches.entry(to).or_default();
            if batch.publishes >= CALL_PUBLISHES_MAX || batch.bytes >= CALL_BYTES_MAX {
                full = full.or(Some(slot));
                continue;
            }
            batch.add(slot, owner_epoch, queue);
        }
        self.next_slot = full.unwrap_or(Slot(0));
        for (to, batch) in batches {
            *next_call += 1;
            let call = CallId(*next_call);
            self.lanes.take(&to, call);
            let slots = batch
                .slots
                .iter()
                .filter_map(|part| u16::try_from(part.slot).ok().map(Slot))
                .collect();
            self.calls.insert(call, (to.clone(), slots));
            effects.push(Effect::Publish(call, to, batch.slots));
        }
        self.lanes.retain(|node| owners.knows(node));
    }

    /// Takes the answer to a Publish call and hands out what it decides, in order.
    pub(crate) fn answered(
        &mut self,
        call: CallId,
        answer: Result<v1::PublishAnswer, CallFailed>,
        owners: &mut Owners,
        now: Millis,
        jitter: &mut Jitter,
        decided: &mut Vec<(W, Slot, Answer)>,
    ) {
        let Some((to, slots)) = self.calls.remove(&call) else {
            return;
        };
        for slot in &slots {
            if let Some(queue) = self.queues.get_mut(slot) {
                queue.in_flight_to = 0;
            }
        }
        let Ok(answer) = answer else {
            // It may have been appended after all: an earlier "lease lost" is no longer the last word.
            for slot in &slots {
                if let Some(queue) = self.queues.get_mut(slot) {
                    queue
                        .pending
                        .iter_mut()
                        .for_each(|pending| pending.lease_lost = false);
                }
            }
            return self.lanes.failed(&to, call, now, jitter);
        };
        self.lanes.done(&to, call);
        for part in answer.slots {
            let Some(slot) = u16::try_from(part.slot)
                .ok()
                .map(Slot)
                .filter(|slot| slots.contains(slot))
            else {
                continue;
            };
            // An owner that has been superseded may say what it likes: the outcome is unknown.
            let outcomes_count = part.outcomes.is_empty() || owners.see(slot, OwnerEpoch(part.owner_epoch));
            let Some(queue) = self.queues.get_mut(&slot) else {
                continue;
            };
            if outcomes_count {
                for outcome in &part.outcomes {
                    if let (Some(index), Some(answer)) = (
                        queue.find(outcome.number),
                        outcome.outcome.as_ref().and_then(decode),
                    ) {
                        decided.extend(queue.take(index).map(|pending| (pending.waiter, slot, answer)));
                    }
                }
            }
            queue.hold_back(&part, slot, owners, now, jitter);
            if queue.pending.is_empty() {
                self.active.remove(&slot);
            }
        }
    }

    /// A delivery proves that this publish was committed.
    pub(crate) fn committed(&mut self, slot: Slot, number: u64) -> Option<W> {
        let queue = self.queues.get_mut(&slot)?;
        let index = queue.find(number)?;
        let pending = queue.take(index)?;
        if queue.pending.is_empty() {
            self.active.remove(&slot);
        }
        Some(pending.waiter)
    }

    /// Who waits for the publish of this number.
    pub(crate) fn waiter(&self, slot: Slot, number: u64) -> Option<&W> {
        let queue = self.queues.get(&slot)?;
        Some(&queue.pending.get(queue.find(number)?)?.waiter)
    }

    /// Gives up on what is over its deadline.
    pub(crate) fn expire(&mut self, now: Millis, decided: &mut Vec<(W, Slot, Answer)>) {
        self.give_up(|pending| pending.deadline <= now, decided);
    }

    /// This gateway is another incarnation: what had left under the old one has an unknown outcome.
    pub(crate) fn forget_sent(&mut self, decided: &mut Vec<(W, Slot, Answer)>) {
        self.calls.clear();
        self.lanes.clear();
        for queue in self.queues.values_mut() {
            queue.in_flight_to = 0;
        }
        self.give_up(|pending| pending.sent, decided);
    }

    /// Publishes of a slot have one deadline each in the order they came, so the oldest are looked at only.
    fn give_up(&mut self, over: impl Fn(&Pending<W>) -> bool, decided: &mut Vec<(W, Slot, Answer)>) {
        let queues = &mut self.queues;
        self.active.retain(|&slot| {
            let Some(queue) = queues.get_mut(&slot) else {
                return false;
            };
            while queue.pending.front().is_some_and(&over) {
                let Some(pending) = queue.take(0) else { break };
                let why = match (pending.lease_lost, pending.sent) {
                    (true, _) => reason::OWNER_LEASE_LOST,
                    (false, true) => reason::TIMEOUT,
                    (false, false) => reason::TOPIC_UNAVAILABLE,
                };
                decided.push((pending.waiter, slot, Err(why)));
            }
            !queue.pending.is_empty()
        });
    }
}

impl<W> Queue<W> {
    /// What the owner left undecided waits for as long as its answer makes sense of.
    fn hold_back(
        &mut self,
        part: &v1::SlotPublishAnswer,
        slot: Slot,
        owners: &mut Owners,
        now: Millis,
        jitter: &mut Jitter,
    ) {
        let lease_lost = part.rest() == SlotStatus::OwnerLeaseLost;
        if let Some(front) = self.pending.front_mut().filter(|front| front.sent) {
            front.lease_lost = lease_lost;
        }
        if lease_lost {
            // Nothing of the rest was appended, whatever follows in the queue waits behind it.
            self.pending
                .iter_mut()
                .for_each(|pending| pending.lease_lost = true);
        }
        let pause = match part.rest() {
            SlotStatus::Ok => {
                self.failures = 0;
                return;
            }
            SlotStatus::NotOwner if owners.hint(slot, part.owner.as_ref()) => return,
            SlotStatus::Pending | SlotStatus::Sealed => {
                Duration::from_millis(u64::from(part.retry_after_ms.clamp(5, 25)))
            }
            SlotStatus::NotOwner | SlotStatus::OwnerLeaseLost | SlotStatus::Overloaded => {
                self.failures = self.failures.saturating_add(1);
                jitter.delay(self.failures - 1)
            }
        };
        self.not_before = now + pause;
    }
}

#[derive(Default)]
struct Batch {
    slots: Vec<v1::SlotPublishes>,
    publishes: usize,
    bytes: usize,
}

impl Batch {
    fn add<W>(&mut self, slot: Slot, owner_epoch: OwnerEpoch, queue: &mut Queue<W>) {
        let mut publishes = Vec::new();
        for pending in &mut queue.pending {
            if self.publishes >= CALL_PUBLISHES_MAX || (self.publishes > 0 && self.bytes >= CALL_BYTES_MAX) {
                break;
            }
            self.publishes += 1;
            self.bytes += pending.message.payload.len();
            pending.sent = true;
            // It may be appended this time, whatever was said the last time.
            pending.lease_lost = false;
            queue.in_flight_to = pending.message.number;
            publishes.push(pending.message.clone());
        }
        self.slots.push(v1::SlotPublishes {
            slot: u32::from(slot.0),
            owner_epoch: owner_epoch.0,
            publishes,
            held_ms: 0,
        });
    }
}

fn decode(outcome: &Outcome) -> Option<Answer> {
    match outcome {
        Outcome::Committed(at) => position(at).map(Ok),
        Outcome::Refused(refusal) => Some(Err(match Refusal::try_from(*refusal) {
            Ok(Refusal::TooLarge) => reason::TOO_LARGE,
            Ok(Refusal::TooManyTopics) => reason::TOO_MANY_TOPICS,
            Ok(Refusal::BadRequest) => reason::BAD_REQUEST,
            Ok(Refusal::StaleNumber | Refusal::Unspecified) | Err(_) => reason::TIMEOUT,
        })),
    }
}

#[cfg(test)]
mod tests;

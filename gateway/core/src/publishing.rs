//! Publishes on their way to the owners: one queue a slot, numbered, answered in order.
//!
//! *Invariant:* the publishes of a slot reach its owner in the order they were made, under numbers that rise; whatever is
//! sent again is sent as it was, so the owner appends it once. Every publish is answered within the deadline.
//! Leaves out: what the answer looks like to a client (`gateway`).

mod queue;

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::v1::{self, Refusal, publish_outcome::Outcome};
use ringcast_proto::{Epoch, Millis, NodeRef, Offset, OwnerEpoch, Slot};

use crate::backoff::Jitter;
use crate::gateway::{CallFailed, CallId, Effect, Published};
use crate::lanes::Lanes;
use crate::limits::Limits;
use crate::owners::Owners;
use crate::reason;
use queue::{Batch, Pending, Queue};

/// The answer to a publish: where it took effect, or the reason it did not.
pub(crate) type Answer = Result<Published, &'static str>;

/// The publishes of a gateway. `W` is whoever waits for an answer.
#[derive(Debug)]
pub(crate) struct Publishing<W> {
    queues: BTreeMap<Slot, Queue<W>>,
    /// Slots with something pending.
    active: BTreeSet<Slot>,
    calls: BTreeMap<CallId, Call>,
    lanes: Lanes,
    /// Where the next round begins, so that low slots do not starve high ones.
    next_slot: Slot,
    /// When the first of what waits for its time may leave.
    retry_at: Option<Millis>,
    limits: Limits,
}

/// A Publish call in flight.
#[derive(Debug)]
struct Call {
    to: NodeRef,
    slots: Vec<Slot>,
    /// Since when the first that leaves with it had waited; none where all have left before.
    since: Option<Millis>,
}

impl<W> Publishing<W> {
    pub(crate) fn new(limits: Limits) -> Publishing<W> {
        Publishing {
            queues: BTreeMap::new(),
            active: BTreeSet::new(),
            calls: BTreeMap::new(),
            lanes: Lanes::default(),
            next_slot: Slot(0),
            retry_at: None,
            limits,
        }
    }

    /// Whether any publish waits for its answer.
    pub(crate) fn busy(&self) -> bool {
        !self.active.is_empty()
    }

    /// When the next thing that waits for its time may leave.
    pub(crate) fn retry_at(&self) -> Option<Millis> {
        self.retry_at
    }

    /// Since when the first publish in a call had waited for its lane; none where all have left before.
    pub(crate) fn waiting_since(&self, call: CallId) -> Option<Millis> {
        self.calls.get(&call)?.since
    }

    /// The slots' owners changed: what was held back for the old ones is sent at once.
    pub(crate) fn moved(&mut self, slots: &[Slot]) {
        for slot in slots {
            if let Some(queue) = self.queues.get_mut(slot) {
                queue.go_on();
            }
        }
    }

    /// Queues a publish; its number is given here. The waiter comes back where the slot's queue is full.
    pub(crate) fn push(&mut self, slot: Slot, message: v1::Publish, waiter: W, now: Millis) -> Result<(), W> {
        let queue = self.queues.entry(slot).or_default();
        if !queue.has_room(weight(&message), &self.limits) {
            return Err(waiter);
        }
        queue.push(message, waiter, now, now + self.limits.deadline);
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
        self.retry_at = None;
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
            let Some(queue) = self.queues.get_mut(&slot).filter(|queue| queue.may_leave()) else {
                continue;
            };
            let Some((to, owner_epoch)) = owners.owner(slot) else {
                continue;
            };
            let Some(free_at) = self.lanes.free_at(&to) else {
                continue;
            };
            let at = queue.not_before().max(free_at);
            if at > now {
                self.retry_at = Some(self.retry_at.map_or(at, |first| first.min(at)));
                continue;
            }
            let batch = batches.entry(to).or_default();
            if batch.is_full() {
                full = full.or(Some(slot));
                continue;
            }
            batch.add(slot, owner_epoch, queue, now);
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
            let since = batch.since;
            self.calls.insert(
                call,
                Call {
                    to: to.clone(),
                    slots,
                    since,
                },
            );
            effects.push(Effect::Publish(call, to, batch.slots));
        }
        self.lanes.retain(now, |node| owners.knows(node));
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
        let Some(Call { to, slots, .. }) = self.calls.remove(&call) else {
            return;
        };
        for slot in &slots {
            if let Some(queue) = self.queues.get_mut(slot) {
                queue.landed();
            }
        }
        let Ok(answer) = answer else {
            // It may have been appended after all: an earlier "lease lost" is no longer the last word.
            for slot in &slots {
                if let Some(queue) = self.queues.get_mut(slot) {
                    queue.lease_lost(false);
                    #[cfg(feature = "planted-bugs")]
                    if self.limits.plants(crate::planted::PlantedBug::RetryReorders) {
                        queue.requeue();
                    }
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
                    let answer = decode(outcome);
                    if let Some(answer) = answer
                        && let Some(waiter) = queue.decide(outcome.number)
                    {
                        decided.push((waiter, slot, answer));
                    }
                }
            }
            queue.hold_back(&part, (slot, &to), owners, now, jitter);
            if queue.is_empty() {
                self.active.remove(&slot);
            }
        }
    }

    /// A delivery proves that this publish was committed.
    pub(crate) fn committed(&mut self, slot: Slot, number: u64) -> Option<W> {
        let queue = self.queues.get_mut(&slot)?;
        let waiter = queue.decide(number)?;
        if queue.is_empty() {
            self.active.remove(&slot);
        }
        Some(waiter)
    }

    /// Whether every publish of the slot before this one is decided.
    pub(crate) fn is_first(&self, slot: Slot, number: u64) -> bool {
        self.queues.get(&slot).is_some_and(|queue| queue.is_first(number))
    }

    /// Who waits for the publish of this number.
    pub(crate) fn waiter(&self, slot: Slot, number: u64) -> Option<&W> {
        self.queues.get(&slot)?.waiter(number)
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
            queue.landed();
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
            while let Some((waiter, why)) = queue.give_up(&over) {
                decided.push((waiter, slot, Err(why)));
            }
            !queue.is_empty()
        });
    }
}

/// What a publish counts where bytes are bounded: all of it whose length its publisher chose.
pub(crate) fn weight(publish: &v1::Publish) -> usize {
    let names: usize = publish.names.iter().map(|name| name.len()).sum();
    publish.payload.len() + publish.msg_id.len() + names
}

fn decode(outcome: &v1::PublishOutcome) -> Option<Answer> {
    let dup = outcome.dup;
    Some(match outcome.outcome.as_ref()? {
        Outcome::Committed(at) => Ok(Published {
            epoch: Epoch::share(&at.epoch).ok()?,
            offset: Some(Offset(at.offset)),
            matched: None,
            dup,
        }),
        Outcome::Unsequenced(sent) => Ok(Published {
            epoch: Epoch::share(&sent.epoch).ok()?,
            offset: None,
            matched: Some(sent.matched),
            dup,
        }),
        Outcome::Refused(refusal) => Err(match Refusal::try_from(*refusal) {
            Ok(Refusal::TooLarge) => reason::TOO_LARGE,
            Ok(Refusal::TooManyTopics) => reason::TOO_MANY_TOPICS,
            Ok(Refusal::BadRequest) => reason::BAD_REQUEST,
            Ok(Refusal::StaleNumber | Refusal::Unspecified) | Err(_) => reason::TIMEOUT,
        }),
    })
}

#[cfg(test)]
mod tests;

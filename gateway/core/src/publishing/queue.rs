//! The publishes of one slot, and what of them leaves with the next call.
//!
//! *Invariant:* numbers rise along the queue, and what was sent is sent again as it was.

use std::collections::VecDeque;

use ringcast_proto::v1::{self, SlotStatus};
use ringcast_proto::{Millis, NodeRef, OwnerEpoch, Slot};

use super::weight;
use crate::backoff::{Jitter, sealed_pause};
use crate::limits::Limits;
use crate::owners::Owners;
use crate::reason;

/// Publishes a call carries at most.
const CALL_PUBLISHES_MAX: usize = 512;
/// Bytes of publishes a call carries at most, unless one publish alone has more.
const CALL_BYTES_MAX: usize = 256 * 1024;

/// A publish and whoever waits for its answer.
#[derive(Debug)]
pub(super) struct Pending<W> {
    message: v1::Publish,
    waiter: W,
    made_at: Millis,
    pub(super) deadline: Millis,
    /// Ever left for an owner: then the outcome is unknown until told.
    pub(super) sent: bool,
    lease_lost: bool,
}

#[derive(Debug)]
pub(super) struct Queue<W> {
    last_number: u64,
    /// Numbers up to this one are in a call that is not answered yet.
    in_flight_to: u64,
    not_before: Millis,
    /// Since when nothing was decided because the slot changes owner.
    held_since: Option<Millis>,
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
            held_since: None,
            failures: 0,
            bytes: 0,
            pending: VecDeque::new(),
        }
    }
}

impl<W> Queue<W> {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn has_room(&self, bytes: usize, limits: &Limits) -> bool {
        self.pending.len() < limits.slot_queue_max && self.bytes + bytes <= limits.slot_queue_bytes_max
    }

    pub(super) fn push(&mut self, mut message: v1::Publish, waiter: W, now: Millis, deadline: Millis) {
        self.last_number += 1;
        self.bytes += weight(&message);
        message.number = self.last_number;
        self.pending.push_back(Pending {
            message,
            waiter,
            made_at: now,
            deadline,
            sent: false,
            lease_lost: false,
        });
    }

    /// Whether anything waits, and no call with it is on its way.
    pub(super) fn may_leave(&self) -> bool {
        self.in_flight_to == 0 && !self.pending.is_empty()
    }

    pub(super) fn not_before(&self) -> Millis {
        self.not_before
    }

    /// The call with what was in flight is over.
    pub(super) fn landed(&mut self) {
        self.in_flight_to = 0;
    }

    /// The first goes to the end, under another number: what must never happen.
    #[cfg(feature = "planted-bugs")]
    pub(super) fn requeue(&mut self) {
        if let Some(mut first) = self.pending.pop_front() {
            self.last_number += 1;
            first.message.number = self.last_number;
            self.pending.push_back(first);
        }
    }

    /// There is another owner: nothing is held back any more.
    pub(super) fn go_on(&mut self) {
        self.not_before = Millis(0);
        self.failures = 0;
    }

    pub(super) fn lease_lost(&mut self, lost: bool) {
        self.pending
            .iter_mut()
            .for_each(|pending| pending.lease_lost = lost);
    }

    pub(super) fn waiter(&self, number: u64) -> Option<&W> {
        Some(&self.pending.get(self.find(number)?)?.waiter)
    }

    pub(super) fn is_first(&self, number: u64) -> bool {
        let first = self.pending.front();
        first.is_some_and(|pending| pending.message.number == number)
    }

    /// The outcome of this publish is known.
    pub(super) fn decide(&mut self, number: u64) -> Option<W> {
        let pending = self.take(self.find(number)?)?;
        self.held_since = None;
        Some(pending.waiter)
    }

    /// Takes the first publish if it is over, and says why it failed.
    pub(super) fn give_up(&mut self, over: impl Fn(&Pending<W>) -> bool) -> Option<(W, &'static str)> {
        if !self.pending.front().is_some_and(over) {
            return None;
        }
        let pending = self.take(0)?;
        let why = match (pending.lease_lost, pending.sent) {
            (true, _) => reason::OWNER_LEASE_LOST,
            (false, true) => reason::TIMEOUT,
            (false, false) => reason::TOPIC_UNAVAILABLE,
        };
        Some((pending.waiter, why))
    }

    fn find(&self, number: u64) -> Option<usize> {
        self.pending
            .binary_search_by_key(&number, |pending| pending.message.number)
            .ok()
    }

    fn take(&mut self, index: usize) -> Option<Pending<W>> {
        let pending = self.pending.remove(index)?;
        self.bytes -= weight(&pending.message);
        if self.pending.is_empty() {
            self.held_since = None;
        }
        Some(pending)
    }

    /// For how long the first has been held back by a change of owner, in milliseconds; 0: not at all.
    fn held_ms(&self, now: Millis) -> u32 {
        let (Some(since), Some(front)) = (self.held_since, self.pending.front()) else {
            return 0;
        };
        let held = now.since(since.max(front.made_at));
        u32::try_from(held.as_millis()).unwrap_or(u32::MAX).max(1)
    }

    /// What the owner left undecided waits for as long as its answer makes sense of.
    pub(super) fn hold_back(
        &mut self,
        part: &v1::SlotPublishAnswer,
        (slot, asked): (Slot, &NodeRef),
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
            self.lease_lost(true);
        }
        if matches!(part.rest(), SlotStatus::Sealed | SlotStatus::NotOwner) && !self.pending.is_empty() {
            self.held_since.get_or_insert(now);
        }
        let pause = match part.rest() {
            SlotStatus::Ok => {
                self.failures = 0;
                return;
            }
            SlotStatus::NotOwner if owners.hint(slot, part.owner.as_ref()) => return,
            SlotStatus::Pending | SlotStatus::Sealed => sealed_pause(part.retry_after_ms),
            SlotStatus::NotOwner => {
                self.failures = self.failures.saturating_add(1);
                jitter.soon(self.failures - 1)
            }
            SlotStatus::OwnerLeaseLost | SlotStatus::Overloaded => {
                self.failures = self.failures.saturating_add(1);
                jitter.delay(self.failures - 1)
            }
        };
        // What another node than the owner says is no reason to make the owner wait.
        if owners.owner(slot).is_none_or(|(owner, _)| owner == *asked) {
            self.not_before = now + pause;
        }
    }
}

/// What gathers for one owner.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) slots: Vec<v1::SlotPublishes>,
    /// Since when the first that leaves for the first time has waited.
    pub(super) since: Option<Millis>,
    publishes: usize,
    bytes: usize,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.publishes >= CALL_PUBLISHES_MAX || self.bytes >= CALL_BYTES_MAX
    }

    pub(super) fn add<W>(&mut self, slot: Slot, owner_epoch: OwnerEpoch, queue: &mut Queue<W>, now: Millis) {
        let held_ms = queue.held_ms(now);
        let mut publishes = Vec::new();
        for pending in &mut queue.pending {
            if self.publishes >= CALL_PUBLISHES_MAX || (self.publishes > 0 && self.bytes >= CALL_BYTES_MAX) {
                break;
            }
            self.publishes += 1;
            self.bytes += weight(&pending.message);
            if !pending.sent {
                let first = self.since.unwrap_or(pending.made_at);
                self.since = Some(first.min(pending.made_at));
            }
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
            held_ms,
        });
    }
}

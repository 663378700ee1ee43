//! What the planner remembers of the moves: only so that it neither repeats itself nor goes on for ever.
//!
//! *Invariant:* it is a caution and no truth. It can delay a move, by seconds; a planner that remembers nothing is merely
//! less patient.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::{Millis, NodeId, Slot};

use super::RECONCILE;
use super::view::{Standing, View};
use crate::Revision;

/// A move that takes longer hangs: the target does not come, or the owner does not answer it.
const HANG: Duration = Duration::from_secs(60);

/// How long a slot whose move hung is left alone.
const REST: Duration = Duration::from_secs(5);

/// A slot goes home at most once in so long: a node that comes and goes must not make it pause each time.
const AUTOMATIC: Duration = Duration::from_secs(10);

/// A change that was asked for, and that no snapshot has shown yet.
#[derive(Debug, Clone)]
struct Asked {
    /// The record that it changes.
    revision: Revision,
    until: Millis,
    /// Who gives and who takes the slot, for a wish.
    wish: Option<(NodeId, NodeId)>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    asked: BTreeMap<Slot, Asked>,
    /// Which move of a slot is under way, and when it was first seen.
    under_way: BTreeMap<Slot, (String, Millis)>,
    rests: BTreeMap<Slot, Millis>,
    automatic: BTreeMap<Slot, Millis>,
}

impl Memory {
    /// Forgets what is over.
    pub(super) fn observe(&mut self, view: &View<'_>, now: Millis) {
        let record = |slot: &Slot| match view.standings.get(usize::from(slot.0)) {
            Some(Standing::Owned(held)) => Some((held.revision, held.record)),
            Some(Standing::Lost(revision, record)) => Some((*revision, *record)),
            Some(Standing::Unborn) | None => None,
        };
        self.asked.retain(|slot, asked| {
            now < asked.until && record(slot).is_some_and(|(revision, _)| revision == asked.revision)
        });
        self.under_way.retain(|slot, (id, _)| {
            record(slot)
                .and_then(|(_, record)| record.moving.as_ref())
                .is_some_and(|moving| moving.id == *id)
        });
        self.rests.retain(|_, until| now < *until);
        self.automatic.retain(|_, until| now < *until);
    }

    /// When what it holds back is to be looked at again.
    pub(super) fn wake(&self, now: Millis) -> Option<Millis> {
        let asked = self.asked.values().map(|asked| asked.until);
        let hang = self.under_way.values().map(|(_, since)| *since + HANG);
        let all = asked.chain(hang).chain(self.rests.values().copied());
        // A move that hangs stays in the records for a moment after it was asked to end.
        all.filter(|at| *at > now).min()
    }

    /// Notes that this move was seen, and tells whether it hangs.
    pub(super) fn hangs(&mut self, slot: Slot, id: &str, now: Millis) -> bool {
        let (_, since) = self.under_way.entry(slot).or_insert_with(|| (id.to_owned(), now));
        now >= *since + HANG
    }

    /// Wishes asked for that no record shows yet: from, to.
    pub(super) fn wishes(&self) -> impl Iterator<Item = (&NodeId, &NodeId)> {
        self.asked
            .values()
            .filter_map(|asked| asked.wish.as_ref())
            .map(|(from, to)| (from, to))
    }

    /// Whether the slot is to be left alone for now.
    pub(super) fn rests(&self, slot: Slot) -> bool {
        self.is_asked(slot) || self.rests.contains_key(&slot)
    }

    /// Whether a change of its record is on its way.
    pub(super) fn is_asked(&self, slot: Slot) -> bool {
        self.asked.contains_key(&slot)
    }

    /// Until when the slot does not go home.
    pub(super) fn stays_until(&self, slot: Slot) -> Option<Millis> {
        self.automatic.get(&slot).copied()
    }

    /// A wish is on its way.
    pub(super) fn wish(&mut self, slot: Slot, revision: Revision, from: &NodeId, to: &NodeId, now: Millis) {
        self.ask(slot, revision, now, Some((from.clone(), to.clone())));
    }

    /// The slot is moved without anybody having asked for it.
    pub(super) fn automatic(&mut self, slot: Slot, now: Millis) {
        self.automatic.insert(slot, now + AUTOMATIC);
    }

    /// The end of a wish is on its way.
    pub(super) fn clear(&mut self, slot: Slot, revision: Revision, hung: bool, now: Millis) {
        self.ask(slot, revision, now, None);
        if hung {
            self.rests.insert(slot, now + REST);
        }
    }

    fn ask(&mut self, slot: Slot, revision: Revision, now: Millis, wish: Option<(NodeId, NodeId)>) {
        let until = now + RECONCILE;
        self.asked.insert(
            slot,
            Asked {
                revision,
                until,
                wish,
            },
        );
    }
}

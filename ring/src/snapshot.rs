//! Every record of the ring store at one revision.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use ringcast_proto::record::{Birth, Key, NodeRecord, Planner, Record, Ring, SlotRecord};
use ringcast_proto::{NodeId, NodeRef, Slot};

use crate::Op;

/// A point in the store's history; every change makes the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record as it stands in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// When it was last written.
    pub revision: Revision,
    /// By which change.
    pub op: Op,
    /// What it says.
    pub record: Record,
}

/// What one revision changed: a record written, or `None` where it was removed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// The revision at which all of it happened.
    pub revision: Revision,
    /// The keys, in key order.
    pub records: Vec<(Key, Option<Stored>)>,
}

/// Every record, at one revision.
///
/// *Invariant:* a record under a key is of the key's kind ([`Record::decode`] sees to it).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// The revision it shows.
    pub revision: Revision,
    /// The records.
    pub records: BTreeMap<Key, Stored>,
}

impl Snapshot {
    /// Goes on to the revision of `changed`. Older changes are skipped, so that a watch may overlap a load.
    pub fn apply(&mut self, changed: &Changed) {
        if changed.revision <= self.revision {
            return;
        }
        self.revision = changed.revision;
        for (key, stored) in &changed.records {
            match stored {
                Some(stored) => self.records.insert(key.clone(), stored.clone()),
                None => self.records.remove(key),
            };
        }
    }

    /// The birth record, once there is a cluster.
    #[must_use]
    pub fn birth(&self) -> Option<&Birth> {
        match &self.records.get(&Key::Birth)?.record {
            Record::Birth(birth) => Some(birth),
            _ => None,
        }
    }

    /// The ring, once it is born.
    #[must_use]
    pub fn ring(&self) -> Option<&Ring> {
        match &self.records.get(&Key::Ring)?.record {
            Record::Ring(ring) => Some(ring),
            _ => None,
        }
    }

    /// Who owns `slot`, and the revision that said so.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> Option<(Revision, &SlotRecord)> {
        let stored = self.records.get(&Key::Slot(slot))?;
        match &stored.record {
            Record::Slot(record) => Some((stored.revision, record)),
            _ => None,
        }
    }

    /// Every slot record, in slot order.
    pub fn slots(&self) -> impl Iterator<Item = (Slot, Revision, &SlotRecord)> {
        let range = (
            Bound::Included(Key::Slot(Slot(0))),
            Bound::Included(Key::Slot(Slot(u16::MAX))),
        );
        self.records
            .range(range)
            .filter_map(|(key, stored)| match (key, &stored.record) {
                (Key::Slot(slot), Record::Slot(record)) => Some((*slot, stored.revision, record)),
                _ => None,
            })
    }

    /// Every registered node, in id order.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, &NodeRecord)> {
        // Keys are ordered by kind: the nodes lie between the last slot and the planner.
        let range = (
            Bound::Excluded(Key::Slot(Slot(u16::MAX))),
            Bound::Excluded(Key::Planner),
        );
        self.records
            .range(range)
            .filter_map(|(key, stored)| match (key, &stored.record) {
                (Key::Node(id), Record::Node(record)) => Some((id, record)),
                _ => None,
            })
    }

    /// The node of this id, if it is registered.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&NodeRecord> {
        match &self.records.get(&Key::Node(id.clone()))?.record {
            Record::Node(record) => Some(record),
            _ => None,
        }
    }

    /// Whether this life of the node is registered.
    #[must_use]
    pub fn alive(&self, node: &NodeRef) -> bool {
        self.node(&node.node)
            .is_some_and(|record| record.incarnation == node.incarnation)
    }

    /// Who plans, if anyone.
    #[must_use]
    pub fn planner(&self) -> Option<(Revision, &Planner)> {
        let stored = self.records.get(&Key::Planner)?;
        match &stored.record {
            Record::Planner(planner) => Some((stored.revision, planner)),
            _ => None,
        }
    }
}

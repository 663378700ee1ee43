//! What must survive a restart, and the decision about every change to it.
//!
//! Deciding and doing are apart: a decision is a [`Step`], and a step can be written to a disk before it is applied.
//! *Invariant:* every revision is one step; an incarnation is the revision of its registration, so none comes twice;
//! a planner record never outlives its holder's node record.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::record::{Key, Record};
use ringcast_proto::{Incarnation, NodeId, NodeRef};
use ringcast_ring::{Change, Changed, Expect, Guard, Op, Refused, Revision, Snapshot, Stored};

use crate::store::{NodeInfo, RegisterRefused};

/// The most bytes all records may take, encoded. A load is one message, and messages end at 4 MiB; 4,096 slots with a
/// replica and a move each take 1.6 MiB.
pub const BYTES_MAX: usize = 3 * 1024 * 1024;

/// The records, and how long each registered node's lease is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durable {
    snapshot: Snapshot,
    ttls: BTreeMap<NodeId, Duration>,
    bytes: usize,
}

/// One revision: decided, perhaps not yet applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The records it writes and removes.
    pub changed: Changed,
    /// The lease it grants.
    pub granted: Option<Granted>,
}

/// A lease that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Whose.
    pub node: NodeRef,
    /// How long it lives without a renewal.
    pub ttl: Duration,
}

/// What a change comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// Nothing is to do: it was done at this revision.
    Already(Revision),
    /// This is to do.
    Step(Step),
}

impl Durable {
    /// Goes on from records read back. A node without a TTL in `ttls` gets the longest there is: too long is safe.
    #[must_use]
    pub fn new(snapshot: Snapshot, mut ttls: BTreeMap<NodeId, Duration>) -> Durable {
        let longest = ttls.values().max().copied().unwrap_or(Duration::from_secs(3));
        ttls.retain(|node, _| snapshot.node(node).is_some());
        for (node, _) in snapshot.nodes() {
            ttls.entry(node.clone()).or_insert(longest);
        }
        let bytes = snapshot
            .records
            .iter()
            .map(|(key, stored)| weight(key, stored))
            .sum();
        Durable {
            snapshot,
            ttls,
            bytes,
        }
    }

    /// The records.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Every registered node and its TTL, in id order.
    pub fn leases(&self) -> impl Iterator<Item = Granted> {
        self.snapshot.nodes().filter_map(|(id, record)| {
            let node = NodeRef {
                node: id.clone(),
                incarnation: record.incarnation,
            };
            Some(Granted {
                node,
                ttl: *self.ttls.get(id)?,
            })
        })
    }

    /// The TTL of the node of this id, if it is registered.
    #[must_use]
    pub fn ttl(&self, node: &NodeId) -> Option<Duration> {
        self.ttls.get(node).copied()
    }

    /// What `change` comes to, as things stand.
    ///
    /// # Errors
    /// [`Refused::Conflict`], [`Refused::Guard`] or [`Refused::Full`].
    pub fn change(&self, change: &Change) -> Result<Decided, Refused> {
        if let Some(revision) = self.done_before(change) {
            return Ok(Decided::Already(revision));
        }
        self.check_expectations(change)?;
        if let Some(guard) = change.guards.iter().find(|guard| !self.holds(guard)) {
            return Err(Refused::Guard(guard.clone()));
        }
        self.check_leases(change)?;
        let revision = self.next();
        let mut records = BTreeMap::new();
        for (key, record) in &change.put {
            let stored = Stored {
                revision,
                op: change.op.clone(),
                record: record.clone(),
            };
            records.insert(key.clone(), Some(stored));
        }
        for key in change
            .delete
            .iter()
            .filter(|key| self.snapshot.records.contains_key(key))
        {
            records.insert(key.clone(), None);
            if let Key::Node(node) = key {
                self.remove_planner_of(node, &mut records);
            }
        }
        if records.is_empty() {
            return Ok(Decided::Already(self.snapshot.revision));
        }
        if !self.has_room(&records) {
            return Err(Refused::Full);
        }
        Ok(Decided::Step(Step {
            changed: changed(revision, records),
            granted: None,
        }))
    }

    /// What registering `node` comes to. Done before by the same `op`, it is that registration.
    ///
    /// # Errors
    /// [`RegisterRefused::Taken`] or [`RegisterRefused::Full`].
    pub fn register(&self, node: &NodeInfo, op: &Op) -> Result<Decided, RegisterRefused> {
        let key = Key::Node(node.id.clone());
        if let Some(Stored {
            record: Record::Node(holder),
            op: made_by,
            ..
        }) = self.snapshot.records.get(&key)
        {
            if made_by == op {
                return Ok(Decided::Already(Revision(holder.incarnation.0)));
            }
            return Err(RegisterRefused::Taken(Box::new(holder.clone())));
        }
        let revision = self.next();
        let mut record = node.record.clone();
        record.incarnation = Incarnation(revision.0);
        let granted = NodeRef {
            node: node.id.clone(),
            incarnation: record.incarnation,
        };
        let stored = Stored {
            revision,
            op: op.clone(),
            record: Record::Node(record),
        };
        let records = BTreeMap::from([(key, Some(stored))]);
        if !self.has_room(&records) {
            return Err(RegisterRefused::Full);
        }
        let granted = Some(Granted {
            node: granted,
            ttl: node.ttl,
        });
        Ok(Decided::Step(Step {
            changed: changed(revision, records),
            granted,
        }))
    }

    /// What the end of this life comes to; `None` if it is over.
    #[must_use]
    pub fn end(&self, node: &NodeRef) -> Option<Step> {
        if !self.snapshot.alive(node) {
            return None;
        }
        let mut records = BTreeMap::from([(Key::Node(node.node.clone()), None)]);
        self.remove_planner_of(&node.node, &mut records);
        Some(Step {
            changed: changed(self.next(), records),
            granted: None,
        })
    }

    /// Does what was decided. Steps are applied in the order they were decided in.
    pub fn apply(&mut self, step: &Step) {
        debug_assert_eq!(step.changed.revision, self.next(), "steps follow each other");
        for (key, stored) in &step.changed.records {
            let before = self
                .snapshot
                .records
                .get(key)
                .map_or(0, |before| weight(key, before));
            let after = stored.as_ref().map_or(0, |after| weight(key, after));
            self.bytes = self.bytes + after - before;
            if let (Key::Node(node), None) = (key, stored) {
                self.ttls.remove(node);
            }
        }
        if let Some(granted) = &step.granted {
            self.ttls.insert(granted.node.node.clone(), granted.ttl);
        }
        self.snapshot.apply(&step.changed);
    }

    fn next(&self) -> Revision {
        Revision(self.snapshot.revision.0 + 1)
    }

    /// The revision `change` was done at, if every record it puts is still the one it put.
    fn done_before(&self, change: &Change) -> Option<Revision> {
        let mut revision = None;
        for (key, _) in &change.put {
            let stored = self.snapshot.records.get(key)?;
            if stored.op != change.op {
                return None;
            }
            revision = Some(stored.revision);
        }
        revision
    }

    fn check_expectations(&self, change: &Change) -> Result<(), Refused> {
        let conflicts: Vec<_> = change
            .expect
            .iter()
            .map(|(key, expect)| (key, expect, self.snapshot.records.get(key)))
            .filter(|(_, expect, stored)| match expect {
                Expect::Absent => stored.is_some(),
                Expect::Revision(revision) => stored.is_none_or(|stored| stored.revision != *revision),
            })
            .map(|(key, _, stored)| (key.clone(), stored.cloned()))
            .collect();
        if conflicts.is_empty() {
            Ok(())
        } else {
            Err(Refused::Conflict(conflicts))
        }
    }

    fn holds(&self, guard: &Guard) -> bool {
        match guard {
            Guard::Alive(node) => self.snapshot.alive(node),
            // A life this store has not given out yet is not over: whoever names it has seen more than this store.
            Guard::Gone(node) => node.incarnation.0 <= self.snapshot.revision.0 && !self.snapshot.alive(node),
            Guard::Planner(term) => self
                .snapshot
                .planner()
                .is_some_and(|(_, planner)| planner.term == *term),
        }
    }

    /// A record kept on a lease can only be written while that lease lives.
    fn check_leases(&self, change: &Change) -> Result<(), Refused> {
        for (key, record) in &change.put {
            let holder = match (key, record) {
                (Key::Node(id), Record::Node(node)) => NodeRef {
                    node: id.clone(),
                    incarnation: node.incarnation,
                },
                (Key::Planner, Record::Planner(planner)) => planner.holder.clone(),
                _ => continue,
            };
            if !self.snapshot.alive(&holder) {
                return Err(Refused::Guard(Guard::Alive(holder)));
            }
        }
        Ok(())
    }

    /// `node` goes in this step, and so does the planner record it holds, before the step or by it.
    fn remove_planner_of(&self, node: &NodeId, records: &mut BTreeMap<Key, Option<Stored>>) {
        let present = self.snapshot.records.get(&Key::Planner);
        let planner = records.get(&Key::Planner).map_or(present, Option::as_ref);
        if let Some(Stored {
            record: Record::Planner(planner),
            ..
        }) = planner
            && planner.holder.node == *node
        {
            if present.is_some() {
                records.insert(Key::Planner, None);
            } else {
                records.remove(&Key::Planner);
            }
        }
    }

    fn has_room(&self, records: &BTreeMap<Key, Option<Stored>>) -> bool {
        let written = records
            .iter()
            .filter_map(|(key, stored)| stored.as_ref().map(|stored| weight(key, stored)));
        let replaced = records
            .keys()
            .filter_map(|key| Some(weight(key, self.snapshot.records.get(key)?)));
        let (written, replaced) = (written.sum::<usize>(), replaced.sum::<usize>());
        // What makes the store smaller is never refused: it is the way out.
        written <= replaced || self.bytes + written - replaced <= BYTES_MAX
    }
}

fn changed(revision: Revision, records: BTreeMap<Key, Option<Stored>>) -> Changed {
    Changed {
        revision,
        records: records.into_iter().collect(),
    }
}

/// What a record takes in a load, in bytes, roughly.
fn weight(key: &Key, stored: &Stored) -> usize {
    key.to_string().len() + stored.op.0.len() + stored.record.encode().len() + 32
}

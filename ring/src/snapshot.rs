//! Every record of the ring store at one revision.

use std::fmt;
use std::ops::Bound;

use ringcast_proto::record::{
    Birth, History, Key, NodeRecord, Plan, PlanId, Planner, Record, Ring, Role, SlotRecord,
};
use ringcast_proto::{NodeId, NodeRef, Slot};

use crate::{Op, Records};

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
    pub records: Records,
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

    /// The topic server of this id, if it is registered.
    #[must_use]
    pub(crate) fn topic_server(&self, id: &NodeId) -> Option<&NodeRecord> {
        self.node(id).filter(|record| record.role == Role::TopicServer)
    }

    /// The plan of this id, if it is kept.
    #[must_use]
    pub fn plan(&self, id: &PlanId) -> Option<&Plan> {
        match &self.records.get(&Key::Plan(id.clone()))?.record {
            Record::Plan(plan) => Some(plan),
            _ => None,
        }
    }

    /// Every plan that is kept and when it was stored, in id order.
    pub fn plans(&self) -> impl Iterator<Item = (&PlanId, Revision, &Plan)> {
        // The plans lie between the planner and the first version.
        let range = (Bound::Excluded(Key::Planner), Bound::Excluded(Key::History(0)));
        self.records
            .range(range)
            .filter_map(|(key, stored)| match (key, &stored.record) {
                (Key::Plan(id), Record::Plan(plan)) => Some((id, stored.revision, &**plan)),
                _ => None,
            })
    }

    /// What is kept of the ring's versions, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &History> {
        self.records
            .range(Key::History(0)..)
            .filter_map(|(_, stored)| match &stored.record {
                Record::History(history) => Some(history),
                _ => None,
            })
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A snapshot of these keys and JSON values; each record's revision is its place in the list.
    pub(crate) fn snapshot(records: &[(&str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (key, json) in records {
            snapshot.revision.0 += 1;
            let key: Key = key.parse().unwrap();
            let record = Record::decode(&key, json.as_bytes()).unwrap();
            let op = Op(format!("op-{}", snapshot.revision));
            snapshot.records.insert(
                key,
                Stored {
                    revision: snapshot.revision,
                    op,
                    record,
                },
            );
        }
        snapshot
    }

    pub(crate) fn node_ref(id: &str, incarnation: u64) -> NodeRef {
        NodeRef {
            node: NodeId::parse(id).unwrap(),
            incarnation: ringcast_proto::Incarnation(incarnation),
        }
    }

    #[test]
    fn records_are_found_by_kind() {
        let snapshot = snapshot(&[
            ("planner", r#"{"holder":{"node":"ts-1","inc":2},"term":9}"#),
            (
                "node/ts-1",
                r#"{"inc":2,"role":"topic-server","advertise":"a:1","build":"1"}"#,
            ),
            (
                "node/gw-1",
                r#"{"inc":3,"role":"gateway","advertise":"b:1","build":"1"}"#,
            ),
            (
                "slot/65535",
                r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":2},"cause":"birth"}"#,
            ),
            (
                "slot/0",
                r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":2},"cause":"birth"}"#,
            ),
            ("birth", r#"{"format":1,"cluster_id":"c","slots":8,"seed":1}"#),
            ("history/1", r#"{"version":1,"cause":"commit"}"#),
        ]);
        let nodes: Vec<&str> = snapshot.nodes().map(|(id, _)| id.as_str()).collect();
        assert_eq!(nodes, ["gw-1", "ts-1"]);
        let slots: Vec<(Slot, Revision)> = snapshot
            .slots()
            .map(|(slot, revision, _)| (slot, revision))
            .collect();
        assert_eq!(slots, [(Slot(0), Revision(5)), (Slot(u16::MAX), Revision(4))]);
        assert_eq!(snapshot.planner().unwrap().1.term, 9);
        assert_eq!(snapshot.birth().unwrap().slots, 8);
        assert!(snapshot.ring().is_none() && snapshot.slot(Slot(1)).is_none());
    }

    #[test]
    fn a_life_that_is_over_is_not_alive() {
        let snapshot = snapshot(&[(
            "node/ts-1",
            r#"{"inc":2,"role":"topic-server","advertise":"a:1","build":"1"}"#,
        )]);
        assert!(snapshot.alive(&node_ref("ts-1", 2)));
        assert!(!snapshot.alive(&node_ref("ts-1", 1)) && !snapshot.alive(&node_ref("ts-2", 2)));
    }

    #[test]
    fn a_change_that_a_load_has_shown_already_is_skipped() {
        const FIRST: &str = r#"{"version":1,"cause":"commit"}"#;
        let mut now = snapshot(&[("history/1", FIRST), ("history/2", FIRST)]);
        let loaded = now.clone();
        let key: Key = "history/1".parse().unwrap();
        now.apply(&Changed {
            revision: Revision(2),
            records: vec![(key.clone(), None)],
        });
        assert_eq!(now, loaded);
        now.apply(&Changed {
            revision: Revision(3),
            records: vec![(key.clone(), None)],
        });
        assert_eq!(
            (now.revision, now.records.contains_key(&key)),
            (Revision(3), false)
        );
    }
}

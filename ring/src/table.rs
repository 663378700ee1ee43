//! Who owns which slot, ready for looking up: what a gateway routes by and a topic server checks itself against.
//!
//! It promises that a topic's owner is one hash and one array index away, and that a table never changes: a newer
//! snapshot makes another one, and readers share it by `Arc`. *Invariant:* it says what the slot records say and
//! nothing of its own; an address is only ever that of the very incarnation asked for.
//! Leaves out: where slots should be (`placement`).

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::{FORMAT, Role};
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot};

use crate::hash::{Seeds, birth_digest};
use crate::{Revision, Snapshot};

/// The one node that may commit in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotOwner {
    /// Which node, in which life.
    pub owner: NodeRef,
    /// The fencing token it owns the slot under.
    pub owner_epoch: OwnerEpoch,
}

/// Every slot's owner and every node's address, as of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTable {
    revision: Revision,
    birth_digest: u64,
    seeds: Seeds,
    /// One entry a slot, none where the birth is not finished.
    owners: Vec<Option<SlotOwner>>,
    nodes: BTreeMap<NodeId, Registered>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registered {
    incarnation: Incarnation,
    role: Role,
    advertise: String,
}

impl SlotTable {
    /// The table of `snapshot`; none until the cluster is born, or when it was born in a format this build does not
    /// know (acting on what one does not understand is worse than stopping).
    #[must_use]
    pub fn from_snapshot(snapshot: &Snapshot) -> Option<SlotTable> {
        let birth = snapshot
            .birth()
            .filter(|birth| birth.format == FORMAT && birth.slots > 0)?;
        let mut owners = vec![None; usize::from(birth.slots)];
        for (slot, _, record) in snapshot.slots() {
            if let Some(entry) = owners.get_mut(usize::from(slot.0)) {
                *entry = Some(SlotOwner {
                    owner: record.owner.clone(),
                    owner_epoch: record.owner_epoch,
                });
            }
        }
        let registered = |(id, record): (&NodeId, &ringcast_proto::record::NodeRecord)| {
            let (incarnation, role) = (record.incarnation, record.role);
            (
                id.clone(),
                Registered {
                    incarnation,
                    role,
                    advertise: record.advertise.clone(),
                },
            )
        };
        Some(SlotTable {
            revision: snapshot.revision,
            birth_digest: birth_digest(birth),
            seeds: Seeds::new(birth.seed),
            owners,
            nodes: snapshot.nodes().map(registered).collect(),
        })
    }

    /// The snapshot's revision. Tables are newer or older by this alone.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What calls between nodes carry to prove that both mean the same cluster.
    #[must_use]
    pub fn birth_digest(&self) -> u64 {
        self.birth_digest
    }

    /// How many slots the cluster was born with.
    #[must_use]
    pub fn slots(&self) -> u16 {
        u16::try_from(self.owners.len()).expect("made from a u16")
    }

    /// The slot of a topic's bytes.
    #[must_use]
    pub fn slot_of(&self, topic: &[u8]) -> Slot {
        self.seeds.slot_of(topic, self.slots())
    }

    /// Who owns `slot`; none while the birth is not finished, or for a number that is no slot.
    #[must_use]
    pub fn owner(&self, slot: Slot) -> Option<&SlotOwner> {
        self.owners.get(usize::from(slot.0))?.as_ref()
    }

    /// Where to reach this life of the node; none when that life is not, or no longer, registered.
    #[must_use]
    pub fn address(&self, node: &NodeRef) -> Option<&str> {
        let registered = self.nodes.get(&node.node)?;
        (registered.incarnation == node.incarnation).then_some(registered.advertise.as_str())
    }

    /// Whether every slot has an owner that is registered.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.owners.iter().all(Option::is_some)
            && self.owners().iter().all(|owner| self.address(owner).is_some())
    }

    /// Everyone who owns a slot, once each, in order.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<NodeRef> {
        let mut owners = BTreeSet::new();
        for entry in self.owners.iter().flatten() {
            // Nearly every slot names a node that is in already, and a look-up spares the clone.
            if !owners.contains(&entry.owner) {
                owners.insert(entry.owner.clone());
            }
        }
        owners
    }

    /// The registered gateways and where to reach them, in id order.
    pub fn gateways(&self) -> impl Iterator<Item = (NodeRef, &str)> {
        self.registered(Role::Gateway)
    }

    /// The registered topic servers and where to reach them, in id order; not all of them own slots.
    pub fn topic_servers(&self) -> impl Iterator<Item = (NodeRef, &str)> {
        self.registered(Role::TopicServer)
    }

    fn registered(&self, role: Role) -> impl Iterator<Item = (NodeRef, &str)> {
        self.nodes
            .iter()
            .filter(move |(_, registered)| registered.role == role)
            .map(|(id, registered)| {
                let node = NodeRef {
                    node: id.clone(),
                    incarnation: registered.incarnation,
                };
                (node, registered.advertise.as_str())
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::{node_ref, snapshot};

    const BIRTH: (&str, &str) = (
        "birth",
        r#"{"format":1,"cluster_id":"c","slots":2,"seed":5929358395170083668}"#,
    );
    const TS_1: (&str, &str) = (
        "node/ts-1",
        r#"{"inc":2,"role":"topic-server","advertise":"ts-1:7200","build":"1"}"#,
    );
    const GW_1: (&str, &str) = (
        "node/gw-1",
        r#"{"inc":3,"role":"gateway","advertise":"gw-1:7100","build":"1"}"#,
    );
    const SLOT_0: (&str, &str) = (
        "slot/0",
        r#"{"owner_epoch":4,"base":1,"owner":{"node":"ts-1","inc":2},"cause":"swap"}"#,
    );
    const SLOT_1: (&str, &str) = (
        "slot/1",
        r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":1},"cause":"birth"}"#,
    );

    fn table(records: &[(&str, &str)]) -> SlotTable {
        SlotTable::from_snapshot(&snapshot(records)).unwrap()
    }

    #[test]
    fn there_is_no_table_before_birth_or_of_a_birth_one_does_not_understand() {
        let none = |records: &[(&str, &str)]| SlotTable::from_snapshot(&snapshot(records)).is_none();
        assert!(none(&[TS_1, GW_1, SLOT_0]));
        assert!(none(&[(
            "birth",
            r#"{"format":2,"cluster_id":"c","slots":2,"seed":1}"#
        )]));
        assert!(none(&[(
            "birth",
            r#"{"format":1,"cluster_id":"c","slots":0,"seed":1}"#
        )]));
    }

    #[test]
    fn it_says_what_the_slot_records_say() {
        let table = table(&[BIRTH, TS_1, GW_1, SLOT_0]);
        let owner = SlotOwner {
            owner: node_ref("ts-1", 2),
            owner_epoch: OwnerEpoch(4),
        };
        assert_eq!(table.owner(Slot(0)), Some(&owner));
        assert_eq!((table.owner(Slot(1)), table.owner(Slot(2))), (None, None));
        assert_eq!((table.slots(), table.revision()), (2, Revision(4)));
        // 643 of 1024: the golden value modulo 2.
        assert_eq!(table.slot_of(b"topics:matrix"), Slot(1));
    }

    #[test]
    fn a_slot_beyond_the_birth_record_is_ignored() {
        let stray = ("slot/7", SLOT_0.1);
        assert_eq!(table(&[BIRTH, TS_1, stray]).owner(Slot(7)), None);
    }

    #[test]
    fn an_address_is_that_of_the_very_incarnation() {
        let table = table(&[BIRTH, TS_1]);
        assert_eq!(table.address(&node_ref("ts-1", 2)), Some("ts-1:7200"));
        assert_eq!(table.address(&node_ref("ts-1", 1)), None);
        assert_eq!(table.address(&node_ref("ts-2", 2)), None);
    }

    #[test]
    fn it_is_whole_when_every_slot_has_an_owner_that_is_registered() {
        let born_to = |owner: (&'static str, &'static str)| table(&[BIRTH, TS_1, SLOT_0, owner]);
        assert!(!table(&[BIRTH, TS_1, SLOT_0]).is_whole());
        assert!(!born_to(SLOT_1).is_whole(), "ts-1#1 is over");
        assert!(born_to(("slot/1", SLOT_0.1)).is_whole());
        assert_eq!(
            born_to(SLOT_1).owners(),
            BTreeSet::from([node_ref("ts-1", 1), node_ref("ts-1", 2)])
        );
    }

    #[test]
    fn gateways_and_topic_servers_are_told_apart() {
        let table = table(&[BIRTH, TS_1, GW_1]);
        assert!(table.gateways().eq([(node_ref("gw-1", 3), "gw-1:7100")]));
        assert!(table.topic_servers().eq([(node_ref("ts-1", 2), "ts-1:7200")]));
    }
}

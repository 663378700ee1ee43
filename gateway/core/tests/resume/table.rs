//! A cluster of one topic server and one slot.

use std::collections::BTreeMap;

use ringcast_proto::record::{Birth, Cause, FORMAT, Key, NodeRecord, Record, Ring, Role, SlotRecord};
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot};
use ringcast_ring::{Op, Revision, SlotTable, Snapshot, Stored};

fn server(id: &str) -> NodeRef {
    NodeRef {
        node: NodeId::parse(id).expect("a legal id"),
        incarnation: Incarnation(1),
    }
}

/// In which this node owns the slot.
pub(crate) fn owned_by(id: &str, owner_epoch: u64) -> SlotTable {
    let (slots, owner) = (1, server(id));
    let mut records = BTreeMap::new();
    let mut put = |key, record| {
        records.insert(
            key,
            Stored {
                revision: Revision(1),
                op: Op(String::new()),
                record,
            },
        );
    };
    let birth = Birth {
        format: FORMAT,
        cluster_id: "test".into(),
        slots,
        seed: 7,
        rest: Default::default(),
    };
    put(Key::Birth, Record::Birth(birth));
    let ring = Ring {
        version: 1,
        replicas: 1,
        vnodes_per_weight: 256,
        nodes: Vec::new(),
        pins: BTreeMap::new(),
        plan: None,
        rest: Default::default(),
    };
    put(Key::Ring, Record::Ring(ring));
    let node = NodeRecord {
        incarnation: owner.incarnation,
        role: Role::TopicServer,
        advertise: format!("{id}:7200"),
        build: String::new(),
        ready: true,
        leaving: false,
        rest: Default::default(),
    };
    put(Key::Node(owner.node.clone()), Record::Node(node));
    for slot in (0..slots).map(Slot) {
        let record = SlotRecord {
            owner_epoch: OwnerEpoch(owner_epoch),
            base: OwnerEpoch(1),
            owner: owner.clone(),
            replica: None,
            moving: None,
            cause: Cause::Birth,
            rest: Default::default(),
        };
        put(Key::Slot(slot), Record::Slot(record));
    }
    SlotTable::from_snapshot(&Snapshot {
        revision: Revision(1),
        records: records.into_iter().collect(),
    })
    .expect("the cluster is born")
}

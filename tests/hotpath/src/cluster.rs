//! What the paths have in common: a cluster's table, names, and a payload.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringcast_proto::record::{Birth, Cause, FORMAT, Key, NodeRecord, Record, Ring, Role, SlotRecord};
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot};
use ringcast_ring::{Op, Revision, SlotTable, Snapshot, Stored};

/// As many as a cluster is born with.
const SLOTS: u16 = 1024;

/// Topic servers, each of which owns every third slot.
const SERVERS: u16 = 3;

/// Bytes of every payload, those of the benches.
const PAYLOAD_BYTES: usize = 128;

/// The owner_epoch of every slot.
pub(crate) const OWNER_EPOCH: OwnerEpoch = OwnerEpoch(1);

/// A node in its first life.
pub(crate) fn node(id: &str) -> NodeRef {
    NodeRef {
        node: NodeId::parse(id).expect("the id of a node"),
        incarnation: Incarnation(1),
    }
}

/// Bytes of their own, which the allocator aligns: those of a constant lie where the linker puts them, and checking and
/// comparing text takes a few instructions more or less by where it begins.
pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

/// The name of every event.
pub(crate) fn event() -> Bytes {
    bytes("event")
}

/// A JSON object.
pub(crate) fn payload() -> Bytes {
    let frame = r#"{"text":""}"#.len();
    Bytes::from(format!(r#"{{"text":"{}"}}"#, "x".repeat(PAYLOAD_BYTES - frame)))
}

/// Owned by this node.
pub(crate) fn slot_record(owner: NodeRef) -> SlotRecord {
    SlotRecord {
        owner_epoch: OWNER_EPOCH,
        base: OWNER_EPOCH,
        owner,
        replica: None,
        moving: None,
        cause: Cause::Birth,
        rest: Default::default(),
    }
}

/// Who owns which slot.
pub(crate) fn table() -> SlotTable {
    let server = |index: u16| node(&format!("ts-{}", index + 1));
    let birth = Birth {
        format: FORMAT,
        cluster_id: "hotpath".to_owned(),
        slots: SLOTS,
        seed: 7,
        rest: Default::default(),
    };
    let ring = Ring {
        version: 1,
        replicas: 1,
        vnodes_per_weight: 256,
        nodes: Vec::new(),
        pins: BTreeMap::new(),
        plan: None,
        rest: Default::default(),
    };
    let mut records = vec![
        (Key::Birth, Record::Birth(birth)),
        (Key::Ring, Record::Ring(ring)),
    ];
    for server in (0..SERVERS).map(server) {
        let record = NodeRecord {
            incarnation: server.incarnation,
            role: Role::TopicServer,
            advertise: format!("{}:7200", server.node),
            build: String::new(),
            ready: true,
            leaving: false,
            rest: Default::default(),
        };
        records.push((Key::Node(server.node), Record::Node(record)));
    }
    for slot in 0..SLOTS {
        let record = slot_record(server(slot % SERVERS));
        records.push((Key::Slot(Slot(slot)), Record::Slot(record)));
    }
    let stored = |record| Stored {
        revision: Revision(1),
        op: Op(String::new()),
        record,
    };
    let snapshot = Snapshot {
        revision: Revision(1),
        records: records
            .into_iter()
            .map(|(key, record)| (key, stored(record)))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect(),
    };
    SlotTable::from_snapshot(&snapshot).expect("the cluster is born")
}

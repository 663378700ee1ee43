//! What a look-up costs as nodes grow: a topic's owner in the slot table, which is what every publish does, and a slot's
//! first node on the consistent-hash ring, which is what a planner does.
//!
//! `cargo bench -p ringcast-ring --bench lookup [-- NODES...]`: a line of JSON for each number of nodes. Times are of the
//! fastest of several passes, each over thousands of topics.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it measures time and tells"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ringcast_proto::record::{Birth, Cause, FORMAT, Key, NodeRecord, Record, Role, SlotRecord};
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot};
use ringcast_ring::{Op, Revision, Ring, Seeds, SlotTable, Snapshot, Stored};

const NODES: [u16; 5] = [1, 10, 100, 1_000, 10_000];

/// More than there are nodes, so that each owns something.
const SLOTS: u16 = 16_384;

const SEED: u64 = 7;

/// As many points as a ring may have, and as a node has without being told.
const POINTS_MAX: u32 = 1 << 20;
const VNODES: u32 = 256;

const TOPICS: usize = 4_096;
const PASSES: usize = 20;

fn main() {
    let asked: Vec<u16> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.parse().ok())
        .collect();
    let nodes = if asked.is_empty() { NODES.to_vec() } else { asked };
    for count in nodes {
        let ids: Vec<NodeId> = (1..=count).map(|number| id(&format!("ts-{number}"))).collect();
        let table = table(&ids);
        let topics: Vec<String> = (0..TOPICS).map(|topic| format!("room:{topic:04}")).collect();
        let owner = fastest(|| {
            for topic in &topics {
                let slot = table.slot_of(black_box(topic.as_bytes()));
                black_box(table.owner(slot));
            }
        });
        let vnodes = VNODES.min(POINTS_MAX / u32::from(count));
        let began = Instant::now();
        let ring = Ring::build(Seeds::new(SEED), vnodes, ids.iter().map(|id| (id, 1.0)));
        let ring = ring.expect("a ring of these");
        let built = began.elapsed();
        let walk = fastest(|| {
            for slot in 0..TOPICS as u16 {
                black_box(ring.walk(black_box(Slot(slot))).next());
            }
        });
        println!(
            r#"{{"nodes":{count},"vnodes":{vnodes},"owner_ns":{:.1},"walk_ns":{:.1},"build_ms":{:.2}}}"#,
            each_ns(owner),
            each_ns(walk),
            built.as_secs_f64() * 1e3,
        );
    }
}

fn fastest(mut pass: impl FnMut()) -> Duration {
    let passes = (0..PASSES).map(|_| {
        let began = Instant::now();
        pass();
        began.elapsed()
    });
    passes.min().unwrap_or_default()
}

fn each_ns(pass: Duration) -> f64 {
    pass.as_nanos() as f64 / TOPICS as f64
}

fn id(name: &str) -> NodeId {
    NodeId::parse(name).expect("the id of a node")
}

/// Every node in its first life, and slots dealt out in turn.
fn table(ids: &[NodeId]) -> SlotTable {
    let incarnation = Incarnation(1);
    let birth = Birth {
        format: FORMAT,
        cluster_id: "bench".to_owned(),
        slots: SLOTS,
        seed: SEED,
        rest: Default::default(),
    };
    let node = |id: &NodeId| NodeRecord {
        incarnation,
        role: Role::TopicServer,
        advertise: format!("{id}:7200"),
        build: String::new(),
        ready: true,
        leaving: false,
        rest: Default::default(),
    };
    let slot = |slot: u16| SlotRecord {
        owner_epoch: OwnerEpoch(1),
        base: OwnerEpoch(1),
        owner: NodeRef {
            node: ids[usize::from(slot) % ids.len()].clone(),
            incarnation,
        },
        replica: None,
        moving: None,
        cause: Cause::Birth,
        rest: Default::default(),
    };
    let nodes = ids
        .iter()
        .map(|id| (Key::Node(id.clone()), Record::Node(node(id))));
    let slots = (0..SLOTS).map(|number| (Key::Slot(Slot(number)), Record::Slot(slot(number))));
    let records: BTreeMap<Key, Record> = nodes
        .chain(slots)
        .chain([(Key::Birth, Record::Birth(birth))])
        .collect();
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
            .collect(),
    };
    SlotTable::from_snapshot(&snapshot).expect("the cluster is born")
}

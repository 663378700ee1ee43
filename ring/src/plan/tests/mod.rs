//! A store of one process, and wishes, for the tests of plans.

mod carried_out;
mod refused_and_shown;
mod within_bounds;

use ringcast_proto::Incarnation;
use ringcast_proto::record::{
    Birth, Cause, Key, NodeRecord, PlanId, Record, Ring, RingNode, RingNodeState, Role, SlotRecord,
};
use ringcast_proto::{NodeRef, OwnerEpoch};

use super::*;
use crate::placement::tests::node;
use crate::{Change, Changed, Expect, Guard, Layout, Op, Revision, Stored};

const SLOTS: u16 = 256;

/// A store of one process: it does what a change says, if all it expects holds.
struct Store(Snapshot);

impl Store {
    /// A cluster of these members, where everything is as the ring places it.
    fn born(members: &[(&str, f64)]) -> Store {
        let birth = Birth {
            format: FORMAT,
            cluster_id: "c".to_owned(),
            slots: SLOTS,
            seed: 0x5249_4e47_4341_5354,
            rest: Default::default(),
        };
        let ring = Ring {
            version: 1,
            replicas: 1,
            vnodes_per_weight: 256,
            nodes: members
                .iter()
                .map(|(id, weight)| RingNode {
                    id: node(id),
                    weight: *weight,
                    state: RingNodeState::Up,
                })
                .collect(),
            pins: Default::default(),
            plan: None,
            rest: Default::default(),
        };
        let mut store = Store(Snapshot::default());
        for (id, _) in members {
            store.up(id, Role::TopicServer);
        }
        let layout = Layout::new(&birth, &ring, |_| true).unwrap();
        for (slot, place) in (0..).map(Slot).zip(layout.place()) {
            store.own(slot, layout.id(place.owner).unwrap().as_str());
        }
        store.put(Key::Birth, Record::Birth(birth));
        store.put(Key::Ring, Record::Ring(ring));
        store
    }

    fn put(&mut self, key: Key, record: Record) {
        self.write(vec![(key, Some(record))]);
    }

    fn write(&mut self, records: Vec<(Key, Option<Record>)>) {
        let revision = Revision(self.0.revision.0 + 1);
        let stored = |record| Stored {
            revision,
            op: Op("test".to_owned()),
            record,
        };
        let records = records.into_iter();
        let records = records.map(|(key, record)| (key, record.map(stored))).collect();
        self.0.apply(&Changed { revision, records });
    }

    fn up(&mut self, id: &str, role: Role) {
        let record = NodeRecord {
            incarnation: Incarnation(self.0.revision.0 + 1),
            role,
            advertise: "a:1".to_owned(),
            build: "1".to_owned(),
            ready: true,
            leaving: false,
            rest: Default::default(),
        };
        self.put(Key::Node(node(id)), Record::Node(record));
    }

    fn leave(&mut self, id: &str) {
        let mut record = self.0.node(&node(id)).unwrap().clone();
        record.leaving = true;
        self.put(Key::Node(node(id)), Record::Node(record));
    }

    fn kill(&mut self, id: &str) {
        self.write(vec![(Key::Node(node(id)), None)]);
    }

    fn own(&mut self, slot: Slot, id: &str) {
        let record = SlotRecord {
            owner_epoch: OwnerEpoch(1),
            base: OwnerEpoch(1),
            owner: NodeRef {
                node: node(id),
                incarnation: self.0.node(&node(id)).unwrap().incarnation,
            },
            replica: None,
            moving: None,
            cause: Cause::Birth,
            rest: Default::default(),
        };
        self.put(Key::Slot(slot), Record::Slot(record));
    }

    /// Whether it was done.
    fn apply(&mut self, change: Change) -> bool {
        let revision = |key| self.0.records.get(key).map(|stored| stored.revision);
        let expected = change.expect.iter().all(|(key, expect)| match expect {
            Expect::Absent => revision(key).is_none(),
            Expect::Revision(expected) => revision(key) == Some(*expected),
        });
        let guarded = change.guards.iter().all(|guard| match guard {
            Guard::Alive(node) => self.0.alive(node),
            Guard::Gone(_) | Guard::Planner(_) => panic!("a plan does not guard {guard:?}"),
        });
        if expected && guarded {
            let put = change.put.into_iter().map(|(key, record)| (key, Some(record)));
            self.write(
                put.chain(change.delete.into_iter().map(|key| (key, None)))
                    .collect(),
            );
        }
        expected && guarded
    }

    fn plan(&self, wishes: &[Wish]) -> Result<record::Plan, PlanError> {
        plan(&self.0, wishes, &BTreeMap::new())
    }

    /// Makes a plan and stores it.
    fn save(&mut self, name: &str, wishes: &[Wish]) {
        let plan = self.plan(wishes).unwrap();
        assert!(self.apply(save(&self.0, &id(name), &plan, op())));
    }

    fn commit(&self, name: &str) -> Result<Change, PlanError> {
        commit(&self.0, &id(name), "me@here", 7, op())
    }

    /// What the planner and the owners make of a plan in the end.
    fn carry_out(&mut self, plan: &record::Plan) {
        for planned in &plan.moves {
            self.own(planned.slot, planned.to.as_str());
        }
        let mut ring = self.0.ring().unwrap().clone();
        ring.nodes.clone_from(&plan.after.nodes);
        ring.pins.clone_from(&plan.after.pins);
        ring.plan = None;
        self.put(Key::Ring, Record::Ring(ring));
    }
}

fn three() -> Store {
    Store::born(&[("ts-1", 1.0), ("ts-2", 1.0), ("ts-3", 1.0)])
}

fn id(name: &str) -> PlanId {
    PlanId(name.to_owned())
}

fn op() -> Op {
    Op("op".to_owned())
}

fn add(id: &str) -> Wish {
    Wish::Add(node(id))
}

fn drain(id: &str) -> Wish {
    Wish::Drain(node(id))
}

fn remove(id: &str) -> Wish {
    let (node, dead) = (node(id), false);
    Wish::Remove { node, dead }
}

fn remove_dead(id: &str) -> Wish {
    let (node, dead) = (node(id), true);
    Wish::Remove { node, dead }
}

fn weight(id: &str, weight: f64) -> Wish {
    Wish::Weight(node(id), weight)
}

fn pin(slot: u16, id: &str) -> Wish {
    Wish::Pin(Slot(slot), node(id))
}

//! The planners' world in tests: a store that checks every expectation and guard, and a script that makes things happen.

mod moves;

use std::collections::BTreeMap;
use std::fmt::Write;

use ringcast_proto::Slot;
use ringcast_proto::record::{NodeRecord, Role};

use super::*;
use crate::{Refused, Revision, Stored, claims};

/// A store, and on every topic server a planner. The store checks every expectation and guard.
pub(super) struct World {
    pub(super) config: Config,
    pub(super) snapshot: Snapshot,
    pub(super) now: Millis,
    /// The nodes whose process runs, with the life each last registered as.
    pub(super) running: BTreeMap<NodeId, (NodeRef, Planner)>,
    pub(super) transcript: String,
}

impl World {
    pub(super) fn new(config: Config) -> World {
        let (snapshot, now, running) = (Snapshot::default(), Millis(1_000_000), BTreeMap::new());
        World {
            config,
            snapshot,
            now,
            running,
            transcript: String::new(),
        }
    }

    pub(super) fn script(&mut self, script: &str) {
        for command in script.split('|').map(str::trim) {
            let words: Vec<&str> = command.split(' ').collect();
            match words[..] {
                // A process starts and registers, or one that lost its lease registers anew.
                ["up", id] => self.up(&node(id)),
                ["gateway", id] => self.register(&node(id), Role::Gateway),
                // Its lease ends; the process lives on.
                ["lose", id] => self.lose(&node(id)),
                ["kill", id] => {
                    self.running.remove(&node(id));
                    self.lose(&node(id));
                }
                ["claim", id] => self.claim(&node(id)),
                ["replica", slot, id] => self.name_replica(Slot(slot.parse().unwrap()), &node(id)),
                ["drain", id] => self.drain(&node(id)),
                // It got the signal to end.
                ["leave", id] => self.leave(&node(id)),
                ["plan", id, ref wishes @ ..] => self.plan(id, wishes),
                ["commit", id] => self.commit(id),
                ["abort", undo] => self.abort(undo),
                // The moves that are under way happen, or the first of them.
                ["swap"] => drop(self.swap(usize::MAX)),
                ["swap", moves] => drop(self.swap(moves.parse().unwrap())),
                // Moves happen until the planners wish for no more.
                ["settle"] => self.settle(),
                ["ring"] => self.print_ring(),
                ["progress", id] => self.print_progress(id),
                ["wait", millis] => self.now = self.now + Duration::from_millis(millis.parse().unwrap()),
                ["run"] => self.run(usize::MAX),
                // Only so many changes happen.
                ["run", changes] => self.run(changes.parse().unwrap()),
                ["owners"] => self.print_owners(),
                _ => panic!("unknown command {command:?}"),
            }
        }
    }

    pub(super) fn write(&mut self, key: Key, record: Record) {
        let stored = Stored {
            revision: self.snapshot.revision,
            op: Op("test".to_owned()),
            record,
        };
        self.snapshot.records.insert(key, stored);
    }

    fn register(&mut self, id: &NodeId, role: Role) {
        self.snapshot.revision.0 += 1;
        let record = NodeRecord {
            incarnation: Incarnation(self.snapshot.revision.0),
            role,
            advertise: "127.0.0.1:1".to_owned(),
            build: "test".to_owned(),
            ready: false,
            leaving: false,
            rest: Default::default(),
        };
        self.write(Key::Node(id.clone()), Record::Node(record));
    }

    fn up(&mut self, id: &NodeId) {
        self.register(id, Role::TopicServer);
        let me = NodeRef {
            node: id.clone(),
            incarnation: Incarnation(self.snapshot.revision.0),
        };
        let entropy = draw(7, id.as_str(), 0);
        let planner = self
            .running
            .remove(id)
            .map_or_else(|| Planner::new(self.config, entropy), |(_, planner)| planner);
        self.running.insert(id.clone(), (me, planner));
    }

    fn lose(&mut self, id: &NodeId) {
        self.snapshot.revision.0 += 1;
        self.snapshot.records.remove(&Key::Node(id.clone()));
        if self
            .snapshot
            .planner()
            .is_some_and(|(_, planner)| planner.holder.node == *id)
        {
            self.snapshot.records.remove(&Key::Planner);
        }
        // Watchers see it when it happens.
        for (me, planner) in self.running.values_mut() {
            planner.decide(&self.snapshot, me, self.now);
        }
    }

    fn claim(&mut self, id: &NodeId) {
        let me = self.running[id].0.clone();
        let names: Vec<NodeRef> = self
            .snapshot
            .slots()
            .map(|(_, _, record)| record.owner.clone())
            .collect();
        let old = names.into_iter().find(|owner| owner.node == *id).unwrap();
        for change in claims(&self.snapshot, &old, &me, || Op("claim".to_owned())) {
            self.print(id, &change);
            self.apply(&change).unwrap();
        }
    }

    fn name_replica(&mut self, slot: Slot, id: &NodeId) {
        let incarnation = self.snapshot.node(id).unwrap().incarnation;
        let mut record = self.snapshot.slot(slot).unwrap().1.clone();
        record.replica = Some(NodeRef {
            node: id.clone(),
            incarnation,
        });
        self.snapshot.revision.0 += 1;
        self.write(Key::Slot(slot), Record::Slot(record));
    }

    fn drain(&mut self, id: &NodeId) {
        let mut ring = self.snapshot.ring().unwrap().clone();
        ring.nodes.iter_mut().find(|node| node.id == *id).unwrap().state = RingNodeState::Draining;
        self.snapshot.revision.0 += 1;
        self.write(Key::Ring, Record::Ring(ring));
    }

    /// Lets every planner decide in turn until none wants anything, or `left` changes have happened.
    fn run(&mut self, mut left: usize) {
        for _ in 0..100 {
            let mut idle = true;
            for id in self.running.keys().cloned().collect::<Vec<_>>() {
                let (me, planner) = self.running.get_mut(&id).unwrap();
                for change in planner.decide(&self.snapshot, me, self.now) {
                    if left == 0 {
                        return;
                    }
                    left -= 1;
                    idle = false;
                    self.print(&id, &change);
                    self.apply(&change).unwrap();
                }
            }
            if idle {
                let holder = self
                    .snapshot
                    .planner()
                    .map(|(_, planner)| planner.holder.node.clone());
                let wake = holder.and_then(|holder| self.running.get(&holder)?.1.deadline());
                if let Some(wake) = wake {
                    assert!(
                        wake > self.now,
                        "a deadline that has passed would be met at once, for ever"
                    );
                    writeln!(self.transcript, "look again in {:?}", wake.since(self.now)).unwrap();
                }
                return;
            }
        }
        panic!("the planners never come to rest:\n{}", self.transcript);
    }

    /// What a store does with a change.
    pub(super) fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        assert!(
            change.put.len() <= 64 && change.expect.len() <= 64,
            "too many for a transaction of etcd"
        );
        for (key, expect) in &change.expect {
            let current = self.snapshot.records.get(key);
            let holds = match expect {
                Expect::Absent => current.is_none(),
                Expect::Revision(revision) => current.is_some_and(|stored| stored.revision == *revision),
            };
            if !holds {
                return Err(Refused::Conflict(vec![(key.clone(), current.cloned())]));
            }
        }
        for guard in &change.guards {
            let holds = match guard {
                Guard::Alive(node) => self.snapshot.alive(node),
                Guard::Gone(node) => !self.snapshot.alive(node),
                Guard::Planner(term) => self
                    .snapshot
                    .planner()
                    .is_some_and(|(_, planner)| planner.term == *term),
            };
            if !holds {
                return Err(Refused::Guard(guard.clone()));
            }
        }
        self.snapshot.revision = Revision(self.snapshot.revision.0 + 1);
        for (key, record) in &change.put {
            assert!(
                change.expect.iter().any(|(expected, _)| expected == key),
                "{key} is written unseen"
            );
            self.assert_lawful(key, record);
            self.write(key.clone(), record.clone());
        }
        for key in &change.delete {
            self.snapshot.records.remove(key);
        }
        Ok(())
    }

    fn print(&mut self, id: &NodeId, change: &Change) {
        write!(self.transcript, "{id}:").unwrap();
        let mut slots: BTreeMap<String, usize> = BTreeMap::new();
        for (key, record) in &change.put {
            match record {
                Record::Slot(slot) => {
                    let present = self.snapshot.records.get(key).map(|stored| &stored.record);
                    let is_wish = |record: &&Record| matches!(record, Record::Slot(present) if present.owner_epoch == slot.owner_epoch);
                    let what = match (present.filter(is_wish), &slot.moving) {
                        (None, _) => {
                            format!("{:?} at {} to {}", slot.cause, slot.owner_epoch, slot.owner.node)
                        }
                        (Some(_), Some(moving)) => {
                            // The slot and its revision say nothing to the reader.
                            let why = moving.id.split(['.', '-']).next().unwrap_or_default();
                            format!("{why} from {} to {}", slot.owner.node, moving.target.node)
                        }
                        (Some(_), None) => format!("stay at {}", slot.owner.node),
                    };
                    *slots.entry(what).or_default() += 1;
                }
                Record::Planner(tenure) => write!(self.transcript, " planner, term {}", tenure.term).unwrap(),
                Record::Ring(ring) => write!(self.transcript, " ring of {}", ring.nodes.len()).unwrap(),
                _ => write!(self.transcript, " {key}").unwrap(),
            }
        }
        let slots: Vec<String> = slots
            .into_iter()
            .map(|(what, count)| format!(" {count} slots {what}"))
            .collect();
        writeln!(self.transcript, "{}", slots.join(",")).unwrap();
    }

    fn print_owners(&mut self) {
        let mut owned: BTreeMap<String, usize> = BTreeMap::new();
        for (_, _, record) in self.snapshot.slots() {
            let lives = if self.snapshot.alive(&record.owner) {
                ""
            } else {
                " (gone)"
            };
            *owned.entry(format!("{}{lives}", record.owner.node)).or_default() += 1;
        }
        let owned: Vec<String> = owned
            .into_iter()
            .map(|(id, count)| format!("{id} {count}"))
            .collect();
        writeln!(self.transcript, "owners: {}", owned.join(", ")).unwrap();
    }
}

pub(super) fn node(id: &str) -> NodeId {
    NodeId::parse(id).unwrap()
}

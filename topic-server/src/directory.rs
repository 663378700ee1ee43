//! Who is registered and where to reach them, as of the newest records read.
//!
//! It is made anew only when a node comes or goes: while slots move, records change a thousand times a second, and none
//! of them matters here. *Invariant:* what it says is what the records of [`Directory::revision`] say.
//! Leaves out: who owns what, which the slots know themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use ringcast_proto::{NodeRef, Slot};
use ringcast_ring::{Revision, SlotTable, Snapshot};

/// The nodes of a cluster that is born.
pub(crate) struct Directory {
    /// Its owners are those of when it was made, and nobody asks it for them.
    table: SlotTable,
    lives: Vec<NodeRef>,
    /// Up to here nothing of it has changed.
    revision: AtomicU64,
}

impl Directory {
    /// None until the cluster is born.
    pub(crate) fn from_snapshot(snapshot: &Snapshot) -> Option<Directory> {
        Some(Directory {
            table: SlotTable::from_snapshot(snapshot)?,
            lives: lives(snapshot).collect(),
            revision: AtomicU64::new(snapshot.revision.0),
        })
    }

    /// Whether it says what `snapshot` says; it is then as new as that.
    pub(crate) fn goes_on(&self, snapshot: &Snapshot) -> bool {
        let same = lives(snapshot).eq(self.lives.iter().cloned());
        if same {
            self.revision.store(snapshot.revision.0, Ordering::Relaxed);
        }
        same
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Relaxed))
    }

    pub(crate) fn birth_digest(&self) -> u64 {
        self.table.birth_digest()
    }

    pub(crate) fn slots(&self) -> u16 {
        self.table.slots()
    }

    pub(crate) fn slot_of(&self, topic: &[u8]) -> Slot {
        self.table.slot_of(topic)
    }

    pub(crate) fn address(&self, node: &NodeRef) -> Option<&str> {
        self.table.address(node)
    }

    pub(crate) fn gateways(&self) -> impl Iterator<Item = (NodeRef, &str)> {
        self.table.gateways()
    }
}

/// The registered lives. What else their records say of role and address never changes within a life.
fn lives(snapshot: &Snapshot) -> impl Iterator<Item = NodeRef> {
    snapshot.nodes().map(|(id, record)| NodeRef {
        node: id.clone(),
        incarnation: record.incarnation,
    })
}

#[cfg(test)]
mod tests {
    use ringcast_proto::record::{Key, Record};
    use ringcast_proto::{Incarnation, NodeId};
    use ringcast_ring::{Op, Stored};

    use super::*;

    fn write(snapshot: &mut Snapshot, key: &str, json: &str) {
        snapshot.revision.0 += 1;
        let key: Key = key.parse().unwrap();
        let record = Record::decode(&key, json.as_bytes()).unwrap();
        let (revision, op) = (snapshot.revision, Op(String::new()));
        let stored = Stored { revision, op, record };
        snapshot.records.insert(key, stored);
    }

    #[test]
    fn it_is_made_anew_when_a_node_comes_or_goes_and_not_when_a_slot_moves() {
        let mut snapshot = Snapshot::default();
        assert!(Directory::from_snapshot(&snapshot).is_none(), "not born");
        write(
            &mut snapshot,
            "birth",
            r#"{"format":1,"cluster_id":"c","slots":2,"seed":5}"#,
        );
        let node = r#"{"inc":2,"role":"topic-server","advertise":"ts-1:7200","build":"1"}"#;
        write(&mut snapshot, "node/ts-1", node);
        let directory = Directory::from_snapshot(&snapshot).unwrap();
        let slot = r#"{"owner_epoch":4,"base":1,"owner":{"node":"ts-1","inc":2},"cause":"swap"}"#;
        write(&mut snapshot, "slot/0", slot);
        assert!(directory.goes_on(&snapshot));
        assert_eq!(
            directory.revision(),
            Revision(3),
            "it is as new as what it was compared with"
        );
        let ts_1 = NodeRef {
            node: NodeId::parse("ts-1").unwrap(),
            incarnation: Incarnation(2),
        };
        assert_eq!(directory.address(&ts_1), Some("ts-1:7200"));

        write(
            &mut snapshot,
            "node/ts-1",
            &node.replace("\"inc\":2", "\"inc\":5"),
        );
        assert!(!directory.goes_on(&snapshot));
        assert_eq!(directory.revision(), Revision(3));
    }
}

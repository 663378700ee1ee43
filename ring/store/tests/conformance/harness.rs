//! What the suite needs of a store, and short names for long values.

use std::time::Duration;

use futures_util::StreamExt;
use ringcast_proto::record::{Cause, Key, NodeRecord, Planner, Record, Role, SlotRecord};
use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, Slot};
use ringcast_ring::{Change, Changed, Expect, Guard, Op, Revision, Snapshot};
use ringcast_ring_store::{AnyStore, Lease, NodeInfo, RingStore, Watch, Watched, fresh_op};
use serde_json::Map;

/// A running store.
pub(crate) trait Harness: Sized {
    /// Starts an empty one.
    async fn start() -> Self;
    /// A handle with its own connection.
    fn store(&self) -> AnyStore;
    /// After more changes than these a watch must load again.
    fn window_len(&self) -> usize;
}

/// Nothing in the suite takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough that no lease ends by accident.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took too long"))
}

pub(crate) fn slot(number: u16) -> Key {
    Key::Slot(Slot(number))
}

pub(crate) fn slot_record(epoch: u64) -> Record {
    let owner = NodeRef {
        node: "ts-1".parse().unwrap(),
        incarnation: Incarnation(1),
    };
    Record::Slot(SlotRecord {
        owner_epoch: OwnerEpoch(epoch),
        base: OwnerEpoch(1),
        owner,
        replica: None,
        moving: None,
        cause: Cause::Birth,
        rest: Map::new(),
    })
}

/// A change with a fresh name and nothing in it.
pub(crate) fn change() -> Change {
    Change {
        expect: Vec::new(),
        guards: Vec::new(),
        put: Vec::new(),
        delete: Vec::new(),
        op: fresh_op(),
    }
}

/// Puts slots that do not exist yet.
pub(crate) fn create(slots: std::ops::Range<u16>) -> Change {
    Change {
        expect: slots
            .clone()
            .map(|number| (slot(number), Expect::Absent))
            .collect(),
        put: slots.map(|number| (slot(number), slot_record(1))).collect(),
        ..change()
    }
}

pub(crate) fn put(key: Key, record: Record) -> Change {
    Change {
        put: vec![(key, record)],
        ..change()
    }
}

pub(crate) fn guarded(guard: Guard) -> Change {
    Change {
        guards: vec![guard],
        ..put(slot(7), slot_record(9))
    }
}

pub(crate) fn planner(holder: &NodeRef, term: u64) -> Change {
    let planner = Planner {
        holder: holder.clone(),
        term,
        rest: Map::new(),
    };
    put(Key::Planner, Record::Planner(planner))
}

pub(crate) fn node(id: &str, ttl: Duration) -> NodeInfo {
    let record = NodeRecord {
        incarnation: Incarnation(0),
        role: Role::TopicServer,
        advertise: format!("{id}.test:7200"),
        build: "0.1.0".to_owned(),
        ready: false,
        leaving: false,
        rest: Map::new(),
    };
    NodeInfo {
        id: id.parse().unwrap(),
        record,
        ttl,
    }
}

pub(crate) async fn register(store: &impl RingStore, id: &str, ttl: Duration) -> Lease {
    store.register(&node(id, ttl), &fresh_op()).await.unwrap()
}

pub(crate) async fn load(store: &impl RingStore) -> Snapshot {
    within("a load", store.load()).await.unwrap()
}

/// The op a record was written by.
pub(crate) fn written_by(snapshot: &Snapshot, key: &Key) -> Option<Op> {
    Some(snapshot.records.get(key)?.op.clone())
}

/// The next change of a watch, whatever progress it reports before.
pub(crate) async fn next_change(watch: &mut Watch) -> Changed {
    within("the next change", async {
        loop {
            match watch.next().await {
                Some(Watched::Changed(changed)) => return changed,
                Some(Watched::Progress(_)) => {}
                other => panic!("the watch said {other:?}"),
            }
        }
    })
    .await
}

/// Waits until a watch shows that `key` went; the revision at which.
pub(crate) async fn removal(watch: &mut Watch, key: &Key) -> Changed {
    loop {
        let changed = next_change(watch).await;
        if changed
            .records
            .iter()
            .any(|(removed, stored)| removed == key && stored.is_none())
        {
            return changed;
        }
    }
}

pub(crate) const NONE: Revision = Revision(0);

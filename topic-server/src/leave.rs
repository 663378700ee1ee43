//! Leaving well: a topic server that is asked to end first has its slots moved away, and serves them until they are.
//!
//! It says in its own record that it is leaving; whoever plans moves its slots to others. *Invariant:* it waits for no
//! longer than it is worth: not without a node that could take the slots, nor for a store that stays away, nor beyond
//! its deadline.
//! Leaves out: which slot goes where (the planner), how (the slots).

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringcast_proto::record::{Key, NodeRecord, Record};
use ringcast_proto::{NodeId, NodeRef, Slot};
use ringcast_ring::{Change, Expect, Guard, Revision, Snapshot, has_target};
use ringcast_ring_store::{Mirror, RingStore, fresh_op};
use tokio::time::{Instant, timeout};

use crate::shared::Shared;

/// How long a topic server that was asked to end waits for its slots to be elsewhere. A container's grace must be longer.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// A store that is restarted is back by then. While it is away nothing moves, and leases run out.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How often to look although no record changed, and to write again what was not written.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Slots named in one line of the log; the number says how many there are.
const NAMED_MAX: usize = 32;

/// Waits until this node owns nothing, or need not wait any longer.
pub(crate) async fn drained(shared: &Shared, mirror: &Mirror, deadline: Duration) {
    if deadline.is_zero() {
        return;
    }
    let end = timeout(deadline, drain(shared, mirror)).await;
    let left = owned(&mirror.snapshot(), &shared.lease.node().node);
    let named: Vec<u16> = left.iter().take(NAMED_MAX).map(|slot| slot.0).collect();
    match end {
        Ok(End::Empty) => tracing::info!("left all slots to others"),
        // So it is when a cluster is stopped as a whole.
        Ok(End::Alone) => tracing::info!(slots = left.len(), "nobody is there to leave slots to"),
        Ok(End::StoreAway) => {
            tracing::warn!(
                slots = left.len(),
                ?named,
                "slots left behind: the ring store is away"
            );
        }
        Err(_) => tracing::warn!(
            slots = left.len(),
            ?named,
            "slots left behind: they did not move in time"
        ),
    }
}

/// Why there is nothing more to wait for.
enum End {
    /// Nothing is owned any more, and nothing is on its way here.
    Empty,
    /// No other node can take slots.
    Alone,
    /// Nothing can be written, and nothing is heard.
    StoreAway,
}

async fn drain(shared: &Shared, mirror: &Mirror) -> End {
    // No copy begins from here on: a slot that comes while this node ends would end with it.
    shared.leaving.store(true, Ordering::Relaxed);
    let mut snapshots = mirror.subscribe();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut heard = Instant::now();
    let (mut logged, mut shown): (Option<Instant>, usize) = (None, 0);
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let me = shared.lease.node();
        let left = owned(&snapshot, &me.node).len();
        let alone = !has_target(&snapshot, &me.node);
        if left == 0 && (alone || has_said_so(&snapshot, &me) && !comes(&snapshot, &me)) {
            return End::Empty;
        }
        if alone {
            return End::Alone;
        }
        if mirror.connected() {
            heard = Instant::now();
        } else if heard.elapsed() > STORE_PATIENCE {
            return End::StoreAway;
        }
        if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) && left != shown {
            tracing::info!(slots = left, "leaving: slots are moved away");
            (logged, shown) = (Some(Instant::now()), left);
        }
        tokio::select! {
            biased;
            // Not said yet, or said in a life that was lost meanwhile; again only when it is time.
            _ = look.tick() => if let Some(change) = announcement(&snapshot, &me) {
                announce(shared, change).await;
            },
            // The records changed. Nobody shows any more: the server ends.
            changed = snapshots.changed() => if changed.is_err() {
                return End::StoreAway;
            },
        }
    }
}

/// The slots whose records name this node, in whichever life: what a lost life owned the next one may have claimed back.
fn owned(snapshot: &Snapshot, node: &NodeId) -> Vec<Slot> {
    let mine = snapshot
        .slots()
        .filter(|(_, _, record)| record.owner.node == *node);
    mine.map(|(slot, _, _)| slot).collect()
}

/// Whether a slot is on its way to `me`.
fn comes(snapshot: &Snapshot, me: &NodeRef) -> bool {
    let mut wishes = snapshot
        .slots()
        .filter_map(|(_, _, record)| record.moving.as_ref());
    wishes.any(|wish| wish.target == *me)
}

/// Whether everybody can know that `me` is leaving: nobody wishes a slot to it any more, but for who has not read that yet,
/// and what is wished so late is not asked for.
fn has_said_so(snapshot: &Snapshot, me: &NodeRef) -> bool {
    node(snapshot, me).is_none_or(|(_, record)| record.leaving)
}

/// The change that says that `me` is leaving, unless its record does, or is not there.
fn announcement(snapshot: &Snapshot, me: &NodeRef) -> Option<Change> {
    let (revision, record) = node(snapshot, me)?;
    let key = Key::Node(me.node.clone());
    (!record.leaving).then(|| Change {
        expect: vec![(key.clone(), Expect::Revision(revision))],
        guards: vec![Guard::Alive(me.clone())],
        put: vec![(
            key,
            Record::Node(NodeRecord {
                leaving: true,
                ..record.clone()
            }),
        )],
        delete: Vec::new(),
        op: fresh_op(),
    })
}

fn node<'a>(snapshot: &'a Snapshot, me: &NodeRef) -> Option<(Revision, &'a NodeRecord)> {
    let stored = snapshot.records.get(&Key::Node(me.node.clone()))?;
    match &stored.record {
        Record::Node(record) if record.incarnation == me.incarnation => Some((stored.revision, record)),
        _ => None,
    }
}

/// Whatever becomes of it, the records show: what is not there in a while is written again.
async fn announce(shared: &Shared, change: Change) {
    match shared.store.compare_and_swap(change).await {
        Ok(revision) => tracing::info!(%revision, "said in the ring store that this node is leaving"),
        Err(refused) => tracing::debug!(%refused, "could not say that this node is leaving"),
    }
}

#[cfg(test)]
mod tests {
    use ringcast_proto::Incarnation;
    use ringcast_ring::{Op, Stored};

    use super::*;

    /// Each record's revision is its place in the list.
    fn snapshot(records: &[(&str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (key, json) in records {
            snapshot.revision.0 += 1;
            let key: Key = key.parse().unwrap();
            let record = Record::decode(&key, json.as_bytes()).unwrap();
            let (revision, op) = (snapshot.revision, Op(String::new()));
            snapshot.records.insert(key, Stored { revision, op, record });
        }
        snapshot
    }

    fn me(incarnation: u64) -> NodeRef {
        NodeRef {
            node: NodeId::parse("ts-1").unwrap(),
            incarnation: Incarnation(incarnation),
        }
    }

    const TS_1: (&str, &str) = (
        "node/ts-1",
        r#"{"inc":1,"role":"topic-server","advertise":"a:1","build":"1","later":7}"#,
    );

    const GW_1: (&str, &str) = (
        "node/gw-1",
        r#"{"inc":3,"role":"gateway","advertise":"a:2","build":"1"}"#,
    );

    #[test]
    fn a_node_says_once_a_life_that_it_leaves_and_changes_nothing_else_of_its_record() {
        let before = snapshot(&[GW_1, TS_1]);
        let change = announcement(&before, &me(1)).expect("not said yet");
        assert_eq!(
            change.expect,
            [(Key::Node(me(1).node), Expect::Revision(Revision(2)))]
        );
        assert_eq!(change.guards, [Guard::Alive(me(1))]);
        let [(key, record)] = &change.put[..] else {
            panic!("{change:?}")
        };
        let json = String::from_utf8(record.encode()).unwrap();
        assert_eq!(
            json,
            r#"{"inc":1,"role":"topic-server","advertise":"a:1","build":"1","ready":false,"leaving":true,"later":7}"#
        );
        let said = snapshot(&[(&key.to_string(), &json)]);
        assert_eq!(announcement(&said, &me(1)), None);
        assert_eq!(
            announcement(&before, &me(9)),
            None,
            "this life's record is yet to be seen"
        );
    }
}

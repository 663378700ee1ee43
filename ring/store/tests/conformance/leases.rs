//! Leases: when they end, and what goes with them.

use std::time::Duration;

use ringcast_proto::record::Key;
use ringcast_proto::{Incarnation, NodeRef};
use ringcast_ring::{Change, Revision};
use ringcast_ring_store::{RegisterRefused, RenewError, RingStore, fresh_op};
use tokio::time::Instant;

use crate::harness::*;

const TTL: Duration = Duration::from_millis(600);

pub(crate) async fn a_lease_ends_between_its_ttl_and_a_second_more(harness: &impl Harness) {
    let store = harness.store();
    let mut watch = store.watch(NONE);
    let asked = Instant::now();
    let lease = register(&store, "ts-1", TTL).await;
    let granted = Instant::now();
    let key = Key::Node(lease.node.node.clone());
    removal(&mut watch, &key).await;
    assert!(asked.elapsed() >= TTL, "ended after {:?}", asked.elapsed());
    assert!(
        granted.elapsed() <= TTL + Duration::from_secs(1),
        "ended after {:?}",
        granted.elapsed()
    );
    assert_eq!(store.renew(&lease).await, Err(RenewError::Lost));
    assert!(!load(&store).await.alive(&lease.node));
}

pub(crate) async fn a_renewed_lease_lives_on_and_only_in_its_own_life(harness: &impl Harness) {
    let store = harness.store();
    let mut watch = store.watch(NONE);
    let lease = register(&store, "ts-1", TTL).await;
    let mut other = lease.clone();
    other.node = NodeRef {
        incarnation: Incarnation(lease.node.incarnation.0 + 1),
        ..lease.node.clone()
    };
    let mut ticks = tokio::time::interval(TTL / 6);
    for _ in 0..20 {
        ticks.tick().await;
        store.renew(&lease).await.unwrap();
        assert_eq!(store.renew(&other).await, Err(RenewError::Lost));
    }
    let asked = Instant::now();
    store.renew(&lease).await.unwrap();
    removal(&mut watch, &Key::Node(lease.node.node.clone())).await;
    assert!(
        asked.elapsed() >= TTL,
        "a renewal counts from when it is heard: {:?}",
        asked.elapsed()
    );
}

pub(crate) async fn node_and_planner_records_go_with_the_lease_at_one_revision(harness: &impl Harness) {
    let store = harness.store();
    let stays = register(&store, "ts-2", LONG).await;
    let lease = register(&store, "ts-1", TTL).await;
    let revision = store.compare_and_swap(planner(&lease.node, 1)).await.unwrap();
    let key = Key::Node(lease.node.node.clone());
    let mut watch = store.watch(revision);
    let changed = removal(&mut watch, &key).await;
    assert_eq!(changed.records, [(key.clone(), None), (Key::Planner, None)]);
    let after = load(&store).await;
    assert_eq!(after.planner(), None);
    assert!(after.alive(&stays.node));

    // Somebody else's end leaves the planner alone, and so does a release; the holder's release does not.
    let lease = register(&store, "ts-1", LONG).await;
    store.compare_and_swap(planner(&lease.node, 2)).await.unwrap();
    store.release(&stays).await.unwrap();
    assert_eq!(load(&store).await.planner().unwrap().1.term, 2);
    store.release(&lease).await.unwrap();
    assert_eq!(load(&store).await.records.len(), 0);
}

pub(crate) async fn an_id_in_use_is_refused_and_its_holder_named(harness: &impl Harness) {
    let store = harness.store();
    let lease = register(&store, "ts-1", LONG).await;
    let refused = store.register(&node("ts-1", TTL), &fresh_op()).await.unwrap_err();
    let RegisterRefused::Taken(holder) = refused else {
        panic!("{refused}")
    };
    assert_eq!(holder.incarnation, lease.node.incarnation);
    assert_eq!(holder.advertise, "ts-1.test:7200");
    register(&store, "ts-10", LONG).await;
}

pub(crate) async fn a_registration_asked_for_again_is_the_same_one(harness: &impl Harness) {
    let (store, op) = (harness.store(), fresh_op());
    let first = store.register(&node("ts-1", LONG), &op).await.unwrap();
    let again = store.register(&node("ts-1", LONG), &op).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(
        load(&store).await.revision.0,
        first.node.incarnation.0,
        "nothing was written for the second"
    );
}

pub(crate) async fn a_registration_asked_for_again_lives_its_ttl_from_then_on(harness: &impl Harness) {
    let (store, op) = (harness.store(), fresh_op());
    store.register(&node("ts-1", TTL), &op).await.unwrap();
    // The answer was lost, and most of the lease went by.
    tokio::time::sleep(TTL * 2 / 3).await;
    let asked = Instant::now();
    let lease = store.register(&node("ts-1", TTL), &op).await.unwrap();
    let mut watch = store.watch(Revision(lease.node.incarnation.0));
    removal(&mut watch, &Key::Node(lease.node.node.clone())).await;
    assert!(
        asked.elapsed() >= TTL,
        "whoever is answered counts from here: {:?}",
        asked.elapsed()
    );
}

pub(crate) async fn a_released_id_is_free_at_once_and_its_next_life_is_a_later_one(harness: &impl Harness) {
    let store = harness.store();
    let first = register(&store, "ts-1", LONG).await;
    store.release(&first).await.unwrap();
    assert_eq!(store.renew(&first).await, Err(RenewError::Lost));
    let second = register(&store, "ts-1", LONG).await;
    assert!(second.node.incarnation > first.node.incarnation);
    store.release(&first).await.unwrap();
    assert!(
        load(&store).await.alive(&second.node),
        "releasing a life that is over hurts nobody"
    );
}

pub(crate) async fn removing_a_node_record_ends_its_lease(harness: &impl Harness) {
    let store = harness.store();
    let lease = register(&store, "ts-1", LONG).await;
    store.compare_and_swap(planner(&lease.node, 1)).await.unwrap();
    let evict = Change {
        delete: vec![Key::Node(lease.node.node.clone())],
        ..change()
    };
    store.compare_and_swap(evict).await.unwrap();
    assert_eq!(store.renew(&lease).await, Err(RenewError::Lost));
    assert_eq!(
        load(&store).await.records.len(),
        0,
        "the planner record went with it"
    );
}

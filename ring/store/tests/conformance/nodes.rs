//! Nodes on a store: membership and mirror.

use std::time::Duration;

use ringcast_proto::record::Key;
use ringcast_ring::Change;
use ringcast_ring_store::{JoinError, Membership, Mirror, RingStore, Standing, clock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::*;

const TTL: Duration = Duration::from_secs(1);

pub(crate) async fn a_node_stays_registered_for_many_ttls(harness: &impl Harness) {
    let store = harness.store();
    let member = Membership::join(harness.store(), node("ts-1", TTL), PATIENCE)
        .await
        .unwrap();
    let (lease, mut standing) = (member.lease(), member.standing());
    let born = lease.node();
    assert_eq!(*standing.borrow_and_update(), Standing::Held(born.incarnation));
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..30 {
        ticks.tick().await;
        let now = clock::now();
        assert!(lease.valid(now) && lease.valid_for(born.incarnation, now));
        assert!(
            lease.valid_until() <= now + TTL,
            "validity counts from the sending"
        );
    }
    assert!(!standing.has_changed().unwrap());
    assert!(load(&store).await.alive(&born));
    member.leave().await;
}

pub(crate) async fn a_node_waits_for_a_taken_id_until_it_is_free(harness: &impl Harness) {
    let dead = register(&harness.store(), "ts-1", TTL).await;
    let asked = Instant::now();
    let member = Membership::join(harness.store(), node("ts-1", TTL), PATIENCE)
        .await
        .unwrap();
    assert!(
        asked.elapsed() >= TTL - Duration::from_millis(100),
        "joined after {:?}",
        asked.elapsed()
    );
    assert!(member.lease().node().incarnation > dead.node.incarnation);
    member.leave().await;
}

pub(crate) async fn a_node_that_finds_its_id_taken_to_the_end_names_the_holder(harness: &impl Harness) {
    let held = register(&harness.store(), "ts-1", LONG).await;
    let patience = Duration::from_millis(700);
    let asked = Instant::now();
    let refused = Membership::join(harness.store(), node("ts-1", TTL), patience)
        .await
        .unwrap_err();
    assert!(
        asked.elapsed() >= patience && asked.elapsed() < patience + TTL,
        "{:?}",
        asked.elapsed()
    );
    assert!(
        matches!(&refused, JoinError::Taken { holder, .. } if holder.incarnation == held.node.incarnation)
    );
    let incarnation = held.node.incarnation;
    assert_eq!(
        refused.to_string(),
        format!(
            "node id ts-1 is taken by the topic server at ts-1.test:7200 (incarnation {incarnation}, build 0.1.0)"
        )
    );
}

pub(crate) async fn a_node_that_lost_its_lease_says_so_and_comes_back_in_a_new_life(harness: &impl Harness) {
    let store = harness.store();
    let member = Membership::join(harness.store(), node("ts-1", TTL), PATIENCE)
        .await
        .unwrap();
    let (lease, mut standing) = (member.lease(), member.standing());
    let first = lease.node();
    let evict = Change {
        delete: vec![Key::Node(first.node.clone())],
        ..change()
    };
    store.compare_and_swap(evict).await.unwrap();

    let held = within(
        "the new life",
        standing.wait_for(|standing| match standing {
            Standing::Held(incarnation) => *incarnation > first.incarnation,
            Standing::Lost(incarnation) => {
                assert_eq!(*incarnation, first.incarnation);
                false
            }
        }),
    );
    let Standing::Held(second) = *held.await.unwrap() else {
        panic!("held")
    };
    let now = clock::now();
    assert!(lease.valid_for(second, now));
    assert!(
        !lease.valid_for(first.incarnation, now),
        "what the old life held stays lost"
    );
    assert!(load(&store).await.alive(&lease.node()));
    member.leave().await;
}

pub(crate) async fn a_node_that_leaves_is_gone_at_once(harness: &impl Harness) {
    let member = Membership::join(harness.store(), node("ts-1", LONG), PATIENCE)
        .await
        .unwrap();
    let lease = member.lease();
    within("leaving", member.leave()).await;
    assert!(!lease.valid(clock::now()));
    assert_eq!(load(&harness.store()).await.nodes().count(), 0);
}

pub(crate) async fn a_mirror_shows_what_the_store_holds_and_every_change(harness: &impl Harness) {
    let store = harness.store();
    let before = create(0..64);
    store.compare_and_swap(before.clone()).await.unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mirror = Mirror::start(harness.store(), &tasks, stop.clone());
    let mut shown = mirror.subscribe();
    within(
        "the load",
        shown.wait_for(|snapshot| snapshot.slots().count() == 64),
    )
    .await
    .unwrap();
    for epoch in 2..30 {
        let change = put(slot(0), slot_record(epoch));
        store.compare_and_swap(change.clone()).await.unwrap();
        let seen = shown.wait_for(|snapshot| written_by(snapshot, &slot(0)) == Some(change.op.clone()));
        drop(within("the change", seen).await.unwrap());
    }
    assert!(mirror.connected());
    assert_eq!(*mirror.snapshot(), load(&store).await);
    stop.cancel();
    tasks.close();
    within("the mirror's end", tasks.wait()).await;
}

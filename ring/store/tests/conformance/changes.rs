//! Compare-and-swap: all or nothing, against what is there.

use ringcast_proto::record::{
    Birth, FORMAT, History, Key, Plan, PlanId, Record, Ring, RingNode, RingNodeState,
};
use ringcast_proto::{Incarnation, NodeRef};
use ringcast_ring::{Change, Expect, Guard, Refused, Revision};
use ringcast_ring_store::RingStore;
use serde_json::{Map, json};
use tokio::task::JoinSet;

use crate::harness::*;

pub(crate) async fn a_change_of_64_records_happens_at_one_revision_or_not_at_all(harness: &impl Harness) {
    let store = harness.store();
    let revision = store.compare_and_swap(create(0..64)).await.unwrap();
    let before = load(&store).await;
    assert_eq!(before.revision, revision);
    assert_eq!(before.slots().filter(|(_, at, _)| *at == revision).count(), 64);

    let mut second = create(64..128);
    second.expect[40] = (slot(3), Expect::Absent);
    let refused = store.compare_and_swap(second).await.unwrap_err();
    let stored = before.records[&slot(3)].clone();
    assert_eq!(refused, Refused::Conflict(vec![(slot(3), Some(stored))]));
    assert_eq!(
        load(&store).await,
        before,
        "nothing of the refused change is there"
    );

    let delete = Change {
        delete: (0..64).map(slot).collect(),
        ..change()
    };
    store.compare_and_swap(delete).await.unwrap();
    assert_eq!(load(&store).await.records.len(), 0);
}

pub(crate) async fn of_many_changes_to_one_record_one_wins(harness: &impl Harness) {
    let revision = harness.store().compare_and_swap(create(0..1)).await.unwrap();
    let mut racers = JoinSet::new();
    for epoch in 0..16 {
        let store = harness.store();
        let expect = vec![(slot(0), Expect::Revision(revision))];
        let change = Change {
            expect,
            ..put(slot(0), slot_record(epoch))
        };
        racers.spawn(async move { (change.op.clone(), store.compare_and_swap(change).await) });
    }
    let outcomes = within("the race", racers.join_all()).await;
    let winners: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let snapshot = load(&harness.store()).await;
    let stands = snapshot.records[&slot(0)].clone();
    assert_eq!(stands.op, winners[0].0);
    for (op, outcome) in &outcomes {
        if *op != stands.op {
            assert_eq!(
                *outcome,
                Err(Refused::Conflict(vec![(slot(0), Some(stands.clone()))])),
                "losers see it"
            );
        }
    }
    assert_eq!(snapshot.revision, Revision(revision.0 + 1));
}

pub(crate) async fn an_expectation_is_checked_against_what_is_there(harness: &impl Harness) {
    let store = harness.store();
    let expecting = |expect| Change {
        expect: vec![(slot(5), expect)],
        ..put(slot(6), slot_record(1))
    };
    let conflict = store
        .compare_and_swap(expecting(Expect::Revision(Revision(1))))
        .await
        .unwrap_err();
    assert_eq!(conflict, Refused::Conflict(vec![(slot(5), None)]));
    store.compare_and_swap(expecting(Expect::Absent)).await.unwrap();

    let first = store.compare_and_swap(create(5..6)).await.unwrap();
    assert!(matches!(
        store.compare_and_swap(expecting(Expect::Absent)).await,
        Err(Refused::Conflict(_))
    ));
    store
        .compare_and_swap(expecting(Expect::Revision(first)))
        .await
        .unwrap();
    let later = store
        .compare_and_swap(put(slot(5), slot_record(2)))
        .await
        .unwrap();
    assert!(matches!(
        store.compare_and_swap(expecting(Expect::Revision(first))).await,
        Err(Refused::Conflict(_))
    ));
    store
        .compare_and_swap(expecting(Expect::Revision(later)))
        .await
        .unwrap();
}

pub(crate) async fn a_guard_that_someone_is_alive_holds_for_this_life_only(harness: &impl Harness) {
    let store = harness.store();
    let lease = register(&store, "ts-1", LONG).await;
    store
        .compare_and_swap(guarded(Guard::Alive(lease.node.clone())))
        .await
        .unwrap();

    let before = load(&store).await;
    let other_life = NodeRef {
        incarnation: Incarnation(lease.node.incarnation.0 + 1),
        ..lease.node.clone()
    };
    let nobody = NodeRef {
        node: "ts-9".parse().unwrap(),
        ..lease.node.clone()
    };
    for guard in [Guard::Alive(other_life), Guard::Alive(nobody)] {
        let refused = store.compare_and_swap(guarded(guard.clone())).await;
        assert_eq!(refused, Err(Refused::Guard(guard)));
    }
    assert_eq!(
        load(&store).await,
        before,
        "a change refused by a guard does nothing"
    );

    store.release(&lease).await.unwrap();
    let guard = Guard::Alive(lease.node);
    assert_eq!(
        store.compare_and_swap(guarded(guard.clone())).await,
        Err(Refused::Guard(guard))
    );
}

pub(crate) async fn a_guard_that_someone_is_gone_holds_once_that_life_is_over(harness: &impl Harness) {
    let store = harness.store();
    let lease = register(&store, "ts-1", LONG).await;
    let gone = Guard::Gone(lease.node.clone());
    assert_eq!(
        store.compare_and_swap(guarded(gone.clone())).await,
        Err(Refused::Guard(gone.clone()))
    );
    store.release(&lease).await.unwrap();
    store.compare_and_swap(guarded(gone.clone())).await.unwrap();

    let next = register(&store, "ts-1", LONG).await;
    store.compare_and_swap(guarded(gone)).await.unwrap();
    let alive = Guard::Gone(next.node.clone());
    assert_eq!(
        store.compare_and_swap(guarded(alive.clone())).await,
        Err(Refused::Guard(alive))
    );
    let unborn = Guard::Gone(NodeRef {
        incarnation: Incarnation(u64::MAX),
        ..next.node
    });
    assert_eq!(
        store.compare_and_swap(guarded(unborn.clone())).await,
        Err(Refused::Guard(unborn))
    );
}

pub(crate) async fn a_guard_of_the_planner_holds_for_this_term_only(harness: &impl Harness) {
    let store = harness.store();
    let guard = Guard::Planner(4);
    assert_eq!(
        store.compare_and_swap(guarded(guard.clone())).await,
        Err(Refused::Guard(guard))
    );
    let lease = register(&store, "ts-1", LONG).await;
    store.compare_and_swap(planner(&lease.node, 4)).await.unwrap();
    store.compare_and_swap(guarded(Guard::Planner(4))).await.unwrap();
    for term in [3, 5] {
        let guard = Guard::Planner(term);
        assert_eq!(
            store.compare_and_swap(guarded(guard.clone())).await,
            Err(Refused::Guard(guard))
        );
    }
}

pub(crate) async fn a_repeated_change_is_done_once_and_answers_when(harness: &impl Harness) {
    let store = harness.store();
    let lease = register(&store, "ts-1", LONG).await;
    let change = Change {
        guards: vec![Guard::Alive(lease.node.clone())],
        ..create(0..3)
    };
    let revision = store.compare_and_swap(change.clone()).await.unwrap();
    assert_eq!(store.compare_and_swap(change.clone()).await, Ok(revision));
    // Something else goes on, and even the guard no longer holds: it was done all the same.
    store
        .compare_and_swap(put(slot(9), slot_record(1)))
        .await
        .unwrap();
    store.release(&lease).await.unwrap();
    let before = load(&store).await;
    assert_eq!(store.compare_and_swap(change).await, Ok(revision));
    assert_eq!(load(&store).await, before);
}

pub(crate) async fn a_repeated_change_that_was_overwritten_conflicts_with_what_stands(
    harness: &impl Harness,
) {
    let store = harness.store();
    let first = create(0..2);
    store.compare_and_swap(first.clone()).await.unwrap();
    let over = put(slot(1), slot_record(2));
    store.compare_and_swap(over.clone()).await.unwrap();
    let Err(Refused::Conflict(conflicts)) = store.compare_and_swap(first.clone()).await else {
        panic!("the repeated change must conflict");
    };
    let ops: Vec<_> = conflicts
        .iter()
        .map(|(_, stored)| stored.as_ref().unwrap().op.clone())
        .collect();
    assert_eq!(
        ops,
        [first.op, over.op],
        "its own record tells its sender that it was done"
    );
}

pub(crate) async fn a_record_on_a_lease_is_not_written_for_a_life_that_is_over(harness: &impl Harness) {
    let store = harness.store();
    let lease = register(&store, "ts-1", LONG).await;
    let Record::Node(record) = load(&store).await.records[&Key::Node(lease.node.node.clone())]
        .record
        .clone()
    else {
        panic!("a node record");
    };
    let key = Key::Node(lease.node.node.clone());
    let ready = ringcast_proto::record::NodeRecord {
        ready: true,
        leaving: false,
        ..record
    };
    store
        .compare_and_swap(put(key.clone(), Record::Node(ready.clone())))
        .await
        .unwrap();
    assert!(load(&store).await.node(&lease.node.node).unwrap().ready);
    store.renew(&lease).await.unwrap();

    store.release(&lease).await.unwrap();
    let refused = Err(Refused::Guard(Guard::Alive(lease.node.clone())));
    assert_eq!(
        store.compare_and_swap(put(key, Record::Node(ready))).await,
        refused
    );
    assert_eq!(store.compare_and_swap(planner(&lease.node, 1)).await, refused);
}

pub(crate) async fn what_is_written_is_what_is_loaded(harness: &impl Harness) {
    let store = harness.store();
    let rest = Map::from_iter([(
        "of a later build\t\n\u{2028}\"".to_owned(),
        json!({"a": [1, null, "\u{0}ü"]}),
    )]);
    let birth = Birth {
        format: FORMAT,
        cluster_id: "c".into(),
        slots: 1024,
        seed: u64::MAX,
        rest: rest.clone(),
    };
    let up = RingNode {
        id: "ts-1".parse().unwrap(),
        weight: 0.1 + 0.2,
        state: RingNodeState::Up,
    };
    let ring = Ring {
        version: 3,
        replicas: 1,
        vnodes_per_weight: 256,
        nodes: vec![up],
        pins: [(ringcast_proto::Slot(5), "ts-1".parse().unwrap())].into(),
        plan: Some(PlanId("p".to_owned())),
        rest,
    };
    let records = vec![
        (Key::Birth, Record::Birth(birth)),
        (Key::Ring, Record::Ring(ring)),
        (slot(1023), slot_record(u64::MAX)),
        (
            Key::Plan(PlanId("a/b \u{7f}".to_owned())),
            Record::Plan(Box::new(Plan {
                wish: vec!["--drain ts-1".to_owned()],
                ..Plan::default()
            })),
        ),
        (
            Key::History(7),
            Record::History(History {
                version: 7,
                ..History::default()
            }),
        ),
    ];
    let revision = store
        .compare_and_swap(Change {
            put: records.clone(),
            ..change()
        })
        .await
        .unwrap();
    let loaded = load(&harness.store()).await;
    assert_eq!(loaded.records.len(), records.len());
    for (key, record) in records {
        assert_eq!(loaded.records[&key].record, record);
        assert_eq!(loaded.records[&key].revision, revision);
    }
}

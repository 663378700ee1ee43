//! Transcripts: a script goes in, what the planners changed comes out.

use expect_test::{Expect as Golden, expect};
use proptest::prelude::*;
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::{OwnerEpoch, Slot};

use super::world::{World, node};
use super::*;
use crate::Refused;

fn check(expect_topic_servers: impl Into<Option<usize>>, script: &str, golden: &Golden) {
    let mut world = World::new(Config {
        expect_topic_servers: expect_topic_servers.into(),
        slots: 100,
    });
    world.script(script);
    golden.assert_eq(&world.transcript);
}

const BORN: &str = "up ts-1 | up ts-2 | up ts-3 | run";

#[test]
fn birth_waits_for_three() {
    let script = "up ts-1 | run | up ts-2 | gateway gw-1 | wait 60000 | run | up ts-3 | run | owners";
    check(
        3,
        script,
        &expect![[r#"
        ts-1: planner, term 1
        ts-1: birth ring of 3
        ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
        ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
        owners: ts-1 26, ts-2 37, ts-3 37
    "#]],
    );
}

#[test]
fn birth_without_a_number_waits_for_two_quiet_seconds() {
    let script = "up ts-1 | run | wait 1900 | up ts-2 | run | wait 1900 | run | wait 100 | run | owners";
    check(
        None,
        script,
        &expect![[r#"
        ts-1: planner, term 1
        look again in 2s
        look again in 2s
        look again in 100ms
        ts-1: birth ring of 2
        ts-1: 25 slots Birth at 1 to ts-1, 39 slots Birth at 1 to ts-2
        ts-1: 20 slots Birth at 1 to ts-1, 16 slots Birth at 1 to ts-2
        owners: ts-1 45, ts-2 55
    "#]],
    );
}

#[test]
fn a_later_topic_server_owns_nothing() {
    check(
        1,
        "up ts-1 | run | up ts-2 | wait 60000 | run | owners",
        &expect![[r#"
            ts-1: planner, term 1
            ts-1: birth ring of 1
            ts-1: 64 slots Birth at 1 to ts-1
            ts-1: 36 slots Birth at 1 to ts-1
            owners: ts-1 100
        "#]],
    );
}

#[test]
fn a_birth_whose_planner_died_half_way_is_finished_by_the_next() {
    check(
        3,
        "up ts-1 | up ts-2 | up ts-3 | run 3 | kill ts-1 | owners | run | owners",
        &expect![[r#"
            ts-1: planner, term 3
            ts-1: birth ring of 3
            ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
            owners: ts-1 (gone) 16, ts-2 26, ts-3 22
            ts-2: planner, term 7
            ts-2: 17 slots Birth at 1 to ts-2, 19 slots Birth at 1 to ts-3, 8 slots Fresh at 2 to ts-2, 8 slots Fresh at 2 to ts-3
            owners: ts-2 51, ts-3 49
        "#]],
    );
}

#[test]
fn a_dead_nodes_slots_go_to_the_survivors_at_once() {
    check(
        3,
        &format!("{BORN} | kill ts-2 | owners | run | owners"),
        &expect![[r#"
            ts-1: planner, term 3
            ts-1: birth ring of 3
            ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
            ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
            owners: ts-1 26, ts-2 (gone) 37, ts-3 37
            ts-1: 19 slots Fresh at 2 to ts-1, 18 slots Fresh at 2 to ts-3
            owners: ts-1 45, ts-3 55
        "#]],
    );
}

#[test]
fn a_slot_whose_record_names_a_replica_is_left_to_it() {
    let script = format!("{BORN} | replica 0 ts-3 | replica 1 ts-3 | kill ts-1 | run | owners");
    check(
        3,
        &script,
        &expect![[r#"
        ts-1: planner, term 3
        ts-1: birth ring of 3
        ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
        ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
        ts-2: planner, term 10
        ts-2: 11 slots Fresh at 2 to ts-2, 15 slots Fresh at 2 to ts-3
        owners: ts-2 48, ts-3 52
    "#]],
    );
}

#[test]
fn a_node_that_was_lost_is_no_target_for_five_seconds() {
    let down = "kill ts-2 | run | up ts-2 | run";
    check(
        3,
        &format!("{BORN} | {down} | wait 4900 | kill ts-3 | run | owners"),
        &expect![[r#"
            ts-1: planner, term 3
            ts-1: birth ring of 3
            ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
            ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
            ts-1: 19 slots Fresh at 2 to ts-1, 18 slots Fresh at 2 to ts-3
            look again in 5s
            ts-1: 37 slots Fresh at 2 to ts-1, 18 slots Fresh at 3 to ts-1
            look again in 100ms
            owners: ts-1 100
        "#]],
    );
    check(
        3,
        &format!("{BORN} | {down} | wait 5000 | kill ts-3 | run | owners"),
        &expect![[r#"
            ts-1: planner, term 3
            ts-1: birth ring of 3
            ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
            ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
            ts-1: 19 slots Fresh at 2 to ts-1, 18 slots Fresh at 2 to ts-3
            look again in 5s
            ts-1: 10 slots Fresh at 2 to ts-1, 27 slots Fresh at 2 to ts-2, 18 slots Fresh at 3 to ts-2
            owners: ts-1 55, ts-2 45
        "#]],
    );
}

#[test]
fn a_node_held_down_is_a_target_when_there_is_no_other() {
    check(
        2,
        "up ts-1 | up ts-2 | run | kill ts-2 | run | up ts-2 | wait 3000 | kill ts-1 | run | owners",
        &expect![[r#"
            ts-1: planner, term 2
            ts-1: birth ring of 2
            ts-1: 25 slots Birth at 1 to ts-1, 39 slots Birth at 1 to ts-2
            ts-1: 20 slots Birth at 1 to ts-1, 16 slots Birth at 1 to ts-2
            ts-1: 55 slots Fresh at 2 to ts-1
            ts-2: planner, term 10
            ts-2: 25 slots Fresh at 2 to ts-2, 39 slots Fresh at 3 to ts-2
            ts-2: 20 slots Fresh at 2 to ts-2, 16 slots Fresh at 3 to ts-2
            owners: ts-2 100
        "#]],
    );
}

#[test]
fn a_single_node_gets_its_slots_back_after_a_restart() {
    check(
        1,
        "up ts-1 | run | kill ts-1 | wait 2000 | up ts-1 | run | wait 1000 | run | owners",
        &expect![[r#"
            ts-1: planner, term 1
            ts-1: birth ring of 1
            ts-1: 64 slots Birth at 1 to ts-1
            ts-1: 36 slots Birth at 1 to ts-1
            ts-1: planner, term 7
            look again in 1s
            ts-1: 64 slots Fresh at 2 to ts-1
            ts-1: 36 slots Fresh at 2 to ts-1
            owners: ts-1 100
        "#]],
    );
}

#[test]
fn a_node_that_lost_its_lease_and_not_its_memory_has_a_second_to_claim() {
    let script =
        "up ts-1 | run | lose ts-1 | up ts-1 | run | wait 900 | claim ts-1 | wait 5000 | run | owners";
    check(
        1,
        script,
        &expect![[r#"
        ts-1: planner, term 1
        ts-1: birth ring of 1
        ts-1: 64 slots Birth at 1 to ts-1
        ts-1: 36 slots Birth at 1 to ts-1
        ts-1: planner, term 7
        look again in 5s
        ts-1: 64 slots Claim at 2 to ts-1
        ts-1: 36 slots Claim at 2 to ts-1
        owners: ts-1 100
    "#]],
    );
}

#[test]
fn the_loss_of_most_nodes_at_once_is_waited_out() {
    let script = format!(
        "{BORN} | kill ts-2 | wait 2900 | kill ts-3 | run 1 | wait 4900 | run | wait 100 | run | owners"
    );
    check(
        3,
        &script,
        &expect![[r#"
        ts-1: planner, term 3
        ts-1: birth ring of 3
        ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
        ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
        look again in 5s
        look again in 100ms
        ts-1: 64 slots Fresh at 2 to ts-1
        ts-1: 10 slots Fresh at 2 to ts-1
        owners: ts-1 100
    "#]],
    );
}

#[test]
fn nodes_lost_one_after_the_other_are_no_fault_of_the_store() {
    let script = format!("{BORN} | kill ts-2 | run | wait 3000 | kill ts-3 | run | owners");
    check(
        3,
        &script,
        &expect![[r#"
        ts-1: planner, term 3
        ts-1: birth ring of 3
        ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
        ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
        ts-1: 19 slots Fresh at 2 to ts-1, 18 slots Fresh at 2 to ts-3
        ts-1: 37 slots Fresh at 2 to ts-1, 18 slots Fresh at 3 to ts-1
        owners: ts-1 100
    "#]],
    );
}

#[test]
fn a_cluster_that_restarts_gives_every_node_its_own_slots() {
    let down = "wait 60000 | kill ts-1 | kill ts-2 | kill ts-3 | wait 60000";
    let script = format!(
        "{BORN} | owners | {down} | up ts-1 | run | wait 1500 | run | up ts-2 | up ts-3 | run | wait 1000 | run | owners"
    );
    check(
        3,
        &script,
        &expect![[r#"
        ts-1: planner, term 3
        ts-1: birth ring of 3
        ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
        ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
        owners: ts-1 26, ts-2 37, ts-3 37
        ts-1: planner, term 11
        look again in 1s
        ts-1: 26 slots Fresh at 2 to ts-1
        look again in 3.5s
        look again in 1s
        ts-1: 34 slots Fresh at 2 to ts-2, 30 slots Fresh at 2 to ts-3
        ts-1: 3 slots Fresh at 2 to ts-2, 7 slots Fresh at 2 to ts-3
        owners: ts-1 26, ts-2 37, ts-3 37
    "#]],
    );
}

#[test]
fn a_draining_node_gets_nothing_back() {
    check(
        3,
        &format!("{BORN} | drain ts-2 | kill ts-2 | up ts-2 | wait 6000 | run | owners"),
        &expect![[r#"
            ts-1: planner, term 3
            ts-1: birth ring of 3
            ts-1: 16 slots Birth at 1 to ts-1, 26 slots Birth at 1 to ts-2, 22 slots Birth at 1 to ts-3
            ts-1: 10 slots Birth at 1 to ts-1, 11 slots Birth at 1 to ts-2, 15 slots Birth at 1 to ts-3
            ts-1: 19 slots Fresh at 2 to ts-1, 18 slots Fresh at 2 to ts-3
            owners: ts-1 45, ts-3 55
        "#]],
    );
}

#[test]
fn nothing_is_planned_in_a_format_of_a_later_build() {
    let mut world = World::new(Config {
        expect_topic_servers: Some(1),
        slots: 8,
    });
    world.script("up ts-1 | run");
    let mut birth = world.snapshot.birth().unwrap().clone();
    birth.format += 1;
    world.write(Key::Birth, Record::Birth(birth));
    world.snapshot.records.remove(&Key::Slot(Slot(3)));
    world.transcript.clear();
    world.script("run");
    assert_eq!(world.transcript, "");
}

#[test]
fn a_planner_that_lost_its_lease_cannot_change_anything_late() {
    let mut world = World::new(Config {
        expect_topic_servers: Some(2),
        slots: 100,
    });
    world.script("up ts-1 | up ts-2 | run 2");
    let (me, planner) = world.running.get_mut(&node("ts-1")).unwrap();
    let late = planner.decide(&world.snapshot, me, world.now);
    assert_eq!(late.len(), 2, "100 slots are two changes");
    // The same term, as if both had seen the key absent at one revision.
    let term = world.snapshot.planner().unwrap().1.term;
    world.script("kill ts-1");
    let holder = world.running[&node("ts-2")].0.clone();
    world.write(
        Key::Planner,
        Record::Planner(Tenure {
            holder,
            term,
            rest: Default::default(),
        }),
    );
    assert!(
        matches!(world.apply(&late[0]), Err(Refused::Guard(Guard::Alive(node))) if node.node.as_str() == "ts-1")
    );
}

#[test]
fn the_same_entropy_draws_the_same_cluster() {
    let birth = || {
        let mut world = World::new(Config {
            expect_topic_servers: Some(1),
            slots: 8,
        });
        world.script("up ts-1 | run");
        world.snapshot.birth().unwrap().clone()
    };
    assert_eq!(birth(), birth());
}

#[test]
fn a_fresh_slot_keeps_what_a_later_build_wrote_and_drops_the_move() {
    let mut world = World::new(Config {
        expect_topic_servers: Some(2),
        slots: 4,
    });
    world.script("up ts-1 | up ts-2 | run");
    let (slot, record) = world
        .snapshot
        .slots()
        .find(|(_, _, record)| record.owner.node == node("ts-1"))
        .map(|(slot, _, record)| (slot, record.clone()))
        .unwrap();
    let json = r#"{"owner_epoch":1,"base":1,"owner":OWNER,"cause":"birth","later":[1],
        "move":{"id":"m","kind":"owner","target":OWNER}}"#;
    let owner = format!(r#"{{"node":"ts-1","inc":{}}}"#, record.owner.incarnation);
    let key = Key::Slot(slot);
    world.write(
        key.clone(),
        Record::decode(&key, json.replace("OWNER", &owner).as_bytes()).unwrap(),
    );
    world.script("kill ts-1 | run");
    let (_, fresh) = world.snapshot.slot(slot).unwrap();
    assert_eq!(
        (fresh.cause, fresh.owner_epoch, fresh.base),
        (Cause::Fresh, OwnerEpoch(2), OwnerEpoch(2))
    );
    assert_eq!(fresh.moving, None);
    assert_eq!(fresh.rest["later"].to_string(), "[1]");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_epochs_only_grow_and_every_slot_is_served_again(
        steps in prop::collection::vec((0..4u8, 1..4u8, 0..4_000u64), 0..40),
    ) {
        let mut world = World::new(Config { expect_topic_servers: Some(3), slots: 70 });
        world.script(BORN);
        for (what, which, millis) in steps {
            let id = format!("ts-{which}");
            let before: Vec<(Slot, SlotRecord)> = world.snapshot.slots().map(|(s, _, r)| (s, r.clone())).collect();
            let lives = world.running.contains_key(&node(&id));
            match what {
                0 if lives => world.script(&format!("kill {id}")),
                1 if !lives => world.script(&format!("up {id}")),
                2 => world.script(&format!("wait {millis}")),
                _ => {}
            }
            let alive: Vec<bool> = before.iter().map(|(_, record)| world.snapshot.alive(&record.owner)).collect();
            world.script(if what == 3 { "run 1" } else { "run" });
            for ((slot, was), alive) in before.iter().zip(alive) {
                let (_, is) = world.snapshot.slot(*slot).unwrap();
                // A wish changes nothing about who owns the slot.
                let same = SlotRecord { moving: was.moving.clone(), ..is.clone() } == *was;
                prop_assert!(same || (!alive && is.owner_epoch == was.owner_epoch.next()), "{was:?} to {is:?}");
            }
        }
        for id in ["ts-1", "ts-2", "ts-3"].into_iter().filter(|id| !world.running.contains_key(&node(id))).collect::<Vec<_>>() {
            world.script(&format!("up {id}"));
        }
        world.script("run | wait 6000 | run");
        prop_assert_eq!(world.snapshot.slots().count(), 70);
        prop_assert!(world.snapshot.slots().all(|(_, _, record)| world.snapshot.alive(&record.owner)));
    }
}

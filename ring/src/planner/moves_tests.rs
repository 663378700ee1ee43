//! Transcripts of moves: plans carried out, nodes that leave, nodes that come home.

use expect_test::{Expect as Golden, expect};
use proptest::prelude::*;

use super::world::{World, node};
use super::*;

fn check(script: &str, golden: &Golden) {
    let mut world = World::new(Config {
        expect_topic_servers: Some(3),
        slots: 100,
    });
    world.script("up ts-1 | up ts-2 | up ts-3 | run");
    world.transcript.clear();
    world.script(script);
    golden.assert_eq(&world.transcript);
}

#[test]
fn a_plan_is_carried_out_two_slots_in_and_two_out_a_node_at_a_time() {
    check(
        "up ts-4 | plan p add ts-4 | commit p | run | ring | progress p | swap 1 | run | swap | settle | progress p | ring | owners",
        &expect![[r#"
            plan p: 25 moves
            ts-1: 2 slots p from ts-3 to ts-4
            look again in 60s
            ring 2: ts-1 Up 1, ts-2 Up 1, ts-3 Up 1, ts-4 Up 1, plan p
            p: 0 of 25 moved, 0 skipped, 2 under way, running
            ts-1: 1 slots p from ts-2 to ts-4
            look again in 60s
            moved: ts-1 to ts-4 5, ts-2 to ts-4 8, ts-3 to ts-4 9
            p: 25 of 25 moved, 0 skipped, 0 under way, finished with 25 moved and 0 skipped
            ring 2: ts-1 Up 1, ts-2 Up 1, ts-3 Up 1, ts-4 Up 1
            owners: ts-1 21, ts-2 28, ts-3 26, ts-4 25
        "#]],
    );
}

#[test]
fn a_drained_node_stays_in_the_ring_and_a_removed_one_does_not() {
    check(
        "plan p drain ts-1 remove ts-2 | commit p | ring | settle | ring | owners | plan q add ts-1 | commit q | settle | owners",
        &expect![[r#"
            plan p: 63 moves
            ring 2: ts-1 Draining 1, ts-2 Draining 1, ts-3 Up 1, plan p
            moved: ts-1 to ts-3 26, ts-2 to ts-3 37
            ring 2: ts-1 Draining 1, ts-3 Up 1
            owners: ts-3 100
            plan q: 45 moves
            moved: ts-3 to ts-1 45
            owners: ts-1 45, ts-3 55
        "#]],
    );
}

#[test]
fn an_aborted_plan_takes_home_what_has_moved() {
    check(
        "owners | plan p remove ts-1 | commit p | run | swap | run | swap | run | progress p | abort u | ring | run | progress p | progress u | settle | progress u | ring | owners",
        &expect![[r#"
            owners: ts-1 26, ts-2 37, ts-3 37
            plan p: 26 moves
            ts-1: 2 slots p from ts-1 to ts-3
            look again in 60s
            ts-1: 2 slots p from ts-1 to ts-2
            look again in 60s
            ts-1: 1 slots p from ts-1 to ts-2, 1 slots p from ts-1 to ts-3
            look again in 60s
            p: 4 of 26 moved, 0 skipped, 2 under way, running
            aborted p
            ring 3: ts-1 Up 1, ts-2 Up 1, ts-3 Up 1, plan u
            ts-1: 2 slots stay at ts-1
            ts-1: 2 slots u from ts-3 to ts-1
            look again in 60s
            p: 4 of 26 moved, 22 skipped, 0 under way, finished with 4 moved and 22 skipped
            u: 22 of 26 moved, 0 skipped, 2 under way, running
            moved: ts-2 to ts-1 2, ts-3 to ts-1 2
            u: 26 of 26 moved, 0 skipped, 0 under way, finished with 26 moved and 0 skipped
            ring 3: ts-1 Up 1, ts-2 Up 1, ts-3 Up 1
            owners: ts-1 26, ts-2 37, ts-3 37
        "#]],
    );
}

#[test]
fn a_plan_whose_planner_dies_goes_on_under_the_next() {
    check(
        "up ts-4 | plan p add ts-4 | commit p | run | swap | run | kill ts-1 | run | wait 1000 | settle | progress p | ring | owners",
        &expect![[r#"
            plan p: 25 moves
            ts-1: 2 slots p from ts-3 to ts-4
            look again in 60s
            ts-1: 1 slots p from ts-2 to ts-4, 1 slots p from ts-3 to ts-4
            look again in 60s
            ts-2: planner, term 15
            ts-2: 6 slots Fresh at 2 to ts-2, 8 slots Fresh at 2 to ts-3, 12 slots Fresh at 2 to ts-4
            look again in 60s
            moved: ts-2 to ts-4 9, ts-3 to ts-4 9
            p: 25 of 25 moved, 0 skipped, 0 under way, finished with 25 moved and 0 skipped
            ring 2: ts-1 Up 1, ts-2 Up 1, ts-3 Up 1, ts-4 Up 1
            owners: ts-2 34, ts-3 34, ts-4 32
        "#]],
    );
}

#[test]
fn a_move_whose_target_dies_is_taken_back_and_skipped() {
    check(
        "up ts-4 | plan p add ts-4 | commit p | run | swap | run | kill ts-4 | run | progress p | wait 5000 | run | progress p | ring | owners",
        &expect![[r#"
            plan p: 25 moves
            ts-1: 2 slots p from ts-3 to ts-4
            look again in 60s
            ts-1: 1 slots p from ts-2 to ts-4, 1 slots p from ts-3 to ts-4
            look again in 60s
            ts-1: 2 slots Fresh at 3 to ts-3
            look again in 1s
            p: 0 of 25 moved, 25 skipped, 2 under way, running
            ts-1: 1 slots stay at ts-2, 1 slots stay at ts-3
            ts-1: ring of 4 history/2
            p: 0 of 25 moved, 25 skipped, 0 under way, finished with 0 moved and 25 skipped
            ring 2: ts-1 Up 1, ts-2 Up 1, ts-3 Up 1, ts-4 Up 1
            owners: ts-1 26, ts-2 37, ts-3 37
        "#]],
    );
}

#[test]
fn a_leaving_node_is_emptied_and_is_no_loss_when_it_goes() {
    check(
        "leave ts-2 | settle | owners | kill ts-2 | run | up ts-2 | settle | wait 9000 | settle | wait 1000 | settle | owners",
        &expect![[r#"
            moved: ts-2 to ts-1 19, ts-2 to ts-3 18
            owners: ts-1 45, ts-3 55
            moved:
            moved:
            moved: ts-1 to ts-2 19, ts-3 to ts-2 18
            owners: ts-1 26, ts-2 37, ts-3 37
        "#]],
    );
}

#[test]
fn a_move_that_hangs_for_a_minute_is_taken_back_and_begun_again_later() {
    check(
        "up ts-4 | plan p add ts-4 | commit p | run | wait 59000 | run | wait 1000 | run | wait 4000 | run | wait 1000 | run | settle | progress p",
        &expect![[r#"
            plan p: 25 moves
            ts-1: 2 slots p from ts-3 to ts-4
            look again in 60s
            look again in 1s
            ts-1: 2 slots stay at ts-3
            ts-1: 1 slots p from ts-2 to ts-4, 1 slots p from ts-3 to ts-4
            look again in 5s
            look again in 1s
            look again in 55s
            moved: ts-1 to ts-4 5, ts-2 to ts-4 9, ts-3 to ts-4 11
            p: 25 of 25 moved, 0 skipped, 0 under way, finished with 25 moved and 0 skipped
        "#]],
    );
}

#[test]
fn nothing_moves_while_most_of_the_ring_is_gone() {
    check(
        "up ts-4 | plan p add ts-4 | commit p | kill ts-2 | kill ts-3 | kill ts-4 | run | wait 5000 | run | up ts-2 | up ts-3 | up ts-4 | run | wait 5000 | settle | progress p",
        &expect![[r#"
            plan p: 25 moves
            look again in 1s
            ts-1: 64 slots Fresh at 2 to ts-1
            ts-1: 10 slots Fresh at 2 to ts-1
            look again in 5s
            moved: ts-1 to ts-2 27, ts-1 to ts-3 26, ts-1 to ts-4 25, ts-4 to ts-2 1, ts-4 to ts-3 2
            p: 25 of 25 moved, 0 skipped, 0 under way, finished with 25 moved and 0 skipped
        "#]],
    );
}

#[test]
fn a_node_that_was_lost_gets_its_share_back_and_no_slot_moves_twice_in_ten_seconds() {
    check(
        "kill ts-2 | run | up ts-2 | settle | wait 4900 | settle | wait 100 | settle | owners | kill ts-2 | run | up ts-2 | settle | wait 5000 | settle | wait 5000 | settle | owners",
        &expect![[r#"
            ts-1: 19 slots Fresh at 2 to ts-1, 18 slots Fresh at 2 to ts-3
            moved:
            moved:
            moved: ts-1 to ts-2 19, ts-3 to ts-2 18
            owners: ts-1 26, ts-2 37, ts-3 37
            ts-1: 19 slots Fresh at 4 to ts-1, 18 slots Fresh at 4 to ts-3
            moved:
            moved:
            moved: ts-1 to ts-2 19, ts-3 to ts-2 18
            owners: ts-1 26, ts-2 37, ts-3 37
        "#]],
    );
}

#[test]
fn who_leaves_is_emptied_before_a_plan_goes_on() {
    check(
        "up ts-4 | plan p add ts-4 | commit p | leave ts-3 | run | swap | run | settle | progress p | owners",
        &expect![[r#"
            plan p: 25 moves
            ts-1: 1 slots leave from ts-3 to ts-1, 1 slots p from ts-2 to ts-4, 1 slots p from ts-3 to ts-4
            look again in 60s
            ts-1: 1 slots leave from ts-3 to ts-2, 1 slots p from ts-2 to ts-4, 1 slots p from ts-3 to ts-4
            look again in 60s
            moved: ts-1 to ts-4 5, ts-2 to ts-4 8, ts-3 to ts-1 7, ts-3 to ts-2 9, ts-3 to ts-4 19
            p: 25 of 25 moved, 0 skipped, 0 under way, finished with 25 moved and 0 skipped
            owners: ts-1 29, ts-2 37, ts-4 34
        "#]],
    );
}

#[test]
fn nobody_is_given_slots_of_a_dead_node_who_is_draining_or_leaving_while_another_is_there() {
    check(
        "plan p drain ts-1 | commit p | settle | leave ts-3 | settle | kill ts-2 | run | owners | kill ts-3 | run | owners",
        &expect![[r#"
            plan p: 26 moves
            moved: ts-1 to ts-2 11, ts-1 to ts-3 15
            moved: ts-3 to ts-2 52
            ts-1: 26 slots Fresh at 2 to ts-1, 30 slots Fresh at 3 to ts-1, 8 slots Fresh at 4 to ts-1
            ts-1: 11 slots Fresh at 2 to ts-1, 18 slots Fresh at 3 to ts-1, 7 slots Fresh at 4 to ts-1
            owners: ts-1 100
            owners: ts-1 100
        "#]],
    );
}

#[test]
fn a_plan_made_while_another_runs_is_committed_after_it() {
    check(
        "up ts-4 | up ts-5 | plan p add ts-4 | commit p | run | plan q add ts-5 drain ts-1 | commit q | settle | commit q | commit q | settle | progress q | ring | owners | commit p | commit x | abort y",
        &expect![[r#"
            plan p: 25 moves
            ts-1: 2 slots p from ts-3 to ts-4
            look again in 60s
            plan q: 33 moves
            commit q: plan p is running: wait for it, or abort it
            moved: ts-1 to ts-4 5, ts-2 to ts-4 9, ts-3 to ts-4 11
            commit q: plan q is running: wait for it, or abort it
            moved: ts-1 to ts-3 2, ts-1 to ts-4 3, ts-1 to ts-5 16, ts-2 to ts-5 4, ts-3 to ts-5 3, ts-4 to ts-5 5
            q: 33 of 33 moved, 0 skipped, 0 under way, finished with 33 moved and 0 skipped
            ring 3: ts-1 Draining 1, ts-2 Up 1, ts-3 Up 1, ts-4 Up 1, ts-5 Up 1
            owners: ts-2 24, ts-3 25, ts-4 23, ts-5 28
            commit p: plan p is for version 1 of the ring, which is at 3: plan again
            commit x: no plan x: only the last few are kept
            abort: no plan is running
        "#]],
    );
}

#[test]
fn a_dead_node_is_removed_without_a_move_and_comes_back_as_a_stranger() {
    check(
        "plan p remove ts-2 | kill ts-2 | commit p | plan q remove ts-2 | plan q dead ts-2 | commit q | run | progress q | ring | up ts-2 | wait 10000 | settle | owners",
        &expect![[r#"
            plan p: 37 moves
            commit p: ts-2 is no longer up, and plan p counts on it: plan again
            plan q: ts-2 is down: `--dead` removes it, and what it alone holds is lost
            plan q: 0 moves
            ts-1: 19 slots Fresh at 2 to ts-1, 18 slots Fresh at 2 to ts-3
            ts-1: ring of 2 history/2
            q: 0 of 0 moved, 0 skipped, 0 under way, finished with 0 moved and 0 skipped
            ring 2: ts-1 Up 1, ts-3 Up 1
            moved:
            owners: ts-1 45, ts-3 55
        "#]],
    );
}

#[test]
fn a_plan_whose_record_is_gone_ends() {
    let mut world = World::new(Config {
        expect_topic_servers: Some(2),
        slots: 10,
    });
    world.script("up ts-1 | up ts-2 | run | plan p drain ts-1 | commit p");
    world
        .snapshot
        .records
        .remove(&Key::Plan(ringcast_proto::record::PlanId("p".to_owned())));
    world.script("settle");
    assert_eq!(world.snapshot.ring().unwrap().plan, None);
    let owners = world
        .snapshot
        .slots()
        .filter(|(.., record)| record.owner.node == node("ts-1"));
    assert_eq!(owners.count(), 0, "it drains all the same");
}

#[test]
fn who_said_that_it_would_go_is_not_waited_for() {
    check(
        "leave ts-2 | run | leave ts-3 | run | kill ts-2 | kill ts-3 | run | wait 1000 | run | owners",
        &expect![[r#"
            ts-1: 1 slots leave from ts-2 to ts-1, 1 slots leave from ts-2 to ts-3
            look again in 60s
            ts-1: 1 slots stay at ts-2
            ts-1: 1 slots leave from ts-3 to ts-1
            look again in 60s
            ts-1: 64 slots Fresh at 2 to ts-1
            ts-1: 10 slots Fresh at 2 to ts-1
            owners: ts-1 100
        "#]],
    );
}

#[test]
fn a_wish_is_not_repeated_while_no_snapshot_shows_it() {
    let mut world = World::new(Config {
        expect_topic_servers: Some(2),
        slots: 10,
    });
    world.script("up ts-1 | up ts-2 | run | plan p drain ts-1 | commit p");
    let now = world.now;
    let (me, planner) = world.running.get_mut(&node("ts-1")).unwrap();
    let mut decide = |after| {
        planner
            .decide(&world.snapshot, me, now + Duration::from_millis(after))
            .len()
    };
    assert_eq!((decide(0), decide(0), decide(999)), (1, 0, 0));
    assert_eq!(decide(1_000), 1, "it may never have happened");
    assert_eq!(planner.deadline(), Some(now + Duration::from_secs(2)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_to_a_plan_the_limits_hold_and_all_comes_to_rest(
        steps in prop::collection::vec((0..12u8, 1..6u8, 1..4_000u64), 0..40),
    ) {
        let mut world = World::new(Config { expect_topic_servers: Some(3), slots: 60 });
        world.script("up ts-1 | up ts-2 | up ts-3 | run | up ts-4 | up ts-5");
        for (number, (what, which, millis)) in steps.into_iter().enumerate() {
            let id = format!("ts-{which}");
            let lives = world.running.contains_key(&node(&id));
            world.script(&match what {
                0 if lives => format!("kill {id}"),
                0 | 1 if !lives => format!("up {id}"),
                1 => format!("lose {id} | up {id}"),
                2 if lives => format!("leave {id}"),
                3 => format!("plan p{number} add {id} | commit p{number}"),
                4 => format!("plan p{number} drain {id} | commit p{number}"),
                5 => format!("plan p{number} remove {id} | commit p{number}"),
                6 => format!("plan p{number} weigh {id}={} | commit p{number}", millis % 3),
                7 => format!("abort p{number}"),
                8 => format!("wait {millis}"),
                9 => "swap 1".to_owned(),
                10 => "swap".to_owned(),
                _ => format!("run {}", millis % 4),
            });
            world.assert_limits();
        }
        // Then everybody is there again, and stays.
        for id in (1..=5).map(|which| format!("ts-{which}")) {
            let leaves = world.snapshot.node(&node(&id)).is_some_and(|record| record.leaving);
            if leaves {
                world.script(&format!("kill {id}"));
            }
            if !world.running.contains_key(&node(&id)) {
                world.script(&format!("up {id}"));
            }
        }
        for _ in 0..12 {
            world.script("settle | wait 2000");
        }
        world.transcript.clear();
        world.script("run | ring");
        let snapshot = &world.snapshot;
        prop_assert_eq!(snapshot.slots().count(), 60);
        let ring = snapshot.ring().unwrap();
        prop_assert_eq!(&ring.plan, &None);
        let up = |id: &NodeId| ring.nodes.iter().any(|member| {
            member.id == *id && member.state == RingNodeState::Up && member.weight > 0.0
        });
        for (slot, _, record) in snapshot.slots() {
            prop_assert!(snapshot.alive(&record.owner) && record.moving.is_none(), "{slot}: {record:?}");
            prop_assert!(up(&record.owner.node), "{} {:?}\n{}", slot, record, world.transcript);
        }
    }
}

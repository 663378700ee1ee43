//! Transcripts of moves: plans carried out, nodes that leave, nodes that come home.

use expect_test::{Expect as Golden, expect};

use super::world::World;
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
            ts-2: 2 slots Fresh at 2 to ts-3, 24 slots Fresh at 2 to ts-4
            look again in 60s
            moved: ts-2 to ts-4 9, ts-3 to ts-4 9
            p: 25 of 25 moved, 0 skipped, 0 under way, finished with 25 moved and 0 skipped
            ring 2: ts-1 Up 1, ts-2 Up 1, ts-3 Up 1, ts-4 Up 1
            owners: ts-2 28, ts-3 28, ts-4 44
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
        "leave ts-2 | settle | owners | kill ts-2 | run | up ts-2 | wait 9000 | settle | wait 1000 | settle | owners",
        &expect![[r#"
            moved: ts-2 to ts-1 19, ts-2 to ts-3 18
            owners: ts-1 45, ts-3 55
            moved:
            moved: ts-1 to ts-2 19, ts-3 to ts-2 18
            owners: ts-1 26, ts-2 37, ts-3 37
        "#]],
    );
}

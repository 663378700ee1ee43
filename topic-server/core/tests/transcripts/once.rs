//! Publications without an offset.

use expect_test::expect;
use ringcast_topic_server_core::Limits;

use crate::{check, check_with};

#[test]
fn an_ephemeral_publication_is_sent_once_and_kept_nowhere() {
    check(
        "bind gw-1 1 +1 | bind gw-2 1 +2 +3 | publish a | publish typing ephemeral | publish b | flush | fetch 0 | need gw-1 0 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            gw-2 <- after 0: @1 a
            gw-1 <- after 1: once typing
            gw-2 <- after 1: once typing
            -> e1 matched 3
            -> e1@2
            gw-1 <- after 1: @2 b
            gw-2 <- after 1: @2 b
            fetched OK head e1@2: @1 a @2 b
            gw-1 <- after 0: @1 a, @2 b
        "#]],
    );
}

#[test]
fn it_leaves_after_what_was_published_before_it() {
    check(
        "bind gw-1 1 +1 | publish a b | publish x to one | publish c | publish y ephemeral | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
            gw-1 <- after 2: once x to [1]
            -> e1 matched 1
            -> e1@3
            gw-1 <- after 2: @3 c
            gw-1 <- after 3: once y
            -> e1 matched 1
        "#]],
    );
}

#[test]
fn others_is_everyone_but_the_sender() {
    check(
        "bind gw-1 1 +1 +5 | bind gw-2 1 +2 | bind gw-3 1 +6 | publish a to others ephemeral from 5 | publish b to others ephemeral from 6 | publish c to others ephemeral from 9",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            gw-1 <- after 0: once a
            gw-2 <- after 0: once a
            gw-3 <- after 0: once a
            -> e1 matched 3
            gw-1 <- after 0: once b
            gw-2 <- after 0: once b
            -> e1 matched 3
            gw-1 <- after 0: once c
            gw-2 <- after 0: once c
            gw-3 <- after 0: once c
            -> e1 matched 4
        "#]],
    );
}

#[test]
fn one_is_any_member_and_each_as_likely() {
    let mut desk = crate::Desk::new(Limits::default());
    desk.step("bind gw-1 1 +1 +2 +3");
    desk.step("bind gw-2 1 +4");
    for _ in 0..400 {
        desk.step("publish a to one from 1");
    }
    for session in 1..=4 {
        let to = format!("to [{session}]");
        let times = desk.out.lines().filter(|line| line.ends_with(&to)).count();
        assert!((70..130).contains(&times), "session {session}: {times} of 400");
    }
    assert_eq!(desk.out.matches("e1 matched 1").count(), 400);
}

#[test]
fn members_are_named_by_subject_or_where_they_have_none_by_session() {
    check(
        "bind gw-1 1 +1:ann +2:bob +7 | bind gw-2 1 +3:ann +4 | publish a to ann | publish b to bob,7,ann | publish c to 4,1,nobody | publish d to nobody",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            gw-1 <- after 0: once a to [1]
            gw-2 <- after 0: once a to [3]
            -> e1 matched 2
            gw-1 <- after 0: once b to [1, 2, 7]
            gw-2 <- after 0: once b to [3]
            -> e1 matched 4
            gw-2 <- after 0: once c to [4]
            -> e1 matched 1
            -> e1 matched 0
        "#]],
    );
}

#[test]
fn where_nobody_is_nobody_matches_and_no_topic_stays() {
    check(
        "publish a to one | publish b to ann | publish c ephemeral | flush | list | show",
        expect![[r#"
            -> e1 matched 0
            -> e1 matched 0
            -> e1 matched 0
            listed 0
            no such topic
        "#]],
    );
}

#[test]
fn a_gateway_whose_lane_is_full_is_passed_over() {
    check(
        "bind gw-1 1 +1 | bind gw-2 1 +2:ann | publish a | flush | dropped gw-2 0 | publish x ephemeral | publish y to ann | publish z to one | room-for gw-2 | flush | publish y to ann",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            gw-2 <- after 0: @1 a
            gw-1 <- after 1: once x
            -> e1 matched 1
            -> e1 matched 0
            gw-1 <- after 1: once z to [1]
            -> e1 matched 1
            gw-2 <- after 0: @1 a
            gw-2 <- after 1: once y to [2]
            -> e1 matched 1
        "#]],
    );
}

#[test]
fn one_that_is_refused_or_dropped_is_lost_and_takes_nothing_along() {
    check(
        "bind gw-1 1 +1 | publish a | publish x ephemeral | dropped gw-1 1 | publish b | room-for gw-1 | flush | publish y ephemeral | stale gw-1 2 2 | confirmed 1 | publish c | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            gw-1 <- after 1: once x
            -> e1 matched 1
            -> e1@2
            gw-1 <- after 1: @2 b
            gw-1 <- after 2: once y
            -> e1 matched 1
            behind
            -> e1@3
            gw-1 <- after 2: @3 c
        "#]],
    );
}

#[test]
fn a_tap_shows_it_without_an_offset() {
    check(
        "tap 1 | publish a | publish b to one | publish c ephemeral | publish d",
        expect![[r#"
            tap 1: @1 e a
            -> e1@1
            tap 1: @0 e b
            -> e1 matched 0
            tap 1: @0 e c
            -> e1 matched 0
            tap 1: @2 e d
            -> e1@2
        "#]],
    );
}

#[test]
fn a_binary_payload_is_told_as_one() {
    check(
        "bind gw-1 1 +1 | publish a binary | publish b | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            -> e1@2
            gw-1 <- after 0: @1 a (binary), @2 b
        "#]],
    );
}

#[test]
fn targets_that_make_no_sense_are_refused() {
    let long = "n".repeat(256);
    let many = vec!["n"; 101].join(",");
    let limits = Limits {
        payload_bytes_max: 3,
        ..Limits::default()
    };
    check_with(
        limits,
        &format!(
            "publish a to {long} | publish a to {many} | publish a to , | publish long to one | publish long ephemeral | list"
        ),
        expect![[r#"
            -> BAD_REQUEST
            -> BAD_REQUEST
            -> BAD_REQUEST
            -> TOO_LARGE
            -> TOO_LARGE
            listed 0
        "#]],
    );
}

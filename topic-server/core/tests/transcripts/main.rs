//! Scripts of inputs to one slot, and what comes out: the answers, then what each gateway is handed.
//!
//! A script is a list of steps separated by `|`; the words are those of `Desk::step`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod dedup;
mod desk;
mod fetch;
mod keeping;
mod once;

use std::time::Duration;

use expect_test::{Expect, expect};
use ringcast_topic_server_core::Limits;

use crate::desk::Desk;

fn check_with(limits: Limits, script: &str, expected: Expect) {
    let mut desk = Desk::new(limits);
    for step in script.split('|') {
        desk.step(step);
    }
    expected.assert_eq(&desk.out);
}

fn check(script: &str, expected: Expect) {
    check_with(Limits::default(), script, expected);
}

#[test]
fn a_newcomer_does_not_see_what_was_published_before_it_joined() {
    check(
        "bind gw-1 1 +1 +2 | publish a | bind gw-2 1 +3 | publish b | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            bound OK e1@1 head 1
            -> e1@2
            gw-1 <- after 0: @1 a, @2 b
            gw-2 <- after 1: @2 b
        "#]],
    );
}

#[test]
fn a_gateway_without_members_gets_nothing() {
    check(
        "bind gw-1 1 +1 | bind gw-2 1 +2 | bind gw-2 2<1 -2 | publish a | flush | bind gw-1 3 | publish b | flush",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            bound OK e1@1 head 1
            -> e1@2
        "#]],
    );
}

#[test]
fn a_repeated_publish_is_appended_once_and_gets_its_first_outcome() {
    check(
        "publish a b by gw-1 1 | publish a b c by gw-1 1 | publish d by gw-1 9 | publish e by gw-1 5 | publish f by gw-2 1",
        expect![[r#"
            -> e1@1 e1@2
            -> e1@1 e1@2 e1@3
            -> e1@4
            -> STALE_NUMBER
            -> e1@5
        "#]],
    );
}

#[test]
fn a_publish_that_cannot_be_is_refused_in_its_place() {
    let limits = Limits {
        payload_bytes_max: 3,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a long b by gw-1 1 | publish a long b by gw-1 1",
        expect![[r#"
            -> e1@1 TOO_LARGE e1@2
            -> e1@1 TOO_LARGE e1@2
        "#]],
    );
}

#[test]
fn nothing_is_appended_without_the_lease_and_binding_goes_on() {
    check(
        "bind gw-1 1 +1 | lease lost | publish a by gw-1 1 | bind gw-2 1 +2 | lease valid | publish a by gw-1 1 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> OWNER_LEASE_LOST
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            gw-2 <- after 0: @1 a
        "#]],
    );
}

#[test]
fn who_asks_the_wrong_node_is_told_the_owner() {
    check(
        "other ts-2#4 2 | publish a | bind gw-1 1 +1 | show",
        expect![[r#"
            -> NOT_OWNER ts-2#4 under 2
            bound NOT_OWNER
            not owner
        "#]],
    );
}

#[test]
fn a_higher_owner_epoch_stops_everything_until_the_store_has_spoken() {
    check(
        "bind gw-1 1 +1 | publish a knowing 2 | publish b | flush | confirmed 1 | publish c | flush | stale gw-1 1 3 | publish d | own 3 | publish e",
        expect![[r#"
            bound OK e1@0 head 0
            behind
            -> NOT_OWNER
            -> NOT_OWNER
            -> e1@1
            gw-1 <- after 0: @1 c
            behind
            -> NOT_OWNER
            -> e2@1
        "#]],
    );
}

#[test]
fn a_bind_that_does_not_follow_the_last_asks_for_everything() {
    check(
        "bind gw-1 4<3 +1 | bind gw-1 5 +1 +2 | bind gw-1 7<6 +3 | bind gw-1 8<5 +3 -1 | bind gw-1 8<5 +3 -1 | members 0 9",
        expect![[r#"
            bound NEED_FULL
            bound OK e1@0 head 0
            bound NEED_FULL
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            members 2@gw-1 3@gw-1
        "#]],
    );
}

#[test]
fn a_cursor_gets_the_missing_tail() {
    check(
        "publish a b c | bind gw-1 1@1 +1 | flush | bind gw-2 1@9 +2 | flush | publish d | flush",
        expect![[r#"
            -> e1@1 e1@2 e1@3
            bound OK e1@1 head 3
            gw-1 <- after 1: @2 b, @3 c
            bound OK e1@3 head 3
            -> e1@4
            gw-1 <- after 3: @4 d
            gw-2 <- after 3: @4 d
        "#]],
    );
}

#[test]
fn a_cursor_of_another_epoch_gets_everything_or_a_gap() {
    let limits = Limits {
        history_len_max: 2,
        repair_age_max: Duration::ZERO,
        ..Limits::default()
    };
    check(
        "publish a b | bind gw-1 1@? +1 | flush",
        expect![[r#"
        -> e1@1 e1@2
        bound OK e1@0 head 2
        gw-1 <- after 0: @1 a, @2 b
    "#]],
    );
    check_with(
        limits,
        "publish a b c | flush | bind gw-1 1@? +1 | flush",
        expect![[r#"
            -> e1@1 e1@2 e1@3
            bound OK e1@0 head 3
            gw-1 <- after 0: gap 1-1 epoch_changed, @2 b, @3 c
        "#]],
    );
}

#[test]
fn what_history_no_longer_has_is_a_gap() {
    let limits = Limits {
        history_len_max: 2,
        repair_age_max: Duration::ZERO,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a b c d | flush | bind gw-1 1@1 +1 | flush | pass 400 | flush | bind gw-2 1@3 +2 | flush",
        expect![[r#"
            -> e1@1 e1@2 e1@3 e1@4
            bound OK e1@1 head 4
            gw-1 <- after 1: gap 2-2 history_trimmed, @3 c, @4 d
            bound OK e1@3 head 4
            gw-2 <- after 3: gap 4-4 history_trimmed
        "#]],
    );
}

#[test]
fn a_burst_larger_than_the_history_reaches_those_who_keep_up() {
    let limits = Limits {
        history_len_max: 2,
        repair_age_max: Duration::ZERO,
        entry_publications_max: 3,
        ..Limits::default()
    };
    check_with(
        limits,
        "bind gw-1 1 +1 | publish a b c d e | flush | show",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2 e1@3 e1@4 e1@5
            gw-1 <- after 0: @1 a, @2 b, @3 c
            gw-1 <- after 3: @4 d, @5 e
            shown: @5 members 1 history 2 ids 0
        "#]],
    );
}

#[test]
fn a_full_lane_is_left_alone_until_it_has_room_and_then_gets_everything() {
    check(
        "bind gw-1 1 +1 | bind gw-2 1 +2 | publish a | flush | dropped gw-1 0 | publish b | flush | room-for gw-1 | flush | room-for gw-1 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            gw-2 <- after 0: @1 a
            -> e1@2
            gw-2 <- after 1: @2 b
            gw-1 <- after 0: @1 a, @2 b
        "#]],
    );
}

#[test]
fn a_gateway_that_missed_something_gets_it_again() {
    check(
        "bind gw-1 1 +1 | publish a b | flush | publish c | need gw-1 1 | flush | no-interest gw-1 0 3 | publish d | flush | no-interest gw-1 1 3 | publish e | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
            -> e1@3
            gw-1 <- after 1: @2 b, @3 c
            -> e1@4
            gw-1 <- after 3: @4 d
            -> e1@5
        "#]],
    );
}

#[test]
fn what_a_gateway_had_nobody_for_goes_out_again_to_whom_a_later_bind_brought() {
    check(
        "bind gw-1 1 +1 | publish a | flush | bind gw-1 2<1 +2 -1 | publish b | flush | no-interest gw-1 1 0 | flush | bind gw-1 3 +3 | no-interest gw-1 2 0 | flush | publish c | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            bound OK e1@1 head 1
            -> e1@2
            gw-1 <- after 1: @2 b
            gw-1 <- after 0: @1 a, @2 b
            bound OK e1@2 head 2
            -> e1@3
            gw-1 <- after 2: @3 c
        "#]],
    );
}

#[test]
fn what_was_refused_as_stale_goes_out_again_once_this_node_serves() {
    check(
        "bind gw-1 1 +1 | publish a b | flush | fenced | life 8 | own 2 1 | stale gw-1 0 2 | flush | stale gw-1 1 3 | flush | confirmed 2 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
            gw-1 <- after 0: @1 a, @2 b
            behind
            gw-1 <- after 1: @2 b
        "#]],
    );
}

#[test]
fn a_bind_that_was_overtaken_by_the_leave_of_all_makes_no_group() {
    let late = "bind gw-1 5 +1 | publish a | flush | show | bind gw-1 7 +2 | members 0 9";
    let expected = expect![[r#"
        bound OK
        bound OK
        -> e1@1
        shown: @1 members 0 history 1 ids 0
        bound OK e1@1 head 1
        members 2@gw-1
    "#]];
    check(&format!("bind gw-1 6 | {late}"), expected);
    check(
        &format!("bind gw-1 4 +1 | bind gw-1 6<4 -1 | flush | {late}"),
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            bound OK
            -> e2@1
            shown: @1 members 0 history 1 ids 0
            bound OK e2@1 head 1
            members 2@gw-1
        "#]],
    );
}

#[test]
fn a_gateway_that_is_gone_stays_gone_and_its_next_life_begins_anew() {
    check(
        "bind gw-1#1 1 +1 | gone gw-1#1 | publish a | flush | bind gw-1#1 2 +1 | bind gw-1#5 1 +2 | publish b by gw-1#5 1 | flush | publish c by gw-1#1 1",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            bound NOT_OWNER
            bound OK e1@1 head 1
            -> e1@2
            gw-1 <- after 1: @2 b
            -> NOT_OWNER
        "#]],
    );
    check(
        "bind gw-1#1 9 +1 | bind gw-1#5 1 +2 | publish b | flush | members 0 9",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 b
            members 2@gw-1
        "#]],
    );
}

#[test]
fn a_claim_keeps_epochs_and_a_fresh_start_makes_new_ones() {
    check(
        "bind gw-1 1 +1 | publish a by gw-1 1 | fenced | publish b by gw-1 2 | life 8 | own 2 1 | publish a b by gw-1 1 | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            -> NOT_OWNER
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
        "#]],
    );
    check(
        "publish a | fenced | life 8 | own 2 2 | publish b",
        expect![[r#"
            -> e1@1
            -> e2@1
        "#]],
    );
    check(
        "publish a | other ts-2 2 | own 3 1 | publish b",
        expect![[r#"
        -> e1@1
        -> e2@1
    "#]],
    );
}

#[test]
fn an_idle_topic_is_forgotten_when_its_history_is() {
    check(
        "bind gw-1 1 +1 | bind gw-1 2<1 -1 | flush | list | publish a | flush | pass 299 | flush | list | pass 2 | flush | list | publish b",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            listed 0
            -> e2@1
            listed 1
            listed 0
            -> e3@1
        "#]],
    );
    check(
        "bind gw-1 1 +1 | publish a | flush | pass 400 | flush | list | publish b | flush",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1
            gw-1 <- after 0: @1 a
            listed 1
            -> e1@2
            gw-1 <- after 1: @2 b
        "#]],
    );
}

#[test]
fn a_node_that_holds_enough_topics_takes_no_more() {
    check(
        "room 0 | publish a by gw-1 1 | bind gw-1 1 +1 | tap 3 | room 1 | publish a by gw-1 2 | bind gw-1 1 +1",
        expect![[r#"
            -> TOO_MANY_TOPICS
            bound TOO_MANY_TOPICS
            tap 3 ended
            -> e1@1
            bound OK e1@1 head 1
        "#]],
    );
}

#[test]
fn a_tap_shows_what_is_published_while_it_is_there() {
    let limits = Limits {
        taps_max: 2,
        ..Limits::default()
    };
    check_with(
        limits,
        "tap 1 | publish a | tap 2 | tap 3 | untap 1 | publish b | other ts-2 2 | publish c",
        expect![[r#"
            tap 1: @1 e a
            -> e1@1
            tap 3 ended
            tap 2: @2 e b
            -> e1@2
            tap 2 ended
            -> NOT_OWNER ts-2#1 under 2
        "#]],
    );
}

#[test]
fn members_come_in_pages_by_session() {
    check(
        "bind gw-1 1 +4 +1 | bind gw-2 1 +2 +3 | members 0 3 | members 3 3",
        expect![[r#"
            bound OK e1@0 head 0
            bound OK e1@0 head 0
            members 1@gw-1 2@gw-2 3@gw-2 ...
            members 4@gw-1
        "#]],
    );
}

#[test]
fn an_older_record_than_the_last_is_ignored() {
    let mut desk = Desk::new(Limits::default());
    desk.step("own 5");
    desk.revision = 0;
    desk.step("other ts-2 1");
    desk.step("publish a");
    expect![[r#"
        -> e1@1
    "#]]
    .assert_eq(&desk.out);
}

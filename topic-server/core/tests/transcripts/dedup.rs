//! Publishes that come again with the id their client gave them.

use std::time::Duration;

use expect_test::expect;
use ringcast_topic_server_core::Limits;

use crate::{check, check_with};

#[test]
fn a_repeat_gets_the_first_result_whatever_its_body_its_target_and_its_gateway() {
    check(
        "publish a id 1 | publish b id 1 | publish c id 1 to one | publish d by gw-2 1 id 1 | publish e id 2 | fetch 0",
        expect![[r#"
            -> e1@1
            -> e1@1 dup
            -> e1@1 dup
            -> e1@1 dup
            -> e1@2
            fetched OK head e1@2: @1 a @2 e
        "#]],
    );
}

#[test]
fn a_repeat_that_could_not_be_published_by_itself_gets_the_first_result() {
    let limits = Limits {
        payload_bytes_max: 3,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish long id 1 | publish a id 1 | publish long id 1",
        expect![[r#"
            -> TOO_LARGE
            -> e1@1
            -> e1@1 dup
        "#]],
    );
}

#[test]
fn one_that_is_repeated_within_a_call_takes_effect_once() {
    check(
        "publish a b c by gw-1 1 id 1 | publish d by gw-1 4",
        expect![[r#"
            -> e1@1 e1@1 dup e1@1 dup
            -> e1@2
        "#]],
    );
}

#[test]
fn ids_of_two_subjects_are_two() {
    check(
        "publish a id ann/1 | publish b id bob/1 | publish c id 1 | publish d id ann/1 | publish e id bob/1 | publish f id 1",
        expect![[r#"
            -> e1@1
            -> e1@2
            -> e1@3
            -> e1@1 dup
            -> e1@2 dup
            -> e1@3 dup
        "#]],
    );
}

#[test]
fn a_gateways_own_retry_gets_the_kept_outcome_and_is_no_repeat() {
    check(
        "publish a by gw-1 1 id 1 | publish a by gw-1 1 id 1 | publish a by gw-1 2 id 1 | publish a by gw-1 2 id 1",
        expect![[r#"
            -> e1@1
            -> e1@1
            -> e1@1 dup
            -> e1@1 dup
        "#]],
    );
}

#[test]
fn a_repeat_of_what_took_no_offset_gets_how_many_it_was_sent_to() {
    check(
        "bind gw-1 1 +1 +2 | publish a id 1 to one | publish a id 2 ephemeral | bind gw-1 2<1 +3 | publish a id 1 to one | publish b id 2",
        expect![[r#"
            bound OK e1@0 head 0
            gw-1 <- after 0: once a to [2]
            -> e1 matched 1
            gw-1 <- after 0: once a
            -> e1 matched 2
            bound OK e1@0 head 0
            -> e1 matched 1 dup
            -> e1 matched 2 dup
        "#]],
    );
}

#[test]
fn an_id_is_remembered_for_two_minutes_and_then_may_come_again() {
    check(
        "publish a id 1 | flush | pass 119 | publish b id 1 | pass 1 | publish c id 1 | publish d id 1",
        expect![[r#"
            -> e1@1
            -> e1@1 dup
            -> e1@2
            -> e1@2 dup
        "#]],
    );
}

#[test]
fn ids_outlive_the_history_and_keep_their_topic() {
    let limits = Limits {
        history_age_max: Duration::from_secs(5),
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a id 1 | flush | pass 100 | flush | show | publish b id 1 | pass 21 | flush | show | publish c id 1",
        expect![[r#"
            -> e1@1
            shown: @1 members 0 history 0 ids 1
            -> e1@1 dup
            no such topic
            -> e2@1
        "#]],
    );
}

#[test]
fn the_oldest_ids_go_first() {
    let limits = Limits {
        ids_max: 2,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a id 1 | publish b id 2 | publish c id 3 | show | publish d id 2 | publish e id 3 | publish f id 1",
        expect![[r#"
            -> e1@1
            -> e1@2
            -> e1@3
            shown: @3 members 0 history 3 ids 2
            -> e1@2 dup
            -> e1@3 dup
            -> e1@4
        "#]],
    );
}

#[test]
fn what_was_refused_may_come_again_with_its_id() {
    let limits = Limits {
        payload_bytes_max: 3,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish long id 1 | publish ok id 1 | lease lost | publish a id 2 | lease valid | publish a id 2",
        expect![[r#"
            -> TOO_LARGE
            -> e1@1
            -> OWNER_LEASE_LOST
            -> e1@2
        "#]],
    );
}

#[test]
fn ids_and_subjects_have_bounds() {
    let (id, subject) = ("i".repeat(128), "s".repeat(1024));
    check(
        &format!(
            "publish a id {subject}/{id} | publish a id {subject}/{id}x | publish a id {subject}x/{id} | publish a id {subject}/{id}"
        ),
        expect![[r#"
            -> e1@1
            -> BAD_REQUEST
            -> BAD_REQUEST
            -> e1@1 dup
        "#]],
    );
}

//! What a session that resumes has missed.

use std::time::Duration;

use expect_test::expect;
use ringcast_topic_server_core::Limits;

use crate::{check, check_with};

#[test]
fn a_fetch_brings_what_follows_the_position_up_to_the_head() {
    check(
        "publish a b c | fetch 1 | fetch 3 | fetch 9 | fetch 0 | publish d | fetch 2",
        expect![[r#"
            -> e1@1 e1@2 e1@3
            fetched OK head e1@3: @2 b @3 c
            fetched OK head e1@3:
            fetched OK head e1@3:
            fetched OK head e1@3: @1 a @2 b @3 c
            -> e1@4
            fetched OK head e1@4: @3 c @4 d
        "#]],
    );
}

#[test]
fn a_fetch_brings_the_last_ones_where_not_all_can_be_had() {
    let limits = Limits {
        recovery_len_max: 2,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a b c | fetch 0 | fetch 1 | fetch 2",
        expect![[r#"
        -> e1@1 e1@2 e1@3
        fetched OK head e1@3: @2 b @3 c
        fetched OK head e1@3: @2 b @3 c
        fetched OK head e1@3: @3 c
    "#]],
    );
    let limits = Limits {
        // What a publication of two bytes weighs, three times.
        recovery_bytes_max: 3 * 98,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a b c dd | fetch 0 | fetch 1",
        expect![[r#"
        -> e1@1 e1@2 e1@3 e1@4
        fetched OK head e1@4: @3 c @4 dd
        fetched OK head e1@4: @3 c @4 dd
    "#]],
    );
    let limits = Limits {
        history_len_max: 2,
        repair_age_max: Duration::ZERO,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a b c | flush | fetch 0 | pass 400 | flush | publish d | pass 1 | fetch 0",
        expect![[r#"
            -> e1@1 e1@2 e1@3
            fetched OK head e1@3: @2 b @3 c
            -> e2@1
            fetched OK head e2@1:
        "#]],
    );
}

#[test]
fn a_fetch_of_another_epoch_or_of_no_topic_brings_nothing_and_makes_nothing() {
    check(
        "fetch 0 | list | publish a | fetch ? | fetch 0",
        expect![[r#"
        fetched OK no topic
        listed 0
        -> e1@1
        fetched OK head e1@1:
        fetched OK head e1@1: @1 a
    "#]],
    );
}

#[test]
fn a_fetch_is_answered_by_the_owner_alone() {
    check(
        "publish a | fetch 0 knowing 2 | fetch 0 | confirmed 1 | fetch 0 | fenced | fetch 0 | other ts-2#4 3 | fetch 0",
        expect![[r#"
            -> e1@1
            behind
            fetched NOT_OWNER
            fetched NOT_OWNER
            fetched OK head e1@1: @1 a
            fetched NOT_OWNER
            fetched NOT_OWNER ts-2#4
        "#]],
    );
}

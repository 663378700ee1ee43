//! What of its history a topic keeps.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use ringcast_proto::Pattern;
use ringcast_topic_server_core::{HistoryRule, Limits};

use crate::{check, check_with};

fn rule(pattern: &str, len_max: usize, seconds: u64) -> HistoryRule {
    HistoryRule {
        pattern: Pattern::parse(pattern).unwrap(),
        len_max,
        bytes_max: 10_000,
        age_max: Duration::from_secs(seconds),
    }
}

fn rules(rules: Vec<HistoryRule>, repair_secs: u64) -> Limits {
    Limits {
        history_rules: Arc::from(rules),
        repair_age_max: Duration::from_secs(repair_secs),
        ..Limits::default()
    }
}

#[test]
fn the_first_rule_that_matches_holds_and_else_the_defaults() {
    let script = "publish a b c | flush | fetch 0 | pass 40 | flush | show";
    check_with(
        rules(vec![rule("t", 2, 30), rule("t*", 1, 300)], 0),
        script,
        expect![[r#"
            -> e1@1 e1@2 e1@3
            fetched OK head e1@3: @2 b @3 c
            no such topic
        "#]],
    );
    check_with(
        rules(vec![rule("x", 2, 30), rule("t*", 1, 300)], 0),
        script,
        expect![[r#"
            -> e1@1 e1@2 e1@3
            fetched OK head e1@3: @3 c
            shown: @3 members 0 history 1 ids 0
        "#]],
    );
    check_with(
        rules(vec![rule("x", 2, 30)], 0),
        script,
        expect![[r#"
        -> e1@1 e1@2 e1@3
        fetched OK head e1@3: @1 a @2 b @3 c
        shown: @3 members 0 history 3 ids 0
    "#]],
    );
}

#[test]
fn what_gateways_repair_from_is_kept_for_two_seconds_whatever_the_rule() {
    check_with(
        rules(vec![rule("*", 0, 0)], 2),
        "bind gw-1 1 +1 | publish a b | flush | need gw-1 0 | flush | pass 1 | publish c | flush | show | pass 2 | flush | show | pass 1 | flush | show",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
            gw-1 <- after 0: @1 a, @2 b
            -> e1@3
            gw-1 <- after 2: @3 c
            shown: @3 members 1 history 3 ids 0
            shown: @3 members 1 history 0 ids 0
            shown: @3 members 1 history 0 ids 0
        "#]],
    );
}

#[test]
fn a_topic_without_history_and_members_is_forgotten_in_seconds() {
    check_with(
        rules(vec![rule("*", 0, 0)], 2),
        "publish a | flush | list | pass 3 | flush | list",
        expect![[r#"
            -> e1@1
            listed 1
            listed 0
        "#]],
    );
}

#[test]
fn a_surplus_of_the_default_goes_in_seconds_though_the_rest_stays_for_minutes() {
    let limits = Limits {
        history_len_max: 2,
        ..Limits::default()
    };
    check_with(
        limits,
        "publish a | flush | publish b c d | flush | show | pass 3 | flush | show | pass 290 | flush | show | pass 10 | flush | show",
        expect![[r#"
            -> e1@1
            -> e1@2 e1@3 e1@4
            shown: @4 members 0 history 4 ids 0
            shown: @4 members 0 history 2 ids 0
            shown: @4 members 0 history 2 ids 0
            no such topic
        "#]],
    );
}

#[test]
fn a_full_memory_takes_the_history_of_idle_topics_first() {
    check(
        "bind gw-1 1 +1 | publish a b | flush | pass 9 | publish c | flush | shed idle 10 | flush | show | pass 10 | shed idle 10 | flush | show | need gw-1 1 | fetch 1 | flush | publish d | fetch 3",
        expect![[r#"
            bound OK e1@0 head 0
            -> e1@1 e1@2
            gw-1 <- after 0: @1 a, @2 b
            -> e1@3
            gw-1 <- after 2: @3 c
            shown: @3 members 1 history 3 ids 0
            shown: @3 members 1 history 0 ids 0
            fetched OK head e1@3:
            gw-1 <- after 1: gap 2-3 history_trimmed
            -> e1@4
            fetched OK head e1@4: @4 d
        "#]],
    );
}

#[test]
fn a_memory_that_stays_full_takes_the_oldest_publications_and_then_ids() {
    check(
        "publish a id 1 | pass 5 | publish b id 2 | flush | shed older 6 | flush | show | shed older 4 | flush | show | publish x id 1 | shed ids 4 | flush | publish y id 2 | publish z id 1",
        expect![[r#"
            -> e1@1
            -> e1@2
            shown: @2 members 0 history 2 ids 2
            shown: @2 members 0 history 1 ids 2
            -> e1@1 dup
            -> e1@2 dup
            -> e1@3
        "#]],
    );
}

//! What refusals mean, to channels that asked (section 11).

use expect_test::expect;

use super::*;

/// Session 1 joined with positions, session 2 without.
fn both(topic: &str) -> World {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.open(2, Serializer::V2);
    world.say(1, &format!("['1','1','{topic}','phx_join',{{'resume':true}}]"));
    world.say(2, &format!("['1','1','{topic}','phx_join',{{}}]"));
    world.bound();
    world.bound();
    world.transcript.clear();
    world
}

impl World {
    /// The responses of the refusals to this session, in order.
    fn refusals(&self, session: u64) -> Vec<String> {
        let prefix = format!("{session} < ");
        let replies = self
            .transcript
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix))
            .filter_map(|frame| frame.split_once(r#"{"status":"error","response":"#));
        replies
            .map(|(_, response)| response.strip_suffix("}]").unwrap().to_owned())
            .collect()
    }
}

#[test]
fn section_11_a_refused_publish_says_what_it_means_to_who_asked_and_its_reason_to_all() {
    let mut world = both("topics:matrix");
    for session in [1, 2] {
        world.say(session, "['1','2','topics:matrix','publish',{}]");
        world.say(
            session,
            "['1','3','topics:matrix','publish',{'event':'e','payload':{},'target':'one'}]",
        );
    }
    assert_eq!(
        world.refusals(1),
        [
            r#"{"reason":"bad_request","code":4000,"retryable":false}"#,
            r#"{"reason":"unauthorized","code":4030,"retryable":false}"#
        ]
    );
    assert_eq!(
        world.refusals(2),
        [r#"{"reason":"bad_request"}"#, r#"{"reason":"unauthorized"}"#]
    );
}

#[test]
fn section_11_an_event_on_a_topic_not_joined_is_unmatched_and_nothing_more() {
    let mut world = both("topics:matrix");
    world.say(1, "['1','2','topics:other','publish',['e',{}]]");
    world.say(1, "['1','3','topics:matrix','phx_leave',{}]");
    world.say(1, "['1','4','topics:matrix','publish',['e',{}]]");
    let unmatched = r#"{"reason":"unmatched topic"}"#;
    assert_eq!(world.refusals(1), [unmatched, unmatched]);
}

#[test]
fn section_11_who_is_rate_limited_is_told_when_the_next_push_is_taken() {
    let mut world = both("topics:matrix");
    for session in [1, 2] {
        for _ in 0..101 {
            world.say(session, "['1','2','topics:matrix','publish',{}]");
        }
    }
    assert_eq!(
        world.refusals(1)[100],
        r#"{"reason":"rate_limited","code":4291,"retryable":true,"retry_after_ms":20}"#
    );
    assert_eq!(world.refusals(2)[100], r#"{"reason":"rate_limited"}"#);
    world.now = Millis(world.now.0 + 20);
    world.say(1, "['1','3','topics:matrix','publish',{}]");
    assert_eq!(
        world.refusals(1)[101],
        r#"{"reason":"bad_request","code":4000,"retryable":false}"#
    );
}

#[test]
fn section_11_a_full_queue_is_overloaded_and_names_a_wait() {
    let mut world = World::new();
    world.gateway.publishing = Publishing::new(Limits {
        slot_queue_max: 1,
        ..Limits::DEFAULT
    });
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','topics:matrix','phx_join',{'resume':true}]");
    world.bound();
    world.say(1, PUBLISH);
    world.say(1, PUBLISH);
    assert_eq!(
        world.refusals(1),
        [r#"{"reason":"overloaded","code":4290,"retryable":true,"retry_after_ms":250}"#]
    );
}

#[test]
fn section_11_a_timeout_names_the_id_under_which_to_try_again() {
    let mut world = both("topics:matrix");
    let publish = "'topics:matrix','publish',{'event':'e','payload':{},'msg_id':'0197\\u00e4'}]";
    world.say(1, &format!("['1','2',{publish}"));
    world.say(2, &format!("['1','2',{publish}"));
    world.say(1, PUBLISH);
    world.wait(5_000);
    assert_eq!(
        world.refusals(1),
        [
            r#"{"reason":"timeout","code":5040,"retryable":true,"msg_id":"0197ä"}"#,
            // What never left has no effect, so there is nothing to be careful about.
            r#"{"reason":"topic unavailable","code":5033,"retryable":true}"#
        ]
    );
    assert_eq!(world.refusals(2), [r#"{"reason":"topic unavailable"}"#]);
}

#[test]
fn section_11_what_an_owner_refuses_has_its_code() {
    for (refusal, body) in [
        (
            v1::Refusal::TooLarge,
            r#"{"reason":"too_large","code":4130,"retryable":false}"#,
        ),
        (
            v1::Refusal::TooManyTopics,
            r#"{"reason":"too_many_topics","code":4292,"retryable":false}"#,
        ),
        (
            v1::Refusal::BadRequest,
            r#"{"reason":"bad_request","code":4000,"retryable":false}"#,
        ),
        (
            v1::Refusal::StaleNumber,
            r#"{"reason":"timeout","code":5040,"retryable":true}"#,
        ),
    ] {
        let mut world = both("topics:matrix");
        world.say(1, PUBLISH);
        let (call, slots) = world.publishes.remove(0);
        let outcome = v1::PublishOutcome {
            number: 1,
            outcome: Some(v1::publish_outcome::Outcome::Refused(refusal.into())),
            dup: false,
        };
        let part = v1::SlotPublishAnswer {
            slot: slots[0].slot,
            owner_epoch: 1,
            outcomes: vec![outcome],
            ..Default::default()
        };
        let answer = v1::PublishAnswer {
            incarnation: 1,
            slots: vec![part],
        };
        world.input(Input::Published(call, Ok(answer)));
        assert_eq!(world.refusals(1), [body]);
    }
}

#[test]
fn section_11_a_refused_join_says_what_it_means_by_its_own_payload() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    for topic in ["nowhere:x", "topics:s"] {
        world.say(1, &format!("['1','1','{topic}','phx_join',{{'resume':true}}]"));
        world.say(1, &format!("['1','2','{topic}','phx_join',{{}}]"));
    }
    world.say(1, "['1','3','topics:matrix','phx_join',{'resume':true}]");
    world.wait(5_000);
    world.transcript = world
        .transcript
        .lines()
        .filter(|line| line.starts_with("1 <"))
        .map(|line| format!("{line}\n"))
        .collect();
    world.check(expect![[r#"
        1 < [null,"1","nowhere:x","phx_reply",{"status":"error","response":{"reason":"unmatched topic","code":4040,"retryable":false}}]
        1 < [null,"2","nowhere:x","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        1 < ["1","1","topics:s","phx_reply",{"status":"error","response":"invalid topic name, must be between 2 and 64 characters long and only contain alphanumeric characters"}]
        1 < ["1","2","topics:s","phx_reply",{"status":"error","response":"invalid topic name, must be between 2 and 64 characters long and only contain alphanumeric characters"}]
        1 < ["1","3","topics:matrix","phx_reply",{"status":"error","response":{"reason":"topic unavailable","code":5033,"retryable":true}}]
    "#]]);
}

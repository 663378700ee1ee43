//! Joins and leaves, and what needs no channel: frame for frame.

use expect_test::expect;

use super::*;

#[test]
fn s1_s2_s6_s9_what_needs_no_channel() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "[null,'1','phoenix','heartbeat',{}]");
    world.say(1, "['9',null,'phoenix','heartbeat',{}]");
    world.say(1, "['9',5,'phoenix','other',{}]");
    world.say(1, "['9','2','other:x','phx_join',{}]");
    world.say(1, "['9','3','topics:matrix','publish',['e',{}]]");
    world.say(1, "['9','4','topics:matrix','phx_leave',{}]");
    world.say(1, "['9','5',17,'phx_join',{}]");
    world.say(1, "['9','6','topics:s','phx_join',{}]");
    world.check(expect![[r#"
        1 > [null,"1","phoenix","heartbeat",{}]
        1 < [null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]
        1 > ["9",null,"phoenix","heartbeat",{}]
        1 < [null,null,"phoenix","phx_reply",{"status":"ok","response":{}}]
        1 > ["9",5,"phoenix","other",{}]
        1 < [null,5,"phoenix","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        1 > ["9","2","other:x","phx_join",{}]
        1 < [null,"2","other:x","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        1 > ["9","3","topics:matrix","publish",["e",{}]]
        1 < [null,"3","topics:matrix","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        1 > ["9","4","topics:matrix","phx_leave",{}]
        1 < ["9","4","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 > ["9","5",17,"phx_join",{}]
        1 < [null,"5",17,"phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        1 > ["9","6","topics:s","phx_join",{}]
        1 < ["9","6","topics:s","phx_reply",{"status":"error","response":"invalid topic name, must be between 2 and 64 characters long and only contain alphanumeric characters"}]
    "#]]);
}

#[test]
fn s8_s10_s11_leave_closes_and_a_stale_join_ref_is_dropped() {
    let mut world = joined_world();
    world.say(1, "['0','2','topics:matrix','phx_leave',{}]");
    world.say(1, "['0','3','topics:matrix','publish',['event',{}]]");
    world.say(1, "[null,'4','topics:matrix','publish',['event',{}]]");
    world.published();
    world.say(1, "['1','5','topics:matrix','phx_leave',{}]");
    world.bound();
    assert!(!world.gateway.interest.busy());
    world.check(expect![[r#"
        1 > ["0","2","topics:matrix","phx_leave",{}]
        1 > ["0","3","topics:matrix","publish",["event",{}]]
        1 > [null,"4","topics:matrix","publish",["event",{}]]
        ts-1 publish topics:matrix #1 event
        1 < ["1","4","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 > ["1","5","topics:matrix","phx_leave",{}]
        1 < ["1","5","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1","1","topics:matrix","phx_close",{}]
        ts-1 bind topics:matrix all joined [] left []
    "#]]);
}

#[test]
fn s12_a_join_without_join_ref_is_known_by_its_ref() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "[null,'7','topics:matrix','phx_join',{}]");
    world.bound();
    world.say(1, "['7','8','topics:matrix','publish',['event',{}]]");
    world.say(1, "[null,'9','topics:matrix','publish',['event',{}]]");
    let publications = world.published();
    world.deliver("topics:matrix", 1, publications);
    world.say(1, "[null,'10','topics:matrix','phx_leave',{}]");
    world.check(expect![[r#"
        1 > [null,"7","topics:matrix","phx_join",{}]
        ts-1 bind topics:matrix all joined [1] left []
        1 < [null,"7","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 > ["7","8","topics:matrix","publish",["event",{}]]
        1 > [null,"9","topics:matrix","publish",["event",{}]]
        ts-1 publish topics:matrix #1 event
        1 < ["7","9","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["7",null,"topics:matrix","event",{}]
        1 > [null,"10","topics:matrix","phx_leave",{}]
        1 < ["7","10","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < [null,null,"topics:matrix","phx_close",{}]
        ts-1 bind topics:matrix all joined [] left []
    "#]]);
}

#[test]
fn s13_a_second_join_replies_first_and_then_closes_the_first() {
    let mut world = joined_world();
    world.say(1, "['2','2','topics:matrix','phx_join',{}]");
    world.bound();
    world.deliver("topics:matrix", 1, vec![publication(1)]);
    world.check(expect![[r#"
        1 > ["2","2","topics:matrix","phx_join",{}]
        ts-1 bind topics:matrix change joined [1] left []
        1 < ["2","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1","1","topics:matrix","phx_close",{}]
        1 < ["2",null,"topics:matrix","event",{"n":1}]
    "#]]);
}

#[test]
fn a_join_nobody_answers_is_refused_after_five_seconds() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, JOIN);
    world.wait(4_999);
    world.wait(1);
    assert_eq!(world.gateway.joined(), 0);
    world.check(expect![[r#"
        1 > ["1","1","topics:matrix","phx_join",{}]
        ts-1 bind topics:matrix all joined [1] left []
        1 < ["1","1","topics:matrix","phx_reply",{"status":"error","response":{"reason":"topic unavailable"}}]
    "#]]);
}

#[test]
fn a_delivery_that_overtakes_the_answer_to_the_bind_admits_the_session_first() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, JOIN);
    world.deliver("topics:matrix", 1, vec![publication(5)]);
    world.bound();
    world.check(expect![[r#"
        1 > ["1","1","topics:matrix","phx_join",{}]
        ts-1 bind topics:matrix all joined [1] left []
        1 < ["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1",null,"topics:matrix","event",{"n":5}]
    "#]]);
}

#[test]
fn a_connection_that_ends_leaves_all_its_topics_and_the_last_one_unbinds() {
    let mut world = joined_world();
    world.close(1);
    world.bound();
    assert_eq!(world.gateway.joined(), 0);
    assert!(
        world
            .gateway
            .interest
            .topic(table("ts-1", 1).slot_of(b"topics:matrix"), "topics:matrix")
            .is_none()
    );
    world.check(expect![[r#"
        ts-1 bind topics:matrix all joined [] left []
    "#]]);
}

#[test]
fn h11_the_101st_channel_is_refused_and_the_connection_stays() {
    let mut world = World::new();
    world.gateway.limits.joins = None;
    world.open(1, Serializer::V2);
    for n in 0..101 {
        world.say(1, &format!("['{n}','{n}','topics:t{n}x','phx_join',{{}}]"));
    }
    let last = world.transcript.lines().last().unwrap();
    assert_eq!(
        last,
        r#"1 < ["100","100","topics:t100x","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]"#
    );
}

#[test]
fn who_joins_while_the_last_one_leaves_sees_nothing_of_before() {
    let mut world = joined_world();
    world.deliver("topics:matrix", 1, vec![publication(1)]);
    world.open(2, Serializer::V2);
    world.close(1);
    world.say(2, JOIN);
    world.transcript.clear();
    world.bound();
    world.check(expect![[r#"
        ts-1 bind topics:matrix all joined [2] left []
    "#]]);
}

#[test]
fn a_refused_join_does_not_make_others_of_its_slot_wait() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, JOIN);
    // Another topic of the same slot.
    let table = table("ts-1", 1);
    let slot = table.slot_of(b"topics:matrix");
    let other = (0..)
        .map(|n| format!("topics:other{n}"))
        .find(|topic| table.slot_of(topic.as_bytes()) == slot);
    let other = other.expect("one in four");
    let (call, _) = world.binds.remove(0);
    let outcome = v1::BindOutcome {
        status: v1::BindStatus::TooManyTopics.into(),
        owner_epoch: 1,
        ..Default::default()
    };
    world.input(Input::Bound(
        call,
        Ok(v1::BindAnswer {
            incarnation: 1,
            outcomes: vec![outcome],
        }),
    ));
    world.transcript.clear();
    world.say(1, &format!("['2','2','{other}','phx_join',{{}}]"));
    assert_eq!(world.binds.len(), 1, "bound at once: {}", world.transcript);
    world.bound();
    assert!(
        world.transcript.contains("\"2\",\"2\"") && world.transcript.contains("\"ok\""),
        "{}",
        world.transcript
    );
    assert!(
        !world.gateway.interest.busy(),
        "nothing is left of the refused topic"
    );
}

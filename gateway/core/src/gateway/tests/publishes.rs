//! Publishes of clients and of the server: what is taken, in which order it is answered, and what becomes of it.

use expect_test::expect;

use super::*;

#[test]
fn o1_a_publisher_on_topics_gets_its_reply_before_its_own_copy() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.open(2, Serializer::V1);
    world.say(1, JOIN);
    world.say(
        2,
        "{'topic':'topics:matrix','event':'phx_join','payload':{},'ref':'1'}",
    );
    world.bound();
    world.bound();
    world.say(1, PUBLISH);
    let publications = world.published();
    world.deliver("topics:matrix", 1, publications);
    world.check(expect![[r#"
        1 > ["1","1","topics:matrix","phx_join",{}]
        ts-1 bind topics:matrix all joined [1] left []
        2 > {"topic":"topics:matrix","event":"phx_join","payload":{},"ref":"1"}
        1 < ["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        ts-1 bind topics:matrix change joined [2] left []
        2 < {"topic":"topics:matrix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}
        1 > ["1","2","topics:matrix","publish",["event",{"message":"hi"}]]
        ts-1 publish topics:matrix #1 event
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1",null,"topics:matrix","event",{"message":"hi"}]
        2 < {"topic":"topics:matrix","event":"event","payload":{"message":"hi"},"ref":null}
    "#]]);
}

#[test]
fn o6_a_delivery_that_overtakes_the_answer_still_comes_after_the_reply() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    let delivered = v1::Publication {
        session: 1,
        number: 1,
        ..publication(1)
    };
    world.deliver("topics:matrix", 1, vec![delivered]);
    world.published();
    world.check(expect![[r#"
        1 > ["1","2","topics:matrix","publish",["event",{"message":"hi"}]]
        ts-1 publish topics:matrix #1 event
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1",null,"topics:matrix","event",{"n":1}]
    "#]]);
}

#[test]
fn o2_a_namespace_writes_the_copy_before_the_reply_and_without_join_ref() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','room:lobby','phx_join',{}]");
    world.bound();
    world.say(1, "['1','2','room:lobby','shout',{'a':1}]");
    let publications = world.published();
    world.deliver("room:lobby", 1, publications);
    world.say(1, "['1','3','game:x','phx_join',{}]");
    world.check(expect![[r#"
        1 > ["1","1","room:lobby","phx_join",{}]
        ts-1 bind room:lobby all joined [1] left []
        1 < ["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]
        1 > ["1","2","room:lobby","shout",{"a":1}]
        ts-1 publish room:lobby #1 shout
        1 < [null,null,"room:lobby","shout",{"a":1}]
        1 < ["1","2","room:lobby","phx_reply",{"status":"ok","response":{}}]
        1 > ["1","3","game:x","phx_join",{}]
        ts-1 bind game:x all joined [1] left []
    "#]]);
}

#[test]
fn s20_others_leaves_out_the_sender_and_refuse_refuses() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.open(2, Serializer::V2);
    world.say(1, "['1','1','game:x','phx_join',{}]");
    world.say(2, "['4','4','game:x','phx_join',{}]");
    world.bound();
    world.bound();
    world.say(1, "['1','2','game:x','move',{}]");
    let publications = world.published();
    world.deliver("game:x", 1, publications);
    world.say(1, "['1','3','news:x','phx_join',{}]");
    world.bound();
    world.say(1, "['1','4','news:x','move',{}]");
    let transcript = world
        .transcript
        .split_off(world.transcript.find("1 > [\"1\",\"2\"").unwrap());
    world.transcript = transcript;
    world.check(expect![[r#"
        1 > ["1","2","game:x","move",{}]
        ts-1 publish game:x #1 move
        1 < ["1","2","game:x","phx_reply",{"status":"ok","response":{}}]
        2 < [null,null,"game:x","move",{}]
        1 > ["1","3","news:x","phx_join",{}]
        ts-1 bind news:x all joined [1] left []
        1 < ["1","3","news:x","phx_reply",{"status":"ok","response":{}}]
        1 > ["1","4","news:x","move",{}]
        1 < ["1","4","news:x","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]
    "#]]);
}

#[test]
fn o5_a_leave_waits_for_the_publishes_before_it() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    world.say(1, "['1','3','topics:matrix','phx_leave',{}]");
    world.say(1, "['1','4','topics:matrix','publish',['event',{}]]");
    world.published();
    world.check(expect![[r#"
        1 > ["1","2","topics:matrix","publish",["event",{"message":"hi"}]]
        ts-1 publish topics:matrix #1 event
        1 > ["1","3","topics:matrix","phx_leave",{}]
        1 > ["1","4","topics:matrix","publish",["event",{}]]
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1","3","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 < ["1","1","topics:matrix","phx_close",{}]
        1 < [null,"4","topics:matrix","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]
        ts-1 bind topics:matrix all joined [] left []
    "#]]);
}

#[test]
fn b1_b9_a_bad_publish_is_answered_and_hurts_nobody() {
    let mut world = joined_world();
    for body in [
        "['event','str']",
        "['event',[1]]",
        "['event',null]",
        "[5,{}]",
        "{}",
        "['phx_close',{}]",
        "['chan_reply_3',{}]",
        "['gap',{}]",
    ] {
        world.say(1, &format!("['1','2','topics:matrix','publish',{body}]"));
    }
    world.say(1, "['1','3','topics:matrix','shout',{}]");
    let answers = world
        .transcript
        .lines()
        .filter(|line| line.contains("bad_request"))
        .count();
    assert_eq!(answers, 9, "{}", world.transcript);
    assert!(world.publishes.is_empty());
}

#[test]
fn a_publish_with_unknown_outcome_is_repeated_as_it_was_and_then_times_out() {
    let mut world = joined_world();
    world.say(1, PUBLISH);
    let (call, _) = world.publishes.remove(0);
    world.input(Input::Published(call, Err(CallFailed::Unknown("cut".into()))));
    world.wait(400);
    world.wait(4_600);
    world.check(expect![[r#"
        1 > ["1","2","topics:matrix","publish",["event",{"message":"hi"}]]
        ts-1 publish topics:matrix #1 event
        ts-1 publish topics:matrix #1 event
        1 < ["1","2","topics:matrix","phx_reply",{"status":"error","response":{"reason":"timeout"}}]
    "#]]);
}

/// Found by the kill tests: a publish that was refused once and then sent again was delivered after
/// `owner_lease_lost` had told its publisher that it was not.
#[test]
fn what_is_on_its_way_again_when_its_deadline_passes_has_an_unknown_outcome() {
    for (sent_again, reason) in [(false, "owner_lease_lost"), (true, "timeout")] {
        let mut world = joined_world();
        world.say(1, PUBLISH);
        let (call, slots) = world.publishes.pop().unwrap();
        let answers = slots.iter().map(|slot| v1::SlotPublishAnswer {
            slot: slot.slot,
            owner_epoch: 1,
            rest: v1::SlotStatus::OwnerLeaseLost.into(),
            ..Default::default()
        });
        let answer = v1::PublishAnswer {
            incarnation: 1,
            slots: answers.collect(),
        };
        world.input(Input::Published(call, Ok(answer)));
        assert!(world.publishes.is_empty(), "it pauses before it asks again");
        if sent_again {
            world.wait(1_000);
            assert_eq!(world.publishes.len(), 1);
        }
        // Only the tick, without a flush that would send it: the deadline passes first.
        world.now = Millis(world.now.0 + 5_000);
        let mut effects = Vec::new();
        world.gateway.apply(Input::Tick, world.now, &mut effects);
        effects.into_iter().for_each(|effect| world.effect(effect));
        assert!(
            world.transcript.contains(&format!("{{\"reason\":\"{reason}\"}}")),
            "{}",
            world.transcript
        );
    }
}

#[test]
fn o5_replies_of_a_channel_keep_their_order_when_copies_are_awaited() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','room:lobby','phx_join',{}]");
    world.bound();
    world.say(1, "['1','2','room:lobby','first',{}]");
    world.say(1, "['1','3','room:lobby','second',{}]");
    world.say(
        1,
        "['1','4','room:lobby','publish',{'event':'third','payload':{},'target':'others'}]",
    );
    world.transcript.clear();
    // The first is answered before its copy is here, the second is delivered before it is answered, and the third, of
    // which the publisher gets no copy, is answered before either.
    let mut publications = world.published();
    let third = world.published();
    publications.extend(third);
    world.deliver("room:lobby", 1, publications);
    world.check(expect![[r#"
        ts-1 publish room:lobby #2 second
        ts-1 publish room:lobby #3 third
        1 < [null,null,"room:lobby","first",{}]
        1 < [null,null,"room:lobby","second",{}]
        1 < ["1","2","room:lobby","phx_reply",{"status":"ok","response":{}}]
        1 < ["1","3","room:lobby","phx_reply",{"status":"ok","response":{}}]
        1 < ["1","4","room:lobby","phx_reply",{"status":"ok","response":{}}]
    "#]]);
}

#[test]
fn o6_an_ok_waits_a_second_for_the_own_copy_and_no_longer() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','room:lobby','phx_join',{}]");
    world.bound();
    world.say(1, "['1','2','room:lobby','first',{}]");
    world.transcript.clear();
    world.published();
    world.wait(999);
    assert_eq!(world.transcript, "");
    world.wait(1);
    world.check(expect![[r#"
        1 < ["1","2","room:lobby","phx_reply",{"status":"ok","response":{}}]
    "#]]);
}

#[test]
fn the_server_publishes_where_somebody_could_join_and_is_told_where_nobody_could() {
    let mut world = joined_world();
    for topic in ["topics:matrix", "topics:s", "nowhere:x"] {
        let publish = ServerPublish {
            topic: Topic::parse(topic.as_bytes()).unwrap(),
            event: Bytes::from_static(b"event"),
            payload: Bytes::from_static(b"{}"),
            msg_id: Bytes::new(),
            target: Target::All,
            names: Vec::new(),
        };
        world.input(Input::ServerPublish(CallId(7), publish));
    }
    world.published();
    world.check(expect![[r#"
        ts-1 publish topics:matrix #1 event
        server publish: "bad_request"
        server publish: "unmatched topic"
        server publish: e1@1
    "#]]);
}

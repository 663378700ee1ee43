//! Ids that clients give their publishes, and what channels with positions are told of the outcome (X6).

use expect_test::expect;

use super::*;

const RESUMING: &str = "['1','1','topics:matrix','phx_join',{'resume':true}]";

/// Session 1 is alice and joined with positions.
fn resuming_world() -> World {
    let mut world = World::new();
    world.open_as(1, Serializer::V2, "alice");
    world.say(1, RESUMING);
    world.bound();
    world.transcript.clear();
    world
}

fn with_id(reference: &str, msg_id: &str) -> String {
    format!(
        "['1','{reference}','topics:matrix','publish',{{'event':'e','payload':{{}},'msg_id':'{msg_id}'}}]"
    )
}

#[test]
fn x6_with_positions_the_reply_says_where_and_a_repeat_gets_the_first_place_and_dup() {
    let mut world = resuming_world();
    world.say(1, PUBLISH);
    let mut publications = world.published();
    world.say(1, &with_id("3", "m1"));
    publications.extend(world.published());
    world.say(1, &with_id("4", "m1"));
    assert_eq!(world.published(), []);
    world.deliver("topics:matrix", 1, publications);
    world.check(expect![[r#"
        1 > ["1","2","topics:matrix","publish",["event",{"message":"hi"}]]
        ts-1 publish topics:matrix #1 event
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1}}]
        1 > ["1","3","topics:matrix","publish",{"event":"e","payload":{},"msg_id":"m1"}]
        ts-1 publish topics:matrix #2 e id "m1" of "alice"
        1 < ["1","3","topics:matrix","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":2}}]
        1 > ["1","4","topics:matrix","publish",{"event":"e","payload":{},"msg_id":"m1"}]
        ts-1 publish topics:matrix #3 e id "m1" of "alice"
        1 < ["1","4","topics:matrix","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":2,"dup":true}}]
        1 < ["1","@1","topics:matrix","event",{"message":"hi"}]
        1 < ["1","@2","topics:matrix","e",{}]
    "#]]);
}

#[test]
fn x6_without_positions_an_id_works_as_well_and_the_reply_stays_empty() {
    let mut world = joined_world();
    world.say(1, &with_id("2", "m1"));
    world.published();
    world.say(1, &with_id("3", "m1"));
    world.published();
    assert_eq!(world.offset, 1);
    world.check(expect![[r#"
        1 > ["1","2","topics:matrix","publish",{"event":"e","payload":{},"msg_id":"m1"}]
        ts-1 publish topics:matrix #1 e id "m1" of ""
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
        1 > ["1","3","topics:matrix","publish",{"event":"e","payload":{},"msg_id":"m1"}]
        ts-1 publish topics:matrix #2 e id "m1" of ""
        1 < ["1","3","topics:matrix","phx_reply",{"status":"ok","response":{}}]
    "#]]);
}

#[test]
fn who_publishes_is_told_to_the_owner_with_an_id_only() {
    let mut world = resuming_world();
    world.say(1, PUBLISH);
    let (_, slots) = &world.publishes[0];
    assert!(slots[0].publishes[0].subject.is_empty());
}

/// The copy of the first publish may be long gone, and of a repeat there is none: its reply waits for neither.
#[test]
fn o2_the_reply_to_a_repeat_in_a_namespace_waits_for_no_copy_that_was_passed_on() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','room:x','phx_join',{'resume':true}]");
    world.bound();
    let publish = |reference: &str| {
        format!("['1','{reference}','room:x','publish',{{'event':'e','payload':{{}},'msg_id':'m'}}]")
    };
    world.say(1, &publish("2"));
    let publications = world.published();
    world.deliver("room:x", 1, publications);
    world.transcript.clear();
    world.say(1, &publish("3"));
    world.published();
    world.check(expect![[r#"
        1 > ["1","3","room:x","publish",{"event":"e","payload":{},"msg_id":"m"}]
        ts-1 publish room:x #2 e id "m" of ""
        1 < ["1","3","room:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1,"dup":true}}]
    "#]]);
}

#[test]
fn a_repeat_whose_first_is_still_on_its_way_waits_for_that_copy_like_the_first() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','room:x','phx_join',{'resume':true}]");
    world.bound();
    world.transcript.clear();
    for reference in ["2", "3"] {
        let publish = "'room:x','publish',{'event':'e','payload':{},'msg_id':'m'}]";
        world.say(1, &format!("['1','{reference}',{publish}"));
    }
    let mut publications = world.published();
    publications.extend(world.published());
    world.deliver("room:x", 1, publications);
    world.check(expect![[r#"
        1 > ["1","2","room:x","publish",{"event":"e","payload":{},"msg_id":"m"}]
        ts-1 publish room:x #1 e id "m" of ""
        1 > ["1","3","room:x","publish",{"event":"e","payload":{},"msg_id":"m"}]
        ts-1 publish room:x #2 e id "m" of ""
        1 < [null,"@1","room:x","e",{}]
        1 < ["1","2","room:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1}}]
        1 < ["1","3","room:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1,"dup":true}}]
    "#]]);
}

/// Found by a test on sockets: the delivery of the third proved its commit before the answer told of the repeat.
#[test]
fn o5_in_a_namespace_a_delivery_that_is_first_does_not_put_a_reply_before_that_to_a_repeat() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','room:x','phx_join',{'resume':true}]");
    world.bound();
    let publish = |reference: &str, rest: &str| {
        format!("['1','{reference}','room:x','publish',{{'event':'e','payload':{{}}{rest}}}]")
    };
    world.say(1, &publish("2", ",'msg_id':'m'"));
    let publications = world.published();
    world.deliver("room:x", 1, publications);
    world.say(1, &publish("3", ",'msg_id':'m'"));
    let (call, slots) = world.publishes.remove(0);
    world.say(1, &publish("4", ""));
    world.transcript.clear();
    let delivered = v1::Publication {
        session: 1,
        number: 3,
        ..publication(2)
    };
    world.deliver("room:x", 1, vec![delivered]);
    world.publishes.insert(0, (call, slots));
    while !world.publishes.is_empty() {
        world.published();
    }
    world.check(expect![[r#"
        1 < [null,"@2","room:x","event",{"n":2}]
        1 < ["1","3","room:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1,"dup":true}}]
        ts-1 publish room:x #3 e
        1 < ["1","4","room:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":2}}]
    "#]]);
}

/// Both cannot hold: the copy is there, and what the earlier publish came to is not known yet.
#[test]
fn o1_on_topics_the_reply_comes_before_the_copy_even_if_that_to_an_earlier_repeat_is_not_there_yet() {
    let mut world = resuming_world();
    world.say(1, &with_id("2", "m"));
    let publications = world.published();
    world.deliver("topics:matrix", 1, publications);
    world.say(1, &with_id("3", "m"));
    let (call, slots) = world.publishes.remove(0);
    world.say(1, &with_id("4", "n"));
    world.transcript.clear();
    let delivered = v1::Publication {
        session: 1,
        number: 3,
        ..publication(2)
    };
    world.deliver("topics:matrix", 1, vec![delivered]);
    world.publishes.insert(0, (call, slots));
    world.published();
    world.check(expect![[r#"
        1 < ["1","4","topics:matrix","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":2}}]
        1 < ["1","@2","topics:matrix","event",{"n":2}]
        1 < ["1","3","topics:matrix","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1,"dup":true}}]
    "#]]);
}

#[test]
fn what_is_sent_again_after_a_lost_answer_keeps_its_number_and_its_id() {
    let mut world = resuming_world();
    world.say(1, &with_id("2", "m1"));
    let (call, _) = world.publishes.remove(0);
    world.input(Input::Published(call, Err(CallFailed::Unknown("cut".into()))));
    world.wait(400);
    world.check(expect![[r#"
        1 > ["1","2","topics:matrix","publish",{"event":"e","payload":{},"msg_id":"m1"}]
        ts-1 publish topics:matrix #1 e id "m1" of "alice"
        ts-1 publish topics:matrix #1 e id "m1" of "alice"
    "#]]);
}

#[test]
fn the_server_has_ids_of_its_own() {
    let mut world = joined_world();
    for _ in 0..2 {
        let publish = ServerPublish {
            topic: Topic::parse(b"topics:matrix").unwrap(),
            event: Bytes::from_static(b"e"),
            payload: Bytes::from_static(b"{}"),
            msg_id: Bytes::from_static(b"m1"),
            target: Target::All,
            names: Vec::new(),
        };
        world.input(Input::ServerPublish(CallId(7), publish));
        world.published();
    }
    world.say(1, &with_id("2", "m1"));
    world.published();
    world.check(expect![[r#"
        ts-1 publish topics:matrix #1 e id "m1" of "\0server"
        server publish: e1@1
        ts-1 publish topics:matrix #2 e id "m1" of "\0server"
        server publish: e1@1 dup
        1 > ["1","2","topics:matrix","publish",{"event":"e","payload":{},"msg_id":"m1"}]
        ts-1 publish topics:matrix #3 e id "m1" of ""
        1 < ["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]
    "#]]);
}

#[test]
fn the_bytes_of_ids_and_names_count_where_bytes_are_bounded() {
    let mut world = World::new();
    world.gateway.limits.pushes = None;
    world.open(1, Serializer::V2);
    world.say(1, "['1','1','work:x','phx_join',{}]");
    world.bound();
    let names = vec![format!("'{}'", "n".repeat(255)); 100].join(",");
    for _ in 0..11 {
        world.say(
            1,
            &format!(
                "['1','2','work:x','publish',{{'event':'e','payload':{{}},'target':{{'members':[{names}]}}}}]"
            ),
        );
    }
    assert!(world.transcript.ends_with("1 paused\n"), "after 256 KiB of names");
}

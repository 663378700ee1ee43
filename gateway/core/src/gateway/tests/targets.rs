//! To whom a publish goes (X6), and what takes no offset.

use expect_test::expect;

use super::*;

/// Sessions 1 with positions and 2 without, in a family that lets clients name anyone but all.
fn work() -> World {
    let mut world = World::new();
    world.open_as(1, Serializer::V2, "alice");
    world.open_as(2, Serializer::V2, "bob");
    world.say(1, "['1','1','work:x','phx_join',{'resume':true}]");
    world.say(2, "['4','4','work:x','phx_join',{}]");
    world.bound();
    world.bound();
    world.transcript.clear();
    world
}

#[test]
fn x6_one_and_members_reach_whom_the_owner_names_without_an_offset() {
    let mut world = work();
    world.matched = 1;
    world.say(
        1,
        "['1','2','work:x','publish',{'event':'job','payload':{'n':1},'target':'one'}]",
    );
    assert_eq!(world.published(), []);
    world.deliver_unsequenced("work:x", &[2]);
    world.matched = 2;
    world.say(
        2,
        "['4','5','work:x','publish',{'event':'job','payload':{'n':2},'target':{'members':['alice','bob']}}]",
    );
    world.published();
    world.deliver_unsequenced("work:x", &[1, 2, 77]);
    world.matched = 0;
    world.say(
        1,
        "['1','3','work:x','publish',{'event':'job','payload':{},'target':{'members':['nobody']}}]",
    );
    world.published();
    world.deliver_unsequenced("work:x", &[]);
    world.check(expect![[r#"
        1 > ["1","2","work:x","publish",{"event":"job","payload":{"n":1},"target":"one"}]
        ts-1 publish work:x #1 job to one
        1 < ["1","2","work:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":null,"matched":1}}]
        2 < [null,null,"work:x","job",{"n":1}]
        2 > ["4","5","work:x","publish",{"event":"job","payload":{"n":2},"target":{"members":["alice","bob"]}}]
        ts-1 publish work:x #2 job to ["alice", "bob"]
        2 < ["4","5","work:x","phx_reply",{"status":"ok","response":{}}]
        1 < [null,null,"work:x","job",{"n":2}]
        2 < [null,null,"work:x","job",{"n":2}]
        1 > ["1","3","work:x","publish",{"event":"job","payload":{},"target":{"members":["nobody"]}}]
        ts-1 publish work:x #3 job to ["nobody"]
        1 < ["1","3","work:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":null,"matched":0}}]
    "#]]);
}

#[test]
fn x6_a_repeat_to_one_gets_the_count_of_the_first() {
    let mut world = work();
    world.matched = 1;
    let job = "'work:x','publish',{'event':'job','payload':{},'msg_id':'m','target':'one'}]";
    world.say(1, &format!("['1','2',{job}"));
    world.published();
    world.matched = 0;
    world.say(1, &format!("['1','3',{job}"));
    world.published();
    assert_eq!(world.unsequenced.len(), 1, "it is sent once");
    world.check(expect![[r#"
        1 > ["1","2","work:x","publish",{"event":"job","payload":{},"msg_id":"m","target":"one"}]
        ts-1 publish work:x #1 job to one id "m" of "alice"
        1 < ["1","2","work:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":null,"matched":1}}]
        1 > ["1","3","work:x","publish",{"event":"job","payload":{},"msg_id":"m","target":"one"}]
        ts-1 publish work:x #2 job to one id "m" of "alice"
        1 < ["1","3","work:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":null,"matched":1,"dup":true}}]
    "#]]);
}

#[test]
fn x6_a_target_the_family_does_not_open_is_unauthorized_in_either_form() {
    let mut world = work();
    for body in [
        "['e',{}]",
        "{'event':'e','payload':{}}",
        "{'event':'e','payload':{},'target':'all'}",
        "{'event':'e','payload':{},'target':'everyone'}",
    ] {
        world.say(2, &format!("['4','5','work:x','publish',{body}]"));
    }
    world.say(2, "['4','6','topics:matrix','phx_join',{}]");
    world.bound();
    for target in ["'one'", "{'members':['a']}"] {
        let body = format!("{{'event':'e','payload':{{}},'target':{target}}}");
        world.say(2, &format!("['4','7','topics:matrix','publish',{body}]"));
    }
    assert_eq!(
        world.transcript.matches(r#"{"reason":"unauthorized"}"#).count(),
        6,
        "{}",
        world.transcript
    );
    assert!(world.publishes.is_empty());
}

/// What a plain event means is the family's `client_events`: the list of targets is for `publish`.
#[test]
fn a_plain_event_goes_where_the_family_says_whatever_targets_it_opens() {
    let mut world = work();
    world.say(2, "['4','5','work:x','shout',{}]");
    let publications = world.published();
    assert_eq!(publications.len(), 1);
    assert_eq!(publications[0].target(), Target::All);
}

#[test]
fn the_server_may_name_any_target() {
    let mut world = work();
    world.matched = 2;
    for (target, names) in [(Target::One, vec![]), (Target::Members, vec!["bob"])] {
        let publish = ServerPublish {
            topic: Topic::parse(b"topics:matrix").unwrap(),
            event: Bytes::from_static(b"e"),
            payload: Bytes::from_static(b"{}"),
            msg_id: Bytes::new(),
            target,
            names: names.into_iter().map(Bytes::from).collect(),
        };
        world.input(Input::ServerPublish(CallId(7), publish));
        world.published();
    }
    world.check(expect![[r#"
        ts-1 publish topics:matrix #1 e to one
        server publish: e1@none matched 2
        ts-1 publish topics:matrix #2 e to ["bob"]
        server publish: e1@none matched 2
    "#]]);
}

#[test]
fn an_ephemeral_event_takes_no_offset_and_no_position_moves() {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.open(2, Serializer::V1);
    world.say(1, "['1','1','chat:x','phx_join',{'resume':true}]");
    world.say(2, "{'topic':'chat:x','event':'phx_join','payload':{},'ref':'1'}");
    world.bound();
    world.bound();
    world.transcript.clear();
    world.matched = 2;
    world.say(1, "['1','2','chat:x','typing',{'a':1}]");
    assert_eq!(world.published(), []);
    world.deliver_unsequenced("chat:x", &[]);
    world.say(1, "['1','3','chat:x','publish',['typing',{}]]");
    world.published();
    world.say(1, "['1','4','chat:x','publish',['said',{}]]");
    let publications = world.published();
    world.deliver("chat:x", 1, publications);
    world.check(expect![[r#"
        1 > ["1","2","chat:x","typing",{"a":1}]
        ts-1 publish chat:x #1 typing ephemeral
        1 < ["1","2","chat:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":null,"matched":2}}]
        1 < [null,null,"chat:x","typing",{"a":1}]
        2 < {"topic":"chat:x","event":"typing","payload":{"a":1},"ref":null}
        1 > ["1","3","chat:x","publish",["typing",{}]]
        ts-1 publish chat:x #2 typing ephemeral
        1 < ["1","3","chat:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":null,"matched":2}}]
        1 > ["1","4","chat:x","publish",["said",{}]]
        ts-1 publish chat:x #3 said
        1 < [null,"@1","chat:x","said",{}]
        2 < {"topic":"chat:x","event":"said","payload":{},"ref":null}
        1 < ["1","4","chat:x","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1}}]
    "#]]);
}

#[test]
fn the_servers_ephemeral_events_are_so_as_well() {
    let mut world = World::new();
    let publish = ServerPublish {
        topic: Topic::parse(b"chat:x").unwrap(),
        event: Bytes::from_static(b"typing"),
        payload: Bytes::from_static(b"{}"),
        msg_id: Bytes::new(),
        target: Target::All,
        names: Vec::new(),
    };
    world.input(Input::ServerPublish(CallId(7), publish));
    world.published();
    world.check(expect![[r#"
        ts-1 publish chat:x #1 typing ephemeral
        server publish: e1@none matched 0
    "#]]);
}

//! Pushes in binary and their copies (F2, F5, X5).

use expect_test::expect;

use super::*;

/// Kind 0 with join_ref `1`.
fn push(reference: &str, topic: &str, event: &str, data: &[u8]) -> Vec<u8> {
    let fields = ["1", reference, topic, event];
    let mut bytes = vec![0];
    bytes.extend(fields.iter().map(|field| field.len() as u8));
    fields
        .iter()
        .for_each(|field| bytes.extend_from_slice(field.as_bytes()));
    bytes.extend_from_slice(data);
    bytes
}

/// Sessions on V2 with positions and without, and the same on V1, all in one topic.
fn four(topic: &str) -> World {
    let mut world = World::new();
    for session in [1, 2] {
        world.open(session, Serializer::V2);
        world.open(session + 2, Serializer::V1);
        let payload = if session == 1 { "{'resume':true}" } else { "{}" };
        world.say(session, &format!("['1','1','{topic}','phx_join',{payload}]"));
        world.say(
            session + 2,
            &format!("{{'topic':'{topic}','event':'phx_join','payload':{payload},'ref':'1'}}"),
        );
    }
    while !world.binds.is_empty() {
        world.bound();
    }
    world.transcript.clear();
    world
}

#[test]
fn x5_f5_a_binary_push_is_a_broadcast_of_its_bytes_with_a_marker_for_who_asked() {
    let mut world = four("room:bin");
    world.say_binary(1, &push("2", "room:bin", "bcastbin", &[1, 2, 255]));
    let publications = world.published();
    world.deliver("room:bin", 1, publications);
    assert_eq!(world.gateway.counts().left_out, 1, "to V1 without positions");
    world.check(expect![[r#"
        1 > binary 00010108083132726f6f6d3a62696e626361737462696e0102ff
        ts-1 publish room:bin #1 bcastbin binary [1, 2, 255]
        1 < binary 020808726f6f6d3a62696e626361737462696e0102ff
        1 < [null,"@1","room:bin","phx_offset",{}]
        2 < binary 020808726f6f6d3a62696e626361737462696e0102ff
        3 < {"topic":"room:bin","event":"phx_offset","payload":{"skipped":"binary"},"ref":"@1"}
        1 < ["1","2","room:bin","phx_reply",{"status":"ok","response":{"epoch":"e1","offset":1}}]
    "#]]);
}

#[test]
fn data_may_be_empty_and_is_never_read_as_json() {
    let mut world = four("room:bin");
    for data in [&b""[..], b"{ }", b"\xff\xfe", b"null"] {
        world.say_binary(2, &push("2", "room:bin", "e", data));
        let publications = world.published();
        assert_eq!(
            (&publications[0].payload[..], publications[0].binary),
            (data, true)
        );
    }
}

#[test]
fn s20_in_binary_others_leaves_out_the_sender_too() {
    let mut world = four("game:x");
    world.say_binary(2, &push("2", "game:x", "move", &[7]));
    let publications = world.published();
    world.deliver("game:x", 1, publications);
    world.check(expect![[r#"
        2 > binary 0001010604313267616d653a786d6f766507
        ts-1 publish game:x #1 move binary [7]
        2 < ["1","2","game:x","phx_reply",{"status":"ok","response":{}}]
        1 < binary 02060467616d653a786d6f766507
        1 < [null,"@1","game:x","phx_offset",{}]
        3 < {"topic":"game:x","event":"phx_offset","payload":{"skipped":"binary"},"ref":"@1"}
    "#]]);
}

#[test]
fn an_ephemeral_binary_event_has_no_marker() {
    let mut world = four("chat:x");
    world.say_binary(2, &push("2", "chat:x", "typing", &[7]));
    assert_eq!(world.published(), []);
    world.transcript.clear();
    world.deliver_unsequenced("chat:x", &[]);
    world.check(expect![[r#"
        1 < binary 020606636861743a78747970696e6707
        2 < binary 020606636861743a78747970696e6707
    "#]]);
}

#[test]
fn what_must_be_json_or_has_a_reserved_name_is_a_bad_request_in_binary_as_well() {
    let mut world = four("room:bin");
    for event in ["publish", "phx_close", "chan_reply_3", "gap", ""] {
        world.say_binary(2, &push("2", "room:bin", event, &[1]));
    }
    world.say(2, "['1','1','topics:matrix','phx_join',{}]");
    world.bound();
    for event in ["publish", "event"] {
        world.say_binary(2, &push("2", "topics:matrix", event, &[1]));
    }
    world.say(2, "['1','1','news:x','phx_join',{}]");
    world.bound();
    world.say_binary(2, &push("2", "news:x", "e", &[1]));
    assert!(world.publishes.is_empty());
    assert_eq!(
        world.transcript.matches(r#"{"reason":"bad_request"}"#).count(),
        7,
        "{}",
        world.transcript
    );
    assert_eq!(
        world.transcript.matches(r#"{"reason":"unauthorized"}"#).count(),
        1,
        "{}",
        world.transcript
    );
}

//! Publishes with ids, to targets and in binary, over real sockets and over HTTP.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

mod support;

use ringcast_gateway_core::route::{Namespace, Targets};
use ringcast_proto::Pattern;
use support::{Client, World};
use tokio_tungstenite::tungstenite::Message;

/// A gateway on which clients of `work:*` may name anybody and `typing` is ephemeral.
async fn world() -> World {
    World::with(|config| {
        let mut work = Namespace::new(Pattern::parse("work:*").unwrap());
        work.targets = Targets {
            one: true,
            members: true,
            ..Targets::default()
        };
        work.ephemeral = ["typing".to_owned()].into();
        config.namespaces.push(work);
    })
    .await
}

/// Joins with positions, from now on.
async fn resuming(client: &mut Client, join_ref: &str, topic: &str, head: u64) {
    client
        .send(format!(
            r#"["{join_ref}","{join_ref}","{topic}","phx_join",{{"resume":true}}]"#
        ))
        .await;
    let reply = format!(
        r#"["{join_ref}","{join_ref}","{topic}","phx_reply",{{"status":"ok","response":{{"epoch":"epoch1","offset":{head},"recovered":false}}}}]"#
    );
    assert_eq!(client.text().await, reply);
}

#[tokio::test]
async fn x6_a_repeat_is_told_where_the_first_went_and_nobody_gets_it_twice() {
    let world = world().await;
    let (mut alice, mut bob) = (world.client().await, world.client().await);
    resuming(&mut alice, "1", "topics:matrix", 0).await;
    bob.join("7", "topics:matrix").await;
    for reference in ["2", "3"] {
        let publish = r#""topics:matrix","publish",{"event":"e","payload":{"n":1},"msg_id":"m1"}]"#;
        alice.send(format!(r#"["1","{reference}",{publish}"#)).await;
    }
    alice
        .send(r#"["1","4","topics:matrix","publish",["e",{"n":2}]]"#)
        .await;
    let mut replies = Vec::new();
    let mut copies = Vec::new();
    while replies.len() + copies.len() < 5 {
        let text = alice.text().await;
        if text.contains("phx_reply") {
            replies.push(text);
        } else {
            copies.push(text);
        }
    }
    // The third may be proved by its copy before the repeat is answered, and has to be replied to before it (O1).
    replies.sort();
    let ok = |reference: &str, response: &str| {
        format!(r#"["1","{reference}","topics:matrix","phx_reply",{{"status":"ok","response":{response}}}]"#)
    };
    assert_eq!(
        replies,
        [
            ok("2", r#"{"epoch":"epoch1","offset":1}"#),
            ok("3", r#"{"epoch":"epoch1","offset":1,"dup":true}"#),
            ok("4", r#"{"epoch":"epoch1","offset":2}"#),
        ]
    );
    assert_eq!(
        copies,
        [
            r#"["1","@1","topics:matrix","e",{"n":1}]"#,
            r#"["1","@2","topics:matrix","e",{"n":2}]"#
        ]
    );
    assert_eq!(bob.text().await, r#"["7",null,"topics:matrix","e",{"n":1}]"#);
    assert_eq!(bob.text().await, r#"["7",null,"topics:matrix","e",{"n":2}]"#);
}

#[tokio::test]
async fn x6_one_gets_it_and_the_sender_reads_how_many_did() {
    let world = world().await;
    let (mut alice, mut bob) = (world.client().await, world.client().await);
    resuming(&mut alice, "1", "work:x", 0).await;
    bob.join("7", "work:x").await;
    bob.send(r#"["7","8","work:x","publish",{"event":"job","payload":{},"target":"one"}]"#)
        .await;
    assert_eq!(
        bob.text().await,
        r#"["7","8","work:x","phx_reply",{"status":"ok","response":{}}]"#
    );
    assert_eq!(alice.text().await, r#"[null,null,"work:x","job",{}]"#);
    alice
        .send(r#"["1","2","work:x","publish",{"event":"job","payload":{},"target":{"members":["nobody"]}}]"#)
        .await;
    assert_eq!(
        alice.text().await,
        r#"["1","2","work:x","phx_reply",{"status":"ok","response":{"epoch":"epoch1","offset":null,"matched":0}}]"#
    );
    // Neither took an offset.
    alice
        .send(r#"["1","3","work:x","publish",{"event":"e","payload":{},"target":"others"}]"#)
        .await;
    assert_eq!(
        alice.text().await,
        r#"["1","3","work:x","phx_reply",{"status":"ok","response":{"epoch":"epoch1","offset":1}}]"#
    );
    assert_eq!(bob.text().await, r#"[null,null,"work:x","e",{}]"#);
}

#[tokio::test]
async fn x5_a_binary_push_comes_as_a_binary_frame_and_who_asked_reads_its_offset_next() {
    let world = world().await;
    let (mut alice, mut bob) = (world.client().await, world.client().await);
    resuming(&mut alice, "1", "room:bin", 0).await;
    bob.join("7", "room:bin").await;
    let push = b"\x00\x01\x01\x08\x07\x37\x38room:binpushbin\x01\x02\xff";
    bob.send(Message::Binary(push.as_slice().into())).await;
    let broadcast = Message::Binary(b"\x02\x08\x07room:binpushbin\x01\x02\xff".as_slice().into());
    assert_eq!(bob.next().await, broadcast);
    assert_eq!(
        bob.text().await,
        r#"["7","8","room:bin","phx_reply",{"status":"ok","response":{}}]"#
    );
    assert_eq!(alice.next().await, broadcast);
    assert_eq!(alice.text().await, r#"[null,"@1","room:bin","phx_offset",{}]"#);
}

/// Status and body of the answer to a publish by the HTTP API.
async fn post(world: &World, topic: &str, body: &str) -> (u16, String) {
    let mut raw = world.raw().await;
    let head = format!(
        "POST /api/topics/{topic}/publish HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    raw.try_send([head.as_bytes(), body.as_bytes()].concat().as_slice())
        .await;
    let answer = String::from_utf8(raw.rest().await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_http_api_gives_ids_names_targets_and_is_told_of_a_repeat() {
    let world = world().await;
    let mut client = world.client().await;
    client.join("3", "topics:matrix").await;
    let once = r#"{"event":"e","payload":{},"msg_id":"m1"}"#;
    assert_eq!(
        post(&world, "topics:matrix", once).await,
        (200, r#"{"epoch":"epoch1","offset":1}"#.to_owned())
    );
    assert_eq!(
        post(&world, "topics:matrix", once).await,
        (200, r#"{"epoch":"epoch1","offset":1,"dup":true}"#.to_owned())
    );
    let to_one = r#"{"event":"one","payload":{},"target":"one"}"#;
    assert_eq!(
        post(&world, "topics:matrix", to_one).await,
        (200, r#"{"epoch":"epoch1","offset":null,"matched":1}"#.to_owned())
    );
    let names = vec![format!("\"{}\"", "n".repeat(255)); 100].join(",");
    let to_members = format!(r#"{{"event":"m","payload":{{}},"target":{{"members":[{names}]}}}}"#);
    assert_eq!(
        post(&world, "topics:matrix", &to_members).await,
        (200, r#"{"epoch":"epoch1","offset":null,"matched":0}"#.to_owned())
    );
    assert_eq!(
        post(&world, "work:x", r#"["typing",{}]"#).await,
        (200, r#"{"epoch":"epoch1","offset":null,"matched":0}"#.to_owned())
    );
    assert_eq!(client.text().await, r#"["3",null,"topics:matrix","e",{}]"#);
    assert_eq!(client.text().await, r#"["3",null,"topics:matrix","one",{}]"#);
    client.heartbeat().await;
}

#[tokio::test]
async fn the_http_api_refuses_ids_and_targets_that_are_none() {
    let world = world().await;
    for rest in [
        r#""msg_id":"""#,
        r#""msg_id":7"#,
        r#""target":"everyone""#,
        r#""target":{"members":[]}"#,
        r#""target":{"members":["a"],"x":1}"#,
        r#""names":["a"]"#,
    ] {
        let body = format!(r#"{{"event":"e","payload":{{}},{rest}}}"#);
        assert_eq!(
            post(&world, "topics:matrix", &body).await,
            (400, r#"{"reason":"bad_request"}"#.to_owned()),
            "{rest}"
        );
    }
    let long = format!(
        r#"{{"event":"e","payload":{{}},"msg_id":"{}"}}"#,
        "m".repeat(1024)
    );
    assert_eq!(post(&world, "topics:matrix", &long).await.0, 400);
}

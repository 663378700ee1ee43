//! What well-behaved clients see of a gateway, over real sockets.

mod support;

use std::time::Duration;

use ringcast_gateway::{BuildError, Config, Gateway, Limits};
use ringcast_proto::grpc::Calls;
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::{NodeId, grpc, v1};
use support::World;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tonic::transport::Channel;
use tonic::{Code, Status};

#[tokio::test]
async fn o1_on_topics_the_reply_comes_before_ones_own_copy_and_each_copy_has_its_join_ref() {
    let world = World::start().await;
    let (mut alice, mut bob) = (world.client().await, world.client().await);
    alice.join("1", "topics:matrix").await;
    bob.join("7", "topics:matrix").await;
    alice
        .send(r#"["1","2","topics:matrix","publish",["event", { "message": "red pill or blue pill?"}]]"#)
        .await;
    assert_eq!(
        alice.text().await,
        r#"["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]"#
    );
    assert_eq!(
        alice.text().await,
        r#"["1",null,"topics:matrix","event",{"message":"red pill or blue pill?"}]"#
    );
    assert_eq!(
        bob.text().await,
        r#"["7",null,"topics:matrix","event",{"message":"red pill or blue pill?"}]"#
    );
}

#[tokio::test]
async fn o2_in_a_namespace_ones_own_copy_comes_before_the_reply_and_v1_speaks_objects() {
    let world = World::start().await;
    let mut client = world.client_at("/realtime/v1/websocket").await;
    client
        .send(r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#)
        .await;
    let reply = |reference| {
        format!(
            r#"{{"topic":"room:1","event":"phx_reply","payload":{{"status":"ok","response":{{}}}},"ref":"{reference}"}}"#
        )
    };
    assert_eq!(client.text().await, reply(1));
    client
        .send(r#"{"topic":"room:1","event":"msg","payload":{"a":1},"ref":"2"}"#)
        .await;
    assert_eq!(
        client.text().await,
        r#"{"topic":"room:1","event":"msg","payload":{"a":1},"ref":null}"#
    );
    assert_eq!(client.text().await, reply(2));
}

#[tokio::test]
async fn a_burst_of_publishes_comes_back_whole_and_in_order() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.join("1", "topics:burst").await;
    for number in 0..90 {
        client
            .send(format!(
                r#"["1","p{number}","topics:burst","publish",["e",{{"n":{number}}}]]"#
            ))
            .await;
    }
    let mut copies = Vec::new();
    while copies.len() < 90 {
        let text = client.text().await;
        if text.starts_with(r#"["1",null,"#) {
            copies.push(text);
        }
    }
    let expected = (0..90).map(|number| format!(r#"["1",null,"topics:burst","e",{{"n":{number}}}]"#));
    assert_eq!(copies, expected.collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whichever_shard_clients_are_of_they_get_everything_in_order() {
    const MEMBERS: usize = 150; // several turns of each shard's writer
    const PUBLISHES: usize = 100;
    let world = World::with(|config| {
        config.shards = 2;
        config.limits = Limits::BENCH;
    })
    .await;
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        let mut member = world.client().await;
        member.join("1", "room:all").await;
        members.push(member);
    }
    for number in 0..PUBLISHES {
        let publish = format!(r#"["1","{number}","room:all","e",{{"n":{number}}}]"#);
        members[0].send(publish).await;
    }
    for member in &mut members {
        for number in 0..PUBLISHES {
            let copy = format!(r#"[null,null,"room:all","e",{{"n":{number}}}]"#);
            let mut next = member.text().await;
            while next.contains("phx_reply") {
                next = member.text().await;
            }
            assert_eq!(next, copy);
        }
    }
}

#[tokio::test]
async fn c6_a_ping_is_answered_with_its_own_payload() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.send(Message::Ping("are you there".into())).await;
    assert_eq!(client.next().await, Message::Pong("are you there".into()));
}

#[tokio::test]
async fn c9_a_clients_close_is_echoed() {
    let world = World::start().await;
    for code in [1000_u16, 1001, 4000] {
        let mut client = world.client().await;
        client
            .send(Message::Close(Some(CloseFrame {
                code: code.into(),
                reason: "".into(),
            })))
            .await;
        assert_eq!(client.closed().await, Some(code));
    }
    let mut client = world.client().await;
    client.send(Message::Close(None)).await;
    assert_eq!(client.closed().await, None);
}

#[tokio::test]
async fn c8_a_silent_client_is_closed_with_1001_and_a_pinging_one_is_not() {
    let world = World::with(|config| config.idle_timeout = Duration::from_millis(1500)).await;
    let (mut silent, mut pinging) = (world.client().await, world.client().await);
    let closed = silent.closed();
    let pings = async {
        loop {
            pinging.send(Message::Ping("".into())).await;
            assert_eq!(pinging.next().await, Message::Pong("".into()));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        code = closed => assert_eq!(code, Some(1001)),
        () = pings => {}
    }
    pinging.heartbeat().await;
}

#[tokio::test]
async fn h4_a_connection_too_many_is_refused_with_503_and_a_place_is_freed_by_leaving() {
    let world = World::with(|config| config.connections_max = 1).await;
    let mut first = world.client().await;
    let mut second = world.raw().await;
    second.send(support::HANDSHAKE).await;
    let head = second.head().await;
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1"),
        "{head}"
    );
    first.send(Message::Close(None)).await;
    assert_eq!(first.closed().await, None);
    drop(first);
    let served = async {
        loop {
            let mut again = world.raw().await;
            again.send(support::HANDSHAKE).await;
            if again.head().await.starts_with("HTTP/1.1 101 ") {
                return;
            }
        }
    };
    tokio::time::timeout(support::PATIENCE, served).await.unwrap();
}

#[tokio::test]
async fn c10_clients_are_told_1012_when_the_gateway_ends_and_it_ends_within_1500_ms() {
    let world = World::start().await;
    let (mut reader, deaf) = (world.client().await, world.raw_socket().await);
    reader.join("1", "topics:matrix").await;
    let store = world.store.clone();
    let told = async { assert_eq!(reader.closed().await, Some(1012)) };
    let ((ended, took), ()) = tokio::join!(world.stop(), told);
    ended.unwrap();
    assert!(
        took < Duration::from_millis(1500),
        "{took:?} although one client never answers"
    );
    let snapshot = ringcast_ring_store::RingStore::load(&store).await.unwrap();
    assert_eq!(
        snapshot.node(&NodeId::parse("gw-1").unwrap()),
        None,
        "the lease is given back"
    );
    drop(deaf);
}

#[tokio::test]
async fn the_http_api_publishes_and_tells_where() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.join("3", "topics:matrix").await;
    let post = |path: &str, body: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body.as_bytes()].concat()
    };
    let ask = async |request: &[u8]| {
        let mut raw = world.raw().await;
        raw.try_send(request).await;
        String::from_utf8(raw.rest().await).unwrap()
    };
    let answer = ask(&post(
        "/api/topics/topics:matrix/publish",
        r#"{"event":"e","payload":{"by": "http"}}"#,
    ))
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"epoch":"epoch1","offset":1}"#),
        "{answer}"
    );
    assert_eq!(
        client.text().await,
        r#"["3",null,"topics:matrix","e",{"by":"http"}]"#
    );
    for body in [
        "",
        "x",
        "[]",
        r#"{"event":"e"}"#,
        r#"{"event":"","payload":{}}"#,
        r#"{"event":"e","payload":1}"#,
    ] {
        let answer = ask(&post("/api/topics/topics:matrix/publish", body)).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.ends_with(r#"{"reason":"bad_request"}"#),
            "{answer}"
        );
    }
    let large = format!(r#"{{"event":"e","payload":{{"a":"{}"}}}}"#, "x".repeat(70_000));
    assert!(
        ask(&post("/api/topics/topics:matrix/publish", &large))
            .await
            .starts_with("HTTP/1.1 413 ")
    );
    let long = format!("/api/topics/{}/publish", "t".repeat(256));
    assert!(ask(&post(&long, "{}")).await.starts_with("HTTP/1.1 400 "));
    assert!(
        ask(&post("/api/topics/a%ff/publish", "{}"))
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(ask(&post("/api/other", "{}")).await.starts_with("HTTP/1.1 404 "));
}

async fn deliver(
    node: &mut GatewayClient<Channel>,
    call: v1::DeliverCall,
) -> Result<v1::DeliverAnswer, Status> {
    Calls::default().call(call, |calls| node.deliver(calls)).await
}

#[tokio::test]
async fn nodes_that_mean_another_gateway_or_cluster_are_refused() {
    let world = World::start().await;
    let mut node = GatewayClient::new(grpc::channel(&world.rpc_address.to_string()).unwrap());
    let good = world.header().await;
    let call = |header| v1::DeliverCall {
        header,
        ..v1::DeliverCall::default()
    };
    let answer = deliver(&mut node, call(Some(good.clone()))).await.unwrap();
    assert_eq!(answer.incarnation, good.to_incarnation);
    let other_cluster = v1::CallHeader {
        birth_digest: good.birth_digest ^ 1,
        ..good.clone()
    };
    let other_life = v1::CallHeader {
        to_incarnation: good.to_incarnation + 1,
        ..good.clone()
    };
    for header in [None, Some(other_cluster), Some(other_life)] {
        assert_eq!(
            deliver(&mut node, call(header)).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
    }
    let publish = |event: &str, payload: &'static str| v1::ServerPublishRequest {
        topic: "topics:matrix".to_owned(),
        event: event.to_owned(),
        payload: payload.into(),
    };
    let done = node
        .server_publish(publish("e", "{}"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (done.error.as_str(), done.epoch.as_str(), done.offset),
        ("", "epoch1", 1)
    );
    for bad in [publish("", "{}"), publish("e", "[]"), publish("e", "{")] {
        assert_eq!(
            node.server_publish(bad).await.unwrap().into_inner().error,
            "bad_request"
        );
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let world = World::start().await;
    let mut config = Config::new(NodeId::parse("gw-2").unwrap(), world.store.clone());
    config.listen = world.address;
    let recorder = metrics::NoopRecorder;
    let error = Gateway::build(config, &recorder).await.unwrap_err();
    assert!(matches!(&error, BuildError::Listen { address, .. } if *address == world.address));
    assert!(
        error
            .to_string()
            .starts_with(&format!("listen on {}: ", world.address)),
        "{error}"
    );
}

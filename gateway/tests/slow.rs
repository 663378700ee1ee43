//! Clients that read too slowly, over real sockets: what they are told, who names them, and that others do not notice.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, and not in what they share"
)]

mod support;

use std::time::Duration;

use ringcast_gateway::{Limits, Namespace, SlowConsumer, channel_pattern};
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::{grpc, v1};
use serde_json::Value;
use support::client::masked;
use support::{Raw, World};
use tonic::transport::Channel;

/// Far more of these than socket buffers and outbox hold together.
const LARGE: usize = 60_000;
const MANY: u64 = 150;

struct Flood {
    world: World,
    rpc: GatewayClient<Channel>,
}

impl Flood {
    async fn start() -> Flood {
        let world = World::with(|config| {
            config.limits = Limits::BENCH;
            let slow = |pattern, slow_consumer| Namespace {
                slow_consumer,
                ..Namespace::new(channel_pattern(pattern).unwrap())
            };
            config.namespaces = vec![
                slow("latest:*", SlowConsumer::Latest),
                slow("close:*", SlowConsumer::Close),
            ];
        })
        .await;
        let rpc = GatewayClient::new(grpc::channel(&world.rpc_address.to_string()).unwrap());
        Flood { world, rpc }
    }

    /// A client that has joined with positions and reads no more.
    async fn deaf(&self, topic: &str) -> Raw {
        let mut deaf = self.world.deaf_socket().await;
        let join = format!(r#"["1","1","{topic}","phx_join",{{"resume":true}}]"#);
        deaf.send(&masked(0x81, join.as_bytes())).await;
        let reply = String::from_utf8(deaf.frame().await.1).unwrap();
        assert!(
            reply.contains(r#"{"epoch":"epoch1","offset":0,"recovered":false}"#),
            "{reply}"
        );
        deaf
    }

    async fn publish(&mut self, topic: &str, count: u64, payload_bytes: usize) {
        let payload = format!(r#"{{"p":"{}"}}"#, "x".repeat(payload_bytes));
        for _ in 0..count {
            let publish = v1::ServerPublishRequest {
                topic: topic.to_owned(),
                event: "e".to_owned(),
                payload: payload.clone().into(),
            };
            let reply = self.rpc.server_publish(publish).await.unwrap().into_inner();
            assert_eq!(reply.error, "");
        }
    }

    async fn top(&mut self, order: v1::ConnectionOrder, limit: u32) -> v1::ListConnectionsReply {
        let ask = v1::ListConnectionsRequest {
            order: order.into(),
            limit,
        };
        self.rpc.list_connections(ask).await.unwrap().into_inner()
    }
}

/// What a channel is told of its topic, in order.
#[derive(Debug, PartialEq)]
enum Told {
    Publication(u64),
    Gap(u64, u64),
}

/// Reads up to this offset; everything from 1 on is explained, once and in order.
async fn read_to(raw: &mut Raw, last: u64) -> Vec<Told> {
    let (mut told, mut position) = (Vec::new(), 0);
    while position < last {
        let (first, payload) = raw.frame().await;
        assert_eq!(first, 0x81, "after {told:?}: {payload:?}");
        let frame: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(frame[0], "1", "join_ref");
        position = match frame[3].as_str() {
            Some("gap") => {
                let number = |key: &str| frame[4][key].as_u64().unwrap();
                assert_eq!(frame[4]["epoch"], "epoch1");
                assert_eq!(frame[4]["reason"], "slow_consumer");
                assert_eq!(number("from"), position + 1);
                told.push(Told::Gap(number("from"), number("to")));
                number("to")
            }
            Some("e") => {
                let offset: u64 = frame[1].as_str().unwrap()[1..].parse().unwrap();
                assert_eq!(offset, position + 1);
                told.push(Told::Publication(offset));
                offset
            }
            _ => panic!("{frame}"),
        };
    }
    told
}

fn gaps(told: &[Told]) -> usize {
    told.iter().filter(|told| matches!(told, Told::Gap(..))).count()
}

#[tokio::test]
async fn x7_a_client_that_stops_reading_is_told_by_a_gap_what_it_missed_and_goes_on() {
    let mut flood = Flood::start().await;
    let mut deaf = flood.deaf("topics:flood").await;
    let mut reader = flood.world.client().await;
    reader.join("7", "topics:flood").await;
    for _ in 0..MANY {
        flood.publish("topics:flood", 1, LARGE).await;
        // The other gets everything, at once, and nothing of positions.
        assert!(
            reader
                .text()
                .await
                .starts_with(r#"["7",null,"topics:flood","e","#)
        );
    }
    let first = flood.top(v1::ConnectionOrder::Waiting, 1).await;
    assert_eq!((first.total, first.connections.len()), (2, 1));
    let slow = &first.connections[0];
    assert!(slow.slow && slow.dropped > 0 && slow.channels == 1, "{slow:?}");
    assert_eq!(slow.remote, deaf.stream.local_addr().unwrap().to_string());
    assert!(
        slow.outbox_bytes <= 1024 * 1024 && slow.outbox_frames > 1,
        "{slow:?}"
    );
    assert_eq!(slow.received_messages, 1);

    let told = read_to(&mut deaf, MANY).await;
    assert_eq!(told[0], Told::Publication(1));
    assert!(
        gaps(&told) == 1 && matches!(told.last(), Some(Told::Publication(_))),
        "{told:?}"
    );
    let dropped = MANY - (told.len() as u64 - 1);
    assert_eq!(dropped, slow.dropped, "what was counted is what was missed");

    // It has caught up: nothing is left of its slowness but the counts.
    flood.publish("topics:flood", 3, 10).await;
    let told = deaf_goes_on(&mut deaf, MANY, 3).await;
    assert_eq!(gaps(&told), 0);
    let dropped = flood.top(v1::ConnectionOrder::Dropped, 10).await;
    let of = |one: &v1::ConnectionSummary| (one.slow, one.outbox_frames, one.gaps);
    assert_eq!(of(&dropped.connections[0]), (false, 0, 1));
    assert_eq!(dropped.connections[1].dropped, 0);
}

/// Reads `count` publications after `position`.
async fn deaf_goes_on(raw: &mut Raw, position: u64, count: u64) -> Vec<Told> {
    let mut told = Vec::new();
    for offset in position + 1..=position + count {
        let frame: Value = serde_json::from_slice(&raw.frame().await.1).unwrap();
        assert_eq!(frame[1], format!("@{offset}"));
        told.push(Told::Publication(offset));
    }
    told
}

#[tokio::test]
async fn c12_at_most_1000_frames_wait_however_small_they_are() {
    let mut flood = Flood::start().await;
    let mut deaf = flood.deaf("topics:flood").await;
    flood.publish("topics:flood", MANY, LARGE).await;
    for _ in 0..4 {
        flood.publish("topics:flood", 400, 1).await;
        let slow = &flood.top(v1::ConnectionOrder::Waiting, 1).await.connections[0];
        // Two gaps at most stand besides: one may be begun.
        assert!(slow.outbox_frames <= 1002, "{slow:?}");
    }
    let told = read_to(&mut deaf, MANY + 1600).await;
    assert!(gaps(&told) <= 2, "{} gaps", gaps(&told));
    assert!(told.len() >= 500);
}

#[tokio::test]
async fn a_channel_that_wants_only_the_newest_gets_it() {
    let mut flood = Flood::start().await;
    let mut deaf = flood.deaf("latest:prices").await;
    flood.publish("latest:prices", MANY, LARGE).await;
    let told = read_latest(&mut deaf, MANY).await;
    assert!(
        gaps(&told) >= 1 && told.last() == Some(&Told::Publication(MANY)),
        "{told:?}"
    );
}

/// As [`read_to`], of a namespace, whose frames carry no join_ref but in gaps.
async fn read_latest(raw: &mut Raw, last: u64) -> Vec<Told> {
    let (mut told, mut position) = (Vec::new(), 0);
    while position < last {
        let frame: Value = serde_json::from_slice(&raw.frame().await.1).unwrap();
        if frame[3] == "gap" {
            assert_eq!(frame[0], "1");
            assert_eq!(frame[4]["from"], position + 1);
            let to = frame[4]["to"].as_u64().unwrap();
            told.push(Told::Gap(position + 1, to));
            position = to;
        } else {
            position += 1;
            assert_eq!(
                (&frame[0], &frame[1]),
                (&Value::Null, &Value::from(format!("@{position}")))
            );
            told.push(Told::Publication(position));
        }
    }
    told
}

#[tokio::test]
async fn a_channel_that_wants_no_gaps_is_closed_with_4008() {
    let mut flood = Flood::start().await;
    let mut deaf = flood.deaf("close:orders").await;
    flood.publish("close:orders", MANY, LARGE).await;
    let rest = deaf.rest().await;
    let close = &rest[rest.len() - "slow consumer".len() - 4..];
    assert_eq!((close[0], &close[2..4]), (0x88, &4008_u16.to_be_bytes()[..]));
    let text = String::from_utf8_lossy(&rest);
    assert!(!text.contains("\"gap\""));
}

#[tokio::test]
async fn connections_are_told_in_the_order_that_was_asked_for() {
    let mut flood = Flood::start().await;
    let (mut one, mut two, _idle) = (
        flood.world.client().await,
        flood.world.client().await,
        flood.world.client().await,
    );
    for topic in ["topics:a1", "topics:a2", "topics:a3"] {
        one.join("1", topic).await;
    }
    two.join("1", "topics:a1").await;
    for _ in 0..5 {
        two.heartbeat().await;
    }
    let channels = flood.top(v1::ConnectionOrder::Channels, 10).await;
    let channels: Vec<u64> = channels.connections.iter().map(|one| one.channels).collect();
    assert_eq!(channels, [3, 1, 0]);
    let received = flood.top(v1::ConnectionOrder::Received, 2).await;
    let received: Vec<u64> = received
        .connections
        .iter()
        .map(|one| one.received_messages)
        .collect();
    assert_eq!(received, [6, 3]);
    let sent = flood.top(v1::ConnectionOrder::Sent, 10).await;
    assert!(sent.connections.is_sorted_by(|a, b| a.sent_bytes >= b.sent_bytes));
    assert!(sent.connections[2].sent_bytes == 0 && sent.connections[1].sent_bytes > 0);
    let all = flood.top(v1::ConnectionOrder::Waiting, u32::MAX).await;
    assert_eq!((all.connections.len(), all.total), (3, 3));
    assert!(
        flood
            .top(v1::ConnectionOrder::Waiting, 0)
            .await
            .connections
            .is_empty()
    );
    let wrong = v1::ListConnectionsRequest { order: 99, limit: 1 };
    let refused = flood.rpc.list_connections(wrong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let young = all.connections.iter().all(|one| one.connected_ms < 60_000);
    assert!(young && Duration::from_millis(all.connections[0].connected_ms) < support::PATIENCE);
}

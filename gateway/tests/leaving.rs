//! How a gateway ends while clients are connected, over real sockets.

mod support;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use support::{PATIENCE, World};
use tokio_tungstenite::tungstenite::Message;

/// Resolves when the gateway says that it is not ready any more.
async fn red(readiness: ringcast_gateway::Readiness) {
    let red = async {
        while readiness.reasons() != ["shutting down"] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, red).await.expect("red in time");
}

#[tokio::test]
async fn a_publish_under_way_is_answered_before_the_close_and_nobody_new_is_let_in() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.join("1", "topics:matrix").await;
    let gate = world.owner.gate.clone().lock_owned().await;
    client
        .send(r#"["1","2","topics:matrix","publish",["e",{}]]"#)
        .await;
    world.owner.asked.notified().await;

    let (readiness, address) = (world.readiness.clone(), world.address);
    let seen = async {
        red(readiness).await;
        let refused = tokio_tungstenite::connect_async(format!("ws://{address}/socket/websocket")).await;
        assert!(refused.is_err(), "it accepts nobody any more");
        drop(gate);
        assert_eq!(
            client.text().await,
            r#"["1","2","topics:matrix","phx_reply",{"status":"ok","response":{}}]"#
        );
        // The own copy may have been on its way as well.
        let mut next = client.next().await;
        if let Message::Text(copy) = &next {
            assert_eq!(copy.as_str(), r#"["1",null,"topics:matrix","e",{}]"#);
            next = client.next().await;
        }
        let Message::Close(Some(frame)) = next else {
            panic!("expected a close, got {next:?}")
        };
        assert_eq!(u16::from(frame.code), 1012);
    };
    let ((ended, took), ()) = tokio::join!(world.stop(), seen);
    ended.unwrap();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_delays_the_end_by_no_more_than_the_time_for_it() {
    let world = World::with(|config| config.drain = Duration::ZERO).await;
    let mut client = world.client().await;
    client.join("1", "topics:matrix").await;
    let _gate = world.owner.gate.clone().lock_owned().await;
    client
        .send(r#"["1","2","topics:matrix","publish",["e",{}]]"#)
        .await;
    world.owner.asked.notified().await;
    let told = async { assert_eq!(client.closed().await, Some(1012)) };
    let ((ended, took), ()) = tokio::join!(world.stop(), told);
    ended.unwrap();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[tokio::test]
async fn many_clients_are_let_go_in_batches_and_all_in_time() {
    const CLIENTS: usize = 450;
    let drain = Duration::from_secs(2);
    let world = World::with(|config| (config.drain, config.connections_max) = (drain, CLIENTS)).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(world.client().await);
    }
    let begun = Instant::now();
    let told = join_all(clients.iter_mut().map(async |client| {
        assert_eq!(client.closed().await, Some(1012));
        begun.elapsed()
    }));
    let ((ended, took), told) = tokio::join!(world.stop(), told);
    ended.unwrap();
    // 200 at once, then after 100 ms, then after 200 ms; one client or another may see it late, none early.
    let early = |within: u64| {
        told.iter()
            .filter(|told| **told < Duration::from_millis(within))
            .count()
    };
    assert!(
        early(100) <= 200 && early(200) <= 400,
        "{} {}",
        early(100),
        early(200)
    );
    assert!(took < drain, "{took:?}");
}

#[tokio::test]
async fn calls_to_owners_are_measured_by_their_size_their_wait_and_their_round_trip() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.join("1", "topics:matrix").await;
    for _ in 0..3 {
        client
            .send(r#"["1","2","topics:matrix","publish",["e",{}]]"#)
            .await;
        client.text().await;
        client.text().await;
    }
    let recorded = |name: &str, call: &str| world.recorded.histogram(&format!("{name}{{node=gw-1{call}}}"));
    let sizes = recorded("ringcast_lane_batch_entries", ",call=publish");
    assert_eq!(sizes, [1.0, 1.0, 1.0]);
    assert_eq!(recorded("ringcast_lane_wait_seconds", ",call=publish").len(), 3);
    assert_eq!(recorded("ringcast_lane_batch_entries", ",call=bind"), [1.0]);
    assert_eq!(recorded("ringcast_lane_wait_seconds", ",call=bind").len(), 1);
    let trips = recorded("ringcast_publish_seconds", "");
    assert!(
        trips.len() == 3 && trips.iter().all(|trip| (0.0..5.0).contains(trip)),
        "{trips:?}"
    );
}

//! What hostile clients get, over real sockets; each row leaves a bystander undisturbed.

mod support;

use std::time::{Duration, Instant};

use ringcast_gateway::Limits;
use support::World;
use support::client::masked;

/// Expects an HTTP answer of this status to `request`.
async fn answered(world: &World, request: &[u8], status: u16) {
    let mut raw = world.raw().await;
    raw.try_send(request).await;
    let head = raw.head().await;
    assert!(
        head.starts_with(&format!("HTTP/1.1 {status} ")),
        "{head} to {}",
        String::from_utf8_lossy(&request[..80.min(request.len())])
    );
}

fn request(line: &str, headers: &[&str]) -> Vec<u8> {
    format!("{line}\r\n{}\r\n\r\n", headers.join("\r\n")).into_bytes()
}

const GOOD: [&str; 5] = [
    "Host: gw.example",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
const LINE: &str = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1";

#[tokio::test]
async fn hostile_1_to_14_handshakes() {
    let world = World::start().await;
    let mut bystander = world.client().await;
    answered(&world, &request(LINE, &GOOD), 101).await;
    answered(&world, &request(LINE, &["Host: gw"]), 400).await;
    answered(&world, &request("POST /socket/websocket HTTP/1.1", &GOOD), 400).await;
    let with = |extra: &str| request(LINE, &[&GOOD[..], &[extra]].concat());
    answered(&world, &with("Origin: https://gw.example.evil.com"), 403).await;
    answered(&world, &with("Origin: null"), 403).await;
    answered(&world, &with("Origin: http://gw.example"), 101).await;
    answered(&world, &with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400).await;
    answered(&world, &with(&format!("X: {}", "x".repeat(1 << 20))), 431).await;
    answered(&world, &with(&"X: y\r\n".repeat(10_000)[..59_998]), 431).await;
    answered(&world, &with("X: a\0b"), 400).await;
    answered(&world, &with("X: folded\r\n line"), 400).await;
    for vsn in ["2.1.0", "9", ""] {
        let line = format!("GET /socket/websocket?vsn={vsn} HTTP/1.1");
        answered(&world, &request(&line, &GOOD), 403).await;
    }
    for path in [
        "//socket/websocket",
        "/%2e%2e/socket/websocket",
        "/socket",
        "/",
        "/socket%2Fwebsocket",
    ] {
        answered(&world, &request(&format!("GET {path} HTTP/1.1"), &GOOD), 404).await;
    }
    answered(
        &world,
        &request("GET http://gw.example/socket/websocket HTTP/1.1", &GOOD),
        400,
    )
    .await;
    let mut old = world.raw().await;
    old.send(&request("GET /socket/websocket HTTP/1.0", &GOOD)).await;
    assert!(old.head().await.contains(" 400 "));
    bystander.heartbeat().await;
}

#[tokio::test]
async fn hostile_9_a_head_that_trickles_in_is_cut_off_after_5_seconds() {
    let world = World::start().await;
    let (mut slow, begun) = (world.raw().await, Instant::now());
    slow.send(b"GET /socket/websocket HTTP/1.1\r\nHost: ").await;
    slow.rest().await;
    let took = begun.elapsed();
    assert!(
        (Duration::from_secs(4)..Duration::from_secs(7)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn hostile_17_a_frame_in_one_segment_with_the_handshake_is_handled() {
    let world = World::start().await;
    let mut raw = world.raw().await;
    let heartbeat = masked(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#);
    raw.send(&[support::HANDSHAKE, &heartbeat, &heartbeat[..9]].concat())
        .await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    let reply = br#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(raw.frame().await, (0x81, reply.to_vec()));
    raw.send(&heartbeat[9..]).await;
    assert_eq!(raw.frame().await, (0x81, reply.to_vec()));
}

#[tokio::test]
async fn hostile_19_to_30_frames() {
    let world = World::start().await;
    let mut bystander = world.client().await;
    let rows: [(&str, Vec<u8>, u16); 9] = [
        ("unmasked", vec![0x81, 2, b'h', b'i'], 1002),
        ("reserved bit", masked(0xc1, b"x"), 1002),
        ("reserved opcode", masked(0x83, b"x"), 1002),
        ("fragmented ping", masked(0x09, b"x"), 1002),
        ("stray continuation", masked(0x80, b"x"), 1002),
        (
            "many fragments",
            [masked(0x01, b"x"), masked(0x00, b"x").repeat(10_000)].concat(),
            1008,
        ),
        ("bad UTF-8", masked(0x81, b"\xff"), 1007),
        ("close of one byte", masked(0x88, b"\x03"), 1002),
        ("65,537 bytes", masked(0x81, &[b' '; 65_537]), 1009),
    ];
    for (what, bytes, code) in rows {
        let mut raw = world.raw_socket().await;
        raw.try_send(&bytes).await;
        assert_eq!(raw.closed().await, Some(code), "{what}");
        assert_eq!(raw.rest().await, b"", "{what}");
        bystander.heartbeat().await;
    }
}

#[tokio::test]
async fn hostile_36_48_c1_messages_that_are_none_close_with_1011() {
    let world = World::start().await;
    let mut bystander = world.client().await;
    let texts = [
        "",
        "x",
        "{}",
        "[1,2,3,4]",
        r#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#,
    ];
    let binaries: [&[u8]; 4] = [b"", b"\x01", b"\x09", b"\x00\xff\xff\xff\xff"];
    let texts = texts.iter().map(|text| masked(0x81, text.as_bytes()));
    for bytes in texts.chain(binaries.iter().map(|bytes| masked(0x82, bytes))) {
        let mut raw = world.raw_socket().await;
        raw.send(&bytes).await;
        assert_eq!(raw.closed().await, Some(1011), "{bytes:?}");
        bystander.heartbeat().await;
    }
    let mut deep = world.client().await;
    deep.send(format!(
        r#"["1","1","topics:deep","phx_join",{}{}]"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    ))
    .await;
    deep.text().await;
    deep.heartbeat().await;
}

#[tokio::test]
async fn hostile_31_34_floods_of_pings_and_frames_after_a_close() {
    let world = World::start().await;
    let mut pinging = world.raw_socket().await;
    pinging.try_send(&masked(0x89, b"").repeat(10_000)).await;
    loop {
        match pinging.frame().await {
            (0x8a, _) => {}
            (0x88, payload) => break assert_eq!(payload[..2], 1008_u16.to_be_bytes()),
            other => panic!("{other:?}"),
        }
    }
    let mut closed = world.raw_socket().await;
    let more = masked(0x81, br#"[null,"1","phoenix","heartbeat",{}]"#);
    closed
        .send(&[masked(0x88, &1000_u16.to_be_bytes()), more].concat())
        .await;
    assert_eq!(closed.closed().await, Some(1000));
    drop(closed);
    world.client().await.heartbeat().await;
}

#[tokio::test]
async fn hostile_32_c12_a_client_that_does_not_read_is_closed_and_others_are_served() {
    let world = World::with(|config| config.limits = Limits::BENCH).await;
    let (mut deaf, mut reader) = (world.deaf_socket().await, world.client().await);
    deaf.send(&masked(0x81, br#"["1","1","topics:flood","phx_join",{}]"#))
        .await;
    deaf.frame().await;
    reader.join("1", "topics:flood").await;
    let payload = "x".repeat(60_000);
    // Far more than socket buffers and outbox hold together.
    for number in 0..150 {
        reader
            .send(format!(
                r#"["1","{number}","topics:flood","publish",["e",{{"p":"{payload}"}}]]"#
            ))
            .await;
        let reply = reader.text().await;
        assert!(
            reply.contains(r#"{"status":"ok","response":{}}"#),
            "{number}: {}",
            &reply[..90]
        );
        assert!(
            reader
                .text()
                .await
                .starts_with(r#"["1",null,"topics:flood","e","#)
        );
    }
    // Reading now what had been sent, the deaf one finds the reason behind it, and the end.
    let rest = deaf.rest().await;
    assert!(rest.len() < 150 * payload.len(), "it did not get all");
    let close = &rest[rest.len() - "slow consumer".len() - 4..];
    assert_eq!(
        (close[0], &close[2..4], &close[4..]),
        (0x88, &4008_u16.to_be_bytes()[..], &b"slow consumer"[..])
    );
    reader.heartbeat().await;
}

//! Bad input, each kind with the answer that is specified for it; nobody else is disturbed, and nothing panics (every
//! test's `finish` looks for that).

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use ringcast_tests::cluster::Shape;
use ringcast_tests::raw::{self, BINARY, CLOSE, FIN, PING, TEXT, upgrade};
use ringcast_tests::wait::{self, SOON};
use ringcast_tests::{Client, Cluster, Raw, http};

/// A cluster, and a client that must not notice anything.
async fn with_bystander() -> Result<(Cluster, Client)> {
    let cluster = Cluster::dev(1, 1).await?;
    let mut bystander = Client::connect(cluster.listen("gw-1")?).await?;
    bystander.join("1", "topics:quiet").await?;
    Ok((cluster, bystander))
}

/// C1, section 2.
#[tokio::test]
async fn a_text_that_is_no_message_closes_that_connection_with_1011() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let gateway = cluster.listen("gw-1")?;
    let long_ref = format!(r#"["1","{}","phoenix","heartbeat",{{}}]"#, "r".repeat(300));
    for text in [
        "",
        "no json",
        "{}",
        "[]",
        r#"["1","1","topics:ab","phx_join"]"#,
        r#"["1","1","topics:ab","phx_join",{}"#,
        r#"["1","1","topics:ab","phx_join",{}] x"#,
        r#"["1","1","topics:ab","phx_join",{"a":}]"#,
        r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#,
        "7",
        "null",
        long_ref.as_str(),
    ] {
        let mut client = Client::connect(gateway).await?;
        client.join("1", "topics:ab").await?;
        client.send(text).await?;
        client
            .expect_close(1011)
            .await
            .with_context(|| format!("after {text:?}"))?;
    }
    for text in [
        r#"["1","1","phoenix","heartbeat",{}]"#,
        r#"{"topic":"phoenix","event":"heartbeat","ref":"1"}"#,
        "x",
    ] {
        let mut client = Client::connect_to(gateway, "/socket/websocket?vsn=1.0.0").await?;
        client.send(text).await?;
        client
            .expect_close(1011)
            .await
            .with_context(|| format!("V1, after {text:?}"))?;
    }
    // More than five elements are one message all the same.
    let mut client = Client::connect(gateway).await?;
    let answer = r#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#;
    client
        .ask(r#"[null,"1","phoenix","heartbeat",{},6,"seven"]"#, answer)
        .await?;
    bystander.undisturbed().await?;
    cluster.finish()
}

/// C1 for binary.
#[tokio::test]
async fn a_binary_that_is_no_message_closes_that_connection_with_1011() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let cases: [&[u8]; 8] = [
        &[],
        &[0],
        &[1, 1, 1, 8, 2, b'1', b'2'],
        &[2, 1, 1, b'a', b'b'],
        &[4, 1, 1, 0, 0, b'a', b'b'],
        &[9, 1, 1, 1, 1, 1],
        &[0, 1, 1, 8, 255, b'1', b'2', b'r'],
        &[3, 1],
    ];
    for bytes in cases {
        let mut client = Client::connect(cluster.listen("gw-1")?).await?;
        client.send_binary(bytes).await?;
        client
            .expect_close(1011)
            .await
            .with_context(|| format!("after {bytes:?}"))?;
    }
    bystander.undisturbed().await?;
    cluster.finish()
}

/// C4, C5, C7, hostile inputs 19 to 25, 28 and 30.
#[tokio::test]
async fn a_frame_against_the_websocket_rules_closes_with_the_code_of_its_rule() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let gateway = cluster.listen("gw-1")?;
    let beat = br#"[null,"1","phoenix","heartbeat",{}]"#;
    let fragment = |first, payload: &[u8]| raw::frame(first, payload);
    let huge = [&[FIN | TEXT, 0x80 | 127][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let over: Vec<u8> = vec![b' '; 65_537];
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked", raw::unmasked_frame(FIN | TEXT, beat), 1002),
        ("an RSV bit", raw::frame(FIN | 0x40 | TEXT, beat), 1002),
        ("a reserved opcode", raw::frame(FIN | 3, beat), 1002),
        ("a reserved control opcode", raw::frame(FIN | 0xB, beat), 1002),
        ("a fragmented ping", raw::frame(PING, b"x"), 1002),
        ("a ping of 126 bytes", raw::frame(FIN | PING, &[b'x'; 126]), 1002),
        ("a continuation of nothing", raw::frame(FIN, b"x"), 1002),
        (
            "a text inside a text",
            [fragment(TEXT, b"a"), fragment(FIN | TEXT, b"b")].concat(),
            1002,
        ),
        ("a length with its top bit", huge, 1002),
        (
            "bad UTF-8",
            raw::frame(FIN | TEXT, &[b'"', 0xC3, 0x28, b'"']),
            1007,
        ),
        (
            "a surrogate in UTF-8",
            raw::frame(FIN | TEXT, &[0xED, 0xA0, 0x80]),
            1007,
        ),
        (
            "bad UTF-8 in two pieces",
            [fragment(TEXT, &[b'"', 0xC3]), fragment(FIN, b"(\"")].concat(),
            1007,
        ),
        ("65,537 bytes", raw::frame(FIN | TEXT, &over), 1009),
        ("65,537 bytes of binary", raw::frame(FIN | BINARY, &over), 1009),
        (
            "65,537 bytes in pieces",
            [fragment(TEXT, &over[..40_000]), fragment(FIN, &over[40_000..])].concat(),
            1009,
        ),
        ("a close of one byte", raw::frame(FIN | CLOSE, &[3]), 1002),
        (
            "a close with 1005",
            raw::frame(FIN | CLOSE, &1005_u16.to_be_bytes()),
            1002,
        ),
        (
            "a close with 999",
            raw::frame(FIN | CLOSE, &999_u16.to_be_bytes()),
            1002,
        ),
    ];
    // All at once: after its close frame the gateway gives a client some seconds to read it.
    let checked = cases.into_iter().map(async |(what, bytes, code)| {
        let mut client = Raw::upgraded(gateway).await?;
        // The gateway may close while we still write.
        drop(client.write(&bytes).await);
        let closed = client.close_code(SOON).await.with_context(|| what.to_owned())?;
        ensure!(closed == Some(code), "{what}: closed with {closed:?}, not {code}");
        client.expect_end(SOON).await.with_context(|| what.to_owned())
    });
    try_join_all(checked).await?;
    // A thousand pieces of one message, and more than a hundred pings at once.
    let pieces: Vec<u8> = std::iter::once(fragment(TEXT, b"x"))
        .chain((0..1000).map(|_| fragment(0, b"x")))
        .flatten()
        .collect();
    let mut client = Raw::upgraded(gateway).await?;
    drop(client.write(&pieces).await);
    ensure!(
        client.close_code(SOON).await? == Some(1008),
        "more than 64 fragments"
    );

    // At the limit all is well, whole or in pieces.
    let mut client = Raw::upgraded(gateway).await?;
    let padding = 65_536 - r#"[null,"1","phoenix","heartbeat",{"x":""}]"#.len();
    let whole = format!(
        r#"[null,"1","phoenix","heartbeat",{{"x":"{}"}}]"#,
        "y".repeat(padding)
    );
    client.write(&raw::frame(FIN | TEXT, whole.as_bytes())).await?;
    let (first, second) = whole.as_bytes().split_at(100);
    client
        .write(
            &[
                fragment(TEXT, first),
                raw::frame(FIN | PING, b"p"),
                fragment(FIN, second),
            ]
            .concat(),
        )
        .await?;
    let reply = br#"[null,"1","phoenix","phx_reply",{"status":"ok","response":{}}]"#.to_vec();
    let mut frames = Vec::new();
    for _ in 0..3 {
        frames.push(client.frame(SOON).await?.context("an answer")?);
    }
    // The pong need not wait for the reply to what came before the ping.
    ensure!(
        frames
            .iter()
            .filter(|frame| **frame == (FIN | TEXT, reply.clone()))
            .count()
            == 2,
        "{frames:?}"
    );
    ensure!(
        frames.contains(&(FIN | 0xA, b"p".to_vec())),
        "no pong in {frames:?}"
    );
    bystander.undisturbed().await?;
    cluster.finish()
}

/// Hostile inputs 9, 17, 35: a client that says nothing, or half, or goes without a word.
#[tokio::test]
async fn a_half_open_connection_is_let_go() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let gateway = cluster.listen("gw-1")?;
    // A frame in the same segment as the upgrade is a frame.
    let mut eager = Raw::connect(gateway).await?;
    let request = upgrade("/socket/websocket?vsn=2.0.0", "");
    let beat = raw::frame(FIN | TEXT, br#"[null,"1","phoenix","heartbeat",{}]"#);
    eager.write(&[request.as_bytes(), &beat].concat()).await?;
    let head = eager.handshake("").await?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (first, reply) = eager.frame(SOON).await?.context("an answer to the eager frame")?;
    ensure!(
        first == FIN | TEXT && reply.starts_with(br#"[null,"1","phoenix""#),
        "{reply:?}"
    );

    // FIN without a close frame: the other half is closed, too.
    let mut finished = Raw::upgraded(gateway).await?;
    finished.finish_writing().await?;
    drop(finished.frame(SOON).await?);
    finished.expect_end(SOON).await?;

    // A request head that never ends is not waited for longer than 5 s.
    let start = std::time::Instant::now();
    let mut slow = Raw::connect(gateway).await?;
    slow.write(b"GET /socket/websocket HTTP/1.1\r\nHost: x\r\n")
        .await?;
    drop(slow.rest().await?);
    ensure!(
        start.elapsed() < Duration::from_secs(8),
        "let go after {:?}",
        start.elapsed()
    );
    bystander.undisturbed().await?;
    cluster.finish()
}

/// H1, H2, H5, hostile inputs 1 to 4, 7, 8, 13.
#[tokio::test]
async fn a_handshake_that_is_none_gets_its_status() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let gateway = cluster.listen("gw-1")?;
    let path = "/socket/websocket?vsn=2.0.0";
    let good = upgrade(path, "");
    let with_vsn = |vsn: &str| upgrade(&format!("/socket/websocket?vsn={vsn}"), "");
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("no vsn", upgrade("/socket/websocket", ""), &[101]),
        ("vsn 1.0.0", with_vsn("1.0.0"), &[101]),
        ("vsn 2.0.0", good.clone(), &[101]),
        (
            "the Supabase mount",
            upgrade("/realtime/v1/websocket?apikey=k&vsn=1.0.0", ""),
            &[101],
        ),
        ("vsn 2.1.0", with_vsn("2.1.0"), &[403]),
        ("vsn 1.1.0", with_vsn("1.1.0"), &[403]),
        ("vsn 3.0.0", with_vsn("3.0.0"), &[403]),
        ("vsn 2", with_vsn("2"), &[403]),
        ("vsn abc", with_vsn("abc"), &[403]),
        ("vsn empty", with_vsn(""), &[403]),
        ("another path", upgrade("/elsewhere", ""), &[404]),
        ("the mount alone", upgrade("/socket", ""), &[404]),
        (
            "no Upgrade",
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
            &[400],
        ),
        ("POST", good.replace("GET ", "POST "), &[400]),
        ("version 8", good.replace("Version: 13", "Version: 8"), &[426]),
        (
            "no key",
            good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            &[400],
        ),
        (
            "a short key",
            good.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
            &[400],
        ),
        (
            "a key that is no base64",
            good.replace("dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!=="),
            &[400],
        ),
        (
            "two keys",
            upgrade(path, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            &[400],
        ),
        (
            "a sub-protocol nobody asked for",
            upgrade(path, "Sec-WebSocket-Protocol: foo\r\n"),
            &[101],
        ),
    ];
    let checked = cases.into_iter().map(async |(what, request, statuses)| {
        let mut client = Raw::connect(gateway).await?;
        let head = client
            .handshake(&request)
            .await
            .with_context(|| what.to_owned())?;
        let status = head
            .split_whitespace()
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        ensure!(
            statuses.contains(&status),
            "{what}: expected {statuses:?}, got {head}"
        );
        if status == 403 {
            ensure!(client.rest().await?.is_empty(), "{what}: a refusal has no body");
        }
        Ok(())
    });
    try_join_all(checked).await?;
    bystander.undisturbed().await?;
    cluster.finish()
}

/// Hostile inputs 7 and 8. The answer can be lost on the way: a system that closes a connection on which the other side
/// still writes resets it, and throws away what the other side has not read.
#[tokio::test]
async fn a_head_over_its_bounds_gets_431_or_is_cut_off() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let gateway = cluster.listen("gw-1")?;
    let many: String = (0..10_000).map(|number| format!("X-{number}: y\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "y".repeat(1 << 20));
    for (what, headers) in [("a header of 1 MiB", long), ("10,000 headers", many)] {
        let mut client = Raw::connect(gateway).await?;
        match client
            .handshake(&upgrade("/socket/websocket?vsn=2.0.0", &headers))
            .await
        {
            Ok(head) => ensure!(
                head.starts_with("HTTP/1.1 431 ") || head.starts_with("HTTP/1.1 400 "),
                "{what}: {head}"
            ),
            Err(error) => {
                let cut = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
                ensure!(
                    matches!(cut, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)),
                    "{what}: {error:#}"
                );
            }
        }
        bystander.undisturbed().await?;
    }
    cluster.finish()
}

/// H6, hostile input 5: without `dev`, the default is the request's own host.
#[tokio::test]
async fn a_page_from_elsewhere_gets_403() -> Result<()> {
    let cluster = Cluster::start(Shape {
        topic_servers: 1,
        gateways: 1,
        ..Shape::default()
    })
    .await?;
    let gateway = cluster.listen("gw-1")?;
    let port = gateway.port();
    for (origin, status) in [
        (format!("http://127.0.0.1:{port}"), 101),
        (format!("http://127.0.0.1:{}", port - 1), 403),
        (format!("https://127.0.0.1:{port}"), 403),
        (format!("http://127.0.0.1.evil.example:{port}"), 403),
        (format!("http://127.0.0.1:{port}@evil.example"), 403),
        ("null".to_owned(), 403),
        ("not an origin".to_owned(), 403),
        (String::new(), 403),
    ] {
        let request = upgrade("/socket/websocket?vsn=2.0.0", &format!("Origin: {origin}\r\n"));
        let request = request.replace("Host: 127.0.0.1\r\n", &format!("Host: {gateway}\r\n"));
        let mut client = Raw::connect(gateway).await?;
        let head = client.handshake(&request).await?;
        ensure!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "origin {origin:?}: expected {status}, got {head}"
        );
    }
    let mut native = Client::connect(gateway).await?;
    native.nothing_else().await?;
    cluster.finish()
}

/// Limits of JSON: nested too deep is a bad request, and costs no stack.
#[tokio::test]
async fn a_payload_nested_too_deep_is_refused_and_the_connection_stays() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "room:deep").await?;
    for depth in [129, 1_000, 30_000] {
        let payload = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let answer =
            r#"["1","2","room:deep","phx_reply",{"status":"error","response":{"reason":"bad_request"}}]"#;
        client
            .ask(&format!(r#"["1","2","room:deep","msg",{payload}]"#), answer)
            .await?;
    }
    client.nothing_else().await?;
    bystander.undisturbed().await?;
    cluster.finish()
}

/// The loop that accepts connections outlives having no file descriptors, and so do those who are connected.
#[tokio::test]
async fn without_file_descriptors_those_connected_go_on_and_others_come_in_later() -> Result<()> {
    let shape = Shape {
        topic_servers: 1,
        gateways: 1,
        gateway_descriptors_max: Some(80),
        ..Shape::default()
    };
    let cluster = Cluster::start(shape).await?;
    let gateway = cluster.listen("gw-1")?;
    let mut bystander = Client::connect(gateway).await?;
    bystander.join("1", "topics:quiet").await?;
    bystander.undisturbed().await?;
    let mut crowd = Vec::new();
    for _ in 0..120 {
        crowd.push(Raw::connect(gateway).await?);
    }
    // Those it accepted are served, the others wait in the kernel; the first is among the accepted.
    let request = upgrade("/socket/websocket?vsn=2.0.0", "");
    ensure!(
        crowd[0].handshake(&request).await?.starts_with("HTTP/1.1 101 "),
        "the first of the crowd"
    );
    let log = wait::until("the gateway to say that it has none left", SOON, async || {
        let log = cluster.log("gw-1")?.to_lowercase();
        ensure!(
            log.contains("too many open files") || log.contains("emfile") || log.contains("descriptor"),
            "not yet"
        );
        Ok(log)
    })
    .await?;
    ensure!(
        log.0.lines().count() < 200,
        "it says so in {} lines",
        log.0.lines().count()
    );
    bystander.undisturbed().await?;
    crowd.clear();
    let mut late = Client::connect(gateway).await?;
    late.join("1", "topics:late").await?;
    bystander.undisturbed().await?;
    cluster.finish()
}

/// Nobody at all answers under a health check's address; and an admin listener survives nonsense.
#[tokio::test]
async fn the_admin_listener_answers_nonsense_with_4xx() -> Result<()> {
    let (cluster, mut bystander) = with_bystander().await?;
    let admin = cluster.admin("dev")?;
    for (request, least) in [
        (
            "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            404,
        ),
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            405,
        ),
        ("nonsense\r\n\r\n", 400),
    ] {
        let answer = http::request(admin, request).await?;
        ensure!(answer.status == least, "{request:?}: {answer:?}");
    }
    bystander.undisturbed().await?;
    cluster.finish()
}

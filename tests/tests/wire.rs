//! The client's wire, row by row: each test names the rows of the wire contract it proves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_tests::wait::{self, SOON};
use ringcast_tests::{Client, Cluster, Frame};
use serde_json::{Value, json};

const OK: &str = r#"{"status":"ok","response":{}}"#;
const UNMATCHED: &str = r#"{"status":"error","response":{"reason":"unmatched topic"}}"#;
const BAD_REQUEST: &str = r#"{"status":"error","response":{"reason":"bad_request"}}"#;

async fn one_gateway() -> Result<(Cluster, Client)> {
    let cluster = Cluster::dev(1, 1).await?;
    let client = Client::connect(cluster.listen("gw-1")?).await?;
    Ok((cluster, client))
}

/// S1, S2.
#[tokio::test]
async fn a_heartbeat_is_answered_whatever_it_carries_and_other_events_on_phoenix_are_unmatched() -> Result<()>
{
    let (cluster, mut client) = one_gateway().await?;
    for (sent, reference) in [
        (r#"[null,"1","phoenix","heartbeat",{}]"#, r#""1""#),
        (r#"["9","2","phoenix","heartbeat",{"a":[1]}]"#, r#""2""#),
        (r#"[null,null,"phoenix","heartbeat","text"]"#, "null"),
        (r#"[null,3,"phoenix","heartbeat",null]"#, "3"),
    ] {
        client
            .ask(sent, &format!(r#"[null,{reference},"phoenix","phx_reply",{OK}]"#))
            .await?;
    }
    for event in ["ping", "phx_join", "phx_leave_not"] {
        let answer = format!(r#"[null,"5","phoenix","phx_reply",{UNMATCHED}]"#);
        client
            .ask(&format!(r#"[null,"5","phoenix","{event}",{{}}]"#), &answer)
            .await?;
    }
    client.nothing_else().await?;
    cluster.finish()
}

/// S3, S14: refs are any JSON value and come back as they were.
#[tokio::test]
async fn refs_are_echoed_verbatim() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    for (join_ref, reference) in [
        (r#""1""#, r#""1""#),
        ("1", "2"),
        ("[1]", r#"{"a":1}"#),
        (r#""x""#, "null"),
    ] {
        client
            .ask(
                &format!(r#"[{join_ref},{reference},"room:r","phx_join",{{}}]"#),
                &format!(r#"[{join_ref},{reference},"room:r","phx_reply",{OK}]"#),
            )
            .await?;
        client
            .ask(
                &format!(r#"[{join_ref},{reference},"room:r","phx_leave",{{}}]"#),
                &format!(r#"[{join_ref},{reference},"room:r","phx_reply",{OK}]"#),
            )
            .await?;
        client
            .expect(&format!(r#"[{join_ref},{join_ref},"room:r","phx_close",{{}}]"#))
            .await?;
    }
    client.nothing_else().await?;
    cluster.finish()
}

/// S6, S7, C2.
#[tokio::test]
async fn what_is_not_routed_or_not_joined_is_unmatched_with_join_ref_null() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    let long = "x".repeat(300);
    for topic in [
        json!("other:x"),
        json!("topic"),
        json!("rooms:x"),
        json!("ROOM:x"),
        json!(""),
        json!(long),
        json!(null),
        json!(7),
        json!(["room:x"]),
    ] {
        let answer = format!(r#"[null,"2",{topic},"phx_reply",{UNMATCHED}]"#);
        client
            .ask(&format!(r#"["1","2",{topic},"phx_join",{{}}]"#), &answer)
            .await?;
    }
    let answer = format!(r#"[null,"3","topics:ab","phx_reply",{UNMATCHED}]"#);
    client
        .ask(r#"["1","3","topics:ab","publish",["event",{}]]"#, &answer)
        .await?;
    client.ask(r#"["1","3","topics:ab",null,{}]"#, &answer).await?;
    client.nothing_else().await?;
    cluster.finish()
}

/// S8, S9: the leave is answered, then the channel closes with its join_ref as ref; leaving again is ok.
#[tokio::test]
async fn a_leave_is_answered_then_closes_and_can_be_repeated() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    client.join("4", "topics:ab").await?;
    client
        .ask(
            r#"["4","7","topics:ab","phx_leave",{}]"#,
            &format!(r#"["4","7","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"["4","4","topics:ab","phx_close",{}]"#).await?;
    client
        .ask(
            r#"["4","8","topics:ab","phx_leave",{}]"#,
            &format!(r#"["4","8","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client
        .ask(
            r#"[null,"9","room:no","phx_leave",{}]"#,
            &format!(r#"[null,"9","room:no","phx_reply",{OK}]"#),
        )
        .await?;
    client.nothing_else().await?;
    // A leave with join_ref null leaves too.
    client.join("5", "topics:ab").await?;
    client
        .ask(
            r#"[null,"6","topics:ab","phx_leave",{}]"#,
            &format!(r#"["5","6","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"["5","5","topics:ab","phx_close",{}]"#).await?;
    client.nothing_else().await?;
    cluster.finish()
}

/// S10, S11.
#[tokio::test]
async fn a_stale_join_ref_is_dropped_and_a_null_one_is_taken() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    client.join("2", "topics:ab").await?;
    client
        .send(r#"["1","3","topics:ab","publish",["event",{"stale":true}]]"#)
        .await?;
    client.send(r#"["1","4","topics:ab","phx_leave",{}]"#).await?;
    client.nothing_else().await?;
    client
        .ask(
            r#"[null,"5","topics:ab","publish",["event",{"n":1}]]"#,
            &format!(r#"["2","5","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"["2",null,"topics:ab","event",{"n":1}]"#).await?;
    client.nothing_else().await?;
    cluster.finish()
}

/// S12.
#[tokio::test]
async fn a_join_with_join_ref_null_goes_by_its_ref_and_takes_only_null() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    client
        .ask(
            r#"[null,"3","topics:ab","phx_join",{}]"#,
            &format!(r#"[null,"3","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client
        .send(r#"["3","4","topics:ab","publish",["event",{"dropped":true}]]"#)
        .await?;
    client.nothing_else().await?;
    client
        .ask(
            r#"[null,"5","topics:ab","publish",["event",{"n":1}]]"#,
            &format!(r#"["3","5","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"["3",null,"topics:ab","event",{"n":1}]"#).await?;
    client
        .ask(
            r#"[null,"6","topics:ab","phx_leave",{}]"#,
            &format!(r#"["3","6","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"[null,null,"topics:ab","phx_close",{}]"#).await?;
    client.nothing_else().await?;
    cluster.finish()
}

/// S13: also when the new join is refused.
#[tokio::test]
async fn a_duplicate_join_is_answered_and_then_closes_the_old_channel() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    client.join("1", "topics:ab").await?;
    client
        .ask(
            r#"["2","2","topics:ab","phx_join",{}]"#,
            &format!(r#"["2","2","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"["1","1","topics:ab","phx_close",{}]"#).await?;
    client
        .send(r#"["1","3","topics:ab","publish",["event",{"stale":true}]]"#)
        .await?;
    client.nothing_else().await?;
    client
        .ask(
            r#"["2","4","topics:ab","publish",["event",{"n":1}]]"#,
            &format!(r#"["2","4","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"["2",null,"topics:ab","event",{"n":1}]"#).await?;
    client.nothing_else().await?;
    let members = cluster.json(&["topic", "members", "topics:ab"]).await?;
    ensure!(
        members["members"].as_array().map(Vec::len) == Some(1),
        "joined twice, counted once: {members}"
    );
    cluster.finish()
}

/// S16, S17, S20: events in a room reach everyone under their own name with join_ref null.
#[tokio::test]
async fn any_event_pushed_in_a_room_is_broadcast_under_its_name() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    let mut other = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "room:lobby").await?;
    other.join("5", "room:lobby").await?;
    for event in ["msg", "typing", "a b", "é"] {
        let copy = format!(r#"[null,null,"room:lobby","{event}",{{"x":1}}]"#);
        client
            .ask(&format!(r#"["1","2","room:lobby","{event}",{{"x":1}}]"#), &copy)
            .await?;
        client
            .expect(&format!(r#"["1","2","room:lobby","phx_reply",{OK}]"#))
            .await?;
        other.expect(&copy).await?;
    }
    client.nothing_else().await?;
    other.nothing_else().await?;
    cluster.finish()
}

/// S23, C9: the client's code comes back, and its memberships end.
#[tokio::test]
async fn a_client_that_closes_or_vanishes_is_a_member_no_more() -> Result<()> {
    let (cluster, _) = one_gateway().await?;
    let gateway = cluster.listen("gw-1")?;
    for code in [Some(1000), Some(1001), Some(4000), None] {
        let mut client = Client::connect(gateway).await?;
        client.join("1", "topics:ab").await?;
        let echoed = client.close(code).await?;
        // Without a code there is nothing to echo; the client library shows an empty close as none.
        ensure!(
            echoed == code || (code.is_none() && echoed == Some(1005)),
            "closed with {code:?}, echoed {echoed:?}"
        );
    }
    let mut vanished = Client::connect(gateway).await?;
    vanished.join("1", "topics:ab").await?;
    drop(vanished);
    wait::until("all to be gone", SOON, async || {
        let shown = cluster.json(&["topic", "members", "topics:ab"]).await?;
        ensure!(shown["members"] == json!([]), "{shown}");
        Ok(())
    })
    .await?;
    cluster.finish()
}

/// H11: the 101st join, and one of the 100 again.
#[tokio::test]
async fn a_connection_has_100_channels_and_a_duplicate_join_frees_its_place_first() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    for number in 0..100 {
        client
            .join(&number.to_string(), &format!("room:{number}"))
            .await?;
    }
    let refused = r#"["x","y","room:one-more","phx_reply",{"status":"error","response":{"reason":"too many channels joined"}}]"#;
    client
        .ask(r#"["x","y","room:one-more","phx_join",{}]"#, refused)
        .await?;
    client
        .ask(
            r#"["z","z","room:7","phx_join",{}]"#,
            &format!(r#"["z","z","room:7","phx_reply",{OK}]"#),
        )
        .await?;
    client.expect(r#"["7","7","room:7","phx_close",{}]"#).await?;
    client.nothing_else().await?;
    cluster.finish()
}

/// Section 2, V1, and H2: a missing `vsn` is V1. This is also what PyPI `realtime` writes.
#[tokio::test]
async fn v1_writes_objects_without_join_ref_and_reads_join_ref_where_it_is_given() -> Result<()> {
    let (cluster, _) = one_gateway().await?;
    for path in [
        "/socket/websocket",
        "/socket/websocket?vsn=1.0.0",
        "/realtime/v1/websocket?apikey=k&vsn=1.0.0",
    ] {
        let mut client = Client::connect_to(cluster.listen("gw-1")?, path).await?;
        let reply = |topic: &str, reference: &str, payload: &str| {
            let value: Value = serde_json::from_str(payload)?;
            Ok::<_, anyhow::Error>(
                json!({"topic": topic, "event": "phx_reply", "payload": value, "ref": reference}),
            )
        };
        let mut ask = async |sent: Value, answers: Vec<Value>| {
            client.send(&sent.to_string()).await?;
            for answer in answers {
                let text = client.text().await?;
                let value: Value = serde_json::from_str(&text)?;
                ensure!(value == answer, "{sent}: expected {answer}\ngot {text}");
            }
            Ok::<_, anyhow::Error>(())
        };
        ask(
            json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "1"}),
            vec![reply("phoenix", "1", OK)?],
        )
        .await?;
        ask(
            json!({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": null}),
            vec![json!({"topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": null})],
        )
        .await?;
        ask(
            json!({"topic": "topics:v1", "event": "phx_join", "payload": {}, "ref": "2", "join_ref": "2"}),
            vec![reply("topics:v1", "2", OK)?],
        )
        .await?;
        ask(
            json!({"topic": "topics:v1", "event": "publish", "payload": ["e", {"n": 1}], "ref": "3", "join_ref": "2"}),
            vec![
                reply("topics:v1", "3", OK)?,
                json!({"topic": "topics:v1", "event": "e", "payload": {"n": 1}, "ref": null}),
            ],
        )
        .await?;
        ask(
            json!({"topic": "topics:v1", "event": "phx_leave", "payload": {}, "ref": "4"}),
            vec![
                reply("topics:v1", "4", OK)?,
                json!({"topic": "topics:v1", "event": "phx_close", "payload": {}, "ref": "2"}),
            ],
        )
        .await?;
    }
    cluster.finish()
}

/// V1 and V2 are members of one topic and see the same.
#[tokio::test]
async fn v1_and_v2_clients_share_a_topic() -> Result<()> {
    let (cluster, mut new) = one_gateway().await?;
    let mut old = Client::connect_to(cluster.listen("gw-1")?, "/socket/websocket?vsn=1.0.0").await?;
    new.join("1", "topics:both").await?;
    old.send(r#"{"topic":"topics:both","event":"phx_join","payload":{},"ref":"1"}"#)
        .await?;
    old.text().await?;
    new.ask(
        r#"["1","2","topics:both","publish",["e",{"n":1}]]"#,
        &format!(r#"["1","2","topics:both","phx_reply",{OK}]"#),
    )
    .await?;
    new.expect(r#"["1",null,"topics:both","e",{"n":1}]"#).await?;
    let got: Value = serde_json::from_str(&old.text().await?)?;
    ensure!(
        got == json!({"topic": "topics:both", "event": "e", "payload": {"n": 1}, "ref": null}),
        "{got}"
    );
    cluster.finish()
}

/// F1, F2, F4: what may come in binary and what it gets.
#[tokio::test]
async fn binary_messages_are_taken_as_the_contract_says() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    // A heartbeat in binary gets the text reply, with "" for what was absent.
    client
        .send_binary(&push("", "9", "phoenix", "heartbeat", b"{}"))
        .await?;
    client
        .expect(&format!(r#"[null,"9","phoenix","phx_reply",{OK}]"#))
        .await?;
    // A join in binary joins.
    client
        .send_binary(&push("1", "1", "room:bin", "phx_join", b"{}"))
        .await?;
    let reply = client.next().await?;
    let text = format!(r#"["1","1","room:bin","phx_reply",{OK}]"#);
    ensure!(
        matches!(reply, Frame::Text(found) if found == text),
        "the reply to a binary join"
    );
    // An absent join_ref is "", which is stale.
    client
        .send_binary(&push("", "2", "room:bin", "msg", &[1, 2, 255]))
        .await?;
    client.nothing_else().await?;
    // Kind 3 is Supabase's: bad_request here, and the connection stays.
    let meta: &[u8] = &[3, 1, 1, 8, 5, 0, 1];
    client
        .send_binary(&[meta, b"12room:binshout{\"a\":1}"].concat())
        .await?;
    client
        .expect(&format!(r#"["1","2","room:bin","phx_reply",{BAD_REQUEST}]"#))
        .await?;
    client.nothing_else().await?;
    cluster.finish()
}

/// Kind 0, from the client.
fn push(join_ref: &str, reference: &str, topic: &str, event: &str, data: &[u8]) -> Vec<u8> {
    let lengths = [join_ref, reference, topic, event].map(|field| field.len() as u8);
    [
        &[0][..],
        &lengths,
        join_ref.as_bytes(),
        reference.as_bytes(),
        topic.as_bytes(),
        event.as_bytes(),
        data,
    ]
    .concat()
}

/// C6.
#[tokio::test]
async fn a_ping_is_answered_with_its_payload() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    client.ping(b"are you there").await?;
    let pong = client.next().await?;
    ensure!(pong == Frame::Pong(b"are you there".to_vec()), "{pong:?}");
    client.nothing_else().await?;
    cluster.finish()
}

/// B1, B9, X6: a publish that is none hurts nobody, and neither does any other event.
#[tokio::test]
async fn a_bad_publish_gets_bad_request_and_nobody_else_notices() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    let mut bystander = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "topics:ab").await?;
    bystander.join("1", "topics:ab").await?;
    let long = format!(r#"["{}",{{}}]"#, "e".repeat(256));
    for payload in [
        r#"["event","str"]"#,
        r#"["event",[1]]"#,
        r#"["event",null]"#,
        r#"["event"]"#,
        r#"["event",{},1]"#,
        r#"[5,{}]"#,
        r#"["",{}]"#,
        r#""text""#,
        "null",
        "7",
        "{}",
        r#"{"event":"e"}"#,
        r#"{"event":"e","payload":[]}"#,
        r#"{"event":"e","payload":{},"unknown":1}"#,
        r#"["phx_close",{}]"#,
        r#"["phx_reply",{}]"#,
        r#"["chan_reply_3",{}]"#,
        r#"["gap",{}]"#,
        long.as_str(),
    ] {
        let answer = format!(r#"["1","2","topics:ab","phx_reply",{BAD_REQUEST}]"#);
        client
            .ask(&format!(r#"["1","2","topics:ab","publish",{payload}]"#), &answer)
            .await?;
    }
    for event in ["event", "phx_reply", "phx_close", "phx_error"] {
        let answer = format!(r#"["1","3","topics:ab","phx_reply",{BAD_REQUEST}]"#);
        client
            .ask(&format!(r#"["1","3","topics:ab","{event}",{{}}]"#), &answer)
            .await?;
    }
    client.nothing_else().await?;
    bystander.nothing_else().await?;
    // The channel is as good as before, and the object form publishes as well.
    client
        .ask(
            r#"["1","4","topics:ab","publish",{"event":"e","payload":{"n":1}}]"#,
            &format!(r#"["1","4","topics:ab","phx_reply",{OK}]"#),
        )
        .await?;
    for client in [&mut client, &mut bystander] {
        client.expect(r#"["1",null,"topics:ab","e",{"n":1}]"#).await?;
        client.nothing_else().await?;
    }
    cluster.finish()
}

/// X6: everyone but the sender.
#[tokio::test]
async fn a_publish_to_others_spares_its_sender() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    let mut other = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "topics:ab").await?;
    other.join("1", "topics:ab").await?;
    let publish = r#"["1","2","topics:ab","publish",{"event":"e","payload":{"n":1},"target":"others"}]"#;
    client
        .ask(publish, &format!(r#"["1","2","topics:ab","phx_reply",{OK}]"#))
        .await?;
    other.expect(r#"["1",null,"topics:ab","e",{"n":1}]"#).await?;
    client.nothing_else().await?;
    cluster.finish()
}

/// C3: a join's payload is the channel's business.
#[tokio::test]
async fn a_join_payload_may_be_null_or_text() -> Result<()> {
    let (cluster, mut client) = one_gateway().await?;
    for (number, payload) in ["null", r#""text""#, "[1]", r#"{"resume":false}"#]
        .iter()
        .enumerate()
    {
        client
            .ask(
                &format!(r#"["{number}","{number}","room:{number}","phx_join",{payload}]"#),
                &format!(r#"["{number}","{number}","room:{number}","phx_reply",{OK}]"#),
            )
            .await?;
    }
    cluster.finish()
}

/// C8, B5, hostile input 35: nothing said for 60 s; a heartbeat or a ping counts as something.
#[tokio::test]
async fn a_silent_client_is_closed_with_1001_after_60_s_and_one_with_heartbeats_stays() -> Result<()> {
    let (cluster, mut silent) = one_gateway().await?;
    let gateway = cluster.listen("gw-1")?;
    let mut beating = Client::connect(gateway).await?;
    let mut pinging = Client::connect(gateway).await?;
    // Never reads or writes again; it does not even see the close.
    let mut half_open = Client::connect(gateway).await?;
    half_open.join("1", "topics:half").await?;
    silent.join("1", "topics:ab").await?;
    let joined = std::time::Instant::now();
    let closed = loop {
        match silent.next_within(Duration::from_secs(10)).await {
            Ok(frame) => break frame,
            Err(_) => {
                ensure!(
                    joined.elapsed() < Duration::from_secs(70),
                    "still open after {:?}",
                    joined.elapsed()
                );
                beating.nothing_else().await.context("the one with heartbeats")?;
                pinging.ping(b"").await?;
                ensure!(
                    pinging.next().await? == Frame::Pong(Vec::new()),
                    "the one with pings"
                );
            }
        }
    };
    ensure!(closed == Frame::Closed(Some(1001)), "{closed:?}");
    let after = joined.elapsed();
    ensure!(
        after >= Duration::from_secs(59) && after <= Duration::from_secs(66),
        "closed after {after:?}"
    );
    wait::until("the half-open one to be gone", SOON, async || {
        let shown = cluster.json(&["topic", "members", "topics:half"]).await?;
        ensure!(shown["members"] == json!([]), "{shown}");
        Ok(())
    })
    .await?;
    beating.nothing_else().await?;
    pinging.nothing_else().await?;
    cluster.finish()
}

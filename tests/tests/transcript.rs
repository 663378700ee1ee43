//! The transcripts people will try first, byte for byte, over `ringcast dev`.

use anyhow::{Result, ensure};
use ringcast_tests::wait::{self, SOON};
use ringcast_tests::{Client, Cluster, http};
use serde_json::{Value, json};

const INVALID_NAME: &str =
    "invalid topic name, must be between 2 and 64 characters long and only contain alphanumeric characters";

/// How many members `topic members` shows.
async fn members(cluster: &Cluster, topic: &str) -> Result<usize> {
    let shown = cluster.json(&["topic", "members", topic]).await?;
    ensure!(shown["topic"] == topic, "{shown}");
    Ok(shown["members"].as_array().map_or(0, Vec::len))
}

/// DPS-T6, DPS5, O1: the seed's README.
#[tokio::test]
async fn two_terminals_on_two_gateways_see_the_seeds_transcript_byte_for_byte() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let mut first = Client::connect(cluster.listen("gw-1")?).await?;
    let mut second = Client::connect(cluster.listen("gw-2")?).await?;
    let joined = r#"["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]"#;
    first
        .ask(r#"["1", "1", "topics:matrix", "phx_join", {}]"#, joined)
        .await?;
    second
        .ask(r#"["1", "1", "topics:matrix", "phx_join", {}]"#, joined)
        .await?;

    let publish =
        r#"["1", "1", "topics:matrix", "publish", ["event", { "message": "red pill or blue pill?"}]]"#;
    second
        .ask(
            publish,
            r#"["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]"#,
        )
        .await?;
    for client in [&mut first, &mut second] {
        client
            .expect(r#"["1",null,"topics:matrix","event",{"message":"red pill or blue pill?"}]"#)
            .await?;
        client.nothing_else().await?;
    }
    cluster.finish()
}

/// DPS-T1, DPS-T4.
#[tokio::test]
async fn the_topic_has_exactly_those_members_that_joined_and_have_not_left() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let mut first = Client::connect(cluster.listen("gw-1")?).await?;
    let mut second = Client::connect(cluster.listen("gw-2")?).await?;
    first.join("1", "topics:crew").await?;
    ensure!(members(&cluster, "topics:crew").await? == 1, "one has joined");
    second.join("1", "topics:crew").await?;
    let shown = cluster.json(&["topic", "members", "topics:crew"]).await?;
    let mut gateways: Vec<&str> = shown["members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|member| member["gateway"].as_str())
        .collect();
    gateways.sort_unstable();
    ensure!(gateways == ["gw-1", "gw-2"], "{shown}");

    first.send(r#"["1","2","topics:crew","phx_leave",{}]"#).await?;
    first
        .expect(r#"["1","2","topics:crew","phx_reply",{"status":"ok","response":{}}]"#)
        .await?;
    let shrinks_to = async |count| {
        wait::until("the list to shrink", SOON, async || {
            match members(&cluster, "topics:crew").await? {
                found if found == count => Ok(()),
                found => anyhow::bail!("{found} members"),
            }
        })
        .await
    };
    shrinks_to(1).await?;
    drop(second);
    shrinks_to(0).await?;
    cluster.finish()
}

/// DPS-T2, DPS-T3: also across two gateways.
#[tokio::test]
async fn every_member_gets_exactly_one_copy_with_its_own_join_ref() -> Result<()> {
    let cluster = Cluster::dev(2, 2).await?;
    let (one, two) = (cluster.listen("gw-1")?, cluster.listen("gw-2")?);
    let mut clients = Vec::new();
    for (join_ref, gateway) in [("7", one), ("8", one), ("9", two), ("10", two)] {
        let mut client = Client::connect(gateway).await?;
        client.join(join_ref, "topics:zion").await?;
        clients.push((join_ref, client));
    }
    let publisher = &mut clients[0].1;
    publisher
        .send(r#"["7","11","topics:zion","publish",["greeting",{"a":[1,2.50,"\u00e9"]}]]"#)
        .await?;
    publisher
        .expect(r#"["7","11","topics:zion","phx_reply",{"status":"ok","response":{}}]"#)
        .await?;
    for (join_ref, client) in &mut clients {
        client
            .expect(&format!(
                r#"["{join_ref}",null,"topics:zion","greeting",{{"a":[1,2.50,"\u00e9"]}}]"#
            ))
            .await?;
        client.nothing_else().await?;
    }
    cluster.finish()
}

/// DPS3, DPS-T5, B4.
#[tokio::test]
async fn a_name_that_is_none_gets_the_seeds_answer() -> Result<()> {
    let cluster = Cluster::dev(1, 1).await?;
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    let too_long = "m".repeat(65);
    for name in ["s", too_long.as_str(), "matrix%$#", "", "ab\n", "a b", "é1"] {
        let topic = format!("topics:{name}");
        client
            .send(&json!(["1", "1", topic, "phx_join", {}]).to_string())
            .await?;
        let reply = json!(["1", "1", topic, "phx_reply", {"status": "error", "response": INVALID_NAME}]);
        let text = client.text().await?;
        ensure!(serde_json::from_str::<Value>(&text)? == reply, "{text}");
    }
    for name in ["ab", &"m".repeat(64)] {
        client.join("2", &format!("topics:{name}")).await?;
    }
    client.nothing_else().await?;
    cluster.finish()
}

/// O1: even when many publishes are under way, and whatever comes first from the owner.
#[tokio::test]
async fn a_publisher_on_topics_sees_each_reply_before_its_own_copy_and_copies_in_order() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "topics:o1").await?;
    let count = 200;
    for number in 1..=count {
        client
            .send(&format!(
                r#"["1","{number}","topics:o1","publish",["e",{{"n":{number}}}]]"#
            ))
            .await?;
    }
    let (mut replies, mut copies) = (0, 0);
    while copies < count {
        let frame: Value = serde_json::from_str(&client.text().await?)?;
        if frame[3] == "phx_reply" {
            replies += 1;
            ensure!(
                frame[1].as_str() == Some(replies.to_string().as_str()) && frame[4]["status"] == "ok",
                "{frame}"
            );
        } else {
            copies += 1;
            ensure!(
                frame == json!(["1", null, "topics:o1", "e", {"n": copies}]),
                "{frame}"
            );
        }
        ensure!(copies <= replies, "copy {copies} before its reply");
    }
    client.nothing_else().await?;
    cluster.finish()
}

/// O2, S17, S18: `room:*` is there without any configuration.
#[tokio::test]
async fn a_pusher_in_a_room_sees_its_own_copy_before_each_reply_and_join_ref_null() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let mut first = Client::connect(cluster.listen("gw-1")?).await?;
    let mut second = Client::connect(cluster.listen("gw-2")?).await?;
    first.join("3", "room:lobby").await?;
    second.join("4", "room:lobby").await?;
    for number in 1..=50 {
        second
            .send(&format!(
                r#"["4","{number}","room:lobby","new_msg",{{"n":{number}}}]"#
            ))
            .await?;
    }
    let (mut replies, mut copies) = (0, 0);
    while replies < 50 {
        let frame: Value = serde_json::from_str(&second.text().await?)?;
        if frame[3] == "phx_reply" {
            replies += 1;
            let reply = json!(["4", replies.to_string(), "room:lobby", "phx_reply", {"status": "ok", "response": {}}]);
            ensure!(frame == reply, "{frame}");
        } else {
            copies += 1;
            ensure!(
                frame == json!([null, null, "room:lobby", "new_msg", {"n": copies}]),
                "{frame}"
            );
        }
        ensure!(copies >= replies, "reply {replies} before its copy");
    }
    for number in 1..=50 {
        first
            .expect(&format!(r#"[null,null,"room:lobby","new_msg",{{"n":{number}}}]"#))
            .await?;
    }
    first.nothing_else().await?;
    second.nothing_else().await?;
    cluster.finish()
}

/// DPS12: what a backend publishes over HTTP or a person by the command line reaches members with their join_ref.
#[tokio::test]
async fn a_publish_by_http_or_by_the_command_line_reaches_every_member() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let mut first = Client::connect(cluster.listen("gw-1")?).await?;
    let mut second = Client::connect(cluster.listen("gw-2")?).await?;
    first.join("1", "topics:matrix").await?;
    second.join("2", "topics:matrix").await?;
    let body = r#"{"event":"event","payload":{"from":"http"}}"#;
    let answer = http::post(cluster.listen("gw-2")?, "/api/topics/topics:matrix/publish", body).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let by_cli = cluster
        .cli(&["topic", "publish", "topics:matrix", "event", r#"{"from":"cli"}"#])
        .await?;
    ensure!(by_cli.code == 0, "{by_cli:?}");
    for (client, join_ref) in [(&mut first, 1), (&mut second, 2)] {
        client
            .expect(&format!(
                r#"["{join_ref}",null,"topics:matrix","event",{{"from":"http"}}]"#
            ))
            .await?;
        client
            .expect(&format!(
                r#"["{join_ref}",null,"topics:matrix","event",{{"from":"cli"}}]"#
            ))
            .await?;
        client.nothing_else().await?;
    }
    for (path, body) in [
        ("/api/topics/topics:matrix/publish", "no json"),
        (
            "/api/topics/topics:matrix/publish",
            r#"{"event":"e","payload":[1]}"#,
        ),
        ("/api/topics/topics:matrix/publish", r#"{"payload":{}}"#),
    ] {
        let answer = http::post(cluster.listen("gw-1")?, path, body).await?;
        ensure!((400..500).contains(&answer.status), "{path} {body}: {answer:?}");
        let reason: Value = serde_json::from_str(&answer.body)?;
        ensure!(reason["reason"].is_string(), "{path} {body}: {answer:?}");
    }
    first.nothing_else().await?;
    cluster.finish()
}

/// `dev` ends within 2 s of Ctrl-C, even with clients, and tells them that they may come back (D2, C10).
#[tokio::test]
async fn dev_ends_within_two_seconds_and_sends_its_clients_away_with_1012() -> Result<()> {
    let mut cluster = Cluster::dev(3, 2).await?;
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "topics:matrix").await?;
    let ended = cluster
        .terminate("dev", std::time::Duration::from_secs(2))
        .await?;
    ensure!(ended.0 == 0, "exit code {}", ended.0);
    client.expect_close(1012).await?;
    cluster.finish()
}

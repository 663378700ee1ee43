//! Ids, positions and targets as hostile and as honest clients send them, over real processes: promises 50 to 52, X1, X2, X6.

use anyhow::{Context, Result, ensure};
use ringcast_tests::{Client, Cluster, http};
use serde_json::{Value, json};

const TOPIC: &str = "topics:vault";

/// A client whose channel has positions.
async fn resuming(cluster: &Cluster, gateway: &str, topic: &str) -> Result<(Client, Value)> {
    let mut client = Client::connect(cluster.listen(gateway)?).await?;
    let reply = join(&mut client, "1", topic, &json!(true)).await?;
    ensure!(reply["status"] == "ok", "{reply}");
    Ok((client, reply["response"].clone()))
}

/// Joins and gives what the reply says.
async fn join(client: &mut Client, join_ref: &str, topic: &str, resume: &Value) -> Result<Value> {
    let join = json!([join_ref, join_ref, topic, "phx_join", {"resume": resume}]);
    client.send(&join.to_string()).await?;
    reply(client, join_ref, &[]).await
}

/// Reads on to the reply to `reference`; only the `expected` frames may come before.
async fn reply(client: &mut Client, reference: &str, expected: &[String]) -> Result<Value> {
    let mut expected = expected.iter();
    loop {
        let text = client.text().await?;
        let frame: Value = serde_json::from_str(&text).context("a frame")?;
        if frame[1] == reference && frame[3] == "phx_reply" {
            return Ok(frame[4].clone());
        }
        ensure!(
            expected.next() == Some(&text),
            "waiting for the reply to {reference}, got {text}"
        );
    }
}

/// Publishes this payload, as it stands.
async fn publish(client: &mut Client, reference: &str, topic: &str, payload: &str) -> Result<Value> {
    client
        .send(&format!(
            r#"["1","{reference}",{},"publish",{payload}]"#,
            json!(topic)
        ))
        .await?;
    reply(client, reference, &[]).await
}

/// 50.
#[tokio::test]
async fn positions_that_are_none_are_refused_and_the_next_join_is_served() -> Result<()> {
    let cluster = Cluster::dev(1, 1).await?;
    let (mut bystander, _) = resuming(&cluster, "gw-1", "topics:quiet").await?;
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    let epoch_too_long = "e".repeat(10_240);
    let positions = [
        r#"{"epoch":"e","offset":-1}"#,
        r#"{"epoch":"e","offset":9007199254740992}"#,
        r#"{"epoch":"e","offset":9007199254740993}"#,
        r#"{"epoch":"e","offset":18446744073709551616}"#,
        r#"{"epoch":"e","offset":1.5}"#,
        r#"{"epoch":"e","offset":1e400}"#,
        r#"{"epoch":"e","offset":"1"}"#,
        r#"{"epoch":"e","offset":null}"#,
        r#"{"epoch":"e"}"#,
        r#"{"offset":1}"#,
        r#"{"epoch":null,"offset":1}"#,
        r#"{"epoch":"","offset":1}"#,
        r#"{"epoch":"a b","offset":1}"#,
        r#"{"epoch":"\u0000","offset":1}"#,
        r#"{"epoch":{"epoch":"e"},"offset":1}"#,
        &format!(r#"{{"epoch":"{epoch_too_long}","offset":1}}"#),
        "1",
        "[]",
        r#""true""#,
    ];
    for (number, position) in positions.iter().enumerate() {
        let reference = format!("b{number}");
        client
            .send(&format!(
                r#"["{reference}","{reference}","{TOPIC}","phx_join",{{"resume":{position}}}]"#
            ))
            .await?;
        let said = reply(&mut client, &reference, &[]).await?;
        ensure!(
            said["status"] == "error" && said["response"]["reason"] == "bad_request",
            "{position}: {said}"
        );
    }
    let said = join(&mut client, "1", TOPIC, &json!(true)).await?;
    ensure!(
        said["status"] == "ok" && said["response"]["offset"] == 0,
        "{said}"
    );
    client.nothing_else().await?;
    bystander.nothing_else().await?;
    cluster.finish()
}

/// X2: every row that needs no lost history.
#[tokio::test]
async fn a_position_is_recovered_where_it_is_known_and_reset_to_the_head_where_it_is_not() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let (mut writer, at) = resuming(&cluster, "gw-1", TOPIC).await?;
    ensure!(at["offset"] == 0 && at["recovered"] == false, "{at}");
    let epoch = at["epoch"].as_str().context("epoch")?.to_owned();
    for number in 1..=5 {
        let said = publish(
            &mut writer,
            &format!("p{number}"),
            TOPIC,
            &format!(r#"["e",{{"n":{number}}}]"#),
        )
        .await?;
        ensure!(
            said["response"] == json!({"epoch": epoch, "offset": number}),
            "{said}"
        );
        writer
            .expect(&format!(r#"["1","@{number}","{TOPIC}","e",{{"n":{number}}}]"#))
            .await?;
    }
    let (_, other) = resuming(&cluster, "gw-2", "topics:other").await?;
    let head =
        |recovered: bool, offset: u64| json!({"epoch": epoch, "offset": offset, "recovered": recovered});
    let mut reader = Client::connect(cluster.listen("gw-2")?).await?;
    for (number, (resume, answer, missed)) in [
        (json!(true), head(false, 5), 6),                          // X2a
        (json!({"epoch": epoch, "offset": 5}), head(true, 5), 6),  // X2b
        (json!({"epoch": epoch, "offset": 2}), head(true, 2), 3),  // X2c
        (json!({"epoch": epoch, "offset": 0}), head(true, 0), 1),  // X2c, from the beginning
        (json!({"epoch": epoch, "offset": 6}), head(false, 5), 6), // X2e
        (
            json!({"epoch": epoch, "offset": 9007199254740991_u64}),
            head(false, 5),
            6,
        ),
        (json!({"epoch": other["epoch"], "offset": 2}), head(false, 5), 6), // X2f: another topic's
        (
            json!({"epoch": "made-up_1", "offset": 3, "x": []}),
            head(false, 5),
            6,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let join_ref = format!("j{number}");
        let said = join(&mut reader, &join_ref, TOPIC, &resume).await?;
        ensure!(
            said == json!({"status": "ok", "response": answer}),
            "{resume}: {said}"
        );
        for missed in missed..=5 {
            reader
                .expect(&format!(
                    r#"["{join_ref}","@{missed}","{TOPIC}","e",{{"n":{missed}}}]"#
                ))
                .await
                .with_context(|| resume.to_string())?;
        }
        reader.nothing_else().await.with_context(|| resume.to_string())?;
        reader
            .send(&format!(r#"["{join_ref}","leave","{TOPIC}","phx_leave",{{}}]"#))
            .await?;
        reply(&mut reader, "leave", &[]).await?;
        reader
            .expect(&format!(
                r#"["{join_ref}","{join_ref}","{TOPIC}","phx_close",{{}}]"#
            ))
            .await?;
    }
    // X2g: a topic that never was.
    let never = join(
        &mut reader,
        "n",
        "topics:never",
        &json!({"epoch": epoch, "offset": 3}),
    )
    .await?;
    let never = &never["response"];
    ensure!(
        never["recovered"] == false && never["offset"] == 0 && never["epoch"] != epoch.as_str(),
        "{never}"
    );
    cluster.finish()
}

/// 51, P6: over both gateways, and by a client that did not ask for positions.
#[tokio::test]
async fn an_id_that_comes_again_gets_the_first_result_whatever_its_body_and_nothing_is_delivered()
-> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let (mut first, at) = resuming(&cluster, "gw-1", TOPIC).await?;
    let (mut second, _) = resuming(&cluster, "gw-2", TOPIC).await?;
    let mut stock = Client::connect(cluster.listen("gw-2")?).await?;
    stock.join("1", TOPIC).await?;
    let epoch = &at["epoch"];

    let body = |text: &str| format!(r#"{{"event":"e","payload":{{"text":"{text}"}},"msg_id":"a"}}"#);
    let said = publish(&mut first, "2", TOPIC, &body("first")).await?;
    ensure!(
        said == json!({"status": "ok", "response": {"epoch": epoch, "offset": 1}}),
        "{said}"
    );
    for client in [&mut first, &mut second] {
        client
            .expect(&format!(r#"["1","@1","{TOPIC}","e",{{"text":"first"}}]"#))
            .await?;
    }
    stock
        .expect(&format!(r#"["1",null,"{TOPIC}","e",{{"text":"first"}}]"#))
        .await?;
    let dup = json!({"status": "ok", "response": {"epoch": epoch, "offset": 1, "dup": true}});
    for client in [&mut second, &mut first] {
        let said = publish(client, "3", TOPIC, &body("another body")).await?;
        ensure!(said == dup, "{said}");
    }
    let others = r#"{"event":"x","payload":{},"msg_id":"a","target":"others"}"#;
    ensure!(publish(&mut second, "4", TOPIC, others).await? == dup);
    let said = publish(&mut stock, "5", TOPIC, &body("stock")).await?;
    ensure!(said == json!({"status": "ok", "response": {}}), "{said}");

    // The ids of another topic are others.
    let said = join(&mut first, "1", "topics:other", &json!(true)).await?;
    ensure!(said["status"] == "ok", "{said}");
    let said = publish(&mut first, "6", "topics:other", &body("elsewhere")).await?;
    ensure!(said["response"]["dup"].is_null(), "{said}");
    first
        .expect(r#"["1","@1","topics:other","e",{"text":"elsewhere"}]"#)
        .await?;

    // The sequence has no hole for what was a repeat.
    let said = publish(&mut first, "7", TOPIC, r#"["e",{}]"#).await?;
    ensure!(said["response"]["offset"] == 2, "{said}");
    for client in [&mut first, &mut second] {
        client
            .expect(&format!(r#"["1","@2","{TOPIC}","e",{{}}]"#))
            .await?;
        client.nothing_else().await?;
    }
    cluster.finish()
}

/// 52, B1.
#[tokio::test]
async fn ids_and_targets_that_are_none_are_refused_and_nobody_else_notices() -> Result<()> {
    let cluster = Cluster::dev(1, 1).await?;
    let (mut client, _) = resuming(&cluster, "gw-1", TOPIC).await?;
    let (mut bystander, _) = resuming(&cluster, "gw-1", TOPIC).await?;
    let id = |length: usize| {
        format!(
            r#"{{"event":"e","payload":{{}},"msg_id":"{}"}}"#,
            "i".repeat(length)
        )
    };
    let with = |more: &str| format!(r#"{{"event":"e","payload":{{}},{more}}}"#);
    let names = |count: usize| format!(r#""target":{{"members":{}}}"#, json!(vec!["n"; count]));
    for payload in [
        id(0),
        id(129),
        id(1024),
        with(r#""msg_id":1"#),
        with(r#""msg_id":null"#),
        with(r#""msg_id":["a"]"#),
        with(r#""msg_id":"a","msg_id":"b""#),
        with(r#""msgid":"a""#),
        with(r#""target":null"#),
        with(r#""target":{"members":"n"}"#),
        with(r#""target":{"members":[1]}"#),
        with(r#""target":{"members":[""]}"#),
        with(r#""target":{"members":["n"],"x":1}"#),
        with(&names(0)),
        with(&names(101)),
        with(&format!(r#""target":{{"members":["{}"]}}"#, "n".repeat(256))),
        r#"{"event":"e"}"#.to_owned(),
        r#"{"payload":{}}"#.to_owned(),
        r#"{"event":"","payload":{}}"#.to_owned(),
        r#"{"event":"phx_close","payload":{}}"#.to_owned(),
        r#"{"event":"gap","payload":{}}"#.to_owned(),
        r#"{"event":"e","payload":[]}"#.to_owned(),
        "null".to_owned(),
    ] {
        let said = publish(&mut client, "2", TOPIC, &payload).await?;
        let refused = json!({"status": "error", "response": {"reason": "bad_request", "code": 4000, "retryable": false}});
        ensure!(said == refused, "{payload}: {said}");
    }
    // Not open to clients here, and one that is open nowhere.
    for target in [
        r#""target":"one""#,
        r#""target":{"members":["n"]}"#,
        r#""target":"everyone""#,
    ] {
        let said = publish(&mut client, "2", TOPIC, &with(target)).await?;
        let refused = json!({"status": "error", "response": {"reason": "unauthorized", "code": 4030, "retryable": false}});
        ensure!(said == refused, "{target}: {said}");
    }
    let said = publish(&mut client, "3", TOPIC, &id(128)).await?;
    ensure!(said["response"]["offset"] == 1, "{said}");
    for client in [&mut client, &mut bystander] {
        client
            .expect(&format!(r#"["1","@1","{TOPIC}","e",{{}}]"#))
            .await?;
        client.nothing_else().await?;
    }
    cluster.finish()
}

/// X6's table, `one` and `members`: the server may name any target, over all gateways.
#[tokio::test]
async fn one_goes_to_any_one_member_and_members_to_those_named_wherever_they_are() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let route = format!("/api/topics/{TOPIC}/publish");
    let gateway = cluster.listen("gw-2")?;
    let post = async |target: Value| -> Result<Value> {
        let body = json!({"event": "job", "payload": {}, "target": target});
        let answer = http::post(gateway, &route, &body.to_string()).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(serde_json::from_str(&answer.body)?)
    };
    let mut members = Vec::new();
    for gateway in ["gw-1", "gw-2", "gw-1", "gw-2"] {
        let mut client = Client::connect(cluster.listen(gateway)?).await?;
        let said = join(&mut client, "1", TOPIC, &json!(true)).await?;
        members.push((client, said["response"]["epoch"].clone(), 0));
    }
    let epoch = members[0].1.clone();
    // So that everyone is somebody's choice but for one run in a million million.
    const JOBS: usize = 120;
    for _ in 0..JOBS {
        let said = post(json!("one")).await?;
        ensure!(
            said == json!({"epoch": epoch, "offset": null, "matched": 1}),
            "{said}"
        );
    }
    let job = format!(r#"["1",null,"{TOPIC}","job",{{}}]"#);
    // What is sent to all comes after what was sent before it.
    let said = post(json!("all")).await?;
    ensure!(said == json!({"epoch": epoch, "offset": 1}), "{said}");
    let all = format!(r#"["1","@1","{TOPIC}","job",{{}}]"#);
    for (client, _, jobs) in &mut members {
        loop {
            match client.text().await? {
                text if text == job => *jobs += 1,
                text if text == all => break,
                text => anyhow::bail!("got {text}"),
            }
        }
    }
    let jobs: Vec<usize> = members.iter().map(|(_, _, jobs)| *jobs).collect();
    ensure!(
        jobs.iter().sum::<usize>() == JOBS && jobs.iter().all(|jobs| *jobs > 0),
        "{jobs:?}"
    );

    let shown = cluster.json(&["topic", "members", TOPIC]).await?;
    let mut ids: Vec<(String, String)> = Vec::new();
    for member in shown["members"].as_array().context("members")? {
        let part = |key: &str| member[key].as_str().map(str::to_owned).context("a member");
        ids.push((part("gateway")?, part("id")?));
    }
    ids.sort();
    ensure!(ids.len() == 4, "{shown}");
    // One of each gateway, and one who is not there.
    let said = post(json!({"members": [ids[0].1, ids[3].1, "nobody", ids[0].1]})).await?;
    ensure!(
        said == json!({"epoch": epoch, "offset": null, "matched": 2}),
        "{said}"
    );
    let said = post(json!("all")).await?;
    ensure!(said["offset"] == 2, "{said}");
    let all = format!(r#"["1","@2","{TOPIC}","job",{{}}]"#);
    let mut named = Vec::new();
    for (client, ..) in &mut members {
        let first = client.text().await?;
        named.push(first == job);
        if first == job {
            client.expect(&all).await?;
        } else {
            ensure!(first == all, "got {first}");
        }
        client.nothing_else().await?;
    }
    ensure!(
        named.iter().filter(|named| **named).count() == 2 && named[0] != named[2] && named[1] != named[3],
        "{named:?}"
    );

    // Without an offset there is nothing to replay.
    let mut late = Client::connect(cluster.listen("gw-1")?).await?;
    let said = join(&mut late, "1", TOPIC, &json!({"epoch": epoch, "offset": 0})).await?;
    ensure!(said["response"]["recovered"] == true, "{said}");
    for offset in [1, 2] {
        late.expect(&format!(r#"["1","@{offset}","{TOPIC}","job",{{}}]"#))
            .await?;
    }
    late.nothing_else().await?;
    cluster.finish()
}

/// X6: nobody there.
#[tokio::test]
async fn one_of_none_is_nobody_and_says_so() -> Result<()> {
    let cluster = Cluster::dev(1, 1).await?;
    let gateway = cluster.listen("gw-1")?;
    let body = r#"{"event":"job","payload":{},"target":"one"}"#;
    let answer = http::post(gateway, "/api/topics/topics:desert/publish", body).await?;
    let said: Value = serde_json::from_str(&answer.body)?;
    ensure!(
        answer.status == 200 && said["matched"] == 0 && said["offset"].is_null(),
        "{} {said}",
        answer.status
    );
    cluster.finish()
}

/// A member that asked for positions and one that did not, in one topic: to the second nothing is new.
#[tokio::test]
async fn who_did_not_ask_sees_phoenix_beside_who_did() -> Result<()> {
    let cluster = Cluster::dev(2, 2).await?;
    let (mut resuming, at) = resuming(&cluster, "gw-1", TOPIC).await?;
    let mut stock = Client::connect(cluster.listen("gw-1")?).await?;
    stock.join("7", TOPIC).await?;
    stock
        .ask(
            &format!(r#"["7","8","{TOPIC}","publish",{{"event":"e","payload":{{"epoch":1}},"msg_id":"x"}}]"#),
            &format!(r#"["7","8","{TOPIC}","phx_reply",{{"status":"ok","response":{{}}}}]"#),
        )
        .await?;
    stock
        .expect(&format!(r#"["7",null,"{TOPIC}","e",{{"epoch":1}}]"#))
        .await?;
    resuming
        .expect(&format!(r#"["1","@1","{TOPIC}","e",{{"epoch":1}}]"#))
        .await?;
    stock
        .ask(
            &format!(r#"["7","9","{TOPIC}","publish",{{"event":"e","payload":{{}},"target":"one"}}]"#),
            &format!(
                r#"["7","9","{TOPIC}","phx_reply",{{"status":"error","response":{{"reason":"unauthorized"}}}}]"#
            ),
        )
        .await?;
    let said = publish(&mut resuming, "3", TOPIC, r#"["e",{}]"#).await?;
    ensure!(
        said == json!({"status": "ok", "response": {"epoch": at["epoch"], "offset": 2}}),
        "{said}"
    );
    stock.expect(&format!(r#"["7",null,"{TOPIC}","e",{{}}]"#)).await?;
    resuming
        .expect(&format!(r#"["1","@2","{TOPIC}","e",{{}}]"#))
        .await?;
    ensure!(stock.close(Some(1000)).await? == Some(1000));
    ensure!(matches!(resuming.close(None).await?, None | Some(1000 | 1005)));
    cluster.finish()
}

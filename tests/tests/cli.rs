//! The command line as scripts depend on it: JSON shapes, exit codes, where what is printed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::{Client, Cluster, cli, process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// A port where nobody listens: reserved, never bound.
fn nobody() -> Result<(ringcast_tests::ports::Port, String)> {
    let port = ringcast_tests::ports::Port::reserve()?;
    let url = format!("http://{}", port.address());
    Ok((port, url))
}

#[tokio::test]
async fn ring_status_tells_version_slots_and_every_nodes_share() -> Result<()> {
    let cluster = Cluster::start(Shape::default()).await?;
    let status = cluster.json(&["ring", "status"]).await?;
    ensure!(
        status["version"] == 1 && status["slots"] == 1024 && status["replicas"] == 1,
        "{status}"
    );
    ensure!(status["moves"] == json!([]), "{status}");
    let nodes = status["nodes"].as_array().context("nodes")?;
    let ids: Vec<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    ensure!(ids == ["ts-1", "ts-2", "ts-3"], "{status}");
    let (mut owned, mut share) = (0, 0.0);
    for node in nodes {
        ensure!(
            node["state"] == "up" && node["weight"] == 1.0 && node["slots_replica"] == 0,
            "{node}"
        );
        let slots = node["slots_owned"].as_u64().context("slots_owned")?;
        // ceil(1.10 x 1024 / 3)
        ensure!(slots > 0 && slots <= 376, "{node}");
        let of_all = node["share"].as_f64().context("share")?;
        ensure!((of_all - slots as f64 / 1024.0).abs() < 0.001, "{node}");
        owned += slots;
        share += of_all;
    }
    ensure!(owned == 1024 && (share - 1.0).abs() < 0.01, "{status}");

    // The table says the same to people, and the global flags may stand before the command, too.
    let table = cluster.cli(&["ring", "status"]).await?;
    ensure!(
        table.code == 0 && ids.iter().all(|id| table.stdout.contains(id)),
        "{table:?}"
    );
    let before = cli::run(&["--store", cluster.store(), "-o", "json", "ring", "status"]).await?;
    ensure!(before.json()? == status, "{before:?}");
    cluster.finish()
}

#[tokio::test]
async fn ring_owner_tells_slot_owner_and_epoch_and_all_nodes_agree_on_it() -> Result<()> {
    let cluster = Cluster::start(Shape::default()).await?;
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "topics:matrix").await?;
    let owner = cluster.json(&["ring", "owner", "topics:matrix"]).await?;
    ensure!(
        owner["topic"] == "topics:matrix" && owner["owner_epoch"] == 1 && owner["replica"].is_null(),
        "{owner}"
    );
    ensure!(owner["slot"].as_u64().is_some_and(|slot| slot < 1024), "{owner}");
    ensure!(
        owner["owner"]
            .as_str()
            .is_some_and(|owner| owner.starts_with("ts-")),
        "{owner}"
    );
    // The owner by the ring is the one that counts the member.
    let name = owner["owner"].as_str().unwrap_or_default();
    let members = cluster.metrics(name).await?.sum("ringcast_members", &[]);
    ensure!(members == 1.0, "{name} counts {members} members");
    cluster.finish()
}

#[tokio::test]
async fn node_ls_tells_every_node_of_the_cluster_and_its_state() -> Result<()> {
    let mut cluster = Cluster::start(Shape {
        topic_servers: 2,
        ..Shape::default()
    })
    .await?;
    let nodes = cluster.json(&["node", "ls"]).await?;
    let text = nodes.to_string();
    for id in ["ts-1", "ts-2", "gw-1", "gw-2"] {
        ensure!(text.contains(&format!("\"{id}\"")), "{text}");
    }
    cluster.kill("ts-2")?;
    let (down, _) = ringcast_tests::wait::until("ts-2 to be down", Duration::from_secs(6), async || {
        let status = cluster.json(&["ring", "status"]).await?;
        let node = status["nodes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|node| node["id"] == "ts-2")
            .cloned();
        let node = node.context("ts-2 stays in the ring")?;
        ensure!(node["state"] == "down", "{node}");
        Ok(node)
    })
    .await?;
    ensure!(down["weight"] == 1.0, "{down}");
    cluster.finish()
}

/// A topic server that comes after birth registers, and owns nothing until a plan adds it.
#[tokio::test]
async fn a_late_topic_server_joins_a_dev_cluster_and_owns_nothing() -> Result<()> {
    let cluster = Cluster::dev(1, 1).await?;
    let ports = [
        ringcast_tests::ports::Port::reserve()?,
        ringcast_tests::ports::Port::reserve()?,
    ];
    let [rpc, admin] = ports.each_ref().map(|port| port.address().to_string());
    let arguments = [
        "topic-server",
        "--id",
        "ts-9",
        "--store",
        cluster.store(),
        "--rpc-listen",
        &rpc,
        "--admin-listen",
        &admin,
    ];
    let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    let _late = process::Process::start("ts-9", cluster.folder(), arguments)?;
    ringcast_tests::wait::until("ts-9 to be joining", ringcast_tests::wait::SOON, async || {
        let status = cluster.json(&["ring", "status"]).await?;
        let node = status["nodes"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|node| node["id"] == "ts-9")
            .cloned();
        let node = node.context("ts-9 is not there yet")?;
        ensure!(node["state"] == "joining" && node["slots_owned"] == 0, "{node}");
        Ok(())
    })
    .await?;
    cluster.finish()
}

#[tokio::test]
async fn topic_ls_show_and_members_tell_what_is_there() -> Result<()> {
    let cluster = Cluster::dev(3, 2).await?;
    let mut first = Client::connect(cluster.listen("gw-1")?).await?;
    let mut second = Client::connect(cluster.listen("gw-2")?).await?;
    for topic in ["topics:aa", "topics:ab", "room:x"] {
        first.join("1", topic).await?;
    }
    second.join("1", "topics:aa").await?;
    second
        .ask(
            r#"["1","2","topics:aa","publish",["e",{"n":1}]]"#,
            r#"["1","2","topics:aa","phx_reply",{"status":"ok","response":{}}]"#,
        )
        .await?;
    let names = |listed: &Value| -> Vec<String> {
        let topics = listed["topics"].as_array().into_iter().flatten();
        topics
            .filter_map(|topic| topic["topic"].as_str().map(str::to_owned))
            .collect()
    };
    let all = cluster.json(&["topic", "ls"]).await?;
    ensure!(names(&all) == ["room:x", "topics:aa", "topics:ab"], "{all}");
    let some = cluster.json(&["topic", "ls", "--prefix", "topics:"]).await?;
    ensure!(names(&some) == ["topics:aa", "topics:ab"], "{some}");
    let one = cluster.json(&["topic", "ls", "--limit", "1"]).await?;
    ensure!(names(&one).len() == 1, "{one}");

    let shown = cluster.json(&["topic", "show", "topics:aa"]).await?;
    ensure!(
        shown["topic"] == "topics:aa" && shown["offset"] == 1 && shown["members"] == 2,
        "{shown}"
    );
    ensure!(
        shown["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()),
        "{shown}"
    );
    let members = cluster.json(&["topic", "members", "topics:aa"]).await?;
    let list = members["members"].as_array().context("members")?;
    ensure!(members["topic"] == "topics:aa" && list.len() == 2, "{members}");
    // The socket id: a unique positive integer as a string (DPS2).
    let mut ids: Vec<&str> = list.iter().filter_map(|member| member["id"].as_str()).collect();
    ids.dedup();
    ensure!(
        ids.len() == 2 && ids.iter().all(|id| id.parse::<u64>().is_ok_and(|id| id > 0)),
        "{members}"
    );
    let nobody = cluster.json(&["topic", "members", "topics:never"]).await?;
    ensure!(
        nobody == json!({"topic": "topics:never", "members": []}),
        "{nobody}"
    );
    cluster.finish()
}

#[tokio::test]
async fn topic_tap_prints_a_json_line_for_each_publication() -> Result<()> {
    let cluster = Cluster::dev(3, 1).await?;
    let arguments = [
        "topic",
        "tap",
        "topics:matrix",
        "-o",
        "json",
        "--store",
        cluster.store(),
    ];
    let mut tap = tokio::process::Command::from(process::command(&arguments)?)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(tap.stdout.take().context("stdout")?).lines();
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "topics:matrix").await?;
    // A tap begins some time after its process; publications are numbered, and it must show all from its first on.
    let mut first = None;
    for number in 1..=500 {
        let publish = format!(r#"["1","{number}","topics:matrix","publish",["event",{{"n":{number}}}]]"#);
        client
            .ask(
                &publish,
                &format!(r#"["1","{number}","topics:matrix","phx_reply",{{"status":"ok","response":{{}}}}]"#),
            )
            .await?;
        client
            .expect(&format!(r#"["1",null,"topics:matrix","event",{{"n":{number}}}]"#))
            .await?;
        if let Ok(line) = tokio::time::timeout(Duration::from_millis(20), lines.next_line()).await {
            first = Some((number, line?.context("the tap ended")?));
            break;
        }
    }
    let (number, line) = first.context("the tap showed none of 500 publications")?;
    let value: Value = serde_json::from_str(&line)?;
    let begin = value["payload"]["n"]
        .as_u64()
        .with_context(|| format!("no payload in {line}"))?;
    ensure!(
        value["event"] == "event" && value["offset"] == begin && begin <= number,
        "{line}"
    );
    for expected in begin + 1..=number {
        let line = tokio::time::timeout(Duration::from_secs(5), lines.next_line())
            .await??
            .context("the tap ended")?;
        let value: Value = serde_json::from_str(&line)?;
        ensure!(
            value["payload"]["n"] == expected && value["offset"] == expected,
            "{line}"
        );
    }
    tap.kill().await?;
    cluster.finish()
}

#[tokio::test]
async fn health_exits_0_when_ready_and_1_when_not() -> Result<()> {
    let mut cluster = Cluster::start(Shape {
        topic_servers: 1,
        gateways: 1,
        ..Shape::default()
    })
    .await?;
    for name in ["coordinator", "ts-1", "gw-1"] {
        let url = format!("http://{}", cluster.admin(name)?);
        let output = cli::run(&["health", &url]).await?;
        ensure!(output.code == 0, "{name}: {output:?}");
    }
    let url = format!("http://{}", cluster.admin("ts-1")?);
    cluster.kill("ts-1")?;
    ensure!(
        cli::run(&["health", &url]).await?.code == 1,
        "a dead node is not healthy"
    );
    // No owner for any slot: the gateway is not ready, and says why.
    let gateway = cluster.admin("gw-1")?;
    let (body, _) = ringcast_tests::wait::until(
        "the gateway to be not ready",
        Duration::from_secs(6),
        async || {
            let answer = ringcast_tests::http::get(gateway, "/readyz").await?;
            ensure!(answer.status == 503, "{answer:?}");
            Ok(answer.body)
        },
    )
    .await?;
    ensure!(!body.trim().is_empty(), "no reason is given");
    ensure!(
        cli::run(&["health", &format!("http://{gateway}")]).await?.code == 1,
        "not ready"
    );
    ensure!(
        ringcast_tests::http::get(gateway, "/healthz").await?.status == 200,
        "alive all the same"
    );
    cluster.finish()
}

#[tokio::test]
async fn without_a_store_a_command_exits_1_and_names_it() -> Result<()> {
    let (_port, url) = nobody()?;
    for command in [
        &["ring", "status"][..],
        &["ring", "owner", "topics:ab"],
        &["node", "ls"],
        &["topic", "ls"],
        &["topic", "members", "topics:ab"],
        &["topic", "publish", "topics:ab", "e", "{}"],
    ] {
        let output = cli::run(&[command, &["--store", &url]].concat()).await?;
        ensure!(output.code == 1, "{command:?}: exit code {}", output.code);
        ensure!(output.stdout.is_empty(), "{command:?}: printed {}", output.stdout);
        ensure!(
            output.stderr.contains(url.trim_start_matches("http://")),
            "{command:?}: {}",
            output.stderr
        );
        ensure!(
            !output.stderr.contains("panicked"),
            "{command:?}: {}",
            output.stderr
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_command_line_exits_2_and_help_exits_0() -> Result<()> {
    for arguments in [
        &["ring"][..],
        &["ring", "owner"],
        &["nothing"],
        &["ring", "status", "--no-such-flag"],
        &["ring", "status", "-o", "xml"],
        &["topic", "publish", "topics:ab", "e", "no json"],
        &["gateway", "--id", "not/an/id"],
        &["gateway", "--id", "gw-1", "--listen", "nonsense"],
    ] {
        let output = cli::run(arguments).await?;
        ensure!(
            output.code == 2,
            "{arguments:?}: exit code {}: {}",
            output.code,
            output.stderr
        );
        ensure!(output.stdout.is_empty(), "{arguments:?}: {}", output.stdout);
    }
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["ring", "status", "--help"],
        &["gateway", "--help"],
    ] {
        let output = cli::run(arguments).await?;
        ensure!(
            output.code == 0 && !output.stdout.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = cli::run(&["completions", shell]).await?;
        ensure!(
            output.code == 0 && output.stdout.contains("ringcast"),
            "{shell}: {output:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn config_check_exits_0_for_a_good_file_and_1_with_the_line_for_a_bad_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let good = folder.path().join("good.toml");
    std::fs::write(
        &good,
        "listen = \"127.0.0.1:4000\"\n[limits]\nprofile = \"bench\"\n[origin]\nallow = [\"https://example.com\"]\n\
         [[channel]]\npattern = \"chat:*\"\nclient_events = \"others\"\n",
    )?;
    let output = cli::run(&["config", "check", &good.to_string_lossy()]).await?;
    ensure!(output.code == 0, "{output:?}");
    for (name, text, words) in [
        ("syntax.toml", "listen = \n", &["1"][..]),
        ("type.toml", "\nlisten = 7\n", &["2", "listen"]),
        (
            "value.toml",
            "[limits]\nprofile = \"fast\"\n",
            &["profile", "fast"],
        ),
        (
            "events.toml",
            "[[channel]]\npattern = \"a:*\"\nclient_events = \"some\"\n",
            &["client_events", "some"],
        ),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, text)?;
        let output = cli::run(&["config", "check", &file.to_string_lossy()]).await?;
        let all = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.code == 1, "{name}: exit code {}: {all}", output.code);
        for word in words.iter().chain([&name]) {
            ensure!(all.contains(word), "{name}: does not say {word}: {all}");
        }
    }
    let missing = cli::run(&[
        "config",
        "check",
        &folder.path().join("none.toml").to_string_lossy(),
    ])
    .await?;
    ensure!(
        missing.code == 1 && missing.stderr.contains("none.toml"),
        "{missing:?}"
    );
    Ok(())
}

/// Namespaces from the configuration: `others` spares the sender, `refuse` refuses, and a pattern that is not there is
/// not routed.
#[tokio::test]
async fn a_configured_namespace_does_with_client_events_what_it_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ringcast.toml");
    let channels = "[[channel]]\npattern = \"chat:*\"\nclient_events = \"others\"\n\
                    [[channel]]\npattern = \"news:*\"\nclient_events = \"refuse\"\n";
    std::fs::write(&file, channels)?;
    let gateway_arguments = vec!["--config".to_owned(), file.to_string_lossy().into_owned()];
    let cluster = Cluster::start(Shape {
        topic_servers: 1,
        gateway_arguments,
        ..Shape::default()
    })
    .await?;
    let mut first = Client::connect(cluster.listen("gw-1")?).await?;
    let mut second = Client::connect(cluster.listen("gw-2")?).await?;
    for topic in ["chat:1", "news:1", "room:1"] {
        first.join("1", topic).await?;
        second.join("1", topic).await?;
    }
    first
        .ask(
            r#"["1","2","chat:1","msg",{"n":1}]"#,
            r#"["1","2","chat:1","phx_reply",{"status":"ok","response":{}}]"#,
        )
        .await?;
    second.expect(r#"[null,null,"chat:1","msg",{"n":1}]"#).await?;
    first
        .ask(
            r#"["1","3","news:1","msg",{"n":1}]"#,
            r#"["1","3","news:1","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
        )
        .await?;
    first.nothing_else().await?;
    second.nothing_else().await?;
    cluster.finish()
}

/// 2 copies are refused with a sentence, until there are replicas.
#[tokio::test]
async fn two_replicas_are_refused_with_a_sentence() -> Result<()> {
    let output = cli::run(&["topic-server", "--id", "ts-1", "--replicas", "2"]).await?;
    ensure!(
        output.code != 0 && output.stderr.contains("replicas"),
        "{output:?}"
    );
    Ok(())
}

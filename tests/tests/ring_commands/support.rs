//! What the tests of the ring's commands share.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::{Client, Cluster, cli, process, wait};
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// How long a command may take that moves many slots, in a debug build on a busy machine.
pub(crate) const MOVED_WITHIN: Duration = Duration::from_secs(90);

/// Enough to be moved in pairs and batches, few enough for many clusters on one machine.
pub(crate) const SLOTS: u16 = 256;
pub(crate) const SLOTS_LARGE: u16 = 600;

/// Topics of a test: enough that every node owns some, and as many as one client may join.
pub(crate) const TOPICS: usize = 90;

pub(crate) fn topic(number: usize) -> String {
    format!("room:{number}")
}

pub(crate) async fn start() -> Result<Cluster> {
    start_of(SLOTS).await
}

/// A cluster in which a plan takes long enough that something can happen on the way.
pub(crate) async fn start_large() -> Result<Cluster> {
    start_of(SLOTS_LARGE).await
}

async fn start_of(slots: u16) -> Result<Cluster> {
    Cluster::start(Shape {
        gateways: 1,
        slots: Some(slots),
        ..Shape::default()
    })
    .await
}

/// A member of all topics, each of which has a publication.
pub(crate) async fn member(cluster: &Cluster) -> Result<Client> {
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    for number in 0..TOPICS {
        client.join("1", &topic(number)).await?;
    }
    say(&mut client, 1).await?;
    Ok(client)
}

/// Publishes `n` to every topic, and sees it there: the reply, then the message.
pub(crate) async fn say(client: &mut Client, n: u64) -> Result<()> {
    for number in 0..TOPICS {
        let topic = topic(number);
        client
            .send(&format!(r#"["1","{n}","{topic}","say",{{"n":{n}}}]"#))
            .await?;
        let mut got = [client.text().await?, client.text().await?];
        got.sort();
        let expected = [
            format!(r#"["1","{n}","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#),
            format!(r#"["1",null,"{topic}","say",{{"n":{n}}}]"#),
        ];
        let either = [expected.clone(), {
            let [reply, message] = expected;
            [reply, message.replace("[\"1\",null", "[null,null")]
        }];
        ensure!(either.contains(&got), "{got:?}");
    }
    Ok(())
}

/// A command that runs beside the test.
pub(crate) struct Running {
    child: tokio::process::Child,
    named: String,
}

impl Running {
    pub(crate) fn start(cluster: &Cluster, arguments: &[&str]) -> Result<Running> {
        let all = [arguments, &["-o", "json", "--store", cluster.store()]].concat();
        let mut command = tokio::process::Command::from(process::command(&all)?);
        let piped = std::process::Stdio::piped;
        let child = command
            .stdout(piped())
            .stderr(piped())
            .kill_on_drop(true)
            .spawn()
            .context("spawn")?;
        let named = arguments.join(" ");
        Ok(Running { child, named })
    }

    pub(crate) fn interrupt(&self) -> Result<()> {
        let id = self.child.id().context("it has ended")?;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("a pid")?;
        rustix::process::kill_process(pid, Signal::INT).context("interrupt it")
    }

    pub(crate) async fn end(self) -> Result<cli::Output> {
        let Running { child, named } = self;
        let output = tokio::time::timeout(MOVED_WITHIN, child.wait_with_output()).await;
        let output = output.with_context(|| format!("{named}: no end in {MOVED_WITHIN:?}"))??;
        Ok(cli::Output {
            code: output.status.code().context("ended by a signal")?,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// Runs a command that may take long to its end, and gives its JSON.
pub(crate) async fn done(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    cluster.json_within(arguments, MOVED_WITHIN).await
}

/// Makes a plan and gives its name.
pub(crate) async fn planned(cluster: &Cluster, wish: &[&str]) -> Result<(String, Value)> {
    let plan = cluster.json(&[&["ring", "plan"], wish].concat()).await?;
    let name = plan["plan"].as_str().context("plan")?.to_owned();
    Ok((name, plan))
}

/// Slots owned, by node.
pub(crate) async fn owned(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let status = cluster.json(&["ring", "status"]).await?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    let owned = nodes.iter().map(|node| {
        let id = node["id"].as_str().context("id")?.to_owned();
        Ok((id, node["slots_owned"].as_u64().context("slots_owned")?))
    });
    owned.collect()
}

pub(crate) async fn state(cluster: &Cluster, node: &str) -> Result<Option<String>> {
    let status = cluster.json(&["ring", "status"]).await?;
    let mut nodes = status["nodes"].as_array().context("nodes")?.iter();
    let node = nodes.find(|found| found["id"] == node);
    Ok(node.and_then(|node| Some(node["state"].as_str()?.to_owned())))
}

/// Slot and owner of every topic.
pub(crate) async fn owners(cluster: &Cluster) -> Result<BTreeMap<String, (u64, String)>> {
    let listed = cluster.json(&["topic", "ls", "--limit", "1000"]).await?;
    let listed = listed["topics"].as_array().context("topics")?;
    ensure!(listed.len() == TOPICS, "{} topics are listed", listed.len());
    let owner = |topic: &Value| {
        let (name, owner) = (topic["topic"].as_str()?, topic["owner"].as_str()?);
        Some((name.to_owned(), (topic["slot"].as_u64()?, owner.to_owned())))
    };
    listed
        .iter()
        .map(|topic| owner(topic).context("topic, slot and owner"))
        .collect()
}

/// From which node to which each slot of a plan moves.
pub(crate) fn moves(plan: &Value) -> Result<BTreeMap<u64, (String, String)>> {
    let moves = plan["moves"].as_array().context("moves")?.iter();
    let one = |moved: &Value| {
        let (from, to) = (moved["from"].as_str()?, moved["to"].as_str()?);
        Some((moved["slot"].as_u64()?, (from.to_owned(), to.to_owned())))
    };
    moves.map(|moved| one(moved).context("slot, from, to")).collect()
}

pub(crate) fn refused(output: &cli::Output, said: &[&str]) -> Result<()> {
    ensure!(output.code == 1 && output.stdout.is_empty(), "{output:?}");
    for said in said {
        ensure!(output.stderr.contains(said), "{said} in {output:?}");
    }
    Ok(())
}

/// The version of the ring, and whether a plan runs.
pub(crate) async fn version(cluster: &Cluster) -> Result<(u64, bool)> {
    let status = cluster.json(&["ring", "status"]).await?;
    let version = status["version"].as_u64().context("version")?;
    Ok((version, !status["plan"].is_null()))
}

pub(crate) async fn over(cluster: &Cluster) -> Result<()> {
    wait::until("the plan to be over", MOVED_WITHIN, async || {
        let (version, running) = version(cluster).await?;
        ensure!(!running, "ring {version} still has a plan");
        Ok(())
    })
    .await?;
    Ok(())
}

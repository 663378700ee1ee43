//! The ring as an operator changes it: plans that show and move nothing, commits that move what was shown, two operators
//! at once, aborts, nodes that come, drain and go, and every bad input.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::{Client, Cluster, cli, process, wait};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

/// How long a command may take that moves a third of all slots, in a debug build on a busy machine.
const MOVED_WITHIN: Duration = Duration::from_secs(90);

/// Topics of a test: enough that every node owns some, and as many as one client may join.
const TOPICS: usize = 90;

fn topic(number: usize) -> String {
    format!("room:{number}")
}

async fn start() -> Result<Cluster> {
    Cluster::start(Shape {
        gateways: 1,
        ..Shape::default()
    })
    .await
}

/// A member of all topics, each of which has a publication.
async fn member(cluster: &Cluster) -> Result<Client> {
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    for number in 0..TOPICS {
        client.join("1", &topic(number)).await?;
    }
    say(&mut client, 1).await?;
    Ok(client)
}

/// Publishes `n` to every topic, and sees it there: the reply, then the message.
async fn say(client: &mut Client, n: u64) -> Result<()> {
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
struct Running {
    child: tokio::process::Child,
    named: String,
}

impl Running {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Result<Running> {
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

    fn interrupt(&self) -> Result<()> {
        let id = self.child.id().context("it has ended")?;
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("a pid")?;
        rustix::process::kill_process(pid, Signal::INT).context("interrupt it")
    }

    async fn end(self) -> Result<cli::Output> {
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
async fn done(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    cluster.json_within(arguments, MOVED_WITHIN).await
}

/// Makes a plan and gives its name.
async fn planned(cluster: &Cluster, wish: &[&str]) -> Result<(String, Value)> {
    let plan = cluster.json(&[&["ring", "plan"], wish].concat()).await?;
    let name = plan["plan"].as_str().context("plan")?.to_owned();
    Ok((name, plan))
}

/// Slots owned, by node.
async fn owned(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let status = cluster.json(&["ring", "status"]).await?;
    let nodes = status["nodes"].as_array().context("nodes")?;
    let owned = nodes.iter().map(|node| {
        let id = node["id"].as_str().context("id")?.to_owned();
        Ok((id, node["slots_owned"].as_u64().context("slots_owned")?))
    });
    owned.collect()
}

async fn state(cluster: &Cluster, node: &str) -> Result<Option<String>> {
    let status = cluster.json(&["ring", "status"]).await?;
    let mut nodes = status["nodes"].as_array().context("nodes")?.iter();
    let node = nodes.find(|found| found["id"] == node);
    Ok(node.and_then(|node| Some(node["state"].as_str()?.to_owned())))
}

/// Slot and owner of every topic.
async fn owners(cluster: &Cluster) -> Result<BTreeMap<u64, String>> {
    let listed = cluster.json(&["topic", "ls", "--limit", "1000"]).await?;
    let listed = listed["topics"].as_array().context("topics")?;
    ensure!(listed.len() == TOPICS, "{} topics are listed", listed.len());
    let owner = |topic: &Value| Some((topic["slot"].as_u64()?, topic["owner"].as_str()?.to_owned()));
    listed
        .iter()
        .map(|topic| owner(topic).context("slot and owner"))
        .collect()
}

/// From which node to which each slot of a plan moves.
fn moves(plan: &Value) -> Result<BTreeMap<u64, (String, String)>> {
    let moves = plan["moves"].as_array().context("moves")?.iter();
    let one = |moved: &Value| {
        let (from, to) = (moved["from"].as_str()?, moved["to"].as_str()?);
        Some((moved["slot"].as_u64()?, (from.to_owned(), to.to_owned())))
    };
    moves.map(|moved| one(moved).context("slot, from, to")).collect()
}

fn refused(output: &cli::Output, said: &[&str]) -> Result<()> {
    ensure!(output.code == 1 && output.stdout.is_empty(), "{output:?}");
    for said in said {
        ensure!(output.stderr.contains(said), "{said} in {output:?}");
    }
    Ok(())
}

/// The version of the ring, and whether a plan runs.
async fn version(cluster: &Cluster) -> Result<(u64, bool)> {
    let status = cluster.json(&["ring", "status"]).await?;
    let version = status["version"].as_u64().context("version")?;
    Ok((version, !status["plan"].is_null()))
}

async fn over(cluster: &Cluster) -> Result<()> {
    wait::until("the plan to be over", MOVED_WITHIN, async || {
        let (version, running) = version(cluster).await?;
        ensure!(!running, "ring {version} still has a plan");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_plan_shows_what_would_move_and_moves_nothing() -> Result<()> {
    let cluster = start().await?;
    let _member = member(&cluster).await?;
    let before = cluster.json(&["ring", "status"]).await?;
    let (owners, slots) = (owners(&cluster).await?, owned(&cluster).await?);

    let (name, plan) = planned(&cluster, &["--drain", "ts-2"]).await?;
    ensure!(
        plan["base_version"] == 1 && plan["wish"] == json!(["--drain ts-2"]) && plan["warnings"] == json!([]),
        "{plan}"
    );
    let moves = moves(&plan)?;
    ensure!(moves.len() as u64 == slots["ts-2"], "{} moves", moves.len());
    ensure!(
        moves.values().all(|(from, to)| from == "ts-2" && to != "ts-2"),
        "{moves:?}"
    );
    // Every topic of the drained node is in it once, with its member and its history.
    let leaving = owners.values().filter(|owner| *owner == "ts-2").count() as u64;
    let sum = |field: &str| -> u64 {
        let moves = plan["moves"].as_array().into_iter().flatten();
        moves.filter_map(|moved| moved[field].as_u64()).sum()
    };
    ensure!(
        leaving > 0 && sum("members") == leaving && sum("topics") == leaving,
        "{leaving} of {plan}"
    );
    ensure!(sum("bytes") > 0, "{plan}");
    let shares = plan["shares"].as_array().context("shares")?;
    ensure!(shares.len() == 3, "{plan}");
    let after: u64 = shares
        .iter()
        .filter_map(|share| share["slots_after"].as_u64())
        .sum();
    ensure!(after == 1024 && shares[1]["slots_after"] == 0, "{plan}");

    // People see the same, every slot of it if they like, and what to do next.
    let table = cluster
        .cli(&["ring", "plan", "--drain", "ts-2", "--slots"])
        .await?;
    for said in ["ring commit p1-", "Nothing has moved", "ts-2", "SLOT", "SHARE"] {
        ensure!(table.stdout.contains(said), "{said} in {}", table.stdout);
    }
    ensure!(table.stdout.lines().count() > moves.len(), "{}", table.stdout);
    ensure!(!table.stdout.contains(&name), "another plan has another name");

    let now = cluster.json(&["ring", "status"]).await?;
    ensure!(now == before, "{now} was {before}");
    ensure!(self::owners(&cluster).await? == owners, "topics moved");
    ensure!(cluster.json(&["ring", "history"]).await? == json!({"history": []}));
    cluster.finish()
}

#[tokio::test]
async fn a_commit_moves_exactly_what_was_shown_and_no_member_notices() -> Result<()> {
    let cluster = start().await?;
    let mut member = member(&cluster).await?;
    let before = owners(&cluster).await?;
    let (name, plan) = planned(&cluster, &["--drain", "ts-2"]).await?;
    let moves = moves(&plan)?;

    let outcome = done(&cluster, &["ring", "commit", &name]).await?;
    ensure!(
        outcome["plan"] == name.as_str()
            && outcome["moves"] == moves.len()
            && outcome["skipped"] == 0
            && outcome["done"] == true,
        "{outcome}"
    );
    ensure!(
        outcome["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0),
        "{outcome}"
    );
    ensure!(outcome["longest_pause_ms"].is_u64(), "{outcome}");

    for (slot, owner) in owners(&cluster).await? {
        let expected = moves.get(&slot).map_or(&before[&slot], |(_, to)| to);
        ensure!(owner == *expected, "slot {slot} is at {owner}, not at {expected}");
    }
    let owned = owned(&cluster).await?;
    for share in plan["shares"].as_array().context("shares")? {
        let id = share["id"].as_str().context("id")?;
        ensure!(
            share["slots_after"] == owned[id],
            "{id} owns {owned:?}, not {share}"
        );
    }
    ensure!(version(&cluster).await? == (2, false), "version");
    ensure!(
        state(&cluster, "ts-2").await?.as_deref() == Some("draining"),
        "state"
    );
    say(&mut member, 2).await?;
    member.nothing_else().await?;

    let history = cluster.json(&["ring", "history"]).await?;
    let version = &history["history"][0];
    ensure!(
        version["version"] == 2
            && version["plan"] == name.as_str()
            && version["cause"] == "commit"
            && version["moved"] == moves.len()
            && version["skipped"] == 0
            && version["running"] == false,
        "{history}"
    );
    ensure!(
        version["who"].as_str().is_some_and(|who| !who.is_empty()),
        "{history}"
    );
    ensure!(
        version["at_unix_ms"]
            .as_u64()
            .is_some_and(|at| at > 1_700_000_000_000),
        "{history}"
    );

    // What is done is done: the same plan again is for a ring that is no more.
    let again = cluster.cli(&["ring", "commit", &name]).await?;
    refused(&again, &["plan_stale", "committed already", "as ring 2"])?;
    cluster.finish()
}

#[tokio::test]
async fn of_two_operators_at_once_one_wins_and_the_other_is_told() -> Result<()> {
    let cluster = start().await?;
    let (one, _) = planned(&cluster, &["--drain", "ts-1"]).await?;
    let (other, _) = planned(&cluster, &["--drain", "ts-2"]).await?;
    let commits = [
        Running::start(&cluster, &["ring", "commit", &one])?,
        Running::start(&cluster, &["ring", "commit", &other])?,
    ];
    let mut outputs = Vec::new();
    for commit in commits {
        outputs.push(commit.end().await?);
    }
    outputs.sort_by_key(|output| output.code);
    ensure!(outputs[0].json()?["done"] == true, "{outputs:?}");
    refused(&outputs[1], &["plan_stale", "plan again", "was made by"])?;
    ensure!(version(&cluster).await? == (2, false), "only one became the ring");
    let drained = owned(&cluster)
        .await?
        .into_values()
        .filter(|slots| *slots == 0)
        .count();
    ensure!(drained == 1, "{drained} are drained");
    cluster.finish()
}

#[tokio::test]
async fn a_plan_made_while_another_runs_is_carried_out_after_it() -> Result<()> {
    let cluster = start().await?;
    let (first, _) = planned(&cluster, &["--drain", "ts-1"]).await?;
    let committed = cluster.json(&["ring", "commit", &first, "--no-wait"]).await?;
    ensure!(
        committed["done"] == false
            && committed["longest_pause_ms"].is_null()
            && committed["moves"].as_u64() > Some(0),
        "{committed}"
    );
    let (second, plan) = planned(&cluster, &["--add", "ts-1", "--weight", "ts-1=0.5"]).await?;
    ensure!(plan["base_version"] == 2, "{plan}");
    if version(&cluster).await? == (2, true) {
        let hasty = cluster.cli(&["ring", "commit", &second, "--no-wait"]).await?;
        if hasty.code != 0 {
            refused(&hasty, &[&first, "--no-wait"])?;
            done(&cluster, &["ring", "commit", &second]).await?;
        }
    } else {
        done(&cluster, &["ring", "commit", &second]).await?;
    }
    over(&cluster).await?;
    ensure!(version(&cluster).await? == (3, false), "both became the ring");
    let owned = owned(&cluster).await?;
    // Half a weight among two and a half: a fifth of 1,024, within the bound.
    ensure!((150..=226).contains(&owned["ts-1"]), "{owned:?}");
    cluster.finish()
}

#[tokio::test]
async fn an_aborted_plan_goes_home_and_who_waited_for_it_is_told() -> Result<()> {
    let cluster = start().await?;
    let mut member = member(&cluster).await?;
    let (before, slots) = (owners(&cluster).await?, owned(&cluster).await?);
    let (name, _) = planned(&cluster, &["--drain", "ts-3"]).await?;
    let commit = Running::start(&cluster, &["ring", "commit", &name])?;
    wait::until("some slots to have moved", MOVED_WITHIN, async || {
        let now = owned(&cluster).await?;
        ensure!(now["ts-3"] + 8 < slots["ts-3"], "{now:?}");
        Ok(())
    })
    .await?;
    let aborted = done(&cluster, &["ring", "abort"]).await?;
    ensure!(
        aborted["aborted"] == name.as_str() && aborted["done"] == true && aborted["skipped"] == 0,
        "{aborted}"
    );
    let home = aborted["moves"].as_u64().context("moves")?;
    ensure!(home >= 8 && home < slots["ts-3"], "{home} came home, {slots:?}");
    refused(&commit.end().await?, &[&name, "taken back by"])?;

    ensure!(owned(&cluster).await? == slots, "everything is home");
    ensure!(owners(&cluster).await? == before, "every topic is home");
    ensure!(
        version(&cluster).await? == (3, false),
        "an abort is a version of its own"
    );
    ensure!(state(&cluster, "ts-3").await?.as_deref() == Some("up"), "state");
    say(&mut member, 2).await?;
    let history = cluster.json(&["ring", "history"]).await?;
    let causes: Vec<&str> = history["history"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|version| version["cause"].as_str())
        .collect();
    ensure!(causes == ["commit", "abort"], "{history}");

    let nothing = cluster.cli(&["ring", "abort"]).await?;
    refused(&nothing, &["no plan is running"])?;
    cluster.finish()
}

/// A topic server that comes after birth.
async fn late(cluster: &mut Cluster, id: &str) -> Result<()> {
    cluster.start_topic_server(id, &Shape::default())?;
    wait::until(&format!("{id} to be joining"), wait::SOON, async || {
        let state = state(cluster, id).await?;
        ensure!(state.as_deref() == Some("joining"), "{state:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_node_comes_gets_more_drains_comes_back_and_goes() -> Result<()> {
    let mut cluster = start().await?;
    let mut member = member(&cluster).await?;
    late(&mut cluster, "ts-4").await?;
    let not_yet = cluster.cli(&["node", "drain", "ts-4"]).await?;
    refused(&not_yet, &["ts-4 is not in the ring"])?;

    let mut said = 1;
    for (command, state_after, slots) in [
        // A quarter of 1,024 slots, within 1.10 of it; 2 of 5; nothing; and so on.
        (&["node", "add", "ts-4"] as &[&str], "up", 200..=282),
        (&["node", "weight", "ts-4", "2"], "up", 330..=451),
        (&["node", "drain", "ts-4"], "draining", 0..=0),
        (&["node", "add", "ts-4", "--weight", "0.5"], "up", 110..=161),
        (&["node", "remove", "ts-4"], "joining", 0..=0),
    ] {
        let outcome = done(&cluster, command).await?;
        ensure!(
            outcome["done"] == true && outcome["skipped"] == 0 && outcome["moves"].as_u64() > Some(0),
            "{command:?}: {outcome}"
        );
        let owned = owned(&cluster).await?;
        ensure!(slots.contains(&owned["ts-4"]), "{command:?}: {owned:?}");
        ensure!(owned.values().sum::<u64>() == 1024, "{command:?}: {owned:?}");
        let state = state(&cluster, "ts-4").await?;
        ensure!(state.as_deref() == Some(state_after), "{command:?}: {state:?}");
        said += 1;
        say(&mut member, said)
            .await
            .with_context(|| format!("after {command:?}"))?;
    }
    member.nothing_else().await?;
    let gone = cluster.cli(&["node", "remove", "ts-4"]).await?;
    refused(&gone, &["ts-4 is not in the ring"])?;
    cluster.finish()
}

#[tokio::test]
async fn a_node_that_is_down_is_removed_only_by_who_says_that_it_is_dead() -> Result<()> {
    let mut cluster = start().await?;
    cluster.kill("ts-2")?;
    wait::until("ts-2 to be down and owned by others", wait::SOON, async || {
        let (state, owned) = (state(&cluster, "ts-2").await?, owned(&cluster).await?);
        ensure!(
            state.as_deref() == Some("down") && owned["ts-2"] == 0,
            "{state:?} {owned:?}"
        );
        Ok(())
    })
    .await?;
    for (command, said) in [
        (&["node", "drain", "ts-2"] as &[&str], "ts-2"),
        (&["node", "remove", "ts-2"], "--dead"),
        (&["ring", "plan", "--remove", "ts-2"], "--dead"),
        // Nobody to ask, and nobody said yes.
        (&["node", "remove", "ts-2", "--dead"], "--yes"),
    ] {
        let output = cluster.cli(command).await?;
        refused(&output, &[said, "down"]).or_else(|_| refused(&output, &[said, "lost"]))?;
    }
    ensure!(version(&cluster).await? == (1, false), "nothing was committed");

    let output = Running::start(&cluster, &["node", "remove", "ts-2", "--dead", "--yes"])?
        .end()
        .await?;
    ensure!(output.json()?["done"] == true, "{output:?}");
    ensure!(
        output.stderr.contains("ts-2 is down") && output.stderr.contains("lost"),
        "{output:?}"
    );
    ensure!(
        state(&cluster, "ts-2").await?.is_none(),
        "it is in the ring no more"
    );
    ensure!(
        owned(&cluster).await?.values().sum::<u64>() == 1024,
        "and everything is owned"
    );
    cluster.finish()
}

#[tokio::test]
async fn watching_tells_how_far_a_plan_is_until_it_is_over() -> Result<()> {
    let cluster = start().await?;
    let idle = cluster.json(&["ring", "watch"]).await?;
    ensure!(
        idle["plan"].is_null() && idle["running"] == false && idle["version"] == 1,
        "{idle}"
    );
    let words = cluster.cli(&["ring", "watch"]).await?;
    ensure!(
        words.code == 0 && words.stdout.contains("no plan is running"),
        "{words:?}"
    );

    let follow = Running::start(&cluster, &["ring", "watch", "--follow"])?;
    let (name, plan) = planned(&cluster, &["--drain", "ts-1"]).await?;
    cluster.json(&["ring", "commit", &name, "--no-wait"]).await?;
    let watch = Running::start(&cluster, &["ring", "watch"])?.end().await?;
    ensure!(watch.code == 0, "{watch:?}");
    let views: Vec<Value> = watch
        .stdout
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| watch.stdout.clone())?;
    let moved: Vec<u64> = views.iter().filter_map(|view| view["moved"].as_u64()).collect();
    ensure!(moved.len() == views.len() && moved.is_sorted(), "{moved:?}");
    let last = views.last().context("a view")?;
    let total = plan["moves"].as_array().map(Vec::len);
    ensure!(
        last["plan"] == name.as_str()
            && last["running"] == false
            && last["moved"].as_u64() == total.map(|n| n as u64),
        "{last}"
    );
    let pairs = last["pairs"].as_array().context("pairs")?;
    ensure!(
        !pairs.is_empty()
            && pairs
                .iter()
                .all(|pair| pair["from"] == "ts-1" && pair["moved"] == pair["total"]),
        "{last}"
    );

    // Who follows goes on until it is told to end, which is no failure.
    follow.interrupt()?;
    let followed = follow.end().await?;
    ensure!(
        followed.code == 0 && followed.stdout.lines().count() > 1,
        "{followed:?}"
    );
    cluster.finish()
}

#[tokio::test]
async fn a_plan_goes_on_when_nobody_waits_for_it() -> Result<()> {
    let cluster = start().await?;
    let drain = Running::start(&cluster, &["node", "drain", "ts-2"])?;
    wait::until("the plan to run", wait::SOON, async || {
        let owned = owned(&cluster).await?;
        ensure!(owned["ts-2"] < 340, "{owned:?}");
        Ok(())
    })
    .await?;
    drain.interrupt()?;
    let interrupted = drain.end().await?;
    refused(
        &interrupted,
        &["goes on", "ringcast ring watch", "ringcast ring abort"],
    )?;
    over(&cluster).await?;
    ensure!(owned(&cluster).await?["ts-2"] == 0, "it was carried out");
    cluster.finish()
}

#[tokio::test]
async fn who_waits_is_told_that_the_store_is_away_and_the_plan_goes_on_when_it_is_back() -> Result<()> {
    let mut cluster = start().await?;
    let drain = Running::start(&cluster, &["node", "drain", "ts-2"])?;
    wait::until("the plan to run", wait::SOON, async || {
        let (version, _) = version(&cluster).await?;
        ensure!(version == 2, "ring {version}");
        Ok(())
    })
    .await?;
    cluster.kill("coordinator")?;
    let output = drain.end().await?;
    let store = cluster.store().to_owned();
    refused(&output, &[&store, "has not been heard for 10 s"])?;
    cluster.start_again("coordinator")?;
    cluster.ready("coordinator").await?;
    over(&cluster).await?;
    ensure!(
        owned(&cluster).await?.values().sum::<u64>() == 1024,
        "everything is owned"
    );
    cluster.finish()
}

#[tokio::test]
async fn a_pinned_topic_stays_where_it_was_put_with_its_slot() -> Result<()> {
    let cluster = start().await?;
    let _member = member(&cluster).await?;
    let owner = cluster.json(&["ring", "owner", "room:7"]).await?;
    let slot = &owner["slot"];
    let to = if owner["owner"] == "ts-3" { "ts-1" } else { "ts-3" };
    let pin = format!("room:7={to}");

    let (name, plan) = planned(&cluster, &["--pin", &pin]).await?;
    ensure!(plan["wish"] == json!([format!("--pin {pin}")]), "{plan}");
    let pinned = &plan["pins"][0];
    ensure!(
        pinned["topic"] == "room:7"
            && pinned["slot"] == *slot
            && pinned["node"] == to
            && pinned["topics"].as_u64() > Some(0),
        "{plan}"
    );
    let examples = pinned["examples"].as_array().context("examples")?;
    ensure!(examples.contains(&json!("room:7")), "{plan}");
    done(&cluster, &["ring", "commit", &name]).await?;
    ensure!(
        cluster.json(&["ring", "owner", "room:7"]).await?["owner"] == to,
        "it was put there"
    );

    let twice = cluster
        .cli(&["ring", "plan", "--pin", &pin, "--unpin", "room:7"])
        .await?;
    refused(&twice, &["room:7"])?;
    done(
        &cluster,
        &[
            "ring",
            "commit",
            &planned(&cluster, &["--unpin", "room:7"]).await?.0,
        ],
    )
    .await?;
    let not = cluster.cli(&["ring", "plan", "--unpin", "room:7"]).await?;
    refused(&not, &["room:7", "not pinned"])?;
    cluster.finish()
}

#[tokio::test]
async fn every_bad_input_is_answered_in_words_and_changes_nothing() -> Result<()> {
    let cluster = Cluster::dev(2, 1).await?;
    for (arguments, said) in [
        (
            &["node", "drain", "ts-9"] as &[&str],
            "no topic server ts-9: did you mean ts-",
        ),
        (&["node", "remove", "tss-1"], "did you mean ts-1?"),
        (&["node", "add", "nobody"], "no topic server nobody"),
        (&["node", "drain", "gw-1"], "gw-1 is a gateway"),
        (&["node", "add", "ts-1"], "in the ring already"),
        (&["node", "drain", "a/b"], "node id \"a/b\""),
        (&["node", "drain", ""], "node id \"\""),
        (&["node", "drain", "ts 1"], "node id \"ts 1\""),
        (
            &["node", "weight", "ts-1", "-1"],
            "weight -1 of ts-1, must be from 0 to 100",
        ),
        (&["node", "weight", "ts-1", "1e9"], "weight 1000000000 of ts-1"),
        (&["node", "weight", "ts-1", "NaN"], "weight NaN of ts-1"),
        (&["node", "weight", "ts-1", "inf"], "weight inf of ts-1"),
        (&["node", "weight", "ts-1", "heavy"], "\"heavy\" is no number"),
        (&["node", "weight", "ts-1", "1"], "nothing to do"),
        (&["ring", "plan", "--weight", "ts-1"], "expected ID=W"),
        (&["ring", "plan", "--weight", "ts-1=-0.5"], "weight -0.5 of ts-1"),
        (
            &["ring", "plan", "--weight", "ts-1=0", "--weight", "ts-2=0"],
            "the last topic server",
        ),
        (
            &["ring", "plan", "--drain", "ts-1", "--drain", "ts-2"],
            "the last topic server",
        ),
        (
            &["ring", "plan", "--drain", "ts-1", "--remove", "ts-1"],
            "ts-1 is named twice",
        ),
        (
            &["ring", "plan", "--drain", "ts-1", "--drain", "ts-1"],
            "ts-1 is named twice",
        ),
        (&["ring", "plan", "--pin", "room:a"], "expected TOPIC=ID"),
        (&["ring", "plan", "--pin", "room:a=ts-9"], "no topic server ts-9"),
        (
            &["ring", "plan", "--pin", "room:a=ts-1", "--drain", "ts-1"],
            "room:a",
        ),
        (&["ring", "plan", "--unpin", "room:a"], "room:a"),
        (&["ring", "plan", "--unpin", ""], "topic of 0 bytes"),
        (&["ring", "plan"], "nothing to do"),
        (&["ring", "commit", ""], "no plan"),
        (&["ring", "commit", "p1-zzz"], "no plan p1-zzz"),
        (&["ring", "commit", "../ring"], "no plan ../ring"),
        (&["ring", "abort"], "no plan is running"),
    ] {
        let output = cluster.cli(arguments).await?;
        refused(&output, &[said]).with_context(|| arguments.join(" "))?;
        ensure!(output.stderr.starts_with("error: "), "{arguments:?}: {output:?}");
    }
    ensure!(version(&cluster).await? == (1, false), "nothing was changed");
    cluster.finish()
}

#[tokio::test]
async fn a_plan_for_a_ring_that_is_no_more_is_stale_and_says_who_changed_it() -> Result<()> {
    let cluster = Cluster::dev(3, 1).await?;
    let (old, _) = planned(&cluster, &["--drain", "ts-2"]).await?;
    done(&cluster, &["node", "weight", "ts-1", "1.5"]).await?;
    let stale = cluster.cli(&["ring", "commit", &old]).await?;
    refused(
        &stale,
        &[
            "plan_stale",
            &old,
            "version 1",
            "at 2",
            "plan again",
            "ring 2 was made by",
        ],
    )?;
    ensure!(version(&cluster).await? == (2, false), "it did nothing");
    cluster.finish()
}

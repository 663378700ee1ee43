//! A plan, from what it shows to what it leaves behind.

use anyhow::{Context, Result, ensure};
use ringcast_tests::wait;
use serde_json::json;

use crate::support::*;

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
    let leaving = owners.values().filter(|(_, owner)| owner == "ts-2").count() as u64;
    let sum = |field: &str| -> u64 {
        let moves = plan["moves"].as_array().into_iter().flatten();
        moves.filter_map(|moved| moved[field].as_u64()).sum()
    };
    ensure!(
        leaving > 0 && sum("members") == leaving && sum("topics") == leaving,
        "{leaving} topics move with {} members",
        sum("members")
    );
    ensure!(sum("bytes") > 0, "{plan}");
    let shares = plan["shares"].as_array().context("shares")?;
    ensure!(shares.len() == 3, "{plan}");
    let after: u64 = shares
        .iter()
        .filter_map(|share| share["slots_after"].as_u64())
        .sum();
    ensure!(
        after == u64::from(SLOTS) && shares[1]["slots_after"] == 0,
        "{plan}"
    );

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
    ensure!(crate::support::owners(&cluster).await? == owners, "topics moved");
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

    for (topic, (slot, owner)) in owners(&cluster).await? {
        let expected = moves.get(&slot).map_or(&before[&topic].1, |(_, to)| to);
        ensure!(
            owner == *expected,
            "{topic} in slot {slot} is at {owner}, not at {expected}"
        );
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
async fn an_aborted_plan_goes_home_and_who_waited_for_it_is_told() -> Result<()> {
    let cluster = start_large().await?;
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

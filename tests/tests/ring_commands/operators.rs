//! Two operators at once, and one who waits, watches, or goes away.

use anyhow::{Context, Result, ensure};
use ringcast_tests::{Cluster, wait};
use serde_json::Value;

use crate::support::*;

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
    // Half a weight among two and a half: a fifth, within the bound.
    ensure!((37..=57).contains(&owned["ts-1"]), "{owned:?}");
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
    let cluster = start_large().await?;
    let before = owned(&cluster).await?;
    let drain = Running::start(&cluster, &["node", "drain", "ts-2"])?;
    wait::until("the plan to run", MOVED_WITHIN, async || {
        let owned = owned(&cluster).await?;
        ensure!(owned["ts-2"] < before["ts-2"], "{owned:?}");
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
    let mut cluster = start_large().await?;
    let drain = Running::start(&cluster, &["node", "drain", "ts-2"])?;
    wait::until("the plan to run", MOVED_WITHIN, async || {
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
        owned(&cluster).await?.values().sum::<u64>() == u64::from(SLOTS_LARGE),
        "everything is owned"
    );
    cluster.finish()
}

#[tokio::test]
async fn of_two_drains_at_once_the_second_comes_after_the_first() -> Result<()> {
    let cluster = start().await?;
    let drains = [
        Running::start(&cluster, &["node", "drain", "ts-1"])?,
        Running::start(&cluster, &["node", "drain", "ts-2"])?,
    ];
    for drain in drains {
        let output = drain.end().await?;
        ensure!(output.json()?["done"] == true, "{output:?}");
    }
    let owned = owned(&cluster).await?;
    ensure!(owned["ts-3"] == u64::from(SLOTS), "{owned:?}");
    ensure!(version(&cluster).await? == (3, false), "each is a version");
    // And the last one left is left alone.
    let last = cluster.cli(&["node", "drain", "ts-3"]).await?;
    refused(&last, &["ts-3 is the last topic server"])?;
    cluster.finish()
}

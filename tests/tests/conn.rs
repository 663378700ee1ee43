//! `ringcast conn top` on a running cluster: who it names, in which order, and what a silent gateway does to it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::{Client, Cluster};
use serde_json::Value;

fn connections(top: &Value) -> Vec<(&str, u64)> {
    let list = top["connections"].as_array().into_iter().flatten();
    let told = list.map(|one| {
        let gateway = one["gateway"].as_str().unwrap_or_default();
        (gateway, one["channels"].as_u64().unwrap_or_default())
    });
    told.collect()
}

#[tokio::test]
async fn conn_top_asks_every_gateway_and_orders_what_they_say() -> Result<()> {
    let cluster = Cluster::dev(2, 2).await?;
    let mut first = Client::connect(cluster.listen("gw-1")?).await?;
    let mut second = Client::connect(cluster.listen("gw-2")?).await?;
    let mut third = Client::connect(cluster.listen("gw-2")?).await?;
    first.join("1", "topics:aa").await?;
    for topic in ["topics:aa", "topics:ab", "room:x"] {
        second.join("1", topic).await?;
    }
    for topic in ["topics:aa", "topics:ab"] {
        third.join("1", topic).await?;
    }
    let all = cluster.json(&["conn", "top", "--by", "channels"]).await?;
    ensure!(
        connections(&all) == [("gw-2", 3), ("gw-2", 2), ("gw-1", 1)],
        "{all}"
    );
    ensure!(
        all["total"] == 3 && all["silent"] == Value::Array(vec![]),
        "{all}"
    );
    let one = &all["connections"][0];
    ensure!(
        one["received_messages"] == 3 && one["slow"] == false && one["dropped"] == 0,
        "{one}"
    );
    ensure!(one["outbox"]["frames"] == 0 && one["subject"] == "", "{one}");
    let remote = one["remote"].as_str().context("remote")?;
    ensure!(remote.starts_with("127.0.0.1:"), "{one}");

    let some = cluster
        .json(&["conn", "top", "--by", "channels", "--limit", "2"])
        .await?;
    ensure!(
        connections(&some) == [("gw-2", 3), ("gw-2", 2)] && some["total"] == 3,
        "{some}"
    );
    let of_first = cluster.json(&["conn", "top", "--gateway", "gw-1"]).await?;
    ensure!(connections(&of_first) == [("gw-1", 1)], "{of_first}");

    let people = cluster.cli(&["conn", "top"]).await?;
    ensure!(
        people.code == 0 && people.stdout.contains("3 of 3 connections"),
        "{people:?}"
    );
    let unknown = cluster.cli(&["conn", "top", "--gateway", "gw-9"]).await?;
    ensure!(
        unknown.code == 1 && unknown.stderr.contains("no gateway gw-9"),
        "{unknown:?}"
    );
    for usage in [
        &["conn", "top", "--by", "size"] as &[&str],
        &["conn", "top", "--limit", "0"],
        &["conn"],
    ] {
        let wrong = cluster.cli(usage).await?;
        ensure!(wrong.code == 2, "{usage:?}: {wrong:?}");
    }
    cluster.finish()
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_is_named_and_the_others_are_shown() -> Result<()> {
    let cluster = Cluster::start(Shape::default()).await?;
    let mut client = Client::connect(cluster.listen("gw-1")?).await?;
    client.join("1", "topics:aa").await?;
    cluster.process("gw-2")?.pause()?;
    // Together: in 3 s a gateway that is silent is no gateway of the cluster any more.
    let (all, one) = tokio::join!(
        cluster.cli_within(&["conn", "top", "-o", "json"], Duration::from_secs(20)),
        cluster.cli_within(&["conn", "top", "--gateway", "gw-2"], Duration::from_secs(20)),
    );
    cluster.process("gw-2")?.resume()?;
    let (all, one) = (all?, one?);
    let told: Value = serde_json::from_str(&all.stdout).with_context(|| format!("{all:?}"))?;
    ensure!(
        all.code == 0 && all.stderr.contains("gw-2 did not answer: "),
        "{all:?}"
    );
    ensure!(
        connections(&told) == [("gw-1", 1)] && told["silent"][0]["gateway"] == "gw-2",
        "{told}"
    );
    ensure!(
        one.code == 1 && one.stderr.contains("gw-2 did not answer: "),
        "{one:?}"
    );
    ensure!(one.stdout.is_empty(), "{one:?}");
    cluster.finish()
}

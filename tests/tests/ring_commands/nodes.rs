//! Nodes that come, drain and go; and every input that is none.

use anyhow::{Context, Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::{Cluster, wait};

use crate::support::*;

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
        // A quarter of all slots, within 1.10 of it; 2 of 5; nothing; and so on.
        (&["node", "add", "ts-4"] as &[&str], "up", 50..=71),
        (&["node", "weight", "ts-4", "2"], "up", 82..=113),
        (&["node", "drain", "ts-4"], "draining", 0..=0),
        (&["node", "add", "ts-4", "--weight", "0.5"], "up", 27..=41),
        (&["node", "remove", "ts-4"], "joining", 0..=0),
    ] {
        let outcome = done(&cluster, command).await?;
        ensure!(
            outcome["done"] == true && outcome["skipped"] == 0 && outcome["moves"].as_u64() > Some(0),
            "{command:?}: {outcome}"
        );
        let owned = owned(&cluster).await?;
        ensure!(slots.contains(&owned["ts-4"]), "{command:?}: {owned:?}");
        ensure!(
            owned.values().sum::<u64>() == u64::from(SLOTS),
            "{command:?}: {owned:?}"
        );
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
        owned(&cluster).await?.values().sum::<u64>() == u64::from(SLOTS),
        "and everything is owned"
    );
    cluster.finish()
}

#[tokio::test]
async fn a_drain_whose_node_dies_on_the_way_tells_what_was_lost() -> Result<()> {
    let mut cluster = start_large().await?;
    let before = owned(&cluster).await?;
    let drain = Running::start(&cluster, &["node", "drain", "ts-2"])?;
    wait::until("some slots to have moved", MOVED_WITHIN, async || {
        let now = owned(&cluster).await?;
        ensure!(now["ts-2"] + 4 < before["ts-2"], "{now:?}");
        Ok(())
    })
    .await?;
    cluster.kill("ts-2")?;
    let output = drain.end().await?;
    let outcome = output.json()?;
    let count = |field: &str| outcome[field].as_u64().context("a count");
    ensure!(
        count("moves")? > 0 && count("lost")? > 0 && outcome["done"] == true,
        "{outcome}"
    );
    let all = count("moves")? + count("lost")? + count("skipped")?;
    ensure!(all == before["ts-2"], "{outcome}, of {before:?}");
    let owned = owned(&cluster).await?;
    ensure!(owned["ts-2"] == 0, "{owned:?}");
    ensure!(
        owned.values().sum::<u64>() == u64::from(SLOTS_LARGE),
        "everything is owned: {owned:?}"
    );
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

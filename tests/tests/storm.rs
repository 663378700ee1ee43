//! A reconnect storm: what thousands of clients that join the same topics at once cost the owners of these.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::{Client, Cluster};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const CLIENTS: usize = 2000;
const TOPICS: usize = 20;

/// Joins that share a bind, on average. Some 14 do in a debug build on two cores, idle or busy.
const JOINS_A_BIND: f64 = 4.0;

/// Clients that connect at the same time.
const CONNECTING: usize = 50;

/// Bind calls of the gateway, and the binds they carried.
async fn binds(cluster: &Cluster) -> Result<(f64, f64)> {
    let metrics = cluster.metrics("gw-1").await?;
    let of = |name| metrics.sum(name, &[("call", "bind")]);
    Ok((
        of("ringcast_lane_batch_entries_count"),
        of("ringcast_lane_batch_entries_sum"),
    ))
}

/// Joins every topic without waiting in between; each must be answered by a bare ok.
async fn join_all(client: &mut Client) -> Result<()> {
    for topic in 0..TOPICS {
        client
            .send(&format!(
                r#"["{topic}","{topic}","topics:t{topic}x","phx_join",{{}}]"#
            ))
            .await?;
    }
    for _ in 0..TOPICS {
        let reply = client.text().await?;
        ensure!(
            reply.ends_with(r#""phx_reply",{"status":"ok","response":{}}]"#),
            "{reply}"
        );
    }
    Ok(())
}

/// All clients connect; once all have, all join.
async fn storm(cluster: &Cluster) -> Result<JoinSet<Result<Client>>> {
    let gateway = cluster.listen("gw-1")?;
    let (all_there, mut joining) = (Arc::new(Barrier::new(CLIENTS + 1)), JoinSet::new());
    let mut connected = 0;
    while connected < CLIENTS {
        let mut connecting = JoinSet::new();
        for _ in 0..CONNECTING.min(CLIENTS - connected) {
            connecting.spawn(Client::connect(gateway));
        }
        while let Some(client) = connecting.join_next().await {
            let (mut client, all_there) = (client.context("connect task")??, Arc::clone(&all_there));
            connected += 1;
            joining.spawn(async move {
                all_there.wait().await;
                join_all(&mut client).await?;
                Ok(client)
            });
        }
    }
    all_there.wait().await;
    Ok(joining)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_clients_that_join_at_once_have_no_binds_of_their_own() -> Result<()> {
    let cluster = Cluster::start(Shape {
        topic_servers: 2,
        gateways: 1,
        ..Shape::default()
    })
    .await?;
    let began = Instant::now();
    let before = binds(&cluster).await?;
    let mut joining = storm(&cluster).await?;
    let at_once = Instant::now();
    let mut members = Vec::new();
    while let Some(client) = joining.join_next().await {
        members.push(client.context("join task")??);
    }
    let took = at_once.elapsed();
    let after = binds(&cluster).await?;
    let (calls, binds) = (after.0 - before.0, after.1 - before.1);
    let joins = (members.len() * TOPICS) as f64;
    eprintln!(
        "{joins} joins in {took:?}: {calls} bind calls with {binds} binds, a topic every {:.1} ms (connected in {:?})",
        took.as_secs_f64() * 1000.0 * TOPICS as f64 / binds,
        began.elapsed() - took,
    );
    let metrics = cluster.metrics("gw-1").await?;
    ensure!(metrics.sum("ringcast_joins_total", &[]) == joins, "joins");
    // Every topic at least once, and no call has one twice.
    ensure!(
        binds >= TOPICS as f64 && binds <= calls * TOPICS as f64,
        "{binds} binds of {TOPICS} topics in {calls} calls"
    );
    ensure!(
        binds * JOINS_A_BIND <= joins,
        "{joins} joins made {binds} binds in {calls} calls"
    );
    drop(members);
    cluster.finish()
}

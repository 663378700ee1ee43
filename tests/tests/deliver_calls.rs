//! What a publish costs: one batched call for each gateway that has members, none for others, however many there are.

use std::time::Duration;

use anyhow::{Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::crowd::Crowd;
use ringcast_tests::{Client, Cluster};

const TOPIC: &str = "topics:agora";
const MEMBERS: usize = 1000;

/// 500 x 1,000 deliveries in a debug build on two cores.
const DELIVERED: Duration = Duration::from_secs(120);

/// Deliver calls of all topic servers, to each of the first `gateways`.
async fn deliver_calls(cluster: &Cluster, gateways: usize) -> Result<Vec<f64>> {
    let metrics = cluster.metrics_of("ts-").await?;
    let to = |number| {
        metrics.sum(
            "ringcast_deliver_calls_total",
            &[("gateway", &format!("gw-{number}"))],
        )
    };
    Ok((1..=gateways).map(to).collect())
}

/// A publisher that is no member of the crowd's count: it joins, publishes, and reads its own copies too.
async fn publish_one_after_another(
    publisher: &mut Client,
    numbers: std::ops::RangeInclusive<u64>,
) -> Result<()> {
    for number in numbers {
        let publish = format!(r#"["1","{number}","{TOPIC}","publish",["event",{{"n":{number}}}]]"#);
        let reply = format!(r#"["1","{number}","{TOPIC}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        publisher.ask(&publish, &reply).await?;
        publisher
            .expect(&format!(r#"["1",null,"{TOPIC}","event",{{"n":{number}}}]"#))
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_one_call_for_each_gateway_with_members_and_a_burst_is_fewer_calls_than_publishes()
-> Result<()> {
    let cluster = Cluster::start(Shape {
        gateways: 3,
        ..Shape::default()
    })
    .await?;
    let two = [cluster.listen("gw-1")?, cluster.listen("gw-2")?];
    let crowd = Crowd::join(TOPIC, MEMBERS - 1, &two).await?;
    let mut publisher = Client::connect(two[0]).await?;
    publisher.join("1", TOPIC).await?;

    let before = deliver_calls(&cluster, 3).await?;
    publish_one_after_another(&mut publisher, 1..=500).await?;
    crowd.all_got(500, DELIVERED).await?;
    let after = deliver_calls(&cluster, 3).await?;
    let calls: Vec<f64> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    eprintln!("500 publishes one after another: deliver calls {calls:?}");
    ensure!(calls[0] > 0.0 && calls[1] > 0.0, "deliver calls {calls:?}");
    ensure!(
        calls[0] + calls[1] <= 1000.0,
        "500 publishes made more than 2 deliver calls each: {calls:?}"
    );
    ensure!(
        after[2] == 0.0,
        "the gateway without members got {} calls",
        after[2]
    );

    for number in 501..=1500 {
        publisher
            .send(&format!(
                r#"["1","{number}","{TOPIC}","publish",["event",{{"n":{number}}}]]"#
            ))
            .await?;
    }
    crowd.all_got(1500, DELIVERED).await?;
    let at_once = deliver_calls(&cluster, 3).await?;
    let calls: Vec<f64> = at_once
        .iter()
        .zip(&after)
        .map(|(after, before)| after - before)
        .collect();
    eprintln!("1,000 publishes at once: deliver calls {calls:?}");
    ensure!(
        calls[0] + calls[1] < 1000.0,
        "1,000 publishes at once made {calls:?} deliver calls"
    );
    ensure!(
        at_once[2] == 0.0,
        "the gateway without members got {} calls",
        at_once[2]
    );
    cluster.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_gateways_in_the_cluster_make_no_more_deliver_calls() -> Result<()> {
    let cluster = Cluster::start(Shape {
        gateways: 8,
        ..Shape::default()
    })
    .await?;
    let two = [cluster.listen("gw-4")?, cluster.listen("gw-7")?];
    let crowd = Crowd::join(TOPIC, 20, &two).await?;
    let mut publisher = Client::connect(two[0]).await?;
    publisher.join("1", TOPIC).await?;
    publish_one_after_another(&mut publisher, 1..=200).await?;
    crowd.all_got(200, DELIVERED).await?;
    let calls = deliver_calls(&cluster, 8).await?;
    eprintln!("200 publishes among 8 gateways: deliver calls {calls:?}");
    ensure!(
        calls[3] + calls[6] <= 400.0,
        "200 publishes made more than 2 deliver calls each: {calls:?}"
    );
    let others: f64 = calls
        .iter()
        .enumerate()
        .filter(|(at, _)| ![3, 6].contains(at))
        .map(|(_, calls)| calls)
        .sum();
    ensure!(others == 0.0, "gateways without members got calls: {calls:?}");
    cluster.finish()
}

/// Every metric carries the label `node`; what is counted adds up.
#[tokio::test]
async fn metrics_name_their_node_and_count_publishes_entries_and_deliveries() -> Result<()> {
    let cluster = Cluster::start(Shape {
        topic_servers: 2,
        ..Shape::default()
    })
    .await?;
    let both = [cluster.listen("gw-1")?, cluster.listen("gw-2")?];
    let crowd = Crowd::join(TOPIC, 4, &both).await?;
    let mut publisher = Client::connect(both[0]).await?;
    publisher.join("1", TOPIC).await?;
    publish_one_after_another(&mut publisher, 1..=10).await?;
    crowd.all_got(10, DELIVERED).await?;

    let servers = cluster.metrics_of("ts-").await?;
    ensure!(servers.sum("ringcast_publishes_total", &[]) == 10.0, "publishes");
    for gateway in ["gw-1", "gw-2"] {
        let of = |name| servers.sum(name, &[("gateway", gateway)]);
        ensure!(
            of("ringcast_deliver_publications_total") == 10.0,
            "publications to {gateway}"
        );
        let (calls, entries) = (
            of("ringcast_deliver_calls_total"),
            of("ringcast_deliver_entries_total"),
        );
        ensure!(
            calls >= 1.0 && entries >= calls && entries <= 10.0,
            "{calls} calls, {entries} entries to {gateway}"
        );
    }
    let gateways = cluster.metrics_of("gw-").await?;
    ensure!(
        gateways.sum("ringcast_deliveries_total", &[]) == 50.0,
        "deliveries"
    );
    ensure!(gateways.sum("ringcast_connections", &[]) == 5.0, "connections");
    ensure!(
        gateways.sum("ringcast_sessions_joined", &[]) == 5.0,
        "sessions joined"
    );
    ensure!(
        gateways.sum("ringcast_connections", &[("node", "gw-1")]) == 3.0,
        "connections of gw-1"
    );
    for metrics in [&servers, &gateways] {
        ensure!(
            metrics.without_node().is_empty(),
            "without the label node: {:?}",
            metrics.without_node()
        );
    }
    cluster.finish()
}

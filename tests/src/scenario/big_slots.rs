//! Slots with much in them change hands: many topics, many members, full histories.
//!
//! The ring has one slot, so that everything is in it, and the light load beside it sees the whole pause.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_proto::grpc;
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::v1::{EndedMove, ServerPublishRequest};
use tokio::task::JoinSet;

use super::{Report, end, enter, start};
use crate::Cluster;
use crate::cluster::Shape;
use crate::crowd::Crowd;
use crate::ledger::Window;
use crate::load::{self, Load};

/// Publishes by the server under way at the same time.
const PUBLISHING_MAX: usize = 256;

/// The topic of many members.
const AGORA: &str = "topics:agora";

/// How long a crowd may take to get a publication, in a debug build on a busy machine.
const DELIVERED: Duration = Duration::from_secs(60);

/// A few publishers who notice a pause.
const BESIDE: load::Shape = load::Shape {
    topics: 20,
    members: 2,
    sockets: 20,
    publishes_per_second: 200,
};

/// Topics with what was published in them.
#[derive(Debug, Clone, Copy)]
pub struct Topics {
    /// How many.
    pub topics: usize,
    /// Publications in each.
    pub publications: usize,
    /// Bytes of each one's payload, about.
    pub bytes: usize,
    /// So many topics a second must be copied.
    pub topics_per_second: f64,
    /// The longest pause of the slot.
    pub pause: Duration,
}

/// A topic with members.
#[derive(Debug, Clone, Copy)]
pub struct Members {
    /// How many.
    pub members: usize,
    /// The longest pause of the slot.
    pub pause: Duration,
}

/// Fills topics, moves their slot, and looks whether all is there.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn topics(scale: Topics) -> Result<Report> {
    let (cluster, load) = one_slot().await?;
    let gateway = cluster.rpc("gw-1")?;
    let names: Vec<String> = (0..scale.topics)
        .map(|number| format!("topics:big{number:06}"))
        .collect();
    let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(scale.bytes.saturating_sub(11)));
    for _ in 0..scale.publications {
        publish(gateway, &names, &payload).await?;
    }
    let before = cluster.topics("topics:big").await?;
    let (moved, during) = hand_over(&cluster, &load).await?;
    let after = cluster.topics("topics:big").await?;
    let same = |name: &String| {
        let (before, after) = (before.get(name)?, after.get(name)?);
        let complete = before.offset == scale.publications as u64;
        (complete && before.epoch == after.epoch && before.offset == after.offset).then_some(())
    };
    let changed: Vec<String> = names
        .iter()
        .filter(|name| same(name).is_none())
        .cloned()
        .collect();

    let what = match scale.publications {
        1 => format!("{} topics of {} bytes", scale.topics, scale.bytes),
        many => format!(
            "{} topics with {many} publications of {} bytes",
            scale.topics, scale.bytes
        ),
    };
    let mut report = Report::new(format!("A slot with {what} changes hands"));
    report.at_least("topics that came along", moved.topics, scale.topics as u64);
    report.none("topics that changed epoch or offset", &changed);
    enter_move(&moved, scale.pause, &mut report);
    let per_second = moved.topics as f64 / (f64::from(moved.copy_ms.max(1)) / 1000.0);
    report.at_least("topics a second", per_second, scale.topics_per_second);
    finish(cluster, load, during, report).await
}

/// Lets members join one topic, moves its slot, and looks whether they still get everything.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn members(scale: Members) -> Result<Report> {
    let (cluster, load) = one_slot().await?;
    let gateway = cluster.rpc("gw-1")?;
    let gateways = [cluster.listen("gw-1")?, cluster.listen("gw-2")?];
    let crowd = Crowd::join(AGORA, scale.members, &gateways).await?;
    let agora = [AGORA.to_owned()];
    publish(gateway, &agora, r#"{"n":1}"#).await?;
    crowd.all_got(1, DELIVERED).await?;
    let (moved, during) = hand_over(&cluster, &load).await?;
    publish(gateway, &agora, r#"{"n":2}"#).await?;
    crowd.all_got(2, DELIVERED).await?;

    let mut report = Report::new(format!(
        "A slot with a topic of {} members changes hands",
        scale.members
    ));
    report.at_least("members that came along", moved.members, scale.members as u64);
    enter_move(&moved, scale.pause, &mut report);
    finish(cluster, load, during, report).await
}

async fn one_slot() -> Result<(Cluster, Load)> {
    let shape = Shape {
        topic_servers: 2,
        slots: Some(1),
        ..Shape::default()
    };
    start(shape, BESIDE).await
}

/// Each topic gets one publication.
async fn publish(gateway: SocketAddr, topics: &[String], payload: &str) -> Result<()> {
    let channel = grpc::channel(&gateway.to_string()).context("address")?;
    let mut publishing = JoinSet::new();
    let one_done = |done: Option<Result<Result<()>, tokio::task::JoinError>>| {
        done.context("one is under way")?.context("publish task")?
    };
    for topic in topics {
        if publishing.len() >= PUBLISHING_MAX {
            one_done(publishing.join_next().await)?;
        }
        let mut client = GatewayClient::new(channel.clone());
        let request = ServerPublishRequest {
            topic: topic.clone(),
            event: "event".to_owned(),
            payload: payload.as_bytes().to_vec().into(),
        };
        publishing.spawn(async move {
            let reply = client.server_publish(request).await.context("publish")?;
            let error = reply.into_inner().error;
            ensure!(error.is_empty(), "publish: {error}");
            Ok(())
        });
    }
    while !publishing.is_empty() {
        one_done(publishing.join_next().await)?;
    }
    Ok(())
}

/// Moves the one slot to the topic server that does not own it.
async fn hand_over(cluster: &Cluster, load: &Load) -> Result<(EndedMove, Window)> {
    let topic = load::topic(0);
    let owner = cluster.json(&["ring", "owner", &topic]).await?;
    let target = if owner["owner"] == "ts-1" { "ts-2" } else { "ts-1" };
    let from = load.now();
    let plan = cluster.plan(&["--pin", &format!("{topic}={target}")]).await?;
    ensure!(plan.moves.len() == 1, "{plan:?}");
    cluster.change(&["ring", "commit", &plan.plan]).await?;
    load.served(load.now(), &load.topics(), crate::wait::SOON).await?;
    let moved = cluster.ended_moves(target, &format!("{}.", plan.plan)).await?;
    let moved = moved.into_iter().next().context("the target tells of the move")?;
    Ok((moved, Window { from, to: load.now() }))
}

fn enter_move(moved: &EndedMove, pause: Duration, report: &mut Report) {
    report.tell("bytes", moved.bytes);
    report.tell("copy", format!("{} ms", moved.copy_ms));
    report.below("pause", Duration::from_millis(moved.pause_ms.into()), pause);
}

/// `during`: the time in which the slot moved.
async fn finish(cluster: Cluster, load: Load, during: Window, mut report: Report) -> Result<Report> {
    let ledger = load.stop(&[]).await?;
    report.tell("publishes beside it", ledger.timing(during));
    enter(&ledger.account(|_| None), 100, &ledger.disturbances, &mut report);
    end(cluster, report)
}

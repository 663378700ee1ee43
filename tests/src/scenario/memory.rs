//! What topics cost a topic server in memory: its resident bytes over the number of topics it holds.
//!
//! One topic server has all of them, and each topic has one member, at one of the gateways. *Invariant:* a step is measured
//! once the topic server itself says that it holds all topics of it, and nobody has left since.
//! Leaves out: what a topic costs by itself (`topic-server/core/tests/memory` counts at the allocator).

mod residents;
mod slope;

use std::time::Duration;

use anyhow::{Result, ensure};

use self::residents::{Residents, Talk};
use self::slope::bytes_each;
use super::Report;
use crate::cluster::Shape;
use crate::{Cluster, wait};

const SERVER: &str = "ts-1";

/// How much of the time a server may be on a processor while nothing happens, however many topics it holds: a tenth. Its
/// lease and its planner take some.
const IDLE_CPU: u32 = 10;

const MIB: f64 = 1024.0 * 1024.0;

/// What a million topics have to fit in.
const GIB_IN_MIB: f64 = 1024.0;

/// How much is held, and what it may cost.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Topics with one member each, at last.
    pub topics: usize,
    /// In so many equal steps.
    pub steps: usize,
    /// Processes that share the members.
    pub gateways: usize,
    /// How long the server is watched while nothing happens: some rounds of everything that is looked at by the second.
    pub idle: Duration,
    /// Bytes for every further topic.
    pub topic_bytes: f64,
    /// Topics with publications, in a cluster of their own.
    pub histories: usize,
    /// Publications in each.
    pub publications: usize,
    /// Bytes of each one's payload.
    pub payload_bytes: usize,
}

/// Measures topics with one member and without history, then, in another cluster, topics with publications.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn run(scale: Scale) -> Result<Report> {
    let mut report = Report::new(format!(
        "The memory of a topic server with {} topics",
        scale.topics
    ));
    topics(scale, &mut report).await?;
    histories(scale, &mut report).await?;
    eprintln!("{report}");
    Ok(report)
}

async fn topics(scale: Scale, report: &mut Report) -> Result<()> {
    let cluster = start(scale).await?;
    let before = idle(&cluster, scale.idle).await?;
    let (mut residents, points) = fill(&cluster, scale.topics, scale.steps, Talk::default()).await?;
    let after = idle(&cluster, scale.idle).await?;
    enter(&points, "one member each", report);
    let each = bytes_each(&points);
    report.below("bytes a topic with one member", each, scale.topic_bytes);
    let (number, resident) = points.last().copied().unwrap_or_default();
    let at_a_million = resident as f64 + each * (1e6 - number as f64);
    report.below("MiB with a million of them", at_a_million / MIB, GIB_IN_MIB);
    let what = format!("on a processor in {:?} of nothing", scale.idle);
    report.tell(&format!("{what}, without topics"), format!("{before:?}"));
    report.below(&format!("{what}, with all of them"), after, scale.idle / IDLE_CPU);
    let gateways = cluster.running("gw-");
    let mut bytes = 0;
    for name in &gateways {
        bytes += cluster.process(name)?.resident_bytes()?;
    }
    report.tell(
        &format!("resident in {} gateways together", gateways.len()),
        mib(bytes),
    );
    report.none("connections lost", &residents.lost()?);
    end(cluster, report)
}

async fn histories(scale: Scale, report: &mut Report) -> Result<()> {
    let cluster = start(scale).await?;
    let talk = Talk {
        publications: scale.publications,
        payload_bytes: scale.payload_bytes,
    };
    let (mut residents, points) = fill(&cluster, scale.histories, scale.steps, talk).await?;
    let held = cluster.metrics(SERVER).await?.sum("ringcast_history_bytes", &[]);
    let what = format!(
        "{} publications of {} bytes each",
        talk.publications, talk.payload_bytes
    );
    enter(&points, &what, report);
    let each = bytes_each(&points);
    report.tell(&format!("bytes a topic with {what}"), format!("{each:.0}"));
    let publication = each / talk.publications as f64;
    report.tell("bytes a publication, all in", format!("{publication:.0}"));
    let all = talk.publications * talk.payload_bytes * scale.histories;
    report.at_least("bytes of history as the server counts them", held, all as f64);
    report.none("connections lost", &residents.lost()?);
    end(cluster, report)
}

/// A cluster without a panic; one that lost a connection is not finished, and so prints its logs.
fn end(cluster: Cluster, report: &Report) -> Result<()> {
    if report.is_met() {
        cluster.finish()?;
    }
    Ok(())
}

/// Everything on one topic server.
async fn start(scale: Scale) -> Result<Cluster> {
    let shape = Shape {
        topic_servers: 1,
        gateways: scale.gateways,
        ..Shape::default()
    };
    Cluster::start(shape).await
}

/// Lets topics come in steps, and gives how many there were and how many bytes were resident, from none on.
async fn fill(
    cluster: &Cluster,
    topics: usize,
    steps: usize,
    talk: Talk,
) -> Result<(Residents, Vec<(usize, u64)>)> {
    let gateways = cluster.running("gw-");
    let gateways: Result<Vec<_>> = gateways.iter().map(|name| cluster.listen(name)).collect();
    let mut residents = Residents::new(gateways?, talk);
    let mut points = vec![(0, cluster.process(SERVER)?.resident_bytes()?)];
    for step in 1..=steps {
        let so_many = topics * step / steps;
        residents.grow_to(so_many).await?;
        holds(cluster, so_many).await?;
        let resident = cluster.process(SERVER)?.resident_bytes()?;
        eprintln!("{so_many} topics, {resident} bytes resident");
        points.push((so_many, resident));
    }
    Ok((residents, points))
}

/// Waits until the server counts so many topics.
async fn holds(cluster: &Cluster, topics: usize) -> Result<()> {
    let what = format!("{SERVER} to hold {topics} topics");
    let look = async || {
        let held = cluster.metrics(SERVER).await?.sum("ringcast_topics", &[]);
        ensure!(held == topics as f64, "it holds {held}");
        Ok(())
    };
    wait::until(&what, wait::SOON, look).await?;
    Ok(())
}

/// How long the server is on a processor while nothing is asked of it.
async fn idle(cluster: &Cluster, time: Duration) -> Result<Duration> {
    let process = cluster.process(SERVER)?;
    let before = process.cpu_time()?;
    tokio::time::sleep(time).await;
    Ok(process.cpu_time()?.saturating_sub(before))
}

fn enter(points: &[(usize, u64)], what: &str, report: &mut Report) {
    for (topics, resident) in points {
        report.tell(
            &format!("resident with {topics} topics of {what}"),
            mib(*resident),
        );
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

//! Clients that resume, and what takes their connection, their topic's place, or their topic's owner from them.
//!
//! *Invariant:* what was acknowledged came to every subscriber, once and in order, or it was told what it misses; and it
//! misses something only where the scenario says so.

mod gateways;
mod offline;
mod owners;

use anyhow::Result;

pub use self::gateways::{drained, killed};
pub use self::offline::{away, away_for_too_long, undisturbed};
pub use self::owners::{moved_twice, owner_killed};
use super::{Report, end};
use crate::Cluster;
use crate::cluster;
use crate::resuming::{Crew, Shape, Story, SubscriberNumber, Verdict};

/// How much of what, in each of them.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The crew.
    pub crew: Shape,
    /// Slots of the ring; `None`: as many as the product thinks right.
    pub slots: Option<u16>,
}

/// Publications in every topic between one thing that is done and the next.
const BETWEEN: u64 = 5;

/// A cluster of two gateways with a crew that is served.
pub(super) async fn start(scale: &Scale) -> Result<(Cluster, Crew)> {
    let shape = cluster::Shape {
        slots: scale.slots,
        ..cluster::Shape::default()
    };
    let cluster = Cluster::start(shape).await?;
    let crew = Crew::start(scale.crew, &[cluster.listen("gw-1")?, cluster.listen("gw-2")?]).await?;
    Ok((cluster, crew))
}

/// The sockets that publish nothing; those of a crew with more sockets than topics.
fn readers(crew: &Shape) -> Vec<SubscriberNumber> {
    (crew.topics..crew.sockets).collect()
}

/// How many channels of these sockets there are.
fn channels_of(crew: &Shape, sockets: &[SubscriberNumber]) -> usize {
    let of_topic = |topic| {
        crew.subscribers_of(topic)
            .filter(|socket| sockets.contains(socket))
            .count()
    };
    (0..crew.topics).map(of_topic).sum()
}

fn title(what: &str, crew: &Shape) -> String {
    format!(
        "{what}: {} publishes/s on {} topics x {} subscribers that resume",
        crew.publishes_per_second, crew.topics, crew.subscribers
    )
}

/// Enters what every story must come to.
pub(super) fn enter(story: &Story, verdict: &Verdict, report: &mut Report) {
    report.tell("publishes acknowledged", verdict.acknowledged);
    report.tell("deliveries", verdict.deliveries);
    report.tell("of these replayed after a join", verdict.replayed);
    report.tell("connections of subscribers' channels lost", verdict.reconnects);
    report.tell("joins that recovered", verdict.recovered);
    report.tell("joins put off", story.put_off.len());
    report.tell("until a publish was answered", story.answers());
    report.tell("until it was delivered", story.deliveries());
    for (what, list) in verdict.faults() {
        report.none(what, list);
    }
    report.none("clients told of trouble", &story.disturbances);
}

/// Enters that nobody missed anything.
pub(super) fn enter_whole(verdict: &Verdict, report: &mut Report) {
    let missed: Vec<String> = verdict.missed.iter().map(ToString::to_string).collect();
    report.none("told to be missed", &missed);
}

/// The end where nobody may have missed anything.
async fn end_whole(cluster: Cluster, crew: Crew, mut report: Report) -> Result<Report> {
    let story = crew.stop().await?;
    let verdict = story.judge();
    enter(&story, &verdict, &mut report);
    enter_whole(&verdict, &mut report);
    end(cluster, report)
}

//! Topics that change hands twice, and topics that lose their owner and with it, having one copy, their history.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::{Report, end};
use super::{BETWEEN, Scale, channels_of, end_whole, enter, readers, start, title};
use crate::Cluster;
use crate::ledger::TopicNumber;
use crate::resuming::{Missed, SubscriberNumber, number};
use crate::wait::SOON;

/// How long the topics of a killed topic server may be without an owner.
const BACK_WITHIN: Duration = Duration::from_secs(6);

/// Half of the readers are away while topics leave their owner, the other half while they come home.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn moved_twice(scale: Scale) -> Result<Report> {
    let (cluster, crew) = start(&scale).await?;
    crew.moves_on(BETWEEN, SOON).await?;
    let all = readers(&scale.crew);
    let (first, second) = all.split_at(all.len() / 2);
    let home = owned_by(&cluster, "ts-3").await?;
    ensure!(!home.is_empty(), "ts-3 owns no topic of {}", scale.crew.topics);

    crew.leave(first);
    cluster.change(&["node", "drain", "ts-3"]).await?;
    crew.moves_on(BETWEEN, SOON).await?;
    ensure!(
        owned_by(&cluster, "ts-3").await?.is_empty(),
        "ts-3 is drained and owns topics"
    );
    crew.come_back(first);
    crew.all_at_head("those to be back that were away in the first move")
        .await?;

    crew.leave(second);
    cluster.change(&["node", "add", "ts-3"]).await?;
    crew.moves_on(BETWEEN, SOON).await?;
    let now = owned_by(&cluster, "ts-3").await?;
    let there_and_back = home.intersection(&now).count();
    ensure!(there_and_back > 0, "{home:?} went away and {now:?} came back");
    crew.come_back(second);
    crew.all_at_head("those to be back that were away in the second move")
        .await?;
    crew.moves_on(BETWEEN, SOON).await?;

    let mut report = Report::new(title("Topics moved twice", &scale.crew));
    report.tell("topics that left and came home", there_and_back);
    report.tell("channels away meanwhile", channels_of(&scale.crew, &all));
    end_whole(cluster, crew, report).await
}

/// kill -9 of a topic server while the readers are away: who was there is told by a gap, who was not by its join, and
/// those of other topics by nothing, for nothing happened to them.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn owner_killed(scale: Scale) -> Result<Report> {
    let (mut cluster, crew) = start(&scale).await?;
    crew.moves_on(BETWEEN, SOON).await?;
    let victims = owned_by(&cluster, "ts-2").await?;
    ensure!(!victims.is_empty(), "ts-2 owns no topic of {}", scale.crew.topics);
    let away = readers(&scale.crew);
    crew.leave(&away);
    crew.moves_on(BETWEEN, SOON).await?;

    cluster.kill("ts-2")?;
    let killed = crew.now();
    // What was acknowledged in this moment may have been on its way.
    let served = crew.served(killed + Duration::from_millis(50), SOON).await?;
    crew.moves_on(BETWEEN, SOON).await?;
    crew.come_back(&away);
    crew.all_at_head("the readers to be back").await?;
    cluster.start_again("ts-2")?;
    cluster.ready("ts-2").await?;
    cluster.at_rest(Duration::from_secs(60)).await?;
    crew.moves_on(BETWEEN, SOON).await?;
    let story = crew.stop().await?;
    let verdict = story.judge();

    let mut report = Report::new(title("kill -9 of a topic server, one copy", &scale.crew));
    report.below("every topic served again within", served, BACK_WITHIN);
    report.tell("topics that began anew", victims.len());
    let channels: BTreeSet<(TopicNumber, SubscriberNumber)> = victims
        .iter()
        .flat_map(|&topic| {
            scale
                .crew
                .subscribers_of(topic)
                .map(move |subscriber| (topic, subscriber))
        })
        .collect();
    let expected = |missed: &&Missed| {
        let reason = if away.contains(&missed.subscriber) {
            "recovered: false"
        } else {
            "epoch_changed"
        };
        channels.contains(&(missed.topic, missed.subscriber)) && missed.reason == reason
    };
    let (told, other): (Vec<&Missed>, Vec<&Missed>) = verdict.missed.iter().partition(expected);
    let told: BTreeSet<_> = told
        .iter()
        .map(|missed| (missed.topic, missed.subscriber))
        .collect();
    report.exactly(
        "channels told that their topic began anew",
        told.len(),
        channels.len(),
    );
    let other: Vec<String> = other.iter().map(ToString::to_string).collect();
    report.none("told to be missed, and not of that topic server", &other);
    let lost: usize = verdict.missed.iter().map(|missed| missed.publications).sum();
    report.tell("deliveries that were told to be missed", lost);
    enter(&story, &verdict, &mut report);
    end(cluster, report)
}

/// The crew's topics in the slots of this node.
async fn owned_by(cluster: &Cluster, node: &str) -> Result<BTreeSet<TopicNumber>> {
    let topics = cluster.topics("topics:kept").await?;
    let owned = topics.iter().filter(|(_, listed)| listed.owner == node);
    owned
        .map(|(name, _)| number(name).with_context(|| format!("{name} is none of the crew's")))
        .collect()
}

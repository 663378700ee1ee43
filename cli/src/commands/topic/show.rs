//! `ringcast topic show TOPIC`.

use anyhow::{Context, Result, bail};
use ringcast_proto::Topic;
use ringcast_proto::v1::ShowTopicRequest;

use super::Summary;
use crate::cluster::{Cluster, failed, request, topic_server};
use crate::output::{Output, printable};

/// Prints what the owner of `topic` knows of it.
pub(crate) async fn show(cluster: &Cluster, topic: &Topic, output: Output) -> Result<()> {
    let owned = cluster.owner(topic)?;
    let ask = ShowTopicRequest {
        topic: topic.to_string(),
    };
    let mut client = topic_server(&owned.address)?;
    let reply = client
        .show_topic(request(ask))
        .await
        .map_err(|status| failed(&owned.owner, &owned.address, &status))?;
    let reply = reply.into_inner();
    if reply.not_owner {
        bail!("slot {} is changing its owner: try again", owned.slot);
    }
    let summary = reply.topic.with_context(|| {
        format!(
            "topic {topic} does not live now (slot {}, owner {}): nobody has joined it and it has no history",
            owned.slot, owned.owner.node
        )
    })?;
    output.print(&Summary::of(summary, owned.owner.node.as_str()), people)
}

fn people(topic: &Summary) -> String {
    let groups = topic
        .groups
        .iter()
        .map(|group| format!("{} on {}", group.members, group.gateway));
    let groups: Vec<String> = groups.collect();
    let rows = [
        ("topic", printable(&topic.topic)),
        ("slot", topic.slot.to_string()),
        (
            "owner",
            format!("{} (owner epoch {})", topic.owner, topic.owner_epoch),
        ),
        ("epoch", topic.epoch.clone()),
        ("offset", topic.offset.to_string()),
        (
            "members",
            match groups.is_empty() {
                true => topic.members.to_string(),
                false => format!("{}: {}", topic.members, groups.join(", ")),
            },
        ),
        (
            "history",
            format!(
                "{} publications, {} bytes",
                topic.history.len, topic.history.bytes
            ),
        ),
        ("ids", format!("of {} publishes remembered", topic.ids)),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<8} {value}\n"))
        .collect()
}

//! `ringcast topic ls`: every owner is asked, at once.

use anyhow::Result;
use futures_util::future::try_join_all;
use ringcast_proto::v1::ListTopicsRequest;
use serde::Serialize;

use super::Summary;
use crate::cluster::{Cluster, failed, request, topic_server};
use crate::output::{Output, table};

#[derive(Serialize)]
struct Topics {
    topics: Vec<Summary>,
    truncated: bool,
}

/// Prints at most `limit` topics that begin with `prefix`, in order.
pub(crate) async fn list(cluster: &Cluster, prefix: &str, limit: u32, output: Output) -> Result<()> {
    let table_of_slots = cluster.table()?;
    let asked = table_of_slots.topic_servers().map(|(node, address)| async move {
        let ask = ListTopicsRequest {
            prefix: prefix.to_owned(),
            limit,
        };
        let reply = topic_server(address)?
            .list_topics(request(ask))
            .await
            .map_err(|status| failed(&node, address, &status))?;
        anyhow::Ok((node, reply.into_inner()))
    });
    let mut found = Topics {
        topics: Vec::new(),
        truncated: false,
    };
    for (node, reply) in try_join_all(asked).await? {
        found.truncated |= reply.truncated;
        found.topics.extend(
            reply
                .topics
                .into_iter()
                .map(|topic| Summary::of(topic, node.node.as_str())),
        );
    }
    found.topics.sort_by(|a, b| a.topic.cmp(&b.topic));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    found.truncated |= found.topics.len() > limit;
    found.topics.truncate(limit);
    output.print(&found, people)
}

fn people(found: &Topics) -> String {
    if found.topics.is_empty() {
        return "no topic: one lives from its first join or publish until it is idle".to_owned();
    }
    let rows = found.topics.iter().map(|topic| {
        vec![
            topic.topic.clone(),
            topic.slot.to_string(),
            topic.owner.clone(),
            topic.members.to_string(),
            topic.offset.to_string(),
            topic.history.len.to_string(),
        ]
    });
    let listed = table(
        &["topic", "slot", "owner", "members", "offset", "history"],
        &[1, 3, 4, 5],
        rows,
    );
    if found.truncated {
        format!("{listed}\n... and more: --prefix or --limit shows others")
    } else {
        listed
    }
}

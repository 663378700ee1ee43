//! What comes along with a topic that is pinned: all that share its slot.

use std::fmt;

use anyhow::Result;
use ringcast_proto::v1::ListTopicsRequest;
use ringcast_proto::{NodeId, Slot, Topic};
use serde::Serialize;

use super::wish::Pinned;
use crate::cluster::{Cluster, request, topic_server};
use crate::output::printable;

/// So many topics are named.
const EXAMPLES_MAX: usize = 10;

/// A pinned topic and its slot. Prints as a sentence.
#[derive(Debug, Serialize)]
pub(crate) struct Pin {
    topic: String,
    slot: Slot,
    node: NodeId,
    /// Topics of the slot that live now, the pinned one among them if it does; none where its owner did not say.
    topics: Option<u64>,
    /// Some of them.
    examples: Vec<String>,
}

/// Asks the owner of the slot.
pub(super) async fn pin(cluster: &Cluster, pinned: Pinned) -> Pin {
    let topics = topics_beside(cluster, &pinned.topic).await.ok();
    Pin {
        topic: pinned.topic.to_string(),
        slot: pinned.slot,
        node: pinned.node,
        topics: topics.as_ref().map(|topics| topics.len() as u64),
        examples: topics
            .unwrap_or_default()
            .into_iter()
            .take(EXAMPLES_MAX)
            .collect(),
    }
}

async fn topics_beside(cluster: &Cluster, topic: &Topic) -> Result<Vec<String>> {
    let owned = cluster.owner(topic)?;
    let everything = ListTopicsRequest {
        prefix: String::new(),
        limit: u32::MAX,
    };
    let mut client = topic_server(&owned.address)?;
    let listed = client.list_topics(request(everything)).await?.into_inner();
    let beside = listed.topics.into_iter();
    let beside = beside.filter(|topic| topic.slot == u32::from(owned.slot.0));
    Ok(beside.map(|topic| topic.topic).collect())
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = printable(&self.topic);
        let along = match self.topics {
            None => "which topics come along is unknown: its owner did not say".to_owned(),
            Some(0) => "no topic lives in it now".to_owned(),
            Some(topics) => {
                let names: Vec<String> = self.examples.iter().map(|name| printable(name)).collect();
                let more = if topics > names.len() as u64 { ", ..." } else { "" };
                format!(
                    "{} in it now: {}{more}",
                    match topics {
                        1 => "1 topic lives".to_owned(),
                        topics => format!("{topics} topics live"),
                    },
                    names.join(", ")
                )
            }
        };
        write!(
            f,
            "{topic} is in slot {}, which is pinned to {}; {along}",
            self.slot, self.node
        )
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_pin_says_which_topics_come_along() {
        let pinned = |topics, examples: &[&str]| Pin {
            topic: "room:a".to_owned(),
            slot: Slot(9),
            node: NodeId::parse("ts-1").unwrap(),
            topics,
            examples: examples.iter().map(|&name| name.to_owned()).collect(),
        };
        expect!["room:a is in slot 9, which is pinned to ts-1; 3 topics live in it now: room:a, room:z, ..."]
            .assert_eq(&pinned(Some(3), &["room:a", "room:z"]).to_string());
        expect!["room:a is in slot 9, which is pinned to ts-1; no topic lives in it now"]
            .assert_eq(&pinned(Some(0), &[]).to_string());
        expect!["room:a is in slot 9, which is pinned to ts-1; which topics come along is unknown: its owner did not say"]
            .assert_eq(&pinned(None, &[]).to_string());
    }
}

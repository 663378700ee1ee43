//! Gateways that publish all the time, and what came of it.

use std::collections::BTreeMap;

use ringcast_ring_store::AnyStore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Gateway, publish};

/// What publishers did: for every topic, who published what at which offset.
#[derive(Default)]
pub(crate) struct Published(BTreeMap<String, Vec<(u64, String)>>);

/// Publishers that go on until they are told to end, each a gateway with a member in none of the topics.
pub(crate) struct Publishers {
    tasks: JoinSet<Vec<(String, u64, String)>>,
    end: CancellationToken,
}

impl Publishers {
    pub(crate) async fn start(len: usize, store: &AnyStore, topics: &[String]) -> Publishers {
        let (mut tasks, end) = (JoinSet::new(), CancellationToken::new());
        for p in 0..len {
            let gateway = Gateway::start(&format!("gw-p{p}"), store).await;
            let (topics, end) = (topics.to_vec(), end.clone());
            tasks.spawn(async move {
                let mut published = Vec::new();
                // Numbers belong to a slot, so these rise in each.
                for n in 0.. {
                    if end.is_cancelled() {
                        break;
                    }
                    let (topic, payload) = (&topics[n % topics.len()], format!("{p}:{n}"));
                    let call = vec![publish(topic, n as u64 + 1, &payload)];
                    let offsets = gateway.publish(topic, call.clone()).await;
                    if n % 7 == 0 {
                        // Its answer may as well have been lost.
                        assert_eq!(gateway.publish(topic, call).await, offsets, "the kept outcome");
                    }
                    published.push((topic.clone(), offsets[0], payload));
                }
                published
            });
        }
        Publishers { tasks, end }
    }

    pub(crate) async fn end(mut self) -> Published {
        self.end.cancel();
        let mut published = Published::default();
        while let Some(ended) = self.tasks.join_next().await {
            for (topic, offset, payload) in ended.unwrap() {
                published.0.entry(topic).or_default().push((offset, payload));
            }
        }
        for lines in published.0.values_mut() {
            lines.sort();
        }
        published
    }
}

impl Published {
    /// Checks that `members` got all of it and nothing else, in one order without holes.
    pub(crate) async fn came_whole_to(&self, members: &Gateway) {
        for (topic, published) in &self.0 {
            let received = members.receive(topic, published.len()).await;
            let lines = published
                .iter()
                .map(|(offset, payload)| format!("{offset} {payload}"));
            assert!(lines.eq(received), "{topic}");
            let offsets = published.iter().map(|(offset, _)| *offset);
            assert!(offsets.eq(1..=published.len() as u64), "{topic}: doubled or lost");
        }
        let all: usize = self.0.values().map(Vec::len).sum();
        assert_eq!(members.received(), all);
    }
}

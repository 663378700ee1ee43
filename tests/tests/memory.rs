//! What topics cost, small enough for a busy machine; `scripts/soak memory` has a million of them.

#![cfg(target_os = "linux")]

use std::time::Duration;

use anyhow::Result;
use ringcast_tests::scenario::memory::{Scale, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_server_has_room_for_a_million_topics_in_a_gib_and_leaves_idle_ones_alone() -> Result<()> {
    let scale = Scale {
        topics: 20_000,
        steps: 4,
        gateways: 2,
        idle: Duration::from_secs(2),
        topic_bytes: (1u64 << 30) as f64 / 1e6,
        histories: 100,
        publications: 100,
        payload_bytes: 200,
    };
    run(scale).await?.check()
}

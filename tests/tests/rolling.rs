//! Topic servers are upgraded one after the other under load, and nobody notices. Gateways: `clients/`.

use std::time::Duration;

use anyhow::Result;
use ringcast_tests::load::MOVES;
use ringcast_tests::scenario::Bars;
use ringcast_tests::scenario::rolling::{Scale, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_the_topic_servers_loses_doubles_and_reorders_nothing() -> Result<()> {
    let scale = Scale {
        load: MOVES,
        // A quarter of the usual: enough moves, and no minute of them.
        slots: Some(256),
        rounds: 1,
        baseline: Duration::from_secs(3),
        bars: Bars::BUSY,
        exit: Duration::from_secs(20),
    };
    run(scale).await?.check()
}

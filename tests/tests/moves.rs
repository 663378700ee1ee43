//! The ring changes under load, and nobody notices.

use std::time::Duration;

use anyhow::Result;
use ringcast_tests::load::MOVES;
use ringcast_tests::scenario::Bars;
use ringcast_tests::scenario::moves::{Scale, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_add_weigh_abort_and_remove_lose_double_and_reorder_nothing_and_hold_nobody_up() -> Result<()> {
    let scale = Scale {
        load: MOVES,
        // A quarter of the usual: enough moves, and no minute of them.
        slots: Some(256),
        baseline: Duration::from_secs(5),
        rounds: 1,
        moves_min: 300,
        bars: Bars::BUSY,
    };
    run(scale).await?.check()
}

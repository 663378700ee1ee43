//! One slow reader costs the others nothing, and is told what it costs itself. Sizes are those that a small busy machine
//! holds; `scripts/soak slow` has the full ones.

use std::time::Duration;

use anyhow::Result;
use ringcast_tests::scenario::slow::{Scale, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_gaps_and_is_named_and_the_fast_ones_do_not_notice() -> Result<()> {
    let scale = Scale {
        readers: 20,
        publishes_per_second: 50,
        // Large, so that a second of it fills what the kernel holds.
        payload_bytes: 8000,
        slow_bytes_per_second: 1000,
        before: Duration::from_secs(3),
        until_named: Duration::from_secs(60),
        // Other tests come and go beside it.
        factor: 3.0,
        unnoticed: Duration::from_millis(250),
    };
    run(scale).await?.check()
}

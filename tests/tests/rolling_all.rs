//! Every process is restarted in turn under the load of clients that resume, and nobody misses anything.

use std::time::Duration;

use anyhow::Result;
use ringcast_tests::resuming::Shape;
use ringcast_tests::scenario::resume;
use ringcast_tests::scenario::rolling_all::{Scale, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_every_process_loses_doubles_and_reorders_nothing_for_who_resumes() -> Result<()>
{
    let scale = Scale {
        crew: resume::Scale {
            crew: Shape {
                topics: 50,
                subscribers: 6,
                sockets: 60,
                publishes_per_second: 250,
                sendings: 1,
            },
            // Enough slots to move, and no minute of them.
            slots: Some(128),
        },
        rounds: 1,
        // What a client has until it must be told that nobody knows.
        longest_publish: Duration::from_secs(10),
    };
    run(scale).await?.check()
}

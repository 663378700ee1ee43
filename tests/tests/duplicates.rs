//! A publish with an id takes effect once, however often it is sent, through whichever gateways.

use anyhow::Result;
use ringcast_tests::resuming::Shape;
use ringcast_tests::scenario::duplicates::run;
use ringcast_tests::scenario::resume::Scale;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_three_times_over_two_gateways_takes_effect_once_also_across_moves() -> Result<()> {
    let scale = Scale {
        crew: Shape {
            topics: 20,
            subscribers: 4,
            sockets: 40,
            publishes_per_second: 100,
            sendings: 3,
        },
        slots: Some(64),
    };
    run(scale, 1).await?.check()
}

//! Slots with much in them change hands. Sizes and bars are those that a small busy machine holds; `scripts/soak` has the
//! full ones.

use std::time::Duration;

use anyhow::Result;
use ringcast_tests::scenario::big_slots::{Members, Topics, members, topics};

const PAUSE: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_with_20_000_topics_moves_within_2_s_and_takes_no_publish_for_a_moment_only() -> Result<()> {
    let scale = Topics {
        topics: 20_000,
        publications: 1,
        bytes: 900,
        topics_per_second: 10_000.0,
        pause: PAUSE,
    };
    topics(scale).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_many_members_moves_and_each_of_them_goes_on_where_it_was() -> Result<()> {
    let scale = Members {
        members: 2000,
        pause: PAUSE,
    };
    members(scale).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_histories_move_whole() -> Result<()> {
    let scale = Topics {
        topics: 10,
        publications: 300,
        bytes: 3000,
        topics_per_second: 1.0,
        pause: PAUSE,
    };
    topics(scale).await?.check()
}

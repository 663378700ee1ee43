//! Clients that resume lose their gateway, their topic's place or its owner, or their connection for a while: each has
//! everything that was acknowledged, once and in order, or was told what it misses.

use std::time::Duration;

use anyhow::Result;
use ringcast_tests::resuming::Shape;
use ringcast_tests::scenario::resume::{self, Scale};

/// Ten topics at 5 publishes a second, five subscribers each: every socket has one or two of them.
const SCALE: Scale = Scale {
    crew: Shape {
        topics: 20,
        subscribers: 5,
        sockets: 40,
        publishes_per_second: 200,
        sendings: 1,
    },
    // A plan of few slots is soon done.
    slots: Some(64),
};

/// Few topics that go on quickly.
const QUICK: Scale = Scale {
    crew: Shape {
        topics: 4,
        subscribers: 5,
        sockets: 10,
        publishes_per_second: 200,
        sendings: 1,
    },
    slots: Some(64),
};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_its_gateway_by_kill_9_resumes_at_another_and_its_publishes_take_effect_once() -> Result<()>
{
    resume::killed(SCALE).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_sent_away_by_a_gateway_that_leaves_resumes_at_another() -> Result<()> {
    resume::drained(SCALE).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_away_while_its_topic_moves_there_and_back_resumes() -> Result<()> {
    resume::moved_twice(SCALE).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_150_publications_gets_them_before_anything_newer() -> Result<()> {
    resume::away(QUICK, 150, MINUTE).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_more_than_a_join_recovers_is_told_and_goes_on_from_the_head() -> Result<()> {
    resume::away_for_too_long(QUICK, 320, MINUTE).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_server_killed_is_told_to_those_who_were_there_by_a_gap_and_to_those_who_were_not_by_their_join()
-> Result<()> {
    resume::owner_killed(SCALE).await?.check()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_happens_nothing_is_told() -> Result<()> {
    resume::undisturbed(QUICK, 100).await?.check()
}

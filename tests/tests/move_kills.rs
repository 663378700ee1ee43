//! kill -9 in the middle of moves, with one copy: what is lost is lost of the killed one's slots alone.

use anyhow::Result;
use ringcast_tests::load::{KILLS, Shape};
use ringcast_tests::scenario::move_kills::{Scale, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_target_or_planner_killed_in_a_move_costs_its_own_slots_6_s_and_others_nothing() -> Result<()>
{
    let scale = Scale {
        load: Shape {
            publishes_per_second: 500,
            ..KILLS
        },
        // A quarter of the usual: a plan takes seconds, and most kills hit it.
        slots: Some(256),
        kills: 6,
        // Another one each run: what it found can be had again by writing it here.
        seed: u64::from(std::process::id()),
    };
    run(scale).await?.check()
}

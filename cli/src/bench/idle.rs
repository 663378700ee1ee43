//! `bench idle`: what a connection costs that has joined a topic and is quiet.
//!
//! *Invariant:* what the servers had before the first connection is not counted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::args::IdleArgs;
use super::floor::{self, Floor};
use super::progress::Progress;
use super::report::{IdleReport, Moment};
use super::servers::{self, Named};
use super::workers::{self, Worker};

/// Runs it, on the floor first if that is asked for.
pub(crate) async fn run(args: &IdleArgs) -> Result<IdleReport> {
    servers::sample(&args.target.pids)?; // a wrong --pid is told before the work
    if !args.floor {
        return on(args).await;
    }
    let floor = Floor::start(floor::PLAIN).await?;
    let on_floor = IdleArgs {
        target: floor.target(&args.target),
        ..args.clone()
    };
    let below = on(&on_floor).await.context("load the floor server")?;
    drop(floor);
    Ok(on(args).await?.with_floor(below))
}

async fn on(args: &IdleArgs) -> Result<IdleReport> {
    let target = &args.target;
    let before = servers::sample(&target.pids)?;
    let started = Instant::now();
    let flags = [("--concurrency", args.open.concurrency.to_string())];
    let mut workers = workers::start("idle-worker", target, args.connections, args.members, &flags)?;
    let clients: Vec<Named> = workers.iter().map(|worker| worker.process.clone()).collect();
    let mut course = Vec::new();
    let mut look = |joined| {
        let now = servers::sample_again(&target.pids, &before);
        course.push(Moment {
            at: started.elapsed(),
            joined,
            rss_bytes: match now.is_empty() {
                true => None,
                false => now.iter().map(|sample| Some(sample.as_ref()?.rss_bytes)).sum(),
            },
        });
    };
    look(0);
    join(&mut workers, args.connections, target.quiet, &mut look).await?;
    let joining = started.elapsed();
    look(args.connections);
    let joined = servers::sample_again(&target.pids, &before);
    hold("holding", args.hold, target.quiet).await;
    let held = servers::sample_again(&target.pids, &before);
    look(args.connections);
    let none = vec![None; clients.len()];
    let now = servers::sample(&clients)?;
    let mut client = servers::costs(&clients, &none, &now);
    for (cost, now) in client.iter_mut().zip(now) {
        cost.cpu_us = now.map(|sample| sample.cpu_us); // of its whole life
    }
    let mut closed = 0;
    for worker in workers {
        closed += worker.end().await?;
    }
    Ok(IdleReport::new(
        args,
        joining,
        &servers::costs(&target.pids, &before, &joined),
        servers::costs(&target.pids, &before, &held),
        &servers::costs(&target.pids, &joined, &held),
        client,
        closed,
    )
    .with_course(course))
}

/// Waits until no more of the workers' connections will join, and tells `on_joined` now and then how many have.
pub(crate) async fn join(
    workers: &mut [Worker],
    connections: u32,
    quiet: bool,
    mut on_joined: impl FnMut(u32),
) -> Result<()> {
    let progress = Progress::start("joining", connections.into(), quiet);
    // One after another is soon enough: they join at the same time, and what a worker says waits in its pipe.
    let mut before = 0;
    for worker in workers {
        while !worker.listen().await? {
            progress.set(u64::from(before + worker.joined), String::new);
            on_joined(before + worker.joined);
        }
        before += worker.joined;
    }
    Ok(())
}

/// Lets time pass.
pub(crate) async fn hold(what: &'static str, time: Duration, quiet: bool) {
    let progress = Progress::start(what, time.as_secs(), quiet);
    let started = Instant::now();
    while let Some(left) = time.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        progress.set(started.elapsed().as_secs(), || "s".to_owned());
        tokio::time::sleep(left.min(Duration::from_millis(200))).await;
    }
}

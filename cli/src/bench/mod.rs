//! `ringcast bench`: a load generator that accounts for every message.
//!
//! It promises that what it reports was observed: subscribers check the number and the topic of every single delivery,
//! latencies run from when a message was due to when a subscriber had read it, and what the servers cost is read from
//! the system, with the generator's own cost kept apart.
//! *Invariant:* it knows of Ringcast only what every client knows, the wire.
//! Leaves out: starting servers.

mod accounting;
mod args;
mod client;
mod crowd;
mod frames;
mod histogram;
mod idle;
mod load;
mod progress;
mod publisher;
mod report;
mod servers;
mod tally;
mod url;
mod wire;
mod worker;

use std::time::SystemTime;

use anyhow::{Context, Result};
use tokio::task::LocalSet;

pub(crate) use args::BenchCommand;
use load::Shape;

use crate::output::Output;

/// Runs a scenario, prints what it found, and says whether everything arrived as it should.
pub(crate) fn run(command: &BenchCommand, output: Output) -> Result<bool> {
    crate::roles::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let clean = LocalSet::new().block_on(&runtime, scenario(command, output));
    runtime.shutdown_background();
    clean
}

async fn scenario(command: &BenchCommand, output: Output) -> Result<bool> {
    let (shape, target, load) = match command {
        BenchCommand::Fanout(args) => {
            let shape = Shape {
                scenario: "fanout",
                topics: 1,
                subscribers: args.subscribers,
                publishers: 1,
            };
            (shape, &args.target, &args.load)
        }
        BenchCommand::Topics(args) => {
            let shape = Shape {
                scenario: "topics",
                topics: args.topics,
                subscribers: args.subscribers,
                publishers: args.publishers.min(args.topics),
            };
            (shape, &args.target, &args.load)
        }
        BenchCommand::Idle(args) => {
            let report = idle::run(args).await?;
            output.print(&report, |report| report.text())?;
            return Ok(report.is_clean());
        }
        BenchCommand::IdleWorker(args) => {
            worker::run(args).await?;
            return Ok(true);
        }
    };
    let report = load::run(shape, target, load).await?;
    output.print(&report, |report| report.text())?;
    Ok(report.is_clean())
}

/// Tells the topics of this run from those of another.
fn run_id() -> u32 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros());
    (now as u32) ^ std::process::id().rotate_left(16) // the low bits, which change
}

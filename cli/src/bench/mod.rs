//! `ringcast bench`: a load generator that accounts for every message.
//!
//! It promises that what it reports was observed: subscribers check the number and the topic of every single delivery,
//! latencies run from when a message was due to when a subscriber had read it or its publisher the answer, and what the
//! servers cost is read from the system, with the generator's own cost kept apart.
//! *Invariant:* it knows of Ringcast only what every client knows, the wire; and no closed connection, refused publish or
//! missing answer is without a count, a line on stderr and exit code 1, unless `--reconnect` asked for it.
//! Leaves out: starting servers.

mod accounting;
mod args;
mod backoff;
mod client;
mod crowd;
mod entry;
mod floor;
mod frames;
mod histogram;
mod idle;
mod idle_worker;
mod load;
mod measure;
mod page;
mod progress;
mod publisher;
mod publishing;
mod quantiles;
mod reasons;
mod report;
mod resume;
mod said;
mod servers;
mod state;
mod storm;
mod storm_worker;
mod subscriber;
mod tally;
mod timing;
mod url;
mod values;
mod wire;
mod workers;

use std::io::Write;
use std::time::SystemTime;

use anyhow::{Context, Result};
use tokio::task::LocalSet;

pub(crate) use args::BenchCommand;
use args::{PageArgs, TargetArgs};
use load::Shape;
use report::Report;

use crate::output::Output;

/// Runs a scenario, prints what it found, and says whether everything was as it should.
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
    match command {
        BenchCommand::Fanout(args) => {
            let shape = Shape {
                scenario: "fanout",
                topics: 1,
                subscribers: args.subscribers,
                publishers: 1,
            };
            look(&args.target, &args.page).await?;
            let report = load::run(shape, &args.target, &args.open, &args.load).await?;
            tell(&report, output, &args.page)
        }
        BenchCommand::Topics(args) => {
            let shape = Shape {
                scenario: "topics",
                topics: args.topics,
                subscribers: args.subscribers,
                publishers: args.publishers.min(args.topics),
            };
            look(&args.target, &args.page).await?;
            let report = load::run(shape, &args.target, &args.open, &args.load).await?;
            tell(&report, output, &args.page)
        }
        BenchCommand::Idle(args) => {
            look(&args.target, &args.page).await?;
            tell(&idle::run(args).await?, output, &args.page)
        }
        BenchCommand::Storm(args) => {
            look(&args.target, &args.page).await?;
            tell(&storm::run(args).await?, output, &args.page)
        }
        BenchCommand::Resume(args) => {
            look(&args.target, &args.page).await?;
            tell(&resume::run(args).await?, output, &args.page)
        }
        BenchCommand::FloorServer(args) => floor::run(args).await.map(|()| true),
        BenchCommand::IdleWorker(args) => idle_worker::run(args).await.map(|()| true),
        BenchCommand::StormWorker(args) => storm_worker::run(args).await.map(|()| true),
    }
}

/// A wrong `--url` or `--html` is told once and before the work, not by every client or after it.
async fn look(target: &TargetArgs, page: &PageArgs) -> Result<()> {
    page::check(page.html.as_ref())?;
    for url in &target.urls {
        client::connect(url)
            .await
            .with_context(|| format!("connect to {url}"))?;
    }
    Ok(())
}

fn tell<R: Report>(report: &R, output: Output, page: &PageArgs) -> Result<bool> {
    output.print(report, R::text)?;
    if let Some(path) = &page.html {
        page::write(path, report)?;
    }
    let problems = report.problems();
    if !problems.is_empty() {
        // Whoever closed stderr has the exit code.
        writeln!(std::io::stderr(), "not clean: {}", problems.join("; ")).ok();
    }
    Ok(problems.is_empty())
}

/// Tells the topics of this run from those of another.
fn run_id() -> u32 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros());
    (now as u32) ^ std::process::id().rotate_left(16) // the low bits, which change
}

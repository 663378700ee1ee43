//! `bench storm`: everybody comes at once, and again after everybody was cut off.
//!
//! The clients are in other processes (`storm_worker`), and come back as those of phoenix.js do.
//! *Invariant:* a join counts from the moment when all wanted in, whatever had to be waited for and tried again.

use std::time::Instant;

use anyhow::{Context, Result};

use super::args::StormArgs;
use super::floor::{self, Floor};
use super::histogram::Histogram;
use super::idle::{hold, join};
use super::quantiles::Quantiles;
use super::reasons::Reasons;
use super::report::{Round, StormReport, of_times};
use super::said::Told;
use super::servers::{self, Named};
use super::workers::{self, Worker};

/// Runs it, on the floor first if that is asked for.
pub(crate) async fn run(args: &StormArgs) -> Result<StormReport> {
    servers::sample(&args.target.pids)?; // a wrong --pid is told before the work
    if !args.floor {
        return on(args).await;
    }
    let floor = Floor::start(floor::PLAIN).await?;
    let on_floor = StormArgs {
        target: floor.target(&args.target),
        ..args.clone()
    };
    let below = on(&on_floor).await.context("load the floor server")?;
    drop(floor);
    Ok(on(args).await?.with_floor(below))
}

async fn on(args: &StormArgs) -> Result<StormReport> {
    let target = &args.target;
    let servers_before = servers::sample(&target.pids)?;
    let flags = [("--deadline-ms", args.deadline.as_millis().to_string())];
    let mut workers = workers::start("storm-worker", target, args.clients, args.members, &flags)?;
    for worker in &mut workers {
        worker.ready().await?;
    }
    let clients: Vec<Named> = workers.iter().map(|worker| worker.process.clone()).collect();
    let clients_before = servers::sample(&clients)?;
    let mut join_ns = Histogram::new();
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        let round = round(args, &mut workers, &mut join_ns).await;
        rounds.push(round.with_context(|| format!("round {number}"))?);
    }
    let clients_after = servers::sample_again(&clients, &clients_before);
    let servers_after = servers::sample_again(&target.pids, &servers_before);
    for worker in workers {
        worker.end().await?;
    }
    Ok(StormReport::new(
        args,
        rounds,
        Quantiles::of(&join_ns),
        servers::costs(&target.pids, &servers_before, &servers_after),
        servers::costs(&clients, &clients_before, &clients_after),
    ))
}

async fn round(args: &StormArgs, workers: &mut [Worker], of_all_rounds: &mut Histogram) -> Result<Round> {
    let target = &args.target;
    let before = servers::sample(&target.pids).unwrap_or_else(|_| vec![None; target.pids.len()]);
    let started = Instant::now();
    for worker in workers.iter_mut() {
        worker.tell(Told::Come).await?;
    }
    join(workers, args.clients, target.quiet, |_| {}).await?;
    let waited = started.elapsed();
    let joined: u32 = workers.iter().map(|worker| worker.joined).sum();
    let costs = servers::costs(
        &target.pids,
        &before,
        &servers::sample_again(&target.pids, &before),
    );
    hold("holding", args.hold, target.quiet).await;
    let (mut join_ns, mut failures, mut closed) = (Histogram::new(), Reasons::default(), Reasons::default());
    for worker in workers.iter_mut() {
        let part = worker.round().await?;
        failures.merge(&part.failures);
        closed.merge(&part.closed);
        for ns in part.join_ns {
            join_ns.record(ns);
            of_all_rounds.record(ns);
        }
    }
    let not_joined = u64::from(args.clients.saturating_sub(joined));
    let seconds = match not_joined {
        0 => join_ns.max() as f64 / 1e9,
        _ => waited.as_secs_f64(),
    };
    Ok(Round {
        seconds,
        joins: join_ns.len(),
        not_joined,
        joins_per_s: join_ns.len() as f64 / seconds,
        join_us: Quantiles::of(&join_ns),
        failures: failures.total(),
        failures_because: failures,
        closed: closed.total(),
        closed_because: closed,
        server_cpu_us_per_join: match costs.is_empty() {
            true => None,
            false => servers::cpu_us(&costs).map(|us| us as f64 / join_ns.len().max(1) as f64),
        },
        server_rss_bytes: match costs.is_empty() {
            true => None,
            false => costs.iter().map(|cost| cost.rss_after_bytes).sum(),
        },
        curve: of_times(&join_ns),
    })
}

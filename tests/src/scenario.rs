//! What is done to a cluster under load, and what must come of it: small in the tests, at full size in `scripts/soak`.
//!
//! A scenario takes a scale and gives a [`Report`]. *Invariant:* one that fails, or misses a bar, prints what its
//! processes logged.
//! Leaves out: what is too much (the scales of the tests and of the soak).

mod bars;
pub mod big_slots;
mod dice;
pub mod duplicates;
pub mod memory;
pub mod move_kills;
pub mod moves;
mod report;
pub mod resume;
pub mod rolling;
pub mod rolling_all;
pub mod slow;

use std::time::Duration;

use anyhow::{Context, Result};

pub use self::bars::Bars;
pub use self::report::Report;
use crate::cluster::Shape;
use crate::ledger::{Account, Window};
use crate::load::{self, Load};
use crate::{Cluster, wait};

/// The metric of how long a slot took no publish while it changed hands.
const PAUSES: &str = "ringcast_move_pause_seconds";

/// A cluster with a load that is served.
async fn start(shape: Shape, load: load::Shape) -> Result<(Cluster, Load)> {
    let cluster = Cluster::start(shape).await?;
    let load = Load::start(load, &[cluster.listen("gw-1")?, cluster.listen("gw-2")?]).await?;
    load.served(Duration::ZERO, &load.topics(), wait::SOON)
        .await
        .context("before anything was done")?;
    Ok((cluster, load))
}

/// Lets the load run for a while before anything is done. Gives that time, and how long a change of the store takes in it.
async fn baseline(cluster: &Cluster, load: &Load, time: Duration) -> Result<(Window, Duration)> {
    let from = load.now();
    let folder = cluster.folder().to_owned();
    let probe = tokio::task::spawn_blocking(move || bars::change_p99(&folder));
    load.run(time).await;
    let change = probe.await.context("probe")?.context("write to the folder")?;
    Ok((Window { from, to: load.now() }, change))
}

/// Enters what must not have happened to publishes and deliveries outside the windows.
fn enter(account: &Account, publishes_min: usize, disturbances: &[String], report: &mut Report) {
    report.at_least("publishes that count", account.exact, publishes_min);
    for (what, list) in [
        ("lost", &account.lost),
        ("doubled", &account.doubled),
        ("reordered", &account.reordered),
        ("refused", &account.refused),
        ("not answered", &account.unanswered),
        ("invented", &account.invented),
        ("divided", &account.divided),
    ] {
        report.none(what, list);
    }
    report.none("clients closed or told of trouble", disturbances);
}

/// The end of every scenario: its report, and its cluster without a panic. One that missed a bar is not finished, and
/// so prints its logs.
fn end(cluster: Cluster, report: Report) -> Result<Report> {
    if report.is_met() {
        cluster.finish()?;
    }
    eprintln!("{report}");
    Ok(report)
}

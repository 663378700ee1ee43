//! Every topic server restarted in turn, under load, as an upgrade does it: nobody may notice.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::bars::noise;
use super::moves::enter_pauses;
use super::{Bars, Report, baseline, end, enter, start};
use crate::cluster::Shape;
use crate::ledger::Window;
use crate::load;

/// Longer than a topic server takes to leave, moves or not.
const EXIT_DEADLINE: Duration = Duration::from_secs(40);

/// How much, how often, and what is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The load.
    pub load: load::Shape,
    /// Slots of the ring; `None`: as many as the product thinks right.
    pub slots: Option<u16>,
    /// How often all are restarted.
    pub rounds: usize,
    /// How long the load runs before anything is restarted.
    pub baseline: Duration,
    /// What is allowed.
    pub bars: Bars,
    /// How long a topic server may take from SIGTERM to its end.
    pub exit: Duration,
}

/// SIGTERM to each topic server, and when it has ended it is started again; the next one as soon as it is ready.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn run(scale: Scale) -> Result<Report> {
    let shape = Shape {
        slots: scale.slots,
        ..Shape::default()
    };
    let (mut cluster, load) = start(shape, scale.load).await?;
    let (baseline, change_p99) = baseline(&cluster, &load, scale.baseline).await?;
    let (mut ended, mut exits, mut left) = (Vec::new(), Vec::new(), 0);
    for _ in 0..scale.rounds {
        for name in cluster.running("ts-") {
            left += cluster.ring().await?.owned(&name);
            ended.extend(cluster.ended_moves(&name, "").await?);
            let (code, took) = cluster.terminate(&name, EXIT_DEADLINE).await?;
            ensure!(code == 0, "{name} ended with {code}");
            exits.push(took);
            cluster.start_again(&name)?;
            cluster.ready(&name).await?;
        }
    }
    let restarting = Window {
        from: baseline.to,
        to: load.now(),
    };
    // Who came back gets its share again, by itself.
    let rest = cluster.at_rest(Duration::from_secs(60)).await?;
    let ring = cluster.ring().await?;
    for (node, (state, owned)) in &ring.nodes {
        ensure!(
            state == "up" && *owned > 0,
            "{node} came back and got nothing: {ring:?}"
        );
    }
    ended.extend(cluster.all_ended_moves().await?);
    let ledger = load.stop(&[]).await?;

    let mut report = Report::new(format!(
        "Rolling restart of the topic servers, {} restarts: {} publishes/s on {} topics x {} members",
        exits.len(),
        scale.load.publishes_per_second,
        scale.load.topics,
        scale.load.members
    ));
    report.at_least("slots that had to leave", left, ring.slots);
    report.below(
        "from SIGTERM to the end",
        exits.iter().max().copied().unwrap_or_default(),
        scale.exit,
    );
    report.tell("slots at home again after", format!("{rest:.1?}"));
    let (before, during) = (ledger.timing(baseline), ledger.timing(restarting));
    let bars = scale.bars.on(noise(&before, change_p99));
    enter_pauses(&ended, bars.pause_p99, &mut report);
    report.tell(
        "a change of the store, p99 on this disk",
        format!("{change_p99:.1?}"),
    );
    report.tell("publishes without restarts", &before);
    report.tell("publishes with restarts", &during);
    report.below("longest publish", during.longest_publish, bars.longest_publish);
    enter(&ledger.account(|_| None), 1000, &ledger.disturbances, &mut report);
    end(cluster, report)
}

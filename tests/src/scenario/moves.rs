//! Every change of the ring, one after another, under load: nobody may notice.

use std::time::Duration;

use anyhow::{Result, ensure};
use ringcast_proto::v1::EndedMove;

use super::bars::noise;
use super::{Bars, PAUSES, Report, baseline, end, enter, start};
use crate::Cluster;
use crate::cluster::Shape;
use crate::ledger::{Window, quantile};
use crate::load;

/// How much, how long, and what is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The load.
    pub load: load::Shape,
    /// Slots of the ring; `None`: as many as the product thinks right.
    pub slots: Option<u16>,
    /// How long it runs before anything moves.
    pub baseline: Duration,
    /// How often the whole sequence is done.
    pub rounds: usize,
    /// So many slots must have moved, all together.
    pub moves_min: u64,
    /// What is allowed.
    pub bars: Bars,
}

/// Drains, adds, weighs, aborts, removes.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn run(scale: Scale) -> Result<Report> {
    let shape = Shape {
        slots: scale.slots,
        ..Shape::default()
    };
    let (mut cluster, load) = start(shape.clone(), scale.load).await?;
    let (baseline, change_p99) = baseline(&cluster, &load, scale.baseline).await?;
    for round in 0..scale.rounds {
        if round == 0 {
            cluster.start_topic_server("ts-4", &shape)?;
            cluster.ready("ts-4").await?;
        }
        change(&cluster).await?;
    }
    let moving = Window {
        from: baseline.to,
        to: load.now(),
    };
    let metrics = cluster.metrics_of("ts-").await?;
    let (within, moves) = metrics.within(PAUSES, 0.1);
    let ended = cluster.all_ended_moves().await?;
    let ledger = load.stop(&[]).await?;

    let seconds = (moving.to - moving.from).as_secs_f64();
    let mut report = Report::new(format!(
        "Drain, add, weigh, abort and remove: {} publishes/s on {} topics x {} members for {seconds:.0} s",
        scale.load.publishes_per_second, scale.load.topics, scale.load.members
    ));
    report.at_least("slot moves", moves as u64, scale.moves_min);
    report.tell("of these paused for at most 100 ms", within);
    let (before, during) = (ledger.timing(baseline), ledger.timing(moving));
    let bars = scale.bars.on(noise(&before, change_p99));
    enter_pauses(&ended, bars.pause_p99, &mut report);
    report.tell(
        "a change of the store, p99 on this disk",
        format!("{change_p99:.1?}"),
    );
    report.tell("publishes without moves", &before);
    report.tell("publishes with moves", &during);
    report.below("longest publish", during.longest_publish, bars.longest_publish);
    enter(&ledger.account(|_| None), 1000, &ledger.disturbances, &mut report);
    end(cluster, report)
}

/// Pauses and copies, as the new owners tell them.
pub(super) fn enter_pauses(ended: &[EndedMove], p99_bar: Duration, report: &mut Report) {
    let mut pauses: Vec<u32> = ended.iter().map(|ended| ended.pause_ms).collect();
    pauses.sort_unstable();
    let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| quantile(&pauses, part));
    report.tell("pause of a slot", format!("p50 {p50} ms, longest {longest} ms"));
    report.below("pause of a slot, p99", Duration::from_millis(p99.into()), p99_bar);
    let mut copies: Vec<u32> = ended.iter().map(|ended| ended.copy_ms).collect();
    copies.sort_unstable();
    let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| quantile(&copies, part));
    report.tell(
        "copy of a slot",
        format!("p50 {p50} ms, p99 {p99} ms, longest {longest} ms"),
    );
}

/// The whole sequence; at its end the ring is as it was.
async fn change(cluster: &Cluster) -> Result<()> {
    let owns = async |node: &str, what: &dyn Fn(u64) -> bool| {
        let ring = cluster.ring().await?;
        ensure!(
            what(ring.owned(node)),
            "{node} owns too many or too few: {ring:?}"
        );
        anyhow::Ok(())
    };
    cluster.change(&["node", "drain", "ts-3"]).await?;
    owns("ts-3", &|owned| owned == 0).await?;
    cluster.change(&["node", "add", "ts-4"]).await?;
    owns("ts-4", &|owned| owned > 0).await?;
    cluster.change(&["node", "weight", "ts-1", "2"]).await?;
    abort_half_way(cluster).await?;
    cluster.change(&["node", "remove", "ts-2"]).await?;
    owns("ts-2", &|owned| owned == 0).await?;

    let plan = cluster
        .plan(&[
            "--add", "ts-2", "--add", "ts-3", "--weight", "ts-1=1", "--remove", "ts-4",
        ])
        .await?;
    let done = cluster.change(&["ring", "commit", &plan.plan]).await?;
    ensure!(
        done.moves == plan.moves.len() as u64,
        "planned {} moves, made {}",
        plan.moves.len(),
        done.moves
    );
    owns("ts-4", &|owned| owned == 0).await
}

/// Takes the drained ts-3 back and changes its mind when some of its slots are there and some are not.
async fn abort_half_way(cluster: &Cluster) -> Result<()> {
    let before = cluster.topics("topics:load").await?;
    let plan = cluster.plan(&["--add", "ts-3"]).await?;
    let planned = plan.moves.len() as u64;
    cluster.json(&["ring", "commit", &plan.plan, "--no-wait"]).await?;
    crate::wait::until("a third of the plan to be done", crate::wait::SOON, async || {
        let ring = cluster.ring().await?;
        ensure!(ring.owned("ts-3") * 3 >= planned, "{ring:?}");
        Ok(())
    })
    .await?;
    let undone = cluster.change(&["ring", "abort"]).await?;
    ensure!(
        undone.moves > 0 && undone.moves < planned,
        "{} of {planned} moves were taken back: that is not half-way",
        undone.moves
    );
    let ring = cluster.ring().await?;
    ensure!(
        ring.owned("ts-3") == 0 && ring.state("ts-3") == "draining",
        "{ring:?}"
    );
    let after = cluster.topics("topics:load").await?;
    for (topic, listed) in &before {
        let now = after.get(topic);
        ensure!(
            now.is_some_and(|now| now.owner == listed.owner && now.epoch == listed.epoch),
            "{topic} was {listed:?} and is {now:?}"
        );
    }
    Ok(())
}

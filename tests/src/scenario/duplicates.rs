//! Every publish sent three times under one id, over two gateways, while topics change hands: each takes effect once.

use std::time::Duration;

use anyhow::Result;

use super::resume::{self, Scale};
use super::{Report, end};
use crate::wait::SOON;

/// How many publications lie between what is done.
const BETWEEN: u64 = 10;

/// A storm, in which `moves` times a topic server gives all its slots away and gets them back.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn run(scale: Scale, moves: usize) -> Result<Report> {
    let sendings = scale.crew.sendings;
    let (cluster, crew) = resume::start(&scale).await?;
    crew.moves_on(BETWEEN, SOON).await?;
    let mut moved = 0;
    for _ in 0..moves {
        for change in ["drain", "add"] {
            moved += cluster.change(&["node", change, "ts-3"]).await?.moves;
            crew.moves_on(BETWEEN, SOON * 2).await?;
        }
    }
    let ended = crew.now();
    let story = crew.stop().await?;
    let verdict = story.judge();

    let mut report = Report::new(format!(
        "Every publish sent {sendings} times over two gateways: {} publishes/s on {} topics x {} subscribers",
        scale.crew.publishes_per_second, scale.crew.topics, scale.crew.subscribers
    ));
    report.tell("seconds", format!("{:.0}", Duration::as_secs_f64(&ended)));
    report.at_least("slot moves", moved, moves as u64);
    report.exactly(
        "answers that said dup",
        verdict.dups,
        verdict.acknowledged * (sendings - 1),
    );
    resume::enter(&story, &verdict, &mut report);
    resume::enter_whole(&verdict, &mut report);
    end(cluster, report)
}

//! Every process restarted in turn, under the load of clients that resume, as an upgrade does it: nobody misses anything.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::resume::{self, Scale as Crew};
use super::{Report, end};
use crate::wait::SOON;

/// Longer than any process takes to leave.
const EXIT_DEADLINE: Duration = Duration::from_secs(40);

/// How much, how often, and what is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The crew and the ring.
    pub crew: Crew,
    /// How often all are restarted.
    pub rounds: usize,
    /// The longest anybody may wait for an answer to a publish, reconnects and retries counted.
    pub longest_publish: Duration,
}

/// SIGTERM to each topic server, each gateway and the coordinator, and when it has ended it is started again; the next
/// one as soon as it is ready.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn run(scale: Scale) -> Result<Report> {
    let (mut cluster, crew) = resume::start(&scale.crew).await?;
    crew.moves_on(2, SOON).await?;
    let (mut restarts, mut gateways) = (0, 0);
    let mut exits: Vec<(Duration, String)> = Vec::new();
    for _ in 0..scale.rounds {
        for name in cluster.running("") {
            let (code, took) = cluster.terminate(&name, EXIT_DEADLINE).await?;
            ensure!(code == 0, "{name} ended with {code}");
            cluster.start_again(&name)?;
            let ready = cluster.ready(&name).await?;
            eprintln!(
                "{name} left in {took:.1?} and was ready in {ready:.1?}; {}",
                crew.progress()
            );
            // A balancer would look at readiness; these clients only go to another gateway when they lose one.
            crew.all_at_head(&format!("everybody to have everything after {name}"))
                .await?;
            restarts += 1;
            gateways += usize::from(name.starts_with("gw-"));
            exits.push((took, name));
        }
    }
    let rest = cluster.at_rest(Duration::from_secs(60)).await?;
    let story = crew.stop().await?;
    let verdict = story.judge();

    let shape = scale.crew.crew;
    let mut report = Report::new(format!(
        "Rolling restart of every process, {} rounds: {} publishes/s on {} topics x {} subscribers that resume",
        scale.rounds, shape.publishes_per_second, shape.topics, shape.subscribers
    ));
    report.tell("processes restarted", restarts);
    let longest = exits.iter().max().cloned().unwrap_or_default();
    report.tell(
        "longest from SIGTERM to the end",
        format!("{:.1?} ({})", longest.0, longest.1),
    );
    report.tell("slots at home again after", format!("{rest:.1?}"));
    // A client is closed by each restart of the gateway it is on, and by nothing else.
    let channels = shape.topics * shape.subscribers;
    report.below(
        "reconnects a channel",
        verdict.reconnects as f64 / channels as f64,
        gateways as f64 + 0.1,
    );
    report.below(
        "longest publish",
        story.answers().within(1.0),
        scale.longest_publish,
    );
    resume::enter(&story, &verdict, &mut report);
    resume::enter_whole(&verdict, &mut report);
    end(cluster, report)
}

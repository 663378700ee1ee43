//! Both gateways lost, one after the other, by kill -9 and by SIGTERM.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::Report;
use super::{BETWEEN, Scale, end_whole, start, title};
use crate::wait::SOON;

/// Longer than a gateway takes to leave: it closes its clients within 30 s, however many.
const EXIT_DEADLINE: Duration = Duration::from_secs(40);

/// kill -9 of each gateway: clients go on with the other, and send again what was not answered.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn killed(scale: Scale) -> Result<Report> {
    let (mut cluster, crew) = start(&scale).await?;
    let mut report = Report::new(title("kill -9 of each gateway", &scale.crew));
    for name in ["gw-1", "gw-2"] {
        crew.moves_on(BETWEEN, SOON).await?;
        cluster.kill(name)?;
        let back = crew.all_at_head("everybody to be back").await?;
        report.tell(
            &format!("everybody had everything after the death of {name}"),
            format!("{back:.1?}"),
        );
        crew.moves_on(BETWEEN, SOON).await?;
        cluster.start_again(name)?;
        cluster.ready(name).await?;
    }
    end_whole(cluster, crew, report).await
}

/// SIGTERM to each gateway: its clients are closed with 1012 and go on with the other.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn drained(scale: Scale) -> Result<Report> {
    let (mut cluster, crew) = start(&scale).await?;
    let mut report = Report::new(title("SIGTERM to each gateway", &scale.crew));
    for name in ["gw-1", "gw-2"] {
        crew.moves_on(BETWEEN, SOON).await?;
        let (code, took) = cluster.terminate(name, EXIT_DEADLINE).await?;
        ensure!(code == 0, "{name} ended with {code}");
        let back = crew.all_at_head("everybody to be back").await?;
        report.tell(
            &format!("{name} gone, then everybody had everything, after"),
            format!("{took:.1?}, {back:.1?}"),
        );
        cluster.start_again(name)?;
        cluster.ready(name).await?;
    }
    end_whole(cluster, crew, report).await
}

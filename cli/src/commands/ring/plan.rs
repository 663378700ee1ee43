//! `ringcast ring plan`: what a change would move, before anything moves.

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use super::PlanArgs;
use crate::cluster::Cluster;
use crate::commands::plans::{Asked, Operator, json, show};
use crate::output::Output;

/// Works the plan out, stores it, and prints it with the next step.
pub(crate) async fn plan(
    cluster: Cluster,
    args: &PlanArgs,
    output: Output,
    interrupt: CancellationToken,
) -> Result<()> {
    let asked = Asked::all(args)?;
    let mut operator = Operator::new(cluster, false, interrupt);
    let planned = operator.plan(&asked).await?;
    let store = operator.cluster.store_flag();
    output.print(&json(&planned.id, &planned.plan, &planned.pins), |_| {
        format!(
            "{}\n\nNothing has moved. To carry it out: ringcast ring commit {}{store}",
            show(&planned.id, &planned.plan, &planned.pins, args.slots),
            planned.id.0
        )
    })
}

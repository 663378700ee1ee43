//! `ringcast ring commit PLAN`.

use anyhow::Result;
use ringcast_proto::record::PlanId;
use ringcast_ring::PlanError;

use crate::commands::plans::Operator;
use crate::output::Output;

/// Commits the plan, after the one that runs, if any, and waits for its end. `false`: interrupted.
pub(crate) async fn commit(mut operator: Operator, plan: String, output: Output) -> Result<bool> {
    let id = PlanId(plan);
    let committed = loop {
        operator.check(&id)?;
        match operator.commit(&id).await? {
            Ok(committed) => break committed,
            Err(PlanError::Running(running)) if running != id => {
                if !operator.wait_for_other(&running).await? {
                    return Ok(false);
                }
            }
            Err(error) => return Err(operator.refused(&id, error)),
        }
    };
    match operator.finish(committed).await? {
        Some(outcome) => outcome.print(output).map(|()| true),
        None => Ok(false),
    }
}

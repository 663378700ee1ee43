//! `ringcast ring abort`.

use anyhow::Result;

use crate::commands::plans::Operator;
use crate::output::Output;

/// Takes the running plan back and waits until everything is home. `false`: interrupted.
pub(crate) async fn abort(mut operator: Operator, output: Output) -> Result<bool> {
    let committed = operator.abort().await?;
    match operator.finish(committed).await? {
        Some(outcome) => outcome.print(output).map(|()| true),
        None => Ok(false),
    }
}

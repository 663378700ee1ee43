//! Drives the planner: shows it every snapshot, and makes the changes it wants.

use std::sync::Arc;

use ringcast_ring::{Planner, PlannerConfig};
use ringcast_ring_store::{AnyStore, Mirror, clock};

use crate::changes::make;
use crate::shared::Shared;
use crate::slot::until;

/// Plans, until cancelled.
pub(crate) async fn run(
    shared: Arc<Shared>,
    store: AnyStore,
    mirror: Mirror,
    config: PlannerConfig,
    entropy: u64,
) {
    let mut planner = Planner::new(config, entropy);
    let mut snapshots = mirror.subscribe();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        for change in planner.decide(&snapshot, &shared.lease.node(), clock::now()) {
            let (op, records) = (change.op.0.clone(), change.put.len());
            match make(&store, change).await {
                Ok(revision) => tracing::debug!(op, records, %revision, "planned"),
                // Decided on what is no longer so, or not possible now: the next round sees what is.
                Err(refused) => tracing::debug!(op, records, %refused, "plan not carried out"),
            }
        }
        tokio::select! {
            biased;
            // The records changed. Nobody shows any more: the server ends.
            changed = snapshots.changed() => if changed.is_err() { return },
            // The planner wanted to look again.
            () = until(planner.deadline()) => {}
        }
    }
}

//! Asking the owner of a slot for a page of it.

use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::grpc::{CALL_DEADLINE, encoded_bytes};
use ringcast_proto::{NodeRef, Slot, v1};
use ringcast_topic_server_core::{Input, PullPage};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Request;
use tracing::Instrument as _;

use crate::header;
use crate::shared::Shared;

/// A turn that is further off than this is the next question's.
const TURN_DEADLINE: Duration = Duration::from_millis(500);

/// Whether a page can wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// The owner serves meanwhile.
    Paced,
    /// The owner is sealed, and publishers wait.
    AtOnce,
}

/// Asks `owner` for the page, in a task of its own that tells the slot what became of it.
pub(crate) fn pull(slot: Slot, owner: NodeRef, page: PullPage, haste: Haste, shared: &Arc<Shared>) {
    let (shared, tasks) = (shared.clone(), shared.tasks.clone());
    let stop = shared.stop.clone();
    let pulled = async move {
        let answer = match ask(slot, &owner, &page, haste, &shared).await {
            Ok(answer) => Some(answer),
            Err(reason) => {
                tracing::debug!(slot = slot.0, %owner, id = page.move_id, page = page.page, reason, "no page");
                None
            }
        };
        if let Some(slot) = shared.slot(slot) {
            slot.tell(Input::Pulled(page, answer)).await;
        }
    };
    tasks.spawn(async move { stop.run_until_cancelled(pulled).await }.in_current_span());
}

async fn ask(
    slot: Slot,
    owner: &NodeRef,
    page: &PullPage,
    haste: Haste,
    shared: &Shared,
) -> Result<v1::PullAnswer, String> {
    let moves = &shared.moves;
    let deadline = Instant::now() + TURN_DEADLINE;
    let Ok(Ok(_permit)) = timeout_at(deadline, moves.pulls.acquire()).await else {
        return Err("too many slots are on their way".to_owned());
    };
    if haste == Haste::Paced {
        let turn = moves.pace.turn(Instant::now());
        if turn > deadline {
            return Err("too much is on its way".to_owned());
        }
        sleep_until(turn).await;
    }
    let client = match shared.directory.load().as_ref() {
        Some(directory) => moves
            .peers
            .client(owner, directory)
            .map_err(|error| error.to_string())?,
        None => None,
    };
    let mut client = client.ok_or("it is not registered")?;
    let mut request = Request::new(v1::PullCall {
        header: Some(header::to(owner, shared)),
        slot: slot.0.into(),
        owner_epoch: page.owner_epoch.0,
        move_id: page.move_id.clone(),
        attempt: page.attempt,
        page: page.page,
    });
    request.set_timeout(CALL_DEADLINE);
    let answer = match tokio::time::timeout(CALL_DEADLINE, client.pull(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Ok(Err(status)) => return Err(status.to_string()),
        Err(_) => return Err("no answer in time".to_owned()),
    };
    let bytes = encoded_bytes(&answer);
    moves.pace.took(bytes, Instant::now());
    shared.metrics.page(bytes);
    if answer.incarnation != owner.incarnation.0 {
        return Err(format!("answered by incarnation {}", answer.incarnation));
    }
    match v1::PullStatus::try_from(answer.status) {
        Ok(v1::PullStatus::Unspecified) | Err(_) => {
            Err(format!("answered with the unknown status {}", answer.status))
        }
        Ok(_) => Ok(answer),
    }
}

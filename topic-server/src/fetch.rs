//! A gateway asks for the last publications of topics.
//!
//! *Invariant:* what one answer brings fits into a message. It is a prefix of what was asked for, and never empty.

use ringcast_proto::v1::{self, FetchOutcome, FetchStatus};
use ringcast_proto::{NodeRef, OwnerEpoch, Slot, Topic};
use ringcast_topic_server_core::Cursor;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::grpc::{RETRY_AFTER_MS, Service, Waiting};
use crate::slot::Mail;

/// Bytes in one answer, well below the 4 MiB a message may have: the outcome that goes beyond is not in it.
const ANSWER_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Fetches asked for at once. What does not fit into the answer was read in vain, so not many.
const TOGETHER: usize = 16;

/// Fetches answered in one call, so that a call ends in time whatever it asks for.
const CALL_FETCHES_MAX: usize = 512;

/// What a publication takes in a message besides its bytes.
const PUBLICATION_OVERHEAD_BYTES: usize = 64;

/// What an outcome takes besides its publications.
const OUTCOME_OVERHEAD_BYTES: usize = 256;

impl Service {
    /// Answers as many of the fetches as have room, in their order.
    pub(crate) async fn fetch_all(
        &self,
        from: &NodeRef,
        mut fetches: Vec<v1::Fetch>,
        deadline: Instant,
    ) -> Vec<FetchOutcome> {
        fetches.truncate(CALL_FETCHES_MAX);
        let mut outcomes = Vec::new();
        let mut bytes = 0;
        let mut rest = fetches.into_iter();
        loop {
            let asked: Vec<_> = rest
                .by_ref()
                .take(TOGETHER)
                .map(|fetch| self.ask_fetch(from, fetch))
                .collect();
            if asked.is_empty() {
                break;
            }
            for waiting in asked {
                let outcome = answered(waiting, deadline).await;
                bytes += size(&outcome);
                if bytes > ANSWER_BYTES_MAX && !outcomes.is_empty() {
                    self.shared.metrics.fetched(outcomes.len());
                    return outcomes;
                }
                outcomes.push(outcome);
            }
        }
        self.shared.metrics.fetched(outcomes.len());
        outcomes
    }

    fn ask_fetch(&self, from: &NodeRef, fetch: v1::Fetch) -> Waiting<FetchOutcome> {
        let slot = u16::try_from(fetch.slot)
            .ok()
            .and_then(|slot| self.shared.slot(Slot(slot)));
        let Some(slot) = slot else {
            return Err(status(FetchStatus::NotOwner));
        };
        let after = fetch.after.as_ref().and_then(|after| Cursor::parse(after).ok());
        let (Ok(topic), Some(after)) = (Topic::parse(&fetch.topic), after) else {
            tracing::warn!(%from, "fetch refused: its topic or its position is none");
            return Err(status(FetchStatus::BadRequest));
        };
        let (answer, answered) = oneshot::channel();
        let mail = Mail::Fetch {
            from: from.clone(),
            owner_epoch: OwnerEpoch(fetch.owner_epoch),
            topic,
            after,
            answer,
        };
        if slot.try_ask(mail) {
            Ok(answered)
        } else {
            Err(overloaded())
        }
    }
}

async fn answered(waiting: Waiting<FetchOutcome>, deadline: Instant) -> FetchOutcome {
    match waiting {
        Ok(outcome) => match timeout_at(deadline, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => overloaded(),
        },
        Err(outcome) => outcome,
    }
}

/// The bytes it takes in a message, at most.
fn size(outcome: &FetchOutcome) -> usize {
    let one = |publication: &v1::Publication| {
        PUBLICATION_OVERHEAD_BYTES + publication.event.len() + publication.payload.len()
    };
    OUTCOME_OVERHEAD_BYTES + outcome.publications.iter().map(one).sum::<usize>()
}

fn status(status: FetchStatus) -> FetchOutcome {
    FetchOutcome {
        status: status.into(),
        ..FetchOutcome::default()
    }
}

fn overloaded() -> FetchOutcome {
    FetchOutcome {
        retry_after_ms: RETRY_AFTER_MS,
        ..status(FetchStatus::Overloaded)
    }
}

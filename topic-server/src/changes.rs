//! Making a change in the ring store, to the point where its outcome is known.

use std::time::Duration;

use ringcast_ring::{Change, Refused, Revision};
use ringcast_ring_store::{AnyStore, RingStore};

const RETRY: Duration = Duration::from_millis(100);
/// How often a change of unknown outcome is repeated. Each call takes a second at most; what is unknown after that is
/// decided anew from what the store then shows.
const TRIES_MAX: u32 = 5;

/// Makes `change`, repeating the very same one while its outcome is unknown.
pub(crate) async fn make(store: &AnyStore, change: Change) -> Result<Revision, Refused> {
    let mut tries = 0;
    loop {
        tries += 1;
        match store.compare_and_swap(change.clone()).await {
            Err(Refused::Unknown(reason)) if tries < TRIES_MAX => {
                tracing::debug!(op = change.op.0, reason, "outcome of a change unknown, repeated");
                tokio::time::sleep(RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

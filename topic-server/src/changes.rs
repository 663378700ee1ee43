//! Making a change in the ring store, to the point where its outcome is known.

use std::time::Duration;

use ringcast_ring::{Change, Refused, Revision};
use ringcast_ring_store::RingStore;

const RETRY: Duration = Duration::from_millis(100);
/// How often a change of unknown outcome is repeated. Each call takes a second at most; what is unknown after that is
/// decided anew from what the store then shows.
const TRIES_MAX: u32 = 5;

/// Makes `change`, repeating the very same one while its outcome is unknown.
pub(crate) async fn make(store: &impl RingStore, change: Change) -> Result<Revision, Refused> {
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

/// As [`make`], for however long the store is away. What it refuses in the end was certainly not made, and never will be,
/// with one exception: a [`Refused::Conflict`] after an unknown outcome may also mean that it was made and that one of
/// its records has been written over since. Either way the records in the conflict are newer, and they say what is so.
pub(crate) async fn until_known(store: &impl RingStore, change: &Change) -> Result<Revision, Refused> {
    let mut unknown = false;
    loop {
        match store.compare_and_swap(change.clone()).await {
            Err(Refused::Unknown(reason)) => {
                if !unknown {
                    tracing::warn!(
                        op = change.op.0,
                        reason,
                        "outcome of a change unknown, repeated until it is known"
                    );
                }
                unknown = true;
            }
            // Of the try before they tell nothing: one store was not reached, the other refuses a whole batch alike.
            Err(refused @ (Refused::Unavailable(_) | Refused::Full)) if unknown => {
                tracing::debug!(op = change.op.0, %refused, "outcome of a change still unknown");
            }
            outcome => return outcome,
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use ringcast_ring::{Op, Snapshot};
    use ringcast_ring_store::{Lease, NodeInfo, RegisterRefused, RenewError, Unavailable, Watch};

    use super::*;

    type Outcome = Result<Revision, Refused>;

    /// A store that answers changes by a script, and was never asked anything else.
    #[derive(Clone)]
    struct Scripted {
        outcomes: Arc<Mutex<VecDeque<Outcome>>>,
        asked: Arc<Mutex<Vec<Op>>>,
    }

    impl RingStore for Scripted {
        async fn load(&self) -> Result<Snapshot, Unavailable> {
            unimplemented!()
        }

        async fn compare_and_swap(&self, change: Change) -> Outcome {
            self.asked.lock().unwrap().push(change.op);
            self.outcomes
                .lock()
                .unwrap()
                .pop_front()
                .expect("asked after the outcome was known")
        }

        fn watch(&self, _: Revision) -> Watch {
            unimplemented!()
        }

        async fn register(&self, _: &NodeInfo, _: &Op) -> Result<Lease, RegisterRefused> {
            unimplemented!()
        }

        async fn renew(&self, _: &Lease) -> Result<(), RenewError> {
            unimplemented!()
        }

        async fn release(&self, _: &Lease) -> Result<(), Unavailable> {
            unimplemented!()
        }
    }

    fn unknown() -> Outcome {
        Err(Refused::Unknown("no answer".into()))
    }

    fn away() -> Outcome {
        Err(Refused::Unavailable("no connection".into()))
    }

    /// What is known in the end, after every outcome of the script.
    async fn known(script: Vec<Outcome>) -> Outcome {
        let tries = script.len();
        let store = Scripted {
            outcomes: Arc::new(Mutex::new(script.into())),
            asked: Arc::default(),
        };
        let change = Change {
            expect: Vec::new(),
            guards: Vec::new(),
            put: Vec::new(),
            delete: Vec::new(),
            op: Op("the same".into()),
        };
        let outcome = until_known(&store, &change).await;
        let asked = store.asked.lock().unwrap();
        assert_eq!(
            *asked,
            vec![Op("the same".into()); tries],
            "always the very same change"
        );
        outcome
    }

    #[tokio::test]
    async fn a_change_whose_outcome_is_unknown_is_repeated_until_the_store_knows() {
        assert_eq!(known(vec![Ok(Revision(7))]).await, Ok(Revision(7)));
        let mut script: Vec<Outcome> = (0..=TRIES_MAX).map(|_| unknown()).collect();
        script.push(Ok(Revision(7)));
        assert_eq!(known(script).await, Ok(Revision(7)));
        let conflict = Err(Refused::Conflict(Vec::new()));
        assert_eq!(known(vec![unknown(), conflict.clone()]).await, conflict);
    }

    #[tokio::test]
    async fn a_store_that_was_not_reached_or_has_no_room_says_nothing_of_the_try_before() {
        let full = || Err(Refused::Full);
        assert_eq!(known(vec![away()]).await, away(), "nothing was sent");
        assert_eq!(known(vec![full()]).await, full());
        let script = vec![unknown(), away(), full(), away(), Ok(Revision(7))];
        assert_eq!(known(script).await, Ok(Revision(7)));
    }
}

//! The one write that makes the target of a move the owner.

use std::sync::Arc;

use ringcast_proto::Slot;
use ringcast_proto::record::{Key, Record};
use ringcast_ring::{Change, Expect, Guard, Refused, Revision};
use ringcast_ring_store::fresh_op;
use ringcast_topic_server_core::{Input, Swap};
use tracing::Instrument as _;

use crate::changes::until_known;
use crate::entropy::entropy;
use crate::shared::Shared;

/// Makes it, in a task of its own that goes on until the outcome is known, for as long as the server runs, and tells the
/// slot, which is sealed until then.
pub(crate) fn swap(slot: Slot, swap: Box<Swap>, shared: &Arc<Shared>) {
    let (shared, tasks) = (shared.clone(), shared.tasks.clone());
    let stop = shared.stop.clone();
    let known = async move {
        let change = Change {
            expect: vec![(Key::Slot(slot), Expect::Revision(swap.revision))],
            guards: vec![
                Guard::Alive(swap.owner.clone()),
                Guard::Alive(swap.target.clone()),
            ],
            put: vec![(Key::Slot(slot), Record::Slot(swap.record.clone()))],
            delete: Vec::new(),
            op: fresh_op(),
        };
        let outcome = until_known(&shared.store, &change).await;
        if let Err(refused) = &outcome {
            tracing::debug!(slot = slot.0, target = %swap.target, %refused, "slot not handed over");
        }
        let Some(handle) = shared.slot(slot) else { return };
        for input in told(&swap, outcome) {
            handle.tell(input).await;
        }
    };
    tasks.spawn(async move { stop.run_until_cancelled(known).await }.in_current_span());
}

/// What the slot is told.
fn told(swap: &Swap, outcome: Result<Revision, Refused>) -> Vec<Input> {
    let record = |revision, record| Input::Record {
        revision,
        record,
        // The life that asked, not the present one: whatever a later life is to the slot, `roles` says.
        me: swap.owner.clone(),
        entropy: entropy(),
    };
    match outcome {
        Ok(revision) => vec![record(revision, swap.record.clone())],
        Err(Refused::Conflict(current)) => {
            // After an unknown outcome this may be a swap that was made, and whose record has been written over since.
            // So what stands now is told first: seeing the refusal alone, the slot would serve on beside its new owner.
            let newer = current.into_iter().find_map(|(_, stored)| match stored {
                Some(stored) if stored.revision > swap.revision => match stored.record {
                    Record::Slot(newer) => Some(record(stored.revision, newer)),
                    _ => None,
                },
                _ => None,
            });
            let refused = Input::SwapRefused(swap.revision);
            newer.into_iter().chain([refused]).collect()
        }
        // The expectation held when the guard did not, or nothing was looked at by the one try there was.
        Err(Refused::Guard(_) | Refused::Full | Refused::Unavailable(_) | Refused::Unknown(_)) => {
            vec![Input::SwapRefused(swap.revision)]
        }
    }
}

#[cfg(test)]
mod tests {
    use ringcast_proto::record::{Cause, SlotRecord};
    use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch};
    use ringcast_ring::{Op, Stored};

    use super::*;

    fn node(id: &str) -> NodeRef {
        NodeRef {
            node: NodeId::parse(id).unwrap(),
            incarnation: Incarnation(1),
        }
    }

    fn owned_by(id: &str, owner_epoch: u64) -> SlotRecord {
        SlotRecord {
            owner_epoch: OwnerEpoch(owner_epoch),
            base: OwnerEpoch(1),
            owner: node(id),
            replica: None,
            moving: None,
            cause: Cause::Swap,
            rest: Default::default(),
        }
    }

    /// What the slot is told, as words.
    fn told_as(outcome: Result<Revision, Refused>) -> Vec<String> {
        let swap = Swap {
            revision: Revision(10),
            owner: node("ts-1"),
            target: node("ts-2"),
            record: owned_by("ts-2", 5),
        };
        let word = |input| match input {
            Input::Record {
                revision, record, me, ..
            } => {
                assert_eq!(me, node("ts-1"));
                format!(
                    "{revision}: {} owns it at {}",
                    record.owner.node, record.owner_epoch
                )
            }
            Input::SwapRefused(revision) => format!("{revision}: refused"),
            other => panic!("{other:?}"),
        };
        told(&swap, outcome).into_iter().map(word).collect()
    }

    #[test]
    fn a_swap_that_was_made_is_told_as_the_record_it_wrote() {
        assert_eq!(told_as(Ok(Revision(11))), ["11: ts-2 owns it at 5"]);
    }

    #[test]
    fn a_swap_that_may_have_been_made_and_written_over_is_not_refused_before_what_stands_now_is_told() {
        let stored = Stored {
            revision: Revision(14),
            op: Op("another".to_owned()),
            record: Record::Slot(owned_by("ts-3", 6)),
        };
        let conflict = Refused::Conflict(vec![(Key::Slot(Slot(7)), Some(stored))]);
        assert_eq!(told_as(Err(conflict)), ["14: ts-3 owns it at 6", "10: refused"]);
    }

    #[test]
    fn a_swap_that_was_certainly_not_made_is_refused() {
        let guard = Refused::Guard(Guard::Alive(node("ts-2")));
        for refused in [
            guard,
            Refused::Full,
            Refused::Unavailable("no connection".to_owned()),
        ] {
            assert_eq!(told_as(Err(refused)), ["10: refused"]);
        }
    }
}

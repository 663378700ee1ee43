//! What this node is to a slot, and how a record changes that.
//!
//! *Invariant:* only a record that names this very life of this node makes it the owner, and only a newer record drops
//! what it holds.
//! Leaves out: replicas; what a learner copies and how (`handoff`).

use ringcast_proto::record::SlotRecord;
use ringcast_proto::{NodeRef, OwnerEpoch};

use crate::handoff::is_learner;

/// What this node is to a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Nothing. Who owns it, as far as known.
    None(Option<(NodeRef, OwnerEpoch)>),
    /// It copies the slot from this owner, to own it next. It serves nothing.
    Learner(NodeRef, OwnerEpoch),
    /// It was the owner under this owner_epoch and lost its lease. It serves nothing and keeps everything, in case it
    /// is first to claim the slot.
    Fenced(OwnerEpoch),
    /// The one node that commits in the slot.
    Owner(OwnerEpoch),
    /// The owner, about to hand over: it appends nothing until it knows how that ended.
    Sealed(OwnerEpoch),
}

/// What a record means for a node that holds a copy, or none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The role, and the copy goes on: the same topics under the same epochs.
    Keep(Role),
    /// The role, with nothing left of the copy.
    Empty(Role),
    /// To copy the slot from its owner, or to go on with that.
    Learn,
}

/// Reads a record. `copy` is the owner_epoch under which this node last owned the slot, or learned all of it, while it
/// remembers.
pub(crate) fn turn(record: &SlotRecord, me: &NodeRef, copy: Option<OwnerEpoch>) -> Turn {
    // The slot began empty at `base`: a copy from before it is worth nothing.
    let usable = copy.filter(|copy| *copy >= record.base);
    if record.owner == *me {
        return match usable {
            Some(_) => Turn::Keep(Role::Owner(record.owner_epoch)),
            None => Turn::Empty(Role::Owner(record.owner_epoch)),
        };
    }
    if is_learner(record, me) {
        return Turn::Learn;
    }
    // An earlier life, whose slots this one may claim; or a later one, that has claimed them while this one is still told
    // things: then it is told so in a moment.
    let another_life = record.owner.node == me.node;
    match usable {
        Some(copy) if another_life => Turn::Keep(Role::Fenced(copy)),
        _ => Turn::Empty(Role::None(Some((record.owner.clone(), record.owner_epoch)))),
    }
}

#[cfg(test)]
mod tests {
    use ringcast_proto::record::Cause;
    use ringcast_proto::{Incarnation, NodeId};

    use super::*;

    fn node(id: &str, incarnation: u64) -> NodeRef {
        NodeRef {
            node: NodeId::parse(id).unwrap(),
            incarnation: Incarnation(incarnation),
        }
    }

    fn record(owner: NodeRef, owner_epoch: u64, base: u64) -> SlotRecord {
        let (owner_epoch, base) = (OwnerEpoch(owner_epoch), OwnerEpoch(base));
        let rest = Default::default();
        SlotRecord {
            owner_epoch,
            base,
            owner,
            replica: None,
            moving: None,
            cause: Cause::Fresh,
            rest,
        }
    }

    #[test]
    fn only_a_record_that_names_this_life_makes_an_owner() {
        let me = node("ts-1", 9);
        let owner = Turn::Empty(Role::Owner(OwnerEpoch(3)));
        assert_eq!(turn(&record(me.clone(), 3, 3), &me, None), owner);
        for other in [node("ts-2", 9), node("ts-1", 8), node("ts-1", 10)] {
            let none = Role::None(Some((other.clone(), OwnerEpoch(3))));
            assert_eq!(turn(&record(other, 3, 3), &me, None), Turn::Empty(none));
        }
    }

    #[test]
    fn a_claim_keeps_the_copy_and_a_fresh_start_does_not() {
        let me = node("ts-1", 9);
        let copy = Some(OwnerEpoch(3));
        assert_eq!(
            turn(&record(me.clone(), 4, 2), &me, copy),
            Turn::Keep(Role::Owner(OwnerEpoch(4)))
        );
        assert_eq!(
            turn(&record(me.clone(), 4, 4), &me, copy),
            Turn::Empty(Role::Owner(OwnerEpoch(4)))
        );
    }

    #[test]
    fn a_fenced_copy_waits_while_the_record_names_its_old_life() {
        let (me, before, other) = (node("ts-1", 9), node("ts-1", 5), node("ts-2", 6));
        let copy = Some(OwnerEpoch(3));
        assert_eq!(
            turn(&record(before, 3, 2), &me, copy),
            Turn::Keep(Role::Fenced(OwnerEpoch(3)))
        );
        let none = Role::None(Some((other.clone(), OwnerEpoch(4))));
        assert_eq!(turn(&record(other, 4, 4), &me, copy), Turn::Empty(none));
    }
}

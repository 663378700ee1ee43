//! The claim: a topic server that lost its lease but not its memory takes its slots back under its new incarnation.
//!
//! It promises that a claimed slot keeps its `base`, its replica and with them its topics' epochs, because the record's
//! revision proves that nobody else owned the slot in between. *Invariant:* a claim guards that the old life is over
//! and the new one holds its lease; every change writes at most [`SLOTS_PER_CHANGE`] slot records.
//! Leaves out: whether there is anything to claim; whoever did not keep its state in memory must not.

use ringcast_proto::record::{Cause, Key, Record, SlotRecord};
use ringcast_proto::{NodeRef, Slot};

use crate::{Change, Expect, Guard, Op, Revision, Snapshot};

/// Most slot records a change: etcd takes 128 operations a transaction.
pub const SLOTS_PER_CHANGE: usize = 64;

/// What to expect and what to write so that `me`, a new life of the slot's owner, owns the slot again.
#[must_use]
pub fn claim(slot: Slot, revision: Revision, record: &SlotRecord, me: &NodeRef) -> (Key, Expect, Record) {
    let claimed = SlotRecord {
        owner_epoch: record.owner_epoch.next(),
        base: record.base,
        owner: me.clone(),
        replica: record.replica.clone(),
        // Its target was told to learn from the life that is over.
        moving: None,
        cause: Cause::Claim,
        rest: record.rest.clone(),
    };
    (Key::Slot(slot), Expect::Revision(revision), Record::Slot(claimed))
}

/// The changes by which `me` claims every slot whose record still names `old`, its life before. `op` gives each change
/// a unique name. Each stands alone: one that is refused takes none of the others with it.
pub fn claims(snapshot: &Snapshot, old: &NodeRef, me: &NodeRef, mut op: impl FnMut() -> Op) -> Vec<Change> {
    let mine = snapshot.slots().filter(|(_, _, record)| record.owner == *old);
    let claims: Vec<_> = mine
        .map(|(slot, revision, record)| claim(slot, revision, record, me))
        .collect();
    let change = |claims: &[(Key, Expect, Record)]| Change {
        expect: claims
            .iter()
            .map(|(key, expect, _)| (key.clone(), *expect))
            .collect(),
        guards: vec![Guard::Gone(old.clone()), Guard::Alive(me.clone())],
        put: claims
            .iter()
            .map(|(key, _, record)| (key.clone(), record.clone()))
            .collect(),
        delete: Vec::new(),
        op: op(),
    };
    claims.chunks(SLOTS_PER_CHANGE).map(change).collect()
}

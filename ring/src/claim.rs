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

#[cfg(test)]
mod tests {
    use ringcast_proto::OwnerEpoch;

    use super::*;
    use crate::snapshot::tests::{node_ref, snapshot};

    const RECORD: &str = r#"{"owner_epoch":7,"base":3,"owner":{"node":"ts-1","inc":2},"replica":{"node":"ts-2","inc":4},
        "move":{"id":"m","kind":"owner","target":{"node":"ts-3","inc":5}},"cause":"swap","later":1}"#;

    #[test]
    fn a_claim_keeps_base_and_replica_and_takes_the_next_epoch() {
        let snapshot = snapshot(&[("slot/9", RECORD)]);
        let (revision, record) = snapshot.slot(Slot(9)).unwrap();
        let (key, expect, claimed) = claim(Slot(9), revision, record, &node_ref("ts-1", 8));
        assert_eq!((key, expect), (Key::Slot(Slot(9)), Expect::Revision(Revision(1))));
        let Record::Slot(claimed) = claimed else {
            panic!("not a slot record")
        };
        assert_eq!(
            (claimed.owner_epoch, claimed.base),
            (OwnerEpoch(8), OwnerEpoch(3))
        );
        assert_eq!(
            (claimed.owner, claimed.cause),
            (node_ref("ts-1", 8), Cause::Claim)
        );
        assert_eq!(
            (claimed.replica, claimed.moving),
            (Some(node_ref("ts-2", 4)), None)
        );
        assert_eq!(claimed.rest["later"].to_string(), "1");
    }

    #[test]
    fn claims_take_what_still_names_the_old_life_64_slots_a_change() {
        let other = r#"{"owner_epoch":7,"base":3,"owner":{"node":"ts-1","inc":1},"cause":"birth"}"#;
        let keys: Vec<String> = (0..131).map(|slot| format!("slot/{slot}")).collect();
        let record = |slot| if slot == 5 { other } else { RECORD };
        let records: Vec<(&str, &str)> = keys
            .iter()
            .enumerate()
            .map(|(n, key)| (key.as_str(), record(n)))
            .collect();
        let (old, me) = (node_ref("ts-1", 2), node_ref("ts-1", 8));
        let mut ops = 0;
        let changes = claims(&snapshot(&records), &old, &me, || {
            ops += 1;
            Op(ops.to_string())
        });
        assert_eq!(
            changes.iter().map(|change| change.put.len()).collect::<Vec<_>>(),
            [64, 64, 2]
        );
        for (n, change) in changes.iter().enumerate() {
            assert_eq!(
                change.guards,
                [Guard::Gone(old.clone()), Guard::Alive(me.clone())]
            );
            assert!(change.put.iter().all(|(key, _)| *key != Key::Slot(Slot(5))));
            assert!(
                change
                    .put
                    .iter()
                    .map(|(key, _)| key)
                    .eq(change.expect.iter().map(|(key, _)| key))
            );
            assert_eq!(change.op, Op((n + 1).to_string()));
        }
    }
}

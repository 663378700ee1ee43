//! Who owned which slot under which owner_epoch, as the store truly says; and that its records only go forward (I2).

use std::collections::BTreeMap;

use ringcast_proto::record::{Cause, Key, Record, SlotRecord};
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot};
use ringcast_ring::Revision;
use ringcast_ring_store::state::Store;

use crate::network::Peer;
use crate::server::peer_at;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    revision: Revision,
    alive: BTreeMap<NodeId, Incarnation>,
    peers: BTreeMap<NodeId, Peer>,
    slots: BTreeMap<Slot, SlotRecord>,
    owners: BTreeMap<(Slot, OwnerEpoch), NodeRef>,
    /// Slots that were taken from an owner that was gone.
    pub(super) taken: u32,
    /// The owner_epoch under which each slot last began empty.
    fresh: BTreeMap<Slot, OwnerEpoch>,
}

impl Ownership {
    /// Takes in what has changed. The lives whose lease ended, and what is wrong.
    pub(super) fn follow(&mut self, store: &Store) -> Vec<Result<(Peer, Incarnation), String>> {
        let mut seen = Vec::new();
        if store.revision() < self.revision {
            seen.push(Err(format!(
                "the store fell from {} to {}",
                self.revision,
                store.revision()
            )));
        }
        while self.revision < store.revision() {
            let Some(changes) = store.changes_after(self.revision, 64) else {
                seen.push(Err(format!(
                    "the store does not know what followed {}",
                    self.revision
                )));
                break;
            };
            for changed in changes {
                self.revision = changed.revision;
                for (key, stored) in &changed.records {
                    let record = stored.as_ref().map(|stored| &stored.record);
                    seen.extend(self.record(key, record));
                }
            }
        }
        seen
    }

    fn record(&mut self, key: &Key, record: Option<&Record>) -> Option<Result<(Peer, Incarnation), String>> {
        match (key, record) {
            (Key::Node(id), Some(Record::Node(node))) => {
                if let Some(peer) = peer_at(&node.advertise) {
                    self.peers.insert(id.clone(), peer);
                }
                self.alive.insert(id.clone(), node.incarnation);
                None
            }
            (Key::Node(id), _) => {
                let life = self.alive.remove(id)?;
                self.peers.get(id).map(|peer| Ok((*peer, life)))
            }
            (Key::Slot(slot), Some(Record::Slot(next))) => self.slot(*slot, next).err().map(Err),
            (Key::Slot(slot), _) => Some(Err(format!("the record of slot {slot} is gone"))),
            _ => None,
        }
    }

    fn slot(&mut self, slot: Slot, next: &SlotRecord) -> Result<(), String> {
        let before = self.slots.insert(slot, next.clone());
        let began_empty = next.base == next.owner_epoch;
        if began_empty {
            self.taken +=
                u32::from(next.cause == Cause::Fresh && self.fresh.get(&slot) != Some(&next.owner_epoch));
            self.fresh.insert(slot, next.owner_epoch);
        }
        let known = self.owners.insert((slot, next.owner_epoch), next.owner.clone());
        let wrong = |what: &str| Err(format!("slot {slot} {what}: {before:?}, then {next:?}"));
        if known.is_some_and(|known| known != next.owner) {
            return wrong("has two owners under one owner_epoch");
        }
        if !self.alive(&next.owner) && before.as_ref().is_none_or(|before| before.owner != next.owner) {
            return wrong("was given to a node that is not there");
        }
        let Some(before) = &before else { return Ok(()) };
        let same_owner = before.owner == next.owner && before.owner_epoch == next.owner_epoch;
        let next_owner = next.owner_epoch == before.owner_epoch.next();
        if !same_owner && !next_owner {
            return wrong("did not go to the next owner_epoch");
        }
        if next.base != before.base && !(next_owner && began_empty && next.cause == Cause::Fresh) {
            return wrong("began empty without saying so");
        }
        if next_owner && next.cause == Cause::Fresh && self.alive(&before.owner) {
            return wrong("was taken from a node that is there");
        }
        Ok(())
    }

    /// Whether this life is registered, in truth.
    #[must_use]
    pub(crate) fn alive(&self, node: &NodeRef) -> bool {
        self.alive.get(&node.node) == Some(&node.incarnation)
    }

    /// Where the node runs.
    #[must_use]
    pub(crate) fn peer(&self, node: &NodeRef) -> Option<Peer> {
        self.peers.get(&node.node).copied()
    }

    /// Who owned the slot under this owner_epoch.
    #[must_use]
    pub(crate) fn owner(&self, slot: Slot, owner_epoch: OwnerEpoch) -> Option<&NodeRef> {
        self.owners.get(&(slot, owner_epoch))
    }

    /// The owner_epoch under which the slot last began empty.
    #[must_use]
    pub(crate) fn fresh(&self, slot: Slot) -> OwnerEpoch {
        self.fresh.get(&slot).copied().unwrap_or_default()
    }

    /// Whether the node may commit in the slot under this owner_epoch.
    pub(super) fn commits(&self, slot: Slot, owner_epoch: OwnerEpoch, node: &NodeRef) -> Result<(), String> {
        match self.owner(slot, owner_epoch) {
            Some(owner) if owner == node => Ok(()),
            owner => Err(format!(
                "{node} commits in slot {slot} under {owner_epoch}, whose owner is {owner:?}"
            )),
        }
    }
}

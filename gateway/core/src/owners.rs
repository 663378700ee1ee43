//! Who owns which slot, as far as this gateway knows.
//!
//! *Invariant:* `seen` never falls: whoever has seen an owner_epoch accepts nothing of a lower one (P1).
//! Leaves out: how the table gets here (the shell watches the ring store).

use std::collections::BTreeMap;
use std::sync::Arc;

use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot, v1};
use ringcast_ring::SlotTable;

/// The slot table, corrected by what topic servers answered since.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    table: Option<Arc<SlotTable>>,
    /// Owners that a `NotOwner` named before the table did.
    hints: BTreeMap<Slot, (NodeRef, OwnerEpoch)>,
    /// The highest owner_epoch heard of, from whomever.
    seen: BTreeMap<Slot, OwnerEpoch>,
    /// Slots whose owner, as told here, is another one since this was last taken.
    moved: Vec<Slot>,
}

impl Owners {
    /// Takes a newer table. It costs a look at every slot, and more only for those that moved: tables come by the
    /// hundred a second while slots move.
    pub(crate) fn replace(&mut self, table: Arc<SlotTable>) {
        let before = self.table.take();
        let told = |slot| before.as_ref().and_then(|table| table.owner(slot));
        for slot in (0..table.slots()).map(Slot) {
            let Some(next) = table.owner(slot).filter(|next| told(slot) != Some(*next)) else {
                continue;
            };
            let hint = self.hints.get(&slot);
            let known = match (hint, told(slot)) {
                (Some((owner, owner_epoch)), _) => Some((owner, *owner_epoch)),
                (None, told) => told.map(|told| (&told.owner, told.owner_epoch)),
            };
            // The hint stays where it is newer than the table.
            let overruled = hint.is_none_or(|(_, owner_epoch)| *owner_epoch <= next.owner_epoch);
            if overruled && known != Some((&next.owner, next.owner_epoch)) {
                self.moved.push(slot);
            }
            if overruled {
                self.hints.remove(&slot);
            }
            let seen = self.seen.entry(slot).or_default();
            *seen = next.owner_epoch.max(*seen);
        }
        self.table = Some(table);
    }

    /// The slots whose owner changed, whoever told: what is bound there has to bind anew.
    pub(crate) fn take_moved(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.moved)
    }

    /// The slot of a topic, once the cluster is born.
    pub(crate) fn slot_of(&self, topic: &[u8]) -> Option<Slot> {
        Some(self.table.as_ref()?.slot_of(topic))
    }

    /// Whom to ask about a slot, and the owner_epoch that says so.
    pub(crate) fn owner(&self, slot: Slot) -> Option<(NodeRef, OwnerEpoch)> {
        if let Some(hint) = self.hints.get(&slot) {
            return Some(hint.clone());
        }
        let owner = self.table.as_ref()?.owner(slot)?;
        Some((owner.owner.clone(), owner.owner_epoch))
    }

    /// Whether the table has this life of the node.
    pub(crate) fn knows(&self, node: &NodeRef) -> bool {
        self.table
            .as_ref()
            .is_some_and(|table| table.address(node).is_some())
    }

    /// The highest owner_epoch heard of for a slot.
    pub(crate) fn seen(&self, slot: Slot) -> OwnerEpoch {
        self.seen.get(&slot).copied().unwrap_or_default()
    }

    /// Notes an owner_epoch. `false`: a higher one was seen before, so its bearer is fenced.
    pub(crate) fn see(&mut self, slot: Slot, epoch: OwnerEpoch) -> bool {
        let seen = self.seen.entry(slot).or_default();
        *seen = epoch.max(*seen);
        epoch == *seen
    }

    /// Whatever was seen of a slot is forgotten: what must never happen.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.seen.remove(&slot);
    }

    /// Takes the owner a `NotOwner` named. `true` where it is news, so that asking it at once makes sense.
    pub(crate) fn hint(&mut self, slot: Slot, owner: Option<&v1::Owner>) -> bool {
        let Some(owner) = owner else { return false };
        let Ok(node) = NodeId::parse(&owner.node) else {
            return false;
        };
        let hint = (
            NodeRef {
                node,
                incarnation: Incarnation(owner.incarnation),
            },
            OwnerEpoch(owner.owner_epoch),
        );
        if self.owner(slot).is_some_and(|(_, known)| hint.1 <= known) {
            return false;
        }
        self.see(slot, hint.1);
        self.hints.insert(slot, hint);
        self.moved.push(slot);
        true
    }
}

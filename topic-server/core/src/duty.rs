//! Whether a slot serves: what records, lost leases and the words of others do to its role.
//!
//! *Invariant:* who has heard of a higher owner_epoch serves nothing until a write proved that there is none.

use ringcast_proto::record::SlotRecord;
use ringcast_proto::{NodeRef, OwnerEpoch, v1};
use ringcast_ring::Revision;

use crate::epochs::Epochs;
use crate::gateways::{Admitted, Gateways};
use crate::role::{Turn, turn};
use crate::slot::{Counts, Slot};
use crate::{Effect, Role};

impl Slot {
    pub(crate) fn record(
        &mut self,
        revision: Revision,
        record: &SlotRecord,
        me: &NodeRef,
        entropy: u128,
        effects: &mut Vec<Effect>,
    ) {
        if revision < self.revision {
            return;
        }
        self.revision = revision;
        let role = match turn(record, me, self.copy) {
            Turn::Keep(role) => role,
            Turn::Empty(role) => {
                self.clear(entropy, effects);
                role
            }
        };
        if let Role::Owner(owner_epoch) = role {
            self.copy = Some(owner_epoch);
        } else {
            self.end_taps(effects);
        }
        if role != self.role {
            self.role = role;
            self.touch_all();
        }
    }

    /// Forgets everything that was held. Gateways bind again, and find new epochs.
    pub(crate) fn clear(&mut self, entropy: u128, effects: &mut Vec<Effect>) {
        self.end_taps(effects);
        self.epochs = Epochs::new(entropy);
        self.copy = None;
        self.topics.clear();
        self.gateways = Gateways::default();
        self.touched.clear();
        self.timers.clear();
        self.lagging.clear();
        self.counts = Counts {
            appended: self.counts.appended,
            ..Counts::default()
        };
        self.created = 0;
    }

    pub(crate) fn fence(&mut self, effects: &mut Vec<Effect>) {
        if let Role::Owner(owner_epoch) = self.role {
            self.role = Role::Fenced(owner_epoch);
            self.end_taps(effects);
        }
    }

    pub(crate) fn confirmed(&mut self, owner_epoch: OwnerEpoch) {
        if self.role == Role::Owner(owner_epoch) && self.heard > owner_epoch {
            self.heard = owner_epoch;
            self.touch_all();
        }
    }

    /// The owner_epoch to serve under, if this node may serve.
    pub(crate) fn serving(&self) -> Option<OwnerEpoch> {
        match self.role {
            Role::Owner(owner_epoch) if owner_epoch >= self.heard => Some(owner_epoch),
            _ => None,
        }
    }

    /// Who does own the slot, if this node does not and knows.
    pub(crate) fn owner(&self) -> Option<v1::Owner> {
        let Role::None(Some((owner, owner_epoch))) = &self.role else {
            return None;
        };
        let (node, incarnation) = (owner.node.to_string(), owner.incarnation.0);
        Some(v1::Owner {
            node,
            incarnation,
            owner_epoch: owner_epoch.0,
        })
    }

    /// Whether to serve a gateway that has seen `owner_epoch`; under which one, or who to ask instead.
    pub(crate) fn serve(
        &mut self,
        from: &NodeRef,
        owner_epoch: OwnerEpoch,
        effects: &mut Vec<Effect>,
    ) -> Result<OwnerEpoch, Option<v1::Owner>> {
        self.hear(owner_epoch, effects);
        let Some(mine) = self.serving() else {
            return Err(self.owner());
        };
        match self.gateways.admit(from) {
            Admitted::Known => Ok(mine),
            Admitted::Renewed(before) => {
                self.forget(&before);
                Ok(mine)
            }
            Admitted::Refused => Err(None),
        }
    }

    /// Somebody speaks of an owner_epoch. If it is higher than ours, serving stops until the store has said more.
    pub(crate) fn hear(&mut self, owner_epoch: OwnerEpoch, effects: &mut Vec<Effect>) {
        if let Role::Owner(mine) = self.role
            && owner_epoch > mine.max(self.heard)
        {
            self.heard = owner_epoch;
            effects.push(Effect::Behind);
        }
    }
}

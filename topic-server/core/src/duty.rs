//! Whether a slot serves: what records, lost leases and the words of others do to its role.
//!
//! *Invariant:* who has heard of a higher owner_epoch serves nothing until a write proved that there is none.

use ringcast_proto::record::SlotRecord;
use ringcast_proto::{Millis, NodeRef, OwnerEpoch, v1};
use ringcast_ring::Revision;

use crate::chance::Chance;
use crate::epochs::Epochs;
use crate::gateways::Admitted;
use crate::planted::PlantedBug;
use crate::role::{Turn, turn};
use crate::slot::Slot;
use crate::{Effect, Role};

/// When a gateway is to ask again for a slot that changes owner: that takes a few milliseconds.
pub(crate) const SEALED_RETRY_MS: u32 = 5;

/// Why a gateway is not served.
pub(crate) enum Unserved {
    /// Who to ask instead, if known.
    NotOwner(Option<v1::Owner>),
    /// The slot is about to change owner.
    Sealed,
}

impl Slot {
    pub(crate) fn record(
        &mut self,
        revision: Revision,
        record: SlotRecord,
        me: &NodeRef,
        (entropy, now): (u128, Millis),
        effects: &mut Vec<Effect>,
    ) {
        let known = self.record.as_ref().map(|(known, _)| *known);
        if known.is_some_and(|known| revision < known) {
            return;
        }
        // Told again to another life, and nothing newer: the claim may have been written on what this node has not read yet.
        if known == Some(revision) && matches!(self.role, Role::Fenced(_)) && record.owner != *me {
            return;
        }
        let mut next = match turn(&record, me, self.copy) {
            Turn::Keep(role) => role,
            Turn::Learn => {
                self.learn(&record, entropy, now, effects);
                self.stop_giving();
                self.record = Some((revision, record));
                return;
            }
            Turn::Empty(role) => {
                self.clear(entropy, effects);
                role
            }
        };
        if let Role::Owner(owner_epoch) = next {
            self.copy = Some(owner_epoch);
            self.take_over(me, now);
            if known.is_some_and(|known| revision > known) {
                self.go_on_giving(&record);
            }
            if self.sealed() == Some(owner_epoch) {
                next = Role::Sealed(owner_epoch);
            }
        } else {
            self.stop_giving();
            self.end_taps(effects);
            self.report_takeover(None, effects);
        }
        self.record = Some((revision, record));
        if next != self.role {
            self.role = next;
            self.touch_all();
        }
    }

    /// Forgets everything that was held. Gateways bind again, and find new epochs.
    pub(crate) fn clear(&mut self, entropy: u128, effects: &mut Vec<Effect>) {
        self.end_taps(effects);
        self.report_takeover(None, effects);
        self.stop_giving();
        self.learning = None;
        let reused = self.limits.plants(PlantedBug::ReuseEpoch);
        self.epochs = Epochs::new(if reused { 0 } else { entropy });
        self.chance = Chance::new(entropy);
        self.copy = None;
        self.drop_topics();
        self.gateways.forget();
    }

    pub(crate) fn fence(&mut self, effects: &mut Vec<Effect>) {
        self.stop_giving();
        match &self.role {
            Role::Owner(owner_epoch) | Role::Sealed(owner_epoch) => {
                self.role = Role::Fenced(*owner_epoch);
                self.end_taps(effects);
            }
            // It has everything, so the record may have made this life the owner, unread: the next one may claim that.
            Role::Learner(_, owner_epoch) if self.copy.is_some() => {
                self.role = Role::Fenced(*owner_epoch);
                self.ask_no_more();
            }
            // Nothing can come of half a copy: the record names the life that is over as the target.
            Role::Learner(owner, owner_epoch) => {
                self.role = Role::None(Some((owner.clone(), *owner_epoch)));
                self.learning = None;
                self.copy = None;
                self.drop_topics();
            }
            Role::Fenced(_) | Role::None(_) => {}
        }
    }

    pub(crate) fn confirmed(&mut self, owner_epoch: OwnerEpoch) {
        let mine = matches!(self.role, Role::Owner(mine) | Role::Sealed(mine) if mine == owner_epoch);
        if mine && self.heard > owner_epoch {
            self.heard = owner_epoch;
            self.touch_all();
        }
    }

    /// The owner_epoch to hand out and show under, if this node may.
    pub(crate) fn serving(&self) -> Option<OwnerEpoch> {
        match self.role {
            Role::Owner(mine) | Role::Sealed(mine) if mine >= self.heard => Some(mine),
            _ => None,
        }
    }

    /// Who does own the slot, if this node does not and knows.
    pub(crate) fn owner(&self) -> Option<v1::Owner> {
        let (Role::None(Some((owner, owner_epoch))) | Role::Learner(owner, owner_epoch)) = &self.role else {
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
    ) -> Result<OwnerEpoch, Unserved> {
        self.hear(owner_epoch, effects);
        match &self.role {
            Role::Sealed(_) => return Err(Unserved::Sealed),
            // The gateway has read that the slot is ours by now, and this node will in a moment.
            Role::Learner(_, before) if owner_epoch > *before => return Err(Unserved::Sealed),
            _ => {}
        }
        let Some(mine) = self.serving() else {
            return Err(Unserved::NotOwner(self.owner()));
        };
        match self.gateways.admit(from) {
            Admitted::Known => Ok(mine),
            Admitted::Renewed(before) => {
                self.forget(&before);
                Ok(mine)
            }
            Admitted::Refused => Err(Unserved::NotOwner(None)),
        }
    }

    /// Somebody speaks of an owner_epoch. If it is higher than ours, serving stops until the store has said more.
    pub(crate) fn hear(&mut self, owner_epoch: OwnerEpoch, effects: &mut Vec<Effect>) {
        if let Role::Owner(mine) | Role::Sealed(mine) = self.role
            && owner_epoch > mine.max(self.heard)
        {
            self.heard = owner_epoch;
            effects.push(Effect::Behind);
        }
    }
}

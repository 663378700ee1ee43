//! Publications without an offset: who may receive them, and that they come at most once.
//!
//! Leaves out: that they come at all, which nobody promises.

use std::collections::BTreeMap;

use ringcast_proto::v1::{DeliverEntry, Target, UnsequencedPublication};
use ringcast_proto::{NodeRef, OwnerEpoch, SessionId};

use super::keys::{Held, Took};
use super::{Aim, Broken, Checker, PubId, slot_of};
use crate::time::Time;

/// What was seen of them.
#[derive(Debug, Default)]
pub(super) struct Fleeting {
    /// Under which owner_epoch each was handed out to which gateway, and for how many chosen members.
    handed: BTreeMap<PubId, Vec<(NodeRef, OwnerEpoch, usize)>>,
    received: BTreeMap<PubId, Vec<SessionId>>,
}

impl Fleeting {
    /// How often it took effect: once, and again where that is right, which is another check's matter. Each time it is
    /// handed out to a gateway once, and what is for one member to one gateway only.
    fn times(&self, id: PubId, one: bool) -> usize {
        let handed = self.handed.get(&id).map(Vec::as_slice).unwrap_or_default();
        if one {
            return handed.len();
        }
        let to = |gateway: &NodeRef| handed.iter().filter(|(to, ..)| to == gateway).count();
        handed.iter().map(|(gateway, ..)| to(gateway)).max().unwrap_or(0)
    }
}

impl Checker {
    /// An entry with such publications leaves a slot for a gateway's lane.
    pub(super) fn handed_out(
        &mut self,
        now: Time,
        gateway: &NodeRef,
        entry: &DeliverEntry,
    ) -> Result<(), Broken> {
        for unsequenced in &entry.unsequenced {
            self.hand_out(now, gateway, entry, unsequenced)?;
        }
        Ok(())
    }

    fn hand_out(
        &mut self,
        now: Time,
        gateway: &NodeRef,
        entry: &DeliverEntry,
        unsequenced: &UnsequencedPublication,
    ) -> Result<(), Broken> {
        let (slot, owner_epoch) = (slot_of(entry.slot), OwnerEpoch(entry.owner_epoch));
        let publication = unsequenced.publication.clone().unwrap_or_default();
        let id = PubId::parse(&publication.payload)
            .ok_or_else(|| ("I4", "what nobody published is handed out".to_owned()))?;
        let fits = match self.log.aim(id) {
            Some(Aim::One) => publication.target() == Target::One && unsequenced.to.len() <= 1,
            Some(Aim::Members(_)) => publication.target() == Target::Members,
            Some(Aim::Fleeting) => publication.target() == Target::All && unsequenced.to.is_empty(),
            Some(Aim::All | Aim::Others) | None => false,
        };
        if !fits || publication.offset != 0 || !entry.publications.is_empty() || entry.gap.is_some() {
            return Err(("I4", format!("{id:?} is handed out as {entry:?}")));
        }
        let fresh = self.ownership.fresh(slot);
        if let Some(key) = self.log.key(id).cloned() {
            let held = Held {
                took: Took::Fleeting,
                id,
                owner_epoch,
                at: now,
            };
            self.log.keys.took_effect(key, held, fresh)?;
        }
        let chosen = unsequenced.to.len();
        let one = self.log.aim(id) == Some(&Aim::One);
        let repeated = self.log.is_repeated(id);
        let handed = self.fleeting.handed.entry(id).or_default();
        for (to, under, before) in handed.iter() {
            let again = to == gateway || (one && before + chosen > 1);
            if again && fresh <= (*under).min(owner_epoch) && !repeated {
                return Err((
                    "I5",
                    format!("{id:?} is handed out twice, to {to} and to {gateway}"),
                ));
            }
        }
        handed.push((gateway.clone(), owner_epoch, chosen));
        Ok(())
    }

    /// A client receives one. `subject` is its name.
    ///
    /// # Errors
    /// Why it should not have.
    pub(crate) fn received_fleeting(
        &mut self,
        session: SessionId,
        subject: &str,
        id: PubId,
    ) -> Result<(), Broken> {
        let wrong = |why: &str| {
            Err((
                "X6",
                format!("{id:?} came to session {session} ({subject:?}), {why}"),
            ))
        };
        let named = match self.log.aim(id) {
            Some(Aim::One | Aim::Fleeting) => true,
            Some(Aim::Members(names)) if subject.is_empty() => names.contains(&session.0.to_string()),
            Some(Aim::Members(names)) => names.iter().any(|name| name == subject),
            Some(Aim::All | Aim::Others) | None => return wrong("without an offset"),
        };
        if !named {
            return wrong("which was not meant");
        }
        let one = self.log.aim(id) == Some(&Aim::One);
        let times = self.fleeting.times(id, one);
        let received = self.fleeting.received.entry(id).or_default();
        received.push(session);
        let mine = received.iter().filter(|other| **other == session).count();
        if mine > times || (one && received.len() > times) {
            return wrong("more than once, or as one of several");
        }
        Ok(())
    }
}

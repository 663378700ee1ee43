//! Publications without an offset: who may receive them, and that they come at most once.
//!
//! Leaves out: that they come at all, which nobody promises.

use std::collections::BTreeMap;

use ringcast_proto::v1::{DeliverEntry, Target, UnsequencedPublication};
use ringcast_proto::{NodeRef, OwnerEpoch, SessionId, Slot};

use super::keys::{Held, Took};
use super::{Aim, Broken, Checker, PubId};
use crate::network::Peer;
use crate::time::Time;

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Fleeting {
    /// Under which owner_epochs each took effect: once, or again where that is right.
    effects: BTreeMap<PubId, Vec<OwnerEpoch>>,
    /// To which gateways each was handed out, whichever registration they had then.
    handed: BTreeMap<PubId, Vec<Option<Peer>>>,
    received: BTreeMap<PubId, Vec<SessionId>>,
}

impl Checker {
    /// An owner sent one to whoever was there.
    pub(super) fn took_fleeting_effect(
        &mut self,
        now: Time,
        id: PubId,
        slot: Slot,
        owner_epoch: OwnerEpoch,
    ) -> Result<(), Broken> {
        let fresh = self.ownership.fresh(slot);
        let effects = self.fleeting.effects.entry(id).or_default();
        effects.push(owner_epoch);
        let Some(key) = self.log.key(id).cloned() else {
            let twice = effects.iter().rev().nth(1).is_some_and(|before| fresh <= *before);
            return if twice {
                Err((
                    "I5",
                    format!("{id:?} took effect twice, and slot {slot} did not begin empty"),
                ))
            } else {
                Ok(())
            };
        };
        let held = Held {
            took: Took::Fleeting,
            owner_epoch,
            at: now,
        };
        self.log.keys.took_effect(key, held, fresh)
    }

    /// An entry with such publications leaves a slot for a gateway's lane.
    pub(super) fn handed_out(&mut self, gateway: &NodeRef, entry: &DeliverEntry) -> Result<(), Broken> {
        for unsequenced in &entry.unsequenced {
            self.hand_out(gateway, entry, unsequenced)?;
        }
        Ok(())
    }

    fn hand_out(
        &mut self,
        gateway: &NodeRef,
        entry: &DeliverEntry,
        unsequenced: &UnsequencedPublication,
    ) -> Result<(), Broken> {
        let publication = unsequenced.publication.clone().unwrap_or_default();
        let id = PubId::parse(&publication.payload)
            .ok_or_else(|| ("I4", "what nobody published is handed out".to_owned()))?;
        let fits = match self.log.aim(id) {
            Some(Aim::One) => publication.target() == Target::One && unsequenced.to.len() == 1,
            Some(Aim::Members(_)) => publication.target() == Target::Members && !unsequenced.to.is_empty(),
            Some(Aim::Fleeting) => publication.target() == Target::All && unsequenced.to.is_empty(),
            Some(Aim::All | Aim::Others) | None => false,
        };
        if !fits || publication.offset != 0 || !entry.publications.is_empty() || entry.gap.is_some() {
            return Err(("I4", format!("{id:?} is handed out as {entry:?}")));
        }
        let one = self.log.aim(id) == Some(&Aim::One);
        let times = self.fleeting.effects.get(&id).map_or(0, Vec::len);
        let gateway = self.ownership.peer(gateway);
        let handed = self.fleeting.handed.entry(id).or_default();
        handed.push(gateway);
        // Each time to a gateway once, and what is for one member to one gateway only.
        if handed.iter().filter(|to| one || **to == gateway).count() > times {
            return Err((
                "I5",
                format!("{id:?} took effect {times} times and is handed out to {handed:?}"),
            ));
        }
        Ok(())
    }

    /// A client of a gateway receives one. `subject` is its name.
    ///
    /// # Errors
    /// Why it should not have.
    pub(crate) fn received_fleeting(
        &mut self,
        gateway: Option<Peer>,
        (session, subject): (SessionId, &str),
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
        let handed = self
            .fleeting
            .handed
            .get(&id)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let to_mine = handed.iter().filter(|to| **to == gateway).count();
        let received = self.fleeting.received.entry(id).or_default();
        received.push(session);
        let mine = received.iter().filter(|other| **other == session).count();
        if mine > to_mine || (one && received.len() > handed.len()) {
            return wrong("more than once, or as one of several");
        }
        Ok(())
    }
}

//! From a client's publish to what its owner made of it, and what it is told of that.

use ringcast_proto::v1::publish_outcome::Outcome as Decided;
use ringcast_proto::v1::{self, PublishOutcome, SlotPublishAnswer};
use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, SessionId, Slot};
use ringcast_topic_server_core::Role;

use super::log::{Aim, Append, Invoked, Place, PubId};
use super::{Broken, Checker, Outcome, slot_of};
use crate::time::Time;

impl Checker {
    /// A client means to publish.
    pub(crate) fn invoked(&mut self, now: Time, invoked: Invoked<'_>) {
        self.log.invoked(now, invoked);
    }

    /// A connection sends a publish, after so many others.
    pub(crate) fn sent(&mut self, id: PubId, connection: u64, before: u64) {
        self.log.sent(id, connection, before);
    }

    /// Whether a publish was sent more than once.
    #[must_use]
    pub(crate) fn is_repeated(&self, id: PubId) -> bool {
        self.log.is_repeated(id)
    }

    /// Who is to receive a publish.
    #[must_use]
    pub(crate) fn aim(&self, id: PubId) -> Option<&Aim> {
        self.log.aim(id)
    }

    /// A client is answered.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(crate) fn answered(
        &mut self,
        id: PubId,
        topic: &str,
        ok: bool,
        told: Option<&Outcome>,
    ) -> Result<(), String> {
        self.acknowledged += u64::from(ok);
        if self.strict && !ok {
            return Err(format!("{id:?} is refused although nothing is wrong"));
        }
        self.log.answered(id, ok)?;
        let Some(told) = told else { return Ok(()) };
        let wrong = |why: &str| Err(format!("{id:?} is answered with {told:?}: {why}"));
        let Some(offset) = told.offset else {
            let one = self.log.aim(id) == Some(&Aim::One);
            let fleeting = told.dup || self.log.aim(id).is_some_and(|aim| !aim.is_sequenced());
            return match told.matched {
                Some(matched) if fleeting && (!one || told.dup || matched <= 1) => Ok(()),
                _ => wrong("that is no outcome of it"),
            };
        };
        let place = self
            .log
            .number(topic.as_bytes(), told.epoch.as_bytes())
            .map(|log| Place { log, offset });
        let there = place
            .and_then(|place| self.log.entry(place))
            .map(|entry| entry.id);
        let same_key =
            || self.log.key(id).is_some() && there.and_then(|there| self.log.key(there)) == self.log.key(id);
        match there {
            Some(there) if there == id => Ok(()),
            Some(_) if told.dup && same_key() => Ok(()),
            _ => wrong(&format!("{there:?} is there")),
        }
    }

    /// A gateway sends publishes under these numbers.
    pub(crate) fn numbered(&mut self, now: Time, life: Incarnation, slots: &[v1::SlotPublishes]) {
        for part in slots {
            for publish in &part.publishes {
                let Some(id) = PubId::parse(&publish.payload) else {
                    continue;
                };
                let sent = (id, SessionId(publish.session));
                let before = self
                    .numbers
                    .insert((life, slot_of(part.slot), publish.number), sent);
                if before.is_some_and(|before| before != sent) {
                    let what = format!(
                        "number {} in slot {} names two publishes",
                        publish.number, part.slot
                    );
                    self.fail(now, "I5", what);
                }
            }
        }
    }

    /// A slot decided on a gateway's publishes.
    pub(crate) fn decided(
        &mut self,
        now: Time,
        (node, gateway): (&NodeRef, &NodeRef),
        role: &Role,
        answer: &SlotPublishAnswer,
    ) {
        let (slot, owner_epoch) = (slot_of(answer.slot), OwnerEpoch(answer.owner_epoch));
        for outcome in &answer.outcomes {
            if matches!(outcome.outcome, Some(Decided::Refused(_)) | None) {
                continue;
            }
            if *role != Role::Owner(owner_epoch) {
                let what = format!("{node} commits in slot {slot} under {owner_epoch} as {role:?}");
                self.fail(now, "I7", what);
            }
            let held = self.decide(now, gateway, (slot, owner_epoch), outcome);
            self.hold_broken(now, held);
        }
    }

    /// A publish took effect, or its number had been decided on before.
    fn decide(
        &mut self,
        now: Time,
        gateway: &NodeRef,
        (slot, owner_epoch): (Slot, OwnerEpoch),
        outcome: &PublishOutcome,
    ) -> Result<(), Broken> {
        let number = (gateway.incarnation, slot, outcome.number);
        let Some(&(id, session)) = self.numbers.get(&number) else {
            let what = format!("number {} of {gateway}, which nobody sent", outcome.number);
            return Err(("I5", what));
        };
        if let Some((before, under)) = self.decided.get(&number)
            && *under >= self.ownership.fresh(slot)
        {
            if before == outcome {
                return Ok(());
            }
            return Err(("I5", format!("{id:?} came to {before:?}, and to {outcome:?}")));
        }
        self.decided.insert(number, (outcome.clone(), owner_epoch));
        let Some(topic) = self.log.topic(id) else {
            return Err(("I4", format!("{id:?} was published by nobody")));
        };
        let at = match &outcome.outcome {
            Some(Decided::Committed(at)) => Some(at),
            _ => None,
        };
        if outcome.dup {
            return self.repeats(id, &topic, at);
        }
        let Some(at) = at else {
            return self.took_fleeting_effect(now, id, slot, owner_epoch);
        };
        let append = Append {
            slot,
            owner_epoch,
            topic,
            epoch: at.epoch.clone(),
            offset: at.offset,
            id,
            session,
            connection: self.client_of(session).map(|(_, connection)| connection),
        };
        self.log.append(now, append, &self.ownership)
    }

    /// An owner says that a publish is a repeat.
    pub(super) fn repeats(
        &mut self,
        id: PubId,
        topic: &[u8],
        at: Option<&v1::Position>,
    ) -> Result<(), Broken> {
        self.dups += 1;
        let Some(key) = self.log.key(id) else {
            return Err(("P6", format!("{id:?} has no id and is said to be a repeat")));
        };
        let Some(at) = at else {
            return self.log.keys.repeats(key, None);
        };
        let Some(log) = self.log.number(topic, &at.epoch) else {
            return Err(("P6", format!("{id:?} is said to be at {at:?}, where nothing is")));
        };
        let offset = at.offset;
        self.log.keys.repeats(key, Some(Place { log, offset }))
    }

    /// An answer of a slot leaves for a gateway.
    pub(crate) fn acknowledged(&mut self, now: Time, node: &NodeRef, answer: &SlotPublishAnswer) {
        let (slot, owner_epoch) = (slot_of(answer.slot), OwnerEpoch(answer.owner_epoch));
        for outcome in &answer.outcomes {
            if matches!(outcome.outcome, Some(Decided::Refused(_)) | None) {
                continue;
            }
            if !self.ownership.alive(node) {
                self.fail(
                    now,
                    "I9",
                    format!("{node} acknowledges in slot {slot} after its lease is over"),
                );
            }
            let held = self.ownership.commits(slot, owner_epoch, node);
            self.hold(now, "I1", held);
        }
    }

    /// An entry leaves a slot for a gateway's lane.
    pub(crate) fn fanned_out(
        &mut self,
        now: Time,
        (node, gateway): (&NodeRef, &NodeRef),
        role: &Role,
        entry: &v1::DeliverEntry,
    ) {
        let (slot, owner_epoch) = (slot_of(entry.slot), OwnerEpoch(entry.owner_epoch));
        if !matches!(role, Role::Owner(mine) | Role::Sealed(mine) if *mine == owner_epoch) {
            self.fail(
                now,
                "I7",
                format!("{node} fans out slot {slot} under {owner_epoch} as {role:?}"),
            );
        }
        let held = self.ownership.commits(slot, owner_epoch, node);
        self.hold(now, "I1", held);
        let held = self.handed_out(gateway, entry);
        self.hold_broken(now, held);
        for publication in &entry.publications {
            let held = self.is_as_committed(entry, publication);
            self.hold_broken(now, held);
        }
    }

    /// What is fanned out is what its owner committed at that offset.
    fn is_as_committed(&self, entry: &v1::DeliverEntry, publication: &v1::Publication) -> Result<(), Broken> {
        let id = PubId::parse(&publication.payload);
        let id = id.ok_or_else(|| {
            (
                "I4",
                format!("{publication:?} is fanned out, which nobody published"),
            )
        })?;
        let offset = publication.offset;
        let log = self.log.number(&entry.topic, &entry.epoch);
        let there = log.and_then(|log| self.log.entry(Place { log, offset }));
        if there.is_none_or(|there| there.id != id || there.session.0 != publication.session) {
            let what = format!(
                "{publication:?} is fanned out in {:?}, where {there:?} is",
                entry.epoch
            );
            return Err(("I4", what));
        }
        let others = self.log.aim(id) == Some(&Aim::Others);
        if others != (publication.target() == v1::Target::Others) {
            return Err((
                "X6",
                format!("{id:?} is fanned out to {:?}", publication.target()),
            ));
        }
        Ok(())
    }
}

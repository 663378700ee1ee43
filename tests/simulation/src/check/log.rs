//! Every topic as it truly was: which publication got which offset of which epoch, and what became of each publish.
//!
//! It is written when an owner decides on a publish, whoever comes to hear of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringcast_proto::{OwnerEpoch, SessionId, Slot};

use super::keys::{Held, Key, Keys, Took};
use super::{Broken, Ownership};
use crate::time::Time;

/// Before a channel's first publication so many are looked at for what it should have received.
const LOOK_BACK: u64 = 200;

/// A publish: which client's, and which of that client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PubId {
    /// Whose.
    pub(crate) client: u32,
    /// Its number; a client counts on through all its connections.
    pub(crate) number: u64,
}

impl PubId {
    /// As it is published.
    #[must_use]
    pub(crate) fn payload(self) -> String {
        format!("{{\"p\":\"{}.{}\"}}", self.client, self.number)
    }

    /// Out of a payload.
    #[must_use]
    pub(crate) fn parse(payload: &[u8]) -> Option<PubId> {
        let text = std::str::from_utf8(payload).ok()?;
        let (client, number) = text
            .strip_prefix("{\"p\":\"")?
            .strip_suffix("\"}")?
            .split_once('.')?;
        Some(PubId {
            client: client.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

/// Who is to receive a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Every member.
    All,
    /// Every member but the sender.
    Others,
    /// Any one member; without an offset.
    One,
    /// Those with these names; without an offset.
    Members(Vec<String>),
    /// Every member, without an offset.
    Fleeting,
}

impl Aim {
    /// Whether it takes a place in the sequence.
    #[must_use]
    pub(crate) fn is_sequenced(&self) -> bool {
        matches!(self, Aim::All | Aim::Others)
    }
}

/// A publish, as its client means it.
#[derive(Debug)]
pub(crate) struct Invoked<'a> {
    pub(crate) id: PubId,
    pub(crate) topic: &'a str,
    pub(crate) aim: Aim,
    /// The client's subject and its own id of the publish.
    pub(crate) key: Option<(&'a str, &'a str)>,
}

/// A place in an epoch of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The epoch, numbered over all topics in the order in which they began.
    pub(crate) log: u32,
    /// The offset.
    pub(crate) offset: u64,
}

/// A publication that gets an offset.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) slot: Slot,
    pub(super) owner_epoch: OwnerEpoch,
    pub(super) topic: Bytes,
    pub(super) epoch: Bytes,
    pub(super) offset: u64,
    pub(super) id: PubId,
    /// Who publishes it.
    pub(super) session: SessionId,
    /// Its connection.
    pub(super) connection: Option<u64>,
}

#[derive(Debug)]
struct Epoch {
    topic: Bytes,
    name: Bytes,
    slot: Slot,
    entries: Vec<Entry>,
    /// (session, how many publishes it sent before) to offset: both rise together (I6).
    order: BTreeMap<(u64, u64), u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) id: PubId,
    pub(super) owner_epoch: OwnerEpoch,
    pub(super) session: SessionId,
    /// Its sender does not receive it.
    others: bool,
}

#[derive(Debug)]
struct Publish {
    topic: Bytes,
    invoked: Time,
    ok: Option<bool>,
    places: Vec<Place>,
    aim: Aim,
    key: Option<Key>,
    /// By which connection it was sent, and how many that had sent before.
    sent: Vec<(u64, u64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log {
    numbers: BTreeMap<(Bytes, Bytes), u32>,
    epochs: Vec<Epoch>,
    publishes: BTreeMap<PubId, Publish>,
    pub(super) keys: Keys,
    /// Families of topics that may be forgotten while nobody is joined, and begin again.
    pub(super) forgetful: Vec<&'static str>,
}

impl Log {
    pub(super) fn invoked(&mut self, now: Time, invoked: Invoked<'_>) {
        let topic = Bytes::copy_from_slice(invoked.topic.as_bytes());
        let key = invoked.key.map(|(subject, msg_id)| Key {
            topic: topic.clone(),
            subject: subject.to_owned(),
            msg_id: msg_id.to_owned(),
        });
        let publish = Publish {
            topic,
            invoked: now,
            ok: None,
            places: Vec::new(),
            aim: invoked.aim,
            key,
            sent: Vec::new(),
        };
        self.publishes.insert(invoked.id, publish);
    }

    /// A connection sends a publish, perhaps not for the first time.
    pub(super) fn sent(&mut self, id: PubId, connection: u64, before: u64) {
        if let Some(publish) = self.publishes.get_mut(&id) {
            publish.sent.push((connection, before));
        }
    }

    /// Whether a publish was sent more than once.
    pub(super) fn is_repeated(&self, id: PubId) -> bool {
        self.publishes
            .get(&id)
            .is_some_and(|publish| publish.sent.len() > 1)
    }

    pub(super) fn answered(&mut self, id: PubId, ok: bool) -> Result<(), String> {
        let publish = self.publishes.get_mut(&id).ok_or("nobody published it")?;
        // An error to one attempt says nothing of what became of another.
        publish.ok = Some(ok || publish.ok == Some(true));
        let known = publish.key.as_ref().is_some_and(|key| self.keys.knows(key));
        if ok && publish.aim.is_sequenced() && publish.places.is_empty() && !known {
            return Err(format!("{id:?} is acknowledged and was committed nowhere"));
        }
        Ok(())
    }

    pub(super) fn aim(&self, id: PubId) -> Option<&Aim> {
        self.publishes.get(&id).map(|publish| &publish.aim)
    }

    pub(super) fn key(&self, id: PubId) -> Option<&Key> {
        self.publishes.get(&id)?.key.as_ref()
    }

    pub(super) fn topic(&self, id: PubId) -> Option<Bytes> {
        self.publishes.get(&id).map(|publish| publish.topic.clone())
    }

    pub(super) fn number(&self, topic: &[u8], epoch: &[u8]) -> Option<u32> {
        self.numbers
            .get(&(Bytes::copy_from_slice(topic), Bytes::copy_from_slice(epoch)))
            .copied()
    }

    /// The last offset of an epoch.
    pub(super) fn head(&self, log: u32) -> u64 {
        self.epoch(log).map_or(0, |epoch| epoch.entries.len() as u64)
    }

    /// Whether its slot has begun empty since its last publication.
    pub(super) fn is_lost(&self, log: u32, ownership: &Ownership) -> bool {
        let Some(epoch) = self.epoch(log) else {
            return false;
        };
        let last = epoch.entries.last();
        last.is_some_and(|last| last.owner_epoch < ownership.fresh(epoch.slot))
    }

    /// Whether a topic may be forgotten, and begin again, while nobody is joined.
    fn forgets(&self, topic: &[u8]) -> bool {
        self.forgetful
            .iter()
            .any(|family| topic.starts_with(family.as_bytes()))
    }

    fn epoch(&self, log: u32) -> Option<&Epoch> {
        self.epochs.get(usize::try_from(log).ok()?)
    }

    pub(super) fn append(&mut self, now: Time, append: Append, ownership: &Ownership) -> Result<(), Broken> {
        let Append {
            slot,
            owner_epoch,
            topic,
            epoch,
            offset,
            id,
            session,
            connection,
        } = append;
        let log = *self
            .numbers
            .entry((topic.clone(), epoch.clone()))
            .or_insert_with(|| {
                self.epochs.push(Epoch {
                    topic: topic.clone(),
                    name: epoch,
                    slot,
                    entries: Vec::new(),
                    order: BTreeMap::new(),
                });
                u32::try_from(self.epochs.len() - 1).unwrap_or(u32::MAX)
            });
        let epochs = &mut self.epochs;
        let index = usize::try_from(log).unwrap_or(usize::MAX);
        let Some(known) = epochs.get_mut(index) else {
            return Ok(());
        };
        let head = known.entries.len() as u64;
        if offset != head + 1 {
            let what = format!("{id:?} gets offset {offset} of {topic:?}, whose head is {head}");
            return Err(("I4", what));
        }
        let publish = self.publishes.get(&id);
        known.entries.push(Entry {
            id,
            owner_epoch,
            session,
            others: publish.is_some_and(|publish| publish.aim == Aim::Others),
        });
        self.place(now, id, Place { log, offset }, owner_epoch, slot, ownership)?;
        match connection {
            Some(connection) => self.in_order(log, session.0, connection, id, offset),
            None => Ok(()),
        }
    }

    /// A publish came to a place.
    fn place(
        &mut self,
        now: Time,
        id: PubId,
        place: Place,
        owner_epoch: OwnerEpoch,
        slot: Slot,
        ownership: &Ownership,
    ) -> Result<(), Broken> {
        let known = self.publishes.get(&id);
        if known.is_some_and(|publish| !publish.aim.is_sequenced()) {
            return Err(("I4", format!("{id:?} is at {place:?} and was to have no offset")));
        }
        if let Some(key) = known.and_then(|publish| publish.key.clone()) {
            let held = Held {
                took: Took::At(place),
                owner_epoch,
                at: now,
            };
            self.keys.took_effect(key, held, ownership.fresh(slot))?;
            if let Some(publish) = self.publishes.get_mut(&id) {
                publish.places.push(place);
            }
            return Ok(());
        }
        let earlier = known.map_or(Vec::new(), |publish| publish.places.clone());
        for before in earlier {
            if before.log == place.log {
                return Err((
                    "I5",
                    format!("{id:?} is at offsets {} and {}", before.offset, place.offset),
                ));
            }
            // Appended once more is only what was lost with its epoch.
            let under = self.entry(before).map_or(owner_epoch, |entry| entry.owner_epoch);
            if ownership.fresh(slot) <= under.min(owner_epoch) {
                return Err((
                    "I5",
                    format!("{id:?} is in two epochs of slot {slot}, which did not begin empty"),
                ));
            }
        }
        if let Some(publish) = self.publishes.get_mut(&id) {
            publish.places.push(place);
        }
        Ok(())
    }

    fn in_order(
        &mut self,
        log: u32,
        session: u64,
        connection: u64,
        id: PubId,
        offset: u64,
    ) -> Result<(), Broken> {
        let Some(epoch) = usize::try_from(log).ok().and_then(|log| self.epochs.get_mut(log)) else {
            return Ok(());
        };
        let sent = self.publishes.get(&id).map(|publish| publish.sent.as_slice());
        let mut sent = sent
            .unwrap_or_default()
            .iter()
            .filter(|(by, _)| *by == connection);
        // Sent twice by one connection, it has no one place among what that sent.
        let (Some(&(_, nth)), None) = (sent.next(), sent.next()) else {
            return Ok(());
        };
        if epoch.order.insert((session, nth), offset).is_some() {
            return Ok(());
        }
        let mut before = epoch.order.range((session, 0)..(session, nth));
        let mut after = epoch.order.range((session, nth + 1)..=(session, u64::MAX));
        let early = before.next_back().is_some_and(|(_, before)| *before > offset);
        let late = after.next().is_some_and(|(_, after)| *after < offset);
        if early || late {
            let what = format!(
                "{id:?} of session {session:x} at offset {offset} of {:?} is out of order",
                epoch.topic
            );
            return Err(("I6", what));
        }
        Ok(())
    }

    /// Whether a session is not to receive what stands there: its own, to others.
    pub(super) fn is_own_hole(&self, place: Place, session: SessionId) -> bool {
        self.entry(place)
            .is_some_and(|entry| entry.others && entry.session == session)
    }

    pub(super) fn entry(&self, place: Place) -> Option<Entry> {
        let at = usize::try_from(place.offset.checked_sub(1)?).ok()?;
        self.epoch(place.log)?.entries.get(at).copied()
    }

    pub(super) fn follows(
        &self,
        (joined, session): (Time, SessionId),
        last: Option<Place>,
        next: Place,
        gap: impl Fn(u32, u64) -> bool,
        ownership: &Ownership,
    ) -> Result<(), String> {
        let from = match last {
            Some(last) if last.log == next.log && next.offset <= last.offset => {
                return Err(format!("{next:?} after {last:?}"));
            }
            Some(last) if last.log == next.log => last.offset + 1,
            Some(last) if last.log > next.log => {
                return Err(format!("back to an older epoch: {next:?} after {last:?}"));
            }
            Some(last) => {
                let slot = self.epoch(next.log).map_or(Slot(0), |epoch| epoch.slot);
                let under = self.entry(last).map_or(OwnerEpoch(0), |entry| entry.owner_epoch);
                let forgets = self
                    .epoch(next.log)
                    .is_some_and(|epoch| self.forgets(&epoch.topic));
                if ownership.fresh(slot) <= under && !forgets {
                    return Err(format!(
                        "{next:?} after {last:?}, and slot {slot} did not begin empty"
                    ));
                }
                1
            }
            None => next.offset.saturating_sub(LOOK_BACK).max(1),
        };
        for offset in from..next.offset {
            let place = Place { offset, ..next };
            // Who has received nothing yet need not get what was published before it joined.
            let wanted = last.is_some()
                || self
                    .entry(place)
                    .and_then(|entry| self.publishes.get(&entry.id))
                    .is_some_and(|publish| publish.invoked > joined);
            if wanted && !gap(next.log, offset) && !self.is_own_hole(place, session) {
                let entry = self.entry(place);
                return Err(format!(
                    "{place:?} ({entry:?}) is missing before {next:?}, the last was {last:?}, joined {joined}"
                ));
            }
        }
        Ok(())
    }

    /// What is broken once nothing happens any more.
    pub(super) fn at_rest(
        &self,
        heads: &BTreeMap<String, (Bytes, u64)>,
        ownership: &Ownership,
        serving_since: Time,
    ) -> Option<Broken> {
        for (id, publish) in &self.publishes {
            if publish.invoked >= serving_since && publish.ok == Some(false) {
                return Some((
                    "I16",
                    format!("{id:?} was refused long after everything was healed"),
                ));
            }
            if publish.ok != Some(true) || !publish.aim.is_sequenced() {
                continue;
            }
            let of_key = publish.key.as_ref().map(|key| self.keys.places(key));
            let places = of_key.unwrap_or_else(|| publish.places.clone());
            let topic = String::from_utf8_lossy(&publish.topic);
            let kept = |place: &Place| {
                let head = heads.get(&*topic);
                let epoch = self.epoch(place.log);
                head.zip(epoch)
                    .is_some_and(|((name, head), epoch)| epoch.name == *name && place.offset <= *head)
            };
            // That of a repeat may be what an earlier one came to, without an offset.
            let fleeting = places.is_empty() && publish.key.is_some();
            if fleeting || places.iter().any(kept) || self.forgets(&publish.topic) {
                continue;
            }
            let lost = |place: &Place| {
                let under = self
                    .entry(*place)
                    .map_or(OwnerEpoch(0), |entry| entry.owner_epoch);
                self.epoch(place.log)
                    .is_some_and(|epoch| ownership.fresh(epoch.slot) > under)
            };
            if !places.iter().all(lost) {
                let what = format!("{id:?} on {topic} was acknowledged and is lost: {places:?}");
                return Some(("P5", what));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;

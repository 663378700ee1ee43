//! Every topic as it truly was: which publication got which offset of which epoch, and what became of each publish.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringcast_proto::{OwnerEpoch, Slot};

use super::Ownership;
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

/// A place in an epoch of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The epoch, numbered over all topics in the order they were first seen.
    pub(crate) log: u32,
    /// The offset.
    pub(crate) offset: u64,
}

/// A publication that was seen at an offset.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) slot: Slot,
    pub(super) owner_epoch: OwnerEpoch,
    pub(super) topic: Bytes,
    pub(super) epoch: Bytes,
    pub(super) offset: u64,
    pub(super) id: PubId,
    /// The publishing session, where that is known.
    pub(super) session: Option<u64>,
}

#[derive(Debug)]
struct Epoch {
    topic: Bytes,
    name: Bytes,
    slot: Slot,
    entries: Vec<Option<Entry>>,
    /// (session, publish) to offset: both rise together (I6).
    order: BTreeMap<(u64, u64), u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: PubId,
    owner_epoch: OwnerEpoch,
}

#[derive(Debug)]
struct Publish {
    topic: Bytes,
    invoked: Time,
    ok: Option<bool>,
    places: Vec<Place>,
}

/// What is broken, and how.
pub(super) type Broken = (&'static str, String);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Log {
    numbers: BTreeMap<(Bytes, Bytes), u32>,
    epochs: Vec<Epoch>,
    publishes: BTreeMap<PubId, Publish>,
}

impl Log {
    pub(super) fn invoked(&mut self, now: Time, id: PubId, topic: &str) {
        let publish = Publish {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            invoked: now,
            ok: None,
            places: Vec::new(),
        };
        self.publishes.insert(id, publish);
    }

    pub(super) fn answered(&mut self, _now: Time, id: PubId, ok: bool) -> Result<(), String> {
        let publish = self.publishes.get_mut(&id).ok_or("nobody published it")?;
        publish.ok = Some(ok);
        if ok && publish.places.is_empty() {
            return Err(format!("{id:?} is acknowledged and was committed nowhere"));
        }
        Ok(())
    }

    pub(super) fn topic(&self, id: PubId) -> Option<Bytes> {
        self.publishes.get(&id).map(|publish| publish.topic.clone())
    }

    pub(super) fn number(&self, topic: &[u8], epoch: &[u8]) -> Option<u32> {
        self.numbers
            .get(&(Bytes::copy_from_slice(topic), Bytes::copy_from_slice(epoch)))
            .copied()
    }

    fn epoch(&self, log: u32) -> Option<&Epoch> {
        self.epochs.get(usize::try_from(log).ok()?)
    }

    pub(super) fn append(&mut self, append: Append, ownership: &Ownership) -> Result<(), Broken> {
        let Append {
            slot,
            owner_epoch,
            topic,
            epoch,
            offset,
            id,
            session,
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
        let at = usize::try_from(offset.wrapping_sub(1)).unwrap_or(usize::MAX);
        if at > known.entries.len() + 10_000 {
            return Err(("P2", format!("offset {offset} in {known:?}")));
        }
        if known.entries.len() <= at {
            known.entries.resize(at + 1, None);
        }
        match known.entries[at] {
            Some(entry) if entry.id == id => {}
            Some(entry) => {
                let what = format!("offset {offset} of {topic:?} is {:?} and {id:?}", entry.id);
                return Err(("I4", what));
            }
            None => {
                known.entries[at] = Some(Entry { id, owner_epoch });
                let place = Place { log, offset };
                self.place(id, place, owner_epoch, slot, ownership)?;
            }
        }
        match session {
            Some(session) => self.in_order(log, session, id, offset),
            None => Ok(()),
        }
    }

    /// A publish was found at a place for the first time.
    fn place(
        &mut self,
        id: PubId,
        place: Place,
        owner_epoch: OwnerEpoch,
        slot: Slot,
        ownership: &Ownership,
    ) -> Result<(), Broken> {
        let earlier = self
            .publishes
            .get(&id)
            .map_or(Vec::new(), |publish| publish.places.clone());
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

    fn in_order(&mut self, log: u32, session: u64, id: PubId, offset: u64) -> Result<(), Broken> {
        let Some(epoch) = usize::try_from(log).ok().and_then(|log| self.epochs.get_mut(log)) else {
            return Ok(());
        };
        if epoch.order.insert((session, id.number), offset).is_some() {
            return Ok(());
        }
        let mut before = epoch.order.range((session, 0)..(session, id.number));
        let mut after = epoch.order.range((session, id.number + 1)..=(session, u64::MAX));
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

    fn entry(&self, place: Place) -> Option<Entry> {
        let at = usize::try_from(place.offset.checked_sub(1)?).ok()?;
        self.epoch(place.log)?.entries.get(at).copied().flatten()
    }

    pub(super) fn follows(
        &self,
        joined: Time,
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
                if ownership.fresh(slot) <= under {
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
            if wanted && !gap(next.log, offset) {
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
            if publish.ok != Some(true) {
                continue;
            }
            let topic = String::from_utf8_lossy(&publish.topic);
            let kept = |place: &Place| {
                let head = heads.get(&*topic);
                let epoch = self.epoch(place.log);
                head.zip(epoch)
                    .is_some_and(|((name, head), epoch)| epoch.name == *name && place.offset <= *head)
            };
            if publish.places.iter().any(kept) {
                continue;
            }
            let lost = |place: &Place| {
                let under = self
                    .entry(*place)
                    .map_or(OwnerEpoch(0), |entry| entry.owner_epoch);
                self.epoch(place.log)
                    .is_some_and(|epoch| ownership.fresh(epoch.slot) > under)
            };
            if !publish.places.iter().all(lost) {
                let what = format!(
                    "{id:?} on {topic} was acknowledged and is lost: {:?}",
                    publish.places
                );
                return Some(("P5", what));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: PubId = PubId { client: 1, number: 1 };
    const SECOND: PubId = PubId { client: 1, number: 2 };
    const JOINED: Time = Time(10);

    /// A log in which both were published after somebody joined.
    fn log() -> Log {
        let mut log = Log::default();
        log.invoked(Time(20), FIRST, "a");
        log.invoked(Time(30), SECOND, "a");
        log
    }

    fn append(log: &mut Log, epoch: &'static str, offset: u64, id: PubId) -> Result<(), &'static str> {
        let append = Append {
            slot: Slot(0),
            owner_epoch: OwnerEpoch(1),
            topic: Bytes::from_static(b"a"),
            epoch: Bytes::from_static(epoch.as_bytes()),
            offset,
            id,
            session: Some(7),
        };
        log.append(append, &Ownership::default()).map_err(|(of, _)| of)
    }

    fn at(log: u32, offset: u64) -> Place {
        Place { log, offset }
    }

    fn follows(log: &Log, last: Option<Place>, next: Place) -> bool {
        log.follows(JOINED, last, next, |_, _| false, &Ownership::default())
            .is_ok()
    }

    #[test]
    fn a_payload_is_read_as_it_was_written() {
        assert_eq!(PubId::parse(SECOND.payload().as_bytes()), Some(SECOND));
        assert_eq!(PubId::parse(b"{\"p\":\"1\"}"), None);
    }

    #[test]
    fn two_values_at_one_offset_one_value_at_two_and_a_wrong_order_are_found() {
        let mut log = log();
        assert_eq!(append(&mut log, "e", 1, FIRST), Ok(()));
        assert_eq!(append(&mut log, "e", 1, FIRST), Ok(()), "seen again");
        assert_eq!(append(&mut log, "e", 1, SECOND), Err("I4"));
        assert_eq!(append(&mut log, "e", 2, FIRST), Err("I5"));
        assert_eq!(append(&mut log, "f", 1, FIRST), Err("I5"), "no slot began empty");
        let mut log = self::log();
        assert_eq!(append(&mut log, "e", 1, SECOND), Ok(()));
        assert_eq!(append(&mut log, "e", 2, FIRST), Err("I6"));
    }

    #[test]
    fn a_hole_a_repeat_and_a_step_back_are_found() {
        let mut log = log();
        append(&mut log, "e", 1, FIRST).unwrap();
        append(&mut log, "e", 2, SECOND).unwrap();
        assert!(follows(&log, None, at(0, 1)) && follows(&log, Some(at(0, 1)), at(0, 2)));
        assert!(
            !follows(&log, None, at(0, 2)),
            "the first was published after the join"
        );
        assert!(!follows(&log, Some(at(0, 1)), at(0, 3)), "a hole");
        assert!(!follows(&log, Some(at(0, 2)), at(0, 2)), "a repeat");
        assert!(!follows(&log, Some(at(1, 1)), at(0, 1)), "an older epoch");
        let gap = |_, offset| offset == 1;
        let explained = log.follows(JOINED, None, at(0, 2), gap, &Ownership::default());
        assert_eq!(explained, Ok(()));
    }

    #[test]
    fn what_was_acknowledged_and_is_not_there_is_found() {
        let mut log = log();
        assert!(log.answered(Time(40), SECOND, true).is_err(), "committed nowhere");
        append(&mut log, "e", 1, FIRST).unwrap();
        log.answered(Time(40), FIRST, true).unwrap();
        let mut log = self::log();
        append(&mut log, "e", 1, FIRST).unwrap();
        log.answered(Time(40), FIRST, true).unwrap();
        let lost = |epoch: &'static str, head| {
            let heads = [("a".to_owned(), (Bytes::from_static(epoch.as_bytes()), head))].into();
            let broken = log.at_rest(&heads, &Ownership::default(), Time(u64::MAX));
            broken.map(|(of, _)| of)
        };
        assert_eq!(lost("e", 1), None);
        assert_eq!(lost("e", 0), Some("P5"));
        assert_eq!(lost("f", 9), Some("P5"));
    }
}

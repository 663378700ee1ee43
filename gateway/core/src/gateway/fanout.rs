//! From a delivery to frames: encoded once for all who get the same bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringcast_proto::v1::{self, DeliverEntry, Publication, Target};
use ringcast_proto::{Epoch, Offset, SessionId, Slot, Topic};

use super::replies::{ClientWaiter, Waiter};
use super::{CallId, Effect, Gateway, Published};
use crate::interest::{Event, Passed};
use crate::phoenix::{Frame, Json, Serializer, Tail};

impl Gateway {
    pub(super) fn deliver(&mut self, call: CallId, entries: Vec<DeliverEntry>, effects: &mut Vec<Effect>) {
        let mut exceptions = Vec::new();
        for (index, entry) in (0_u32..).zip(&entries) {
            let slot = u16::try_from(entry.slot).ok().map(Slot);
            #[cfg(feature = "planted-bugs")]
            if let Some(slot) =
                slot.filter(|_| self.limits.plants(crate::planted::PlantedBug::AcceptsOldEpoch))
            {
                self.owners.forget(slot);
            }
            let passed = match slot {
                Some(slot) => self.interest.deliver(entry, slot, &mut self.owners),
                None => Passed::No(no_such_slot()),
            };
            match (passed, slot, Topic::parse(&entry.topic)) {
                (Passed::On { admitted, from }, Some(slot), Ok(topic)) => {
                    for session in admitted {
                        self.membership(Event::Joined(topic.clone(), session), effects);
                    }
                    if let Ok(epoch) = Epoch::parse(&entry.epoch) {
                        self.pass_on(slot, &topic, &epoch, &entry.publications[from..], effects);
                    }
                }
                (Passed::No(exception), ..) => exceptions.push(v1::DeliverException { index, ..exception }),
                (Passed::On { .. }, ..) => exceptions.push(v1::DeliverException {
                    index,
                    ..no_such_slot()
                }),
            }
        }
        let answer = v1::DeliverAnswer {
            incarnation: 0,
            bind_seq: self.interest.seq(),
            exceptions,
        };
        effects.push(Effect::Delivered(call, answer));
    }

    fn pass_on(
        &mut self,
        slot: Slot,
        topic: &Topic,
        epoch: &Epoch,
        publications: &[Publication],
        effects: &mut Vec<Effect>,
    ) {
        let Some(last) = publications.last() else { return };
        let mut replies_after = Vec::new();
        for publication in publications.iter().filter(|publication| publication.number != 0) {
            // A delivered publication of our own proves its commit, whether or not its answer is here yet (O6).
            let Some(waiter) = self.own(slot, publication) else {
                continue;
            };
            let published = Published {
                epoch: epoch.clone(),
                offset: Some(Offset(publication.offset)),
                matched: None,
                dup: false,
            };
            if waiter.copy_first {
                replies_after.push((waiter, published));
            } else {
                self.settle(waiter, slot, Ok(published), None, effects);
            }
        }
        if let Some(wanted) = self.interest.topic(slot, topic.as_str()) {
            let mut encoded = Encoded::new(topic, publications);
            for (&session, member) in wanted.members.iter().filter(|(_, member)| member.joined) {
                let frames = encoded.frames(member.serializer, &member.push_ref);
                for (frame, publication) in frames.iter().zip(publications) {
                    if receives(session, publication) {
                        self.counts.deliveries += 1;
                        effects.push(Effect::Write(session, frame.clone()));
                    }
                }
            }
        }
        self.release_passed(slot, topic, Offset(last.offset), effects);
        for (waiter, published) in replies_after {
            self.settle(waiter, slot, Ok(published), None, effects);
        }
    }

    /// Takes the waiter of this publication, if its publisher is a client of this gateway.
    fn own(&mut self, slot: Slot, publication: &Publication) -> Option<ClientWaiter> {
        let Waiter::Client(client) = self.publishing.waiter(slot, publication.number)? else {
            return None;
        };
        if client.session.0 != publication.session {
            return None;
        }
        match self.publishing.committed(slot, publication.number)? {
            Waiter::Client(client) => Some(client),
            Waiter::Server(_) => None,
        }
    }
}

fn receives(session: SessionId, publication: &Publication) -> bool {
    publication.target() == Target::All || publication.session != session.0
}

fn no_such_slot() -> v1::DeliverException {
    v1::DeliverException {
        status: v1::DeliverStatus::NoInterest.into(),
        ..Default::default()
    }
}

/// The frames of some publications, one encoding for each serializer and join_ref met.
struct Encoded<'a> {
    topic: &'a Topic,
    publications: &'a [Publication],
    tails: BTreeMap<Serializer, Vec<Tail>>,
    frames: BTreeMap<(Serializer, Bytes), Vec<Frame>>,
}

impl<'a> Encoded<'a> {
    fn new(topic: &'a Topic, publications: &'a [Publication]) -> Encoded<'a> {
        Encoded {
            topic,
            publications,
            tails: BTreeMap::new(),
            frames: BTreeMap::new(),
        }
    }

    fn frames(&mut self, serializer: Serializer, push_ref: &Json) -> &[Frame] {
        let tails = self.tails.entry(serializer).or_insert_with(|| {
            let tail = |publication: &Publication| {
                let event = String::from_utf8_lossy(&publication.event);
                Tail::new(
                    serializer,
                    &Json::null(),
                    self.topic,
                    &event,
                    &publication.payload,
                )
            };
            self.publications.iter().map(tail).collect()
        });
        self.frames
            .entry((serializer, push_ref.0.clone()))
            .or_insert_with(|| tails.iter().map(|tail| tail.frame(push_ref)).collect())
    }
}

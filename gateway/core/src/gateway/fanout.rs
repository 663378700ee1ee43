//! From a delivery to frames: encoded once for all who get the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ringcast_proto::v1::{self, DeliverEntry, Publication, Target, UnsequencedPublication};
use ringcast_proto::{Epoch, Offset, SessionId, Slot, Topic};

use super::replies::{ClientWaiter, Waiter};
use super::{CallId, Counts, Effect, Gateway, Published};
use crate::interest::{Event, Member, Passed};
use crate::phoenix::{self, Frame, Json, Serializer};
use crate::place::{Place, Sort, Stream};

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
                (
                    Passed::On {
                        epoch,
                        admitted,
                        missed,
                        from,
                    },
                    Some(slot),
                    Ok(topic),
                ) => {
                    for session in admitted {
                        self.membership(Event::Joined(topic.clone(), session), effects);
                    }
                    if let Some(missed) = missed {
                        self.tell_missed(slot, &topic, &epoch, missed, effects);
                    }
                    self.pass_on(slot, &topic, &epoch, &entry.publications[from..], effects);
                }
                (Passed::Unsequenced, Some(slot), Ok(topic)) => {
                    self.pass_on_unsequenced(slot, &topic, &entry.unsequenced, effects);
                }
                (Passed::No(exception), ..) => exceptions.push(v1::DeliverException { index, ..exception }),
                (Passed::On { .. } | Passed::Unsequenced, ..) => exceptions.push(v1::DeliverException {
                    index,
                    ..no_such_slot()
                }),
            }
        }
        let answer = v1::DeliverAnswer {
            incarnation: 0,
            bind_seq: self.interest.seq(),
            exceptions,
            calls: 1,
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
                let member = (
                    member.serializer,
                    &member.push_ref,
                    member.stream.as_ref(),
                    member.has,
                );
                encoded.write(session, member, Sort::Live, &mut self.counts, effects);
            }
        }
        self.release_passed(slot, topic, Offset(last.offset), effects);
        for (waiter, published) in replies_after {
            self.settle(waiter, slot, Ok(published), None, effects);
        }
    }

    /// Passes on what has no offset: to those it names, or to all by its target.
    fn pass_on_unsequenced(
        &mut self,
        slot: Slot,
        topic: &Topic,
        publications: &[UnsequencedPublication],
        effects: &mut Vec<Effect>,
    ) {
        let Some(wanted) = self.interest.topic(slot, topic.as_str()) else {
            return;
        };
        for sent in publications {
            let Some(publication) = sent
                .publication
                .as_ref()
                .filter(|publication| publication.offset == 0)
            else {
                continue;
            };
            let mut encoded = Encoded::new(topic, std::slice::from_ref(publication));
            let named = matches!(publication.target(), Target::One | Target::Members);
            let mut write = |id: SessionId, member: &Member| {
                let member = (
                    member.serializer,
                    &member.push_ref,
                    member.stream.as_ref(),
                    member.has,
                );
                encoded.write(id, member, Sort::Fleeting, &mut self.counts, effects);
            };
            if named {
                for id in sent.to.iter().map(|&id| SessionId(id)) {
                    if let Some(member) = wanted.members.get(&id).filter(|member| member.joined) {
                        write(id, member);
                    }
                }
            } else {
                for (&id, member) in wanted.members.iter().filter(|(_, member)| member.joined) {
                    write(id, member);
                }
            }
        }
    }

    /// Writes what a session missed after an offset, behind the reply to its join.
    pub(super) fn write_missed(
        &mut self,
        (id, after): (SessionId, Offset),
        slot: Slot,
        encoded: &mut Encoded<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let wanted = self.interest.topic(slot, encoded.topic.as_str());
        if let Some(member) = wanted.and_then(|wanted| wanted.members.get(&id)) {
            let member = (member.serializer, &member.push_ref, member.stream.as_ref(), after);
            encoded.write(id, member, Sort::Missed, &mut self.counts, effects);
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
        // What the answer alone tells - of a repeat, of what has no offset, of a refusal - is replied to in its turn (O5).
        // Where the reply comes before the copy it cannot wait for that (O1).
        if !client.reply_first && !self.publishing.is_first(slot, publication.number) {
            return None;
        }
        match self.publishing.committed(slot, publication.number)? {
            Waiter::Client(client) => Some(client),
            Waiter::Server(_) => None,
        }
    }
}

fn receives(session: SessionId, publication: &Publication) -> bool {
    publication.target() != Target::Others || publication.session != session.0
}

fn no_such_slot() -> v1::DeliverException {
    v1::DeliverException {
        status: v1::DeliverStatus::NoInterest.into(),
        ..Default::default()
    }
}

/// The frames of some publications, one encoding for each serializer and join_ref met, with positions and without.
pub(super) struct Encoded<'a> {
    topic: &'a Topic,
    publications: &'a [Publication],
    variants: Vec<Variant>,
    /// Where in `variants` each stands, from [`FEW_VARIANTS`] on.
    known: BTreeMap<(Serializer, bool, Bytes), usize>,
    /// The one that was written last: the next member most often gets the same.
    last: usize,
}

/// So many are looked through faster than a map.
const FEW_VARIANTS: usize = 8;

/// What a frame has besides names and payload: its header, an offset, punctuation. Where it has more, room is made.
const FRAME_REST_BYTES: usize = 40;

/// What all members get alike that have one serializer and join_ref, with positions or without.
struct Variant {
    serializer: Serializer,
    positions: bool,
    push_ref: Bytes,
    frames: Vec<Option<Frame>>,
}

impl Variant {
    fn is(&self, serializer: Serializer, push_ref: &Json, positions: bool) -> bool {
        self.serializer == serializer && self.positions == positions && self.push_ref == push_ref.0
    }
}

impl<'a> Encoded<'a> {
    pub(super) fn new(topic: &'a Topic, publications: &'a [Publication]) -> Encoded<'a> {
        Encoded {
            topic,
            publications,
            variants: Vec::new(),
            known: BTreeMap::new(),
            last: 0,
        }
    }

    /// Writes to one member what it receives of them.
    fn write(
        &mut self,
        session: SessionId,
        (serializer, push_ref, stream, has): (Serializer, &Json, Option<&Arc<Stream>>, Offset),
        sort: Sort,
        counts: &mut Counts,
        effects: &mut Vec<Effect>,
    ) {
        let publications = self.publications;
        let frames = self.frames(serializer, push_ref, stream.is_some());
        for (frame, publication) in frames.iter().zip(publications) {
            let sequenced = publication.offset > 0;
            if !receives(session, publication) || (sequenced && publication.offset <= has.0) {
                continue;
            }
            let Some(frame) = frame else {
                counts.left_out += 1;
                continue;
            };
            counts.deliveries += 1;
            effects.push(match stream {
                None => Effect::Write(session, frame.clone()),
                Some(stream) => {
                    let place = Place {
                        stream: Arc::clone(stream),
                        offset: Offset(publication.offset),
                        sort,
                    };
                    Effect::Publication(session, frame.clone(), place)
                }
            });
        }
    }

    #[inline]
    fn frames(&mut self, serializer: Serializer, push_ref: &Json, positions: bool) -> &[Option<Frame>] {
        let last = self.variants.get(self.last);
        if !last.is_some_and(|last| last.is(serializer, push_ref, positions)) {
            self.last = self.variant(serializer, push_ref, positions);
        }
        &self.variants[self.last].frames
    }

    fn variant(&mut self, serializer: Serializer, push_ref: &Json, positions: bool) -> usize {
        let key = || (serializer, positions, push_ref.0.clone());
        let known = match self.variants.len() <= FEW_VARIANTS {
            true => self
                .variants
                .iter()
                .position(|variant| variant.is(serializer, push_ref, positions)),
            false => self.known.get(&key()).copied(),
        };
        if let Some(known) = known {
            return known;
        }
        // All are for the same members, who get all or most of them.
        let each = self.topic.as_bytes().len() + push_ref.0.len() + FRAME_REST_BYTES;
        let bytes = |publication: &Publication| publication.event.len() + publication.payload.len() + each;
        let mut room = BytesMut::with_capacity(self.publications.iter().map(bytes).sum());
        let frame = |publication: &Publication| {
            let offset = (positions && publication.offset > 0).then_some(Offset(publication.offset));
            phoenix::publication(&mut room, serializer, push_ref, offset, self.topic, publication)
        };
        let frames = self.publications.iter().map(frame).collect();
        self.variants.push(Variant {
            serializer,
            positions,
            push_ref: push_ref.0.clone(),
            frames,
        });
        if self.variants.len() > FEW_VARIANTS {
            for (index, variant) in self.variants.iter().enumerate().skip(self.known.len()) {
                let key = (variant.serializer, variant.positions, variant.push_ref.clone());
                self.known.insert(key, index);
            }
        }
        self.variants.len() - 1
    }
}

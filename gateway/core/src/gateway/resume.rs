//! Channels with positions: where they begin, what they missed, and what they are told they will never get (X1 to X4, X7).
//!
//! A session that comes back with a position gets all it missed, once and in order, and then what is published; or it is
//! told that it did not recover and begins where the topic is now. *Invariant:* never a part of it.
//! Leaves out: what becomes of a client that reads too slowly (`outbox`).

use std::sync::Arc;

use ringcast_proto::v1::{self, Publication};
use ringcast_proto::{Epoch, Offset, SessionId, Slot, Topic};

use super::fanout::Encoded;
use super::{CallFailed, CallId, Effect, Gateway};
use crate::fetching::{Fetched, Position};
use crate::interest::Missed;
use crate::phoenix::Resume;
use crate::place::{GapReason, Place, Sort, Stream};
use crate::reason;

/// Where a channel begins.
struct Start {
    /// The client's position after the reply.
    position: Position,
    /// Everything that was missed follows.
    recovered: bool,
    /// It will have everything up to here, with what follows the reply at once.
    has: Offset,
}

/// The end of a topic's sequence, without a hole.
struct Tail {
    after: Offset,
    to: Offset,
    publications: Vec<Publication>,
}

impl Gateway {
    /// The owner knows a session whose join asked for positions, and said where the topic's head was.
    pub(super) fn judge(
        &mut self,
        id: SessionId,
        topic: &Topic,
        head: Option<Position>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((slot, resume)) = self.wish(id, topic) else {
            return;
        };
        let Some((epoch, passed)) = self.interest.cursor(slot, topic).cloned() else {
            // An owner that confirms members says where they stand.
            return self.refuse_join(id, topic, reason::TOPIC_UNAVAILABLE, effects);
        };
        let Resume::After(known, offset) = resume else {
            return self.start(id, slot, topic, Start::at((epoch, passed)), effects);
        };
        let head = head
            .filter(|(of, _)| *of == epoch)
            .map_or(passed, |(_, head)| head.max(passed));
        if known != epoch {
            // Older, another topic's, made up: it does not matter which (X2f).
            self.start(id, slot, topic, Start::at((epoch, passed)), effects);
        } else if offset > head {
            self.counts.resumed_ahead += 1;
            self.start(id, slot, topic, Start::at((epoch, passed)), effects);
        } else if offset >= passed {
            // Another gateway passed on more than this one has yet: what comes up to there is not for it.
            self.start(id, slot, topic, Start::resumed((epoch, offset), offset), effects);
        } else {
            self.interest.keep(slot, topic);
            self.fetching.want(slot, topic, id, (known, offset));
        }
    }

    /// Takes the end of topics as their owners told it.
    pub(super) fn fetched(
        &mut self,
        call: CallId,
        answer: Result<v1::FetchAnswer, CallFailed>,
        effects: &mut Vec<Effect>,
    ) {
        let told = self
            .fetching
            .answered(call, answer, &mut self.owners, self.now, &mut self.jitter);
        self.moved();
        for fetched in told {
            let (slot, topic) = (fetched.slot, &fetched.topic);
            let Some(cursor) = self.interest.cursor(slot, topic).cloned() else {
                continue;
            };
            let tail = self.tail(&fetched, &cursor);
            #[cfg(feature = "planted-bugs")]
            let tail = tail.map(|tail| tail.planted(&self.limits));
            let mut encoded = Encoded::new(topic, tail.as_ref().map_or(&[], |tail| &tail.publications));
            for (&id, (epoch, offset)) in &fetched.sessions {
                let tail = tail.as_ref().filter(|_| *epoch == cursor.0);
                let start = match tail.filter(|tail| *offset >= tail.after) {
                    Some(tail) => Start::resumed((epoch.clone(), *offset), tail.to),
                    None => Start::at(cursor.clone()),
                };
                if self.begin(id, slot, topic, &start, effects) {
                    if start.recovered {
                        self.write_missed((id, *offset), slot, &mut encoded, effects);
                    }
                    self.resume_channel(id, topic, effects);
                }
            }
            if !self.fetching.waits(slot, topic) {
                self.interest.keep_no_more(slot, topic);
            }
        }
    }

    /// The end of a topic up to where the gateway has passed it on, or beyond: as its owner told it, and what was passed on
    /// to others since. None where there is a hole between the two, or the topic has another epoch.
    fn tail(&self, fetched: &Fetched, (epoch, passed): &Position) -> Option<Tail> {
        let (_, head) = fetched.head.as_ref().filter(|(told, _)| told == epoch)?;
        let kept = self.interest.kept(fetched.slot, &fetched.topic);
        let since = kept.and_then(|kept| kept.after(*head));
        let since = since.or_else(|| (head >= passed).then(Vec::new))?;
        let first = fetched.publications.first();
        Some(Tail {
            after: first.map_or(*head, |first| Offset(first.offset.saturating_sub(1))),
            to: *passed.max(head),
            publications: fetched.publications.iter().cloned().chain(since).collect(),
        })
    }

    /// A session whose join is over waits for nothing any more.
    pub(super) fn fetch_no_more(&mut self, slot: Slot, topic: &Topic, id: SessionId) {
        self.fetching.forget(slot, topic, id);
        if !self.fetching.waits(slot, topic) {
            self.interest.keep_no_more(slot, topic);
        }
    }

    /// What the join of a session that is still joining asked for.
    fn wish(&self, id: SessionId, topic: &Topic) -> Option<(Slot, Resume)> {
        let channel = self.sessions.get(&id)?.channels.get(topic)?;
        Some((channel.slot, channel.joining.as_ref()?.resume.clone()?))
    }

    /// Answers a join that asked for positions and missed nothing that it will get.
    fn start(&mut self, id: SessionId, slot: Slot, topic: &Topic, start: Start, effects: &mut Vec<Effect>) {
        if self.begin(id, slot, topic, &start, effects) {
            self.resume_channel(id, topic, effects);
        }
    }

    /// Answers a join that asked for positions. Whether its channel has begun.
    fn begin(
        &mut self,
        id: SessionId,
        slot: Slot,
        topic: &Topic,
        start: &Start,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else {
            return false;
        };
        let serializer = session.serializer;
        let Some(channel) = session.channels.get_mut(topic) else {
            return false;
        };
        let (epoch, offset) = &start.position;
        let stream = Arc::new(Stream {
            topic: topic.clone(),
            join_ref: channel.push_ref.clone(),
            serializer,
            epoch: epoch.clone(),
            slow_consumer: channel.route.slow_consumer(),
        });
        let recovered = start.recovered;
        // An epoch needs no escaping.
        let body = format!("{{\"epoch\":\"{epoch}\",\"offset\":{offset},\"recovered\":{recovered}}}");
        if recovered {
            self.counts.resumed += 1;
        } else if matches!(
            channel.joining.as_ref().map(|joining| &joining.resume),
            Some(Some(Resume::After(..)))
        ) {
            self.counts.not_resumed += 1;
        }
        let Some(replaces) = self.reply_to_join(id, topic, body.as_bytes(), effects) else {
            return false;
        };
        self.close_replaced(id, topic, replaces, effects);
        self.interest.begin(slot, topic, id, stream, start.has);
        true
    }

    /// Tells all who follow a topic by positions what they will not get.
    pub(super) fn tell_missed(
        &mut self,
        slot: Slot,
        topic: &Topic,
        epoch: &Epoch,
        missed: Missed,
        effects: &mut Vec<Effect>,
    ) {
        let Missed { from, to, reason } = missed;
        #[cfg(feature = "planted-bugs")]
        if reason != GapReason::EpochChanged && self.limits.plants(crate::planted::PlantedBug::GapNotTold) {
            return;
        }
        for (id, has, stream) in self.interest.streams(slot, topic) {
            let (mut from, mut reason) = (from, reason);
            if reason == GapReason::EpochChanged && stream.epoch != *epoch {
                *has = Offset(0);
                *stream = Arc::new(Stream {
                    epoch: epoch.clone(),
                    ..Stream::clone(stream)
                });
            } else if to > *has {
                from = from.max(has.next());
                // Whoever knows the epoch already only missed its beginning.
                if reason == GapReason::EpochChanged {
                    reason = GapReason::HistoryTrimmed;
                }
            } else {
                continue;
            }
            let place = Place {
                stream: Arc::clone(stream),
                offset: to,
                sort: Sort::Gap,
            };
            effects.push(Effect::Publication(id, stream.gap(from, to, reason), place));
            self.counts.gaps += 1;
        }
    }
}

#[cfg(feature = "planted-bugs")]
impl Tail {
    fn planted(self, limits: &crate::limits::Limits) -> Tail {
        use crate::planted::PlantedBug;

        if limits.plants(PlantedBug::ResumePartial) {
            let after = Offset(0);
            Tail { after, ..self }
        } else if limits.plants(PlantedBug::ResumeDoubles) {
            let to = self.after;
            Tail { to, ..self }
        } else {
            self
        }
    }
}

impl Start {
    /// At the place the gateway has passed on to, without what was before.
    fn at(position: Position) -> Start {
        let has = position.1;
        Start {
            position,
            recovered: false,
            has,
        }
    }

    /// After everything up to its position, with all that it missed.
    fn resumed(position: Position, has: Offset) -> Start {
        Start {
            position,
            recovered: true,
            has,
        }
    }
}

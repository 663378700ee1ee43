//! A gateway's publishes: checked, numbered, appended, or sent once to whoever is there.
//!
//! *Invariant:* a number of a gateway's takes effect at most once, however often the gateway asks; so does an id of a
//! client's, whichever gateway it comes through, as long as it is in the window; and nothing takes effect while the lease is
//! not certain.

use bytes::Bytes;
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::{self, Publication, PublishOutcome, Refusal, SlotPublishAnswer, SlotStatus};
use ringcast_proto::{Millis, Offset, OwnerEpoch};

use crate::duty::{SEALED_RETRY_MS, Unserved};
use crate::gateways::refused;
use crate::handoff::Piece;
use crate::ids::{First, Kept, Key};
use crate::input::position;
use crate::slot::Slot;
use crate::topic::Topic;
use crate::unsequenced::{Whom, outcome};
use crate::{Effect, Limits, Moment, Publishes};

/// As many bytes as a topic may have, for the same reason: it goes into every frame.
const EVENT_BYTES_MAX: usize = 255;

impl Slot {
    pub(crate) fn publish(&mut self, request: Publishes, moment: Moment, effects: &mut Vec<Effect>) {
        let Publishes {
            token,
            from,
            owner_epoch,
            publishes,
            held_ms,
        } = request;
        let mut answer = SlotPublishAnswer {
            slot: self.number().0.into(),
            ..SlotPublishAnswer::default()
        };
        match self.serve(&from, owner_epoch, effects) {
            Err(Unserved::NotOwner(owner)) => {
                answer.rest = SlotStatus::NotOwner.into();
                answer.owner = owner;
            }
            Err(Unserved::Sealed) => {
                answer.rest = SlotStatus::Sealed.into();
                answer.retry_after_ms = SEALED_RETRY_MS;
            }
            Ok(mine) if !moment.lease_valid => {
                answer.owner_epoch = mine.0;
                answer.rest = SlotStatus::OwnerLeaseLost.into();
            }
            Ok(mine) => {
                answer.owner_epoch = mine.0;
                if held_ms > 0 {
                    self.report_takeover(Some(moment.now), effects);
                }
                answer.outcomes.reserve_exact(publishes.len());
                let first = publishes.iter().map(|publish| publish.number).min();
                if let (Some(first), Some(publisher)) = (first, self.gateways.publisher(&from)) {
                    publisher.called(first, publishes.len());
                }
                for publish in publishes {
                    let kept = self
                        .gateways
                        .publisher(&from)
                        .and_then(|publisher| publisher.decided(publish.number));
                    let outcome = kept.unwrap_or_else(|| {
                        let outcome = self.decide(publish, mine, moment, effects);
                        if let Some(publisher) = self.gateways.publisher(&from) {
                            publisher.decide(&outcome);
                        }
                        outcome
                    });
                    answer.outcomes.push(outcome);
                }
            }
        }
        effects.push(Effect::Published(token, answer));
    }

    /// Appends a publish that is new, or says why not.
    /// What becomes of a publish whose number is new.
    fn decide(
        &mut self,
        publish: v1::Publish,
        mine: OwnerEpoch,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) -> PublishOutcome {
        let number = publish.number;
        match self.take_effect(publish, mine, moment, effects) {
            Ok((outcome, dup)) => PublishOutcome {
                number,
                outcome: Some(outcome),
                dup,
            },
            Err(why) => refused(number, why),
        }
    }

    /// Its outcome, and whether that is the one of an earlier publish.
    fn take_effect(
        &mut self,
        publish: v1::Publish,
        mine: OwnerEpoch,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) -> Result<(Outcome, bool), Refusal> {
        let name = publish.topic.clone();
        let name = name_of(&name)?;
        let key = key_of(&publish)?;
        // Before anything else of it is looked at: a repeat gets the first outcome, whatever it is a repeat of.
        if let Some(first) = key.as_ref().and_then(|key| self.first(name, key, moment.now)) {
            self.counts.duplicates += 1;
            return Ok((first, true));
        }
        let Checked {
            publication,
            whom,
            sequenced,
        } = check(publish, &self.limits)?;
        let mut copies = std::mem::take(&mut self.copies);
        let topic = self.touch_or_create(name, moment).ok_or(Refusal::TooManyTopics)?;
        let offset = if sequenced { topic.head.next() } else { Offset(0) };
        show(topic, offset, &publication, effects);
        let (outcome, first) = if sequenced {
            let offset = topic.append(publication, &mut copies, moment.now);
            let outcome = Outcome::Committed(position(&topic.epoch, offset));
            self.copies = copies;
            self.counts.appended += 1;
            self.tell_target_of_append(name, moment.now);
            (outcome, First::At(offset))
        } else {
            let epoch = topic.epoch.clone();
            let matched = self.send_once(name, publication, &whom, mine, effects);
            self.counts.unsequenced += 1;
            (
                Outcome::Unsequenced(outcome(&epoch, matched)),
                First::Matched(matched),
            )
        };
        if let Some(key) = key {
            let at = moment.now;
            self.remember(name, Kept { key, at, first });
        }
        Ok((outcome, false))
    }

    /// What became of the first publish to the topic with this id.
    fn first(&self, name: &str, key: &Key, now: Millis) -> Option<Outcome> {
        let topic = self.topics.get(name)?;
        let first = topic.ids.as_ref()?.first(key, now, &self.limits)?;
        Some(match first {
            First::At(offset) => Outcome::Committed(position(&topic.epoch, offset)),
            First::Matched(matched) => Outcome::Unsequenced(outcome(&topic.epoch, matched)),
        })
    }

    fn remember(&mut self, name: &str, kept: Kept) {
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        topic.ids.get_or_insert_default().push(kept.clone(), &self.limits);
        let (key, bytes) = (topic.key.clone(), topic.name.clone());
        self.tell_target(&key, || Piece::Id(bytes, kept));
    }
}

/// What is to be done with a publish.
struct Checked {
    publication: Publication,
    whom: Whom,
    /// It takes an offset and a place in the history.
    sequenced: bool,
}

/// The topic's name; whether it is one its making checks again, with what is made of it.
fn name_of(topic: &Bytes) -> Result<&str, Refusal> {
    let fits = (1..=EVENT_BYTES_MAX).contains(&topic.len());
    let name = std::str::from_utf8(topic).map_err(|_| Refusal::BadRequest)?;
    fits.then_some(name).ok_or(Refusal::BadRequest)
}

/// The id the client gave, if it gave one.
fn key_of(publish: &v1::Publish) -> Result<Option<Key>, Refusal> {
    if publish.msg_id.is_empty() {
        return Ok(None);
    }
    let key = Key::parse(&publish.subject, &publish.msg_id).map_err(|_| Refusal::BadRequest)?;
    Ok(Some(key))
}

fn check(publish: v1::Publish, limits: &Limits) -> Result<Checked, Refusal> {
    let v1::Publish {
        number,
        topic: _,
        topic_id: _,
        event,
        payload,
        session,
        target,
        names,
        msg_id: _,
        subject: _,
        ephemeral,
        binary,
    } = publish;
    let whom = Whom::parse(target, session, names).map_err(|_| Refusal::BadRequest)?;
    if !(1..=EVENT_BYTES_MAX).contains(&event.len()) || std::str::from_utf8(&event).is_err() {
        return Err(Refusal::BadRequest);
    }
    if payload.len() > limits.payload_bytes_max {
        return Err(Refusal::TooLarge);
    }
    Ok(Checked {
        // The offset is the topic's to give.
        publication: Publication {
            offset: 0,
            event,
            payload,
            session,
            number,
            target,
            binary,
        },
        sequenced: whom.is_sequenced() && !ephemeral,
        whom,
    })
}

/// Shows the publication that is about to take effect to whoever taps the topic.
fn show(topic: &Topic, Offset(offset): Offset, publication: &Publication, effects: &mut Vec<Effect>) {
    for tap in &topic.taps {
        let epoch = topic.epoch.as_str().to_owned();
        let event = String::from_utf8_lossy(&publication.event).into_owned();
        let (payload, session) = (publication.payload.clone(), publication.session);
        effects.push(Effect::Tapped(
            *tap,
            v1::TapEvent {
                epoch,
                offset,
                event,
                payload,
                session,
            },
        ));
    }
}

//! A gateway's publishes: checked, numbered, appended.
//!
//! *Invariant:* a number of a gateway's is appended at most once, however often the gateway asks, and nothing is
//! appended while the lease is not certain.

use bytes::Bytes;
use ringcast_proto::Offset;
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::{self, Publication, PublishOutcome, Refusal, SlotPublishAnswer, SlotStatus, Target};

use crate::duty::{SEALED_RETRY_MS, Unserved};
use crate::gateways::refused;
use crate::input::position;
use crate::slot::Slot;
use crate::topic::Topic;
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
                        let outcome = self.decide(publish, moment, effects);
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
    fn decide(&mut self, publish: v1::Publish, moment: Moment, effects: &mut Vec<Effect>) -> PublishOutcome {
        let number = publish.number;
        let (name, publication) = match check(publish, &self.limits) {
            Ok(valid) => valid,
            Err(why) => return refused(number, why),
        };
        let name = std::str::from_utf8(&name).expect("checked to be UTF-8");
        let Some(topic) = self.touch_or_create(name, moment) else {
            return refused(number, Refusal::TooManyTopics);
        };
        show(topic, &publication, effects);
        let offset = topic.append(publication, moment.now);
        let outcome = Some(Outcome::Committed(position(&topic.epoch, offset)));
        self.count_append();
        self.tell_target_of_append(name, moment.now);
        PublishOutcome {
            number,
            outcome,
            dup: false,
        }
    }
}

/// The topic's name, which is valid, and what is to be appended.
fn check(publish: v1::Publish, limits: &Limits) -> Result<(Bytes, Publication), Refusal> {
    let v1::Publish {
        number,
        topic,
        event,
        payload,
        session,
        target,
        binary,
        ..
    } = publish;
    let name_fits =
        |name: &Bytes| (1..=EVENT_BYTES_MAX).contains(&name.len()) && std::str::from_utf8(name).is_ok();
    if !name_fits(&topic) || !name_fits(&event) || Target::try_from(target).is_err() {
        return Err(Refusal::BadRequest);
    }
    if payload.len() > limits.payload_bytes_max {
        return Err(Refusal::TooLarge);
    }
    // The offset is the topic's to give.
    Ok((
        topic,
        Publication {
            offset: 0,
            event,
            payload,
            session,
            number,
            target,
            binary,
        },
    ))
}

/// Shows the publication that is about to be appended to whoever taps the topic.
fn show(topic: &Topic, publication: &Publication, effects: &mut Vec<Effect>) {
    for tap in &topic.taps {
        let Offset(offset) = topic.head.next();
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

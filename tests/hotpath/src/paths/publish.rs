//! A client's publish through the gateway: taken, called, answered.

use ringcast_gateway_core::gateway::{CallId, Effect, Input};
use ringcast_gateway_core::phoenix::{Message, Serializer, decode_text};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::{SessionId, v1};

use super::decode::publish_text;
use super::joined::{Join, Joined, NOW, calls, epoch};
use crate::cluster::OWNER_EPOCH;
use crate::meter::Meter;

const SESSION: SessionId = SessionId(1);
const TOPIC: &str = "topics:matrix";

pub(super) fn take(meter: &mut Meter) {
    let (mut joined, mut effects) = (joined(), Vec::new());
    let (apply, flush) = calls();
    for round in meter.rounds() {
        let message = message(round);
        meter.measure(|| {
            let input = Input::Message {
                session: SESSION,
                message,
            };
            apply(&mut joined.gateway, input, NOW, &mut effects);
            flush(&mut joined.gateway, NOW, &mut effects);
        });
        let input = answer_to(called(&mut effects), round);
        assert_replied(&joined.apply(input));
    }
}

pub(super) fn answer(meter: &mut Meter) {
    let mut joined = joined();
    let (apply, flush) = calls();
    for round in meter.rounds() {
        let mut effects = joined.apply(Input::Message {
            session: SESSION,
            message: message(round),
        });
        let input = answer_to(called(&mut effects), round);
        meter.measure(|| {
            apply(&mut joined.gateway, input, NOW, &mut effects);
            flush(&mut joined.gateway, NOW, &mut effects);
        });
        assert_replied(&effects);
    }
}

fn joined() -> Joined {
    let mut joined = Joined::new();
    let join = Join {
        session: SESSION.0,
        topic: TOPIC,
        join_ref: "1",
        resume: false,
    };
    joined.join(std::iter::once(join));
    joined
}

/// Refs of one length, for a longer one costs more.
fn message(round: u64) -> Message {
    decode_text(Serializer::V2, publish_text(TOPIC, 10_000 + round)).expect("a publish as clients send it")
}

fn called(effects: &mut Vec<Effect>) -> (CallId, Vec<v1::SlotPublishes>) {
    match effects.pop() {
        Some(Effect::Publish(call, _, slots)) if effects.is_empty() => (call, slots),
        other => panic!("not one call to the owner: {other:?}"),
    }
}

/// The owner appended it.
fn answer_to((call, slots): (CallId, Vec<v1::SlotPublishes>), round: u64) -> Input {
    let outcome = |publish: &v1::Publish| v1::PublishOutcome {
        number: publish.number,
        outcome: Some(Outcome::Committed(v1::Position {
            epoch: epoch(),
            offset: round + 1,
        })),
        dup: false,
    };
    let answer = |slot: &v1::SlotPublishes| v1::SlotPublishAnswer {
        slot: slot.slot,
        owner_epoch: OWNER_EPOCH.0,
        outcomes: slot.publishes.iter().map(outcome).collect(),
        ..v1::SlotPublishAnswer::default()
    };
    let answer = v1::PublishAnswer {
        incarnation: 1,
        slots: slots.iter().map(answer).collect(),
    };
    Input::Published(call, Ok(answer))
}

fn assert_replied(effects: &[Effect]) {
    assert!(matches!(effects, [Effect::Write(SESSION, _)]), "{effects:?}");
}

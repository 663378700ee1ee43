//! The owner's part: publishes appended, and handed to the gateways that have members.

use std::hint::black_box;

use bytes::Bytes;
use ringcast_proto::{Millis, Slot as Number, v1};
use ringcast_ring::Revision;
use ringcast_topic_server_core::{Bind, Effect, Input, Limits, Moment, Publishes, Slot, Token};

use crate::cluster::{OWNER_EPOCH, bytes, event, node, payload, slot_record};
use crate::meter::Meter;

const TOPIC: &str = "room:lobby";

/// Between two calls of the gateway that publishes. A topic keeps 300 publications, and those of the last 2 s however many:
/// after the warm-up its history is as large as it stays.
const STEP_MS: u64 = 10;
/// The same where each call has 100 publishes.
const LONG_STEP_MS: u64 = 100;

type Apply = fn(&mut Slot, Input, Moment, &mut Vec<Effect>);
type Flush = fn(&mut Slot, Millis, &mut Vec<Effect>);

pub(super) fn publish_one(meter: &mut Meter) {
    let mut owner = Owner::new(1, STEP_MS);
    append(meter, &mut owner, 1);
}

pub(super) fn publish_hundred(meter: &mut Meter) {
    let mut owner = Owner::new(1, LONG_STEP_MS);
    append(meter, &mut owner, 100);
}

pub(super) fn flush_one(meter: &mut Meter) {
    let mut owner = Owner::new(1, STEP_MS);
    hand_out(meter, &mut owner, 1);
}

pub(super) fn flush_sixteen(meter: &mut Meter) {
    let mut owner = Owner::new(16, STEP_MS);
    hand_out(meter, &mut owner, 1);
}

pub(super) fn flush_many(meter: &mut Meter) {
    let mut owner = Owner::new(16, LONG_STEP_MS);
    hand_out(meter, &mut owner, 100);
}

fn append(meter: &mut Meter, owner: &mut Owner, count: u64) {
    let apply = black_box(Slot::apply as Apply);
    for _ in meter.rounds() {
        let (input, moment) = owner.publishes(count);
        let Owner { slot, effects, .. } = owner;
        meter.measure(|| apply(slot, input, moment, effects));
        owner.assert_appended(count);
        owner.slot.flush(moment.now, &mut owner.effects);
        owner.assert_handed_out(count);
    }
}

fn hand_out(meter: &mut Meter, owner: &mut Owner, count: u64) {
    let flush = black_box(Slot::flush as Flush);
    for _ in meter.rounds() {
        let (input, moment) = owner.publishes(count);
        owner.slot.apply(input, moment, &mut owner.effects);
        owner.assert_appended(count);
        let Owner { slot, effects, .. } = owner;
        meter.measure(|| flush(slot, moment.now, effects));
        owner.assert_handed_out(count);
    }
}

/// A slot that its node owns, with one topic.
struct Owner {
    slot: Slot,
    gateways: usize,
    step_ms: u64,
    now: Millis,
    published: u64,
    topic: Bytes,
    event: Bytes,
    payload: Bytes,
    effects: Vec<Effect>,
}

impl Owner {
    /// Each of so many gateways has one member.
    fn new(gateways: usize, step_ms: u64) -> Owner {
        let mut owner = Owner {
            slot: Slot::new(Number(0), Limits::default()),
            gateways,
            step_ms,
            now: Millis(1_000),
            published: 0,
            topic: bytes(TOPIC),
            event: event(),
            payload: payload(),
            effects: Vec::new(),
        };
        let me = node("ts-1");
        owner.apply(Input::Record {
            revision: Revision(1),
            record: slot_record(me.clone()),
            me,
            entropy: 7,
        });
        for gateway in 1..=gateways {
            let bind = v1::Bind {
                topic: owner.topic.clone(),
                seq: 1,
                joined: vec![v1::Member {
                    session: gateway as u64,
                    subject: Bytes::new(),
                }],
                ..v1::Bind::default()
            };
            owner.apply(Input::Bind {
                token: Token(0),
                from: node(&format!("gw-{gateway}")),
                owner_epoch: OWNER_EPOCH,
                bind: Bind::parse(bind).expect("a bind as gateways send it"),
            });
        }
        owner.slot.flush(owner.now, &mut owner.effects);
        let bound = |effect: &Effect| matches!(effect, Effect::Bound(_, bound) if bound.status() == v1::BindStatus::Ok);
        assert!(owner.effects.len() == gateways && owner.effects.iter().all(bound));
        owner.effects.clear();
        owner
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            lease_valid: true,
            topics_free: 100,
        }
    }

    fn apply(&mut self, input: Input) {
        self.slot.apply(input, self.moment(), &mut self.effects);
    }

    /// The next call of a gateway.
    fn publishes(&mut self, count: u64) -> (Input, Moment) {
        self.now = Millis(self.now.0 + self.step_ms);
        let numbers = self.published + 1..=self.published + count;
        self.published += count;
        let publishes = numbers.map(|number| v1::Publish {
            number,
            topic: self.topic.clone(),
            event: self.event.clone(),
            payload: self.payload.clone(),
            session: 1,
            ..v1::Publish::default()
        });
        let input = Input::Publish(Publishes {
            token: Token(0),
            from: node("gw-1"),
            owner_epoch: OWNER_EPOCH,
            publishes: publishes.collect(),
            held_ms: 0,
        });
        (input, self.moment())
    }

    fn assert_appended(&mut self, count: u64) {
        assert_eq!(self.slot.counts().appended, self.published);
        assert!(
            matches!(&self.effects[..], [Effect::Published(_, answer)] if answer.outcomes.len() as u64 == count),
            "{:?}",
            self.effects
        );
        self.effects.clear();
    }

    fn assert_handed_out(&mut self, count: u64) {
        let whole = |effect: &Effect| matches!(effect, Effect::Deliver(_, entry) if entry.publications.len() as u64 == count);
        assert_eq!(self.effects.len(), self.gateways);
        assert!(self.effects.iter().all(whole), "{:?}", self.effects);
        self.effects.clear();
    }
}

//! From an owner's delivery to the frames of its members: the whole of `Gateway::apply(Input::Deliver)`, and letting go of
//! what it gave out.

use bytes::Bytes;
use ringcast_gateway_core::gateway::{CallId, Effect, Input};
use ringcast_proto::v1::{DeliverEntry, Publication};

use super::joined::{Join, Joined, NOW, calls, epoch};
use crate::cluster::{OWNER_EPOCH, event, payload, table};
use crate::meter::Meter;

/// Who is joined where, and what comes.
struct Shape<'a> {
    topics: &'a [String],
    members: u64,
    join_refs: u64,
    resume: bool,
    publications: u64,
}

const SHAPE: Shape<'static> = Shape {
    topics: &[],
    members: 1_000,
    join_refs: 1,
    resume: false,
    publications: 1,
};

pub(super) fn members(meter: &mut Meter) {
    let topics = &["room:lobby".to_owned()];
    deliver(meter, &Shape { topics, ..SHAPE });
}

pub(super) fn join_refs(meter: &mut Meter) {
    let topics = &["topics:matrix".to_owned()];
    let join_refs = 10;
    deliver(
        meter,
        &Shape {
            topics,
            join_refs,
            ..SHAPE
        },
    );
}

pub(super) fn resuming(meter: &mut Meter) {
    let topics = &["room:lobby".to_owned()];
    let resume = true;
    deliver(
        meter,
        &Shape {
            topics,
            resume,
            ..SHAPE
        },
    );
}

pub(super) fn batch(meter: &mut Meter) {
    let topics = &["room:lobby".to_owned()];
    let (members, publications) = (100, 16);
    deliver(
        meter,
        &Shape {
            topics,
            members,
            publications,
            ..SHAPE
        },
    );
}

pub(super) fn topics(meter: &mut Meter) {
    let topics: Vec<String> = (0..100).map(|topic| format!("room:{topic:04}")).collect();
    deliver(
        meter,
        &Shape {
            topics: &topics,
            members: 5,
            ..SHAPE
        },
    );
}

fn deliver(meter: &mut Meter, shape: &Shape<'_>) {
    let table = table();
    let mut joined = Joined::new();
    let refs: Vec<String> = (1..=shape.join_refs).map(|number| number.to_string()).collect();
    let names = (0..shape.members).flat_map(|_| shape.topics);
    let joins = (1..).zip(names.zip(refs.iter().cycle()));
    joined.join(joins.map(|(session, (topic, join_ref))| Join {
        session,
        topic,
        join_ref,
        resume: shape.resume,
    }));

    let (epoch, event, payload) = (epoch(), event(), payload());
    let entry = |topic: &String, prev_offset| DeliverEntry {
        slot: table.slot_of(topic.as_bytes()).0.into(),
        owner_epoch: OWNER_EPOCH.0,
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        epoch: epoch.clone(),
        prev_offset,
        publications: (prev_offset + 1..=prev_offset + shape.publications)
            .map(|offset| Publication {
                offset,
                event: event.clone(),
                payload: payload.clone(),
                ..Publication::default()
            })
            .collect(),
        bind_seq: 1,
        ..DeliverEntry::default()
    };
    let mut effects = Vec::new();
    let (apply, _) = calls();
    for round in meter.rounds() {
        let prev_offset = round * shape.publications;
        let entries = shape
            .topics
            .iter()
            .map(|topic| entry(topic, prev_offset))
            .collect();
        let before = joined.gateway.counts().deliveries;
        let answered = meter.measure(|| {
            let input = Input::Deliver(CallId(round), entries);
            apply(&mut joined.gateway, input, NOW, &mut effects);
            let answered =
                matches!(effects.last(), Some(Effect::Delivered(_, answer)) if answer.exceptions.is_empty());
            effects.clear();
            answered
        });
        let frames = joined.gateway.counts().deliveries - before;
        let owed = shape.topics.len() as u64 * shape.members * shape.publications;
        assert!(answered && frames == owed, "{frames} frames of {owed}");
    }
}

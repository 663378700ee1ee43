//! What waits for one gateway, made calls.

use std::hint::black_box;

use bytes::Bytes;
use ringcast_proto::v1::{DeliverAnswer, DeliverEntry, Publication};
use ringcast_topic_server_core::Limits;
use ringcast_topic_server_core::lane::{Answered, Call, Full, Lane};

use super::joined::epoch;
use crate::cluster::{OWNER_EPOCH, bytes, event, payload};
use crate::meter::Meter;

type Push = fn(&mut Lane, DeliverEntry) -> Result<(), Full>;
type NextCall = fn(&mut Lane) -> Option<Call>;
type Answer = fn(&mut Lane, &DeliverAnswer) -> Answered;

pub(super) fn topics(meter: &mut Meter) {
    let topics: Vec<Bytes> = (0..64)
        .map(|topic| Bytes::from(format!("room:{topic:04}")))
        .collect();
    one_call(meter, &topics, 1);
}

pub(super) fn one_topic(meter: &mut Meter) {
    one_call(meter, &[bytes("room:lobby")], 16);
}

/// So many entries of each topic, which become one each.
fn one_call(meter: &mut Meter, topics: &[Bytes], entries: u64) {
    let (epoch, event, payload) = (epoch(), event(), payload());
    let entry = |topic: &Bytes, prev_offset| DeliverEntry {
        owner_epoch: OWNER_EPOCH.0,
        topic: topic.clone(),
        epoch: epoch.clone(),
        prev_offset,
        publications: vec![Publication {
            offset: prev_offset + 1,
            event: event.clone(),
            payload: payload.clone(),
            ..Publication::default()
        }],
        bind_seq: 1,
        ..DeliverEntry::default()
    };
    let mut lane = Lane::new(Limits::default());
    let answer = DeliverAnswer::default();
    let push = black_box(Lane::push as Push);
    let next_call = black_box(Lane::next_call as NextCall);
    let answered_by = black_box(Lane::answered as Answer);
    for round in meter.rounds() {
        let offsets = round * entries..(round + 1) * entries;
        let pushed: Vec<DeliverEntry> = offsets
            .flat_map(|offset| topics.iter().map(move |topic| (topic, offset)))
            .map(|(topic, offset)| entry(topic, offset))
            .collect();
        let (called, answered) = meter.measure(|| {
            for entry in pushed {
                push(&mut lane, entry).expect("the lane is empty");
            }
            let called = next_call(&mut lane).map_or(0, |call| call.entries.len());
            (called, answered_by(&mut lane, &answer))
        });
        assert_eq!(called, topics.len());
        assert!(answered.exceptions.is_empty() && lane.next_call().is_none());
    }
}

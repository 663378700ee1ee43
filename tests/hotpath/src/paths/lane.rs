//! What waits for one gateway, made calls.

use bytes::Bytes;
use ringcast_proto::v1::{DeliverAnswer, DeliverEntry, Publication};
use ringcast_topic_server_core::{Lane, Limits};

use super::joined::EPOCH;
use crate::cluster::{OWNER_EPOCH, payload};
use crate::meter::Meter;

pub(super) fn topics(meter: &mut Meter) {
    let topics: Vec<Bytes> = (0..64)
        .map(|topic| Bytes::from(format!("room:{topic:04}")))
        .collect();
    one_call(meter, &topics, 1);
}

pub(super) fn one_topic(meter: &mut Meter) {
    one_call(meter, &[Bytes::from_static(b"room:lobby")], 16);
}

/// So many entries of each topic, which become one each.
fn one_call(meter: &mut Meter, topics: &[Bytes], entries: u64) {
    let payload = payload();
    let entry = |topic: &Bytes, prev_offset| DeliverEntry {
        owner_epoch: OWNER_EPOCH.0,
        topic: topic.clone(),
        epoch: EPOCH,
        prev_offset,
        publications: vec![Publication {
            offset: prev_offset + 1,
            event: Bytes::from_static(b"event"),
            payload: payload.clone(),
            ..Publication::default()
        }],
        bind_seq: 1,
        ..DeliverEntry::default()
    };
    let mut lane = Lane::new(Limits::default());
    let answer = DeliverAnswer::default();
    for round in meter.rounds() {
        let offsets = round * entries..(round + 1) * entries;
        let pushed: Vec<DeliverEntry> = offsets
            .flat_map(|offset| topics.iter().map(move |topic| (topic, offset)))
            .map(|(topic, offset)| entry(topic, offset))
            .collect();
        let (called, answered) = meter.measure(|| {
            for entry in pushed {
                lane.push(entry).expect("the lane is empty");
            }
            let called = lane.next_call().map_or(0, <[_]>::len);
            (called, lane.answered(&answer))
        });
        assert_eq!(called, topics.len());
        assert!(answered.exceptions.is_empty() && lane.next_call().is_none());
    }
}

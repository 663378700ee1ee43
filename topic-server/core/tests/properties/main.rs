//! What holds whatever happens: a slot, its lanes and gateways that lose answers, miss entries and come late.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod models;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use ringcast_proto::v1::{self, DeliverAnswer, DeliverEntry, DeliverException, Publication};
use ringcast_proto::{Epoch, Offset, OwnerEpoch, Topic};
use ringcast_topic_server_core::lane::Lane;
use ringcast_topic_server_core::{Bind, Cursor, Effect, Input, Limits, Publishes, Token};

use crate::world::{GATEWAYS, TOPICS, World, gateway, topic};

#[derive(Debug, Clone)]
enum Op {
    /// A gateway publishes so many to a topic; some of it again, as if the answer had been lost.
    Publish {
        from: usize,
        topic: usize,
        count: usize,
        again: usize,
    },
    /// A gateway publishes without an offset, to everyone or to one.
    Once {
        from: usize,
        topic: usize,
        to_one: bool,
    },
    Flush,
    /// The lane's next call reaches the gateway.
    Send {
        to: usize,
    },
    /// The gateway's next answer reaches the lane.
    Answer {
        to: usize,
    },
    /// The stream of calls breaks: so many that leave do not arrive, and no answer does, so that all is repeated.
    Break {
        to: usize,
        lost: usize,
    },
    /// The gateway acts as if it had never seen the next entry.
    Miss {
        at: usize,
    },
    /// The gateway binds all its members anew from its cursor, as after a lost connection.
    Rebind {
        gateway: usize,
        topic: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let (gateways, topics) = (0..GATEWAYS, 0..TOPICS);
    prop_oneof![
        4 => (gateways.clone(), topics.clone(), 1..6_usize, 0..4_usize)
            .prop_map(|(from, topic, count, again)| Op::Publish { from, topic, count, again }),
        2 => (gateways.clone(), topics.clone(), any::<bool>())
            .prop_map(|(from, topic, to_one)| Op::Once { from, topic, to_one }),
        3 => Just(Op::Flush),
        5 => gateways.clone().prop_map(|to| Op::Send { to }),
        4 => gateways.clone().prop_map(|to| Op::Answer { to }),
        1 => (gateways.clone(), 0..4_usize).prop_map(|(to, lost)| Op::Break { to, lost }),
        1 => gateways.clone().prop_map(|at| Op::Miss { at }),
        1 => (gateways, topics).prop_map(|(gateway, topic)| Op::Rebind { gateway, topic }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_gateway_passes_on_everything_once_and_in_order(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            match op {
                Op::Publish { from, topic, count, again } => world.publish(from, topic, count, again),
                Op::Once { from, topic, to_one } => world.publish_once(from, topic, to_one),
                Op::Flush => world.flush(),
                Op::Send { to } => drop(world.send(to)),
                Op::Answer { to } => drop(world.answer(to)),
                Op::Break { to, lost } => world.break_off(to, lost),
                Op::Miss { at } => world.gateways[at].misses = true,
                Op::Rebind { gateway, topic } => world.bind(gateway, topic),
            }
        }
        world.heal();
        let mut once = BTreeMap::new();
        for payload in world.gateways.iter().flat_map(|gateway| &gateway.once) {
            *once.entry(payload.clone()).or_insert(0) += 1;
        }
        for (payload, times) in once {
            prop_assert!(times <= world.matched[&payload], "{:?} came {} times", payload, times);
        }
        for gateway in &world.gateways {
            let one_by_one: BTreeSet<_> = gateway.once.iter().collect();
            prop_assert_eq!(one_by_one.len(), gateway.once.len(), "twice to one gateway");
            for (name, head) in &world.heads {
                let passed = &gateway.passed[name];
                prop_assert_eq!(passed.len() as u64, *head);
                for (publication, offset) in passed.iter().zip(1..) {
                    prop_assert_eq!(publication.offset, offset);
                    prop_assert_eq!(&world.committed[&publication.payload], &(name.clone(), offset));
                }
            }
        }
    }

    #[test]
    fn a_lane_loses_and_reorders_nothing_and_keeps_its_bounds(
        pushes in prop::collection::vec((0..4_u64, 1..5_u64, any::<bool>(), 0..3_u32), 1..200),
        lane_bytes_max in 500..5_000_usize,
        lane_credit in 1..10_usize,
    ) {
        let limits = Limits {
            lane_bytes_max, lane_credit, call_entries_max: 3, call_bytes_max: 900, entry_publications_max: 6, ..Limits::default()
        };
        let mut lane = Lane::new(limits.clone());
        let mut heads = [0; 4];
        let mut arrived = [0; 4];
        let mut calls = |lane: &mut Lane| {
            let Some(call) = lane.next_call() else { return false };
            assert!(!call.entries.is_empty() && call.entries.len() <= 3);
            for entry in call.entries.iter() {
                let topic = &mut arrived[entry.slot as usize];
                assert!(entry.publications.len() <= 6);
                assert_eq!(entry.prev_offset, *topic, "out of order");
                for publication in &entry.publications {
                    *topic += 1;
                    assert_eq!(publication.offset, *topic);
                }
            }
            true
        };
        let answer = |lane: &mut Lane, calls| {
            lane.answered(&DeliverAnswer { calls, ..DeliverAnswer::default() });
        };
        for (slot, count, call, answered) in pushes {
            let head = &mut heads[slot as usize];
            let publication = |offset| Publication { offset, ..Publication::default() };
            let entry = DeliverEntry {
                slot: slot as u32,
                topic: topic(slot as usize),
                prev_offset: *head,
                publications: (*head + 1..=*head + count).map(publication).collect(),
                ..DeliverEntry::default()
            };
            if lane.push(entry).is_ok() {
                *head += count;
            }
            prop_assert!(lane.waiting_bytes() <= lane_bytes_max.max(600));
            if call {
                calls(&mut lane);
            }
            if answered > 0 {
                answer(&mut lane, answered);
            }
        }
        while calls(&mut lane) {
            answer(&mut lane, 1);
        }
        answer(&mut lane, u32::MAX);
        while calls(&mut lane) {
            answer(&mut lane, 1);
        }
        prop_assert_eq!(lane.waiting_bytes(), 0, "bytes are counted as they were");
        prop_assert_eq!(arrived, heads);
    }

    #[test]
    fn no_answer_of_a_gateway_makes_a_lane_panic(
        index in any::<u32>(), status in any::<i32>(), offset in any::<u64>(), epoch in ".{0,70}",
    ) {
        let mut lane = Lane::new(Limits::default());
        let publications = vec![Publication { offset: 1, ..Publication::default() }];
        let entry = DeliverEntry { topic: topic(0), publications, ..DeliverEntry::default() };
        prop_assert!(lane.push(entry).is_ok());
        prop_assert!(lane.next_call().is_some());
        let cursor = Some(v1::Position { epoch: epoch.into(), offset });
        let exceptions = [index, 0].map(|index| DeliverException { index, status, cursor: cursor.clone(), owner_epoch: 1 });
        let answer = DeliverAnswer { exceptions: exceptions.into(), ..DeliverAnswer::default() };
        prop_assert!(lane.answered(&answer).exceptions.len() <= 2);
    }

    #[test]
    fn no_publish_and_no_bind_makes_a_slot_panic(
        number in any::<u64>(), name in prop::collection::vec(any::<u8>(), 0..300), target in any::<i32>(),
        seq in any::<u64>(), prev_seq in any::<u64>(), session in any::<u64>(), offset in any::<u64>(),
        names in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..110),
        msg_id in prop::collection::vec(any::<u8>(), 0..200), ephemeral in any::<bool>(), known_target in 0..4_i32,
    ) {
        let mut world = World::new();
        let (name, event) = (Bytes::from(name.clone()), Bytes::from(name));
        let publish = v1::Publish { number, topic: name.clone(), event, payload: Bytes::new(), session, target, ..v1::Publish::default() };
        let request = |publishes| Publishes { token: Token(1), from: gateway(0), owner_epoch: OwnerEpoch(1), publishes, held_ms: 0 };
        let with_more = v1::Publish {
            topic: topic(0), event: topic(0), target: known_target, names: names.into_iter().map(Bytes::from).collect(),
            msg_id: msg_id.clone().into(), subject: msg_id.into(), ephemeral, ..publish.clone()
        };
        let effects = world.apply(Input::Publish(request(vec![publish.clone(), publish, with_more.clone(), with_more])));
        let answered = matches!(effects.last(), Some(Effect::Published(_, answer)) if answer.outcomes.len() == 4);
        prop_assert!(answered);
        if let Ok(topic) = Topic::parse(&name) {
            let (epoch, offset) = (Epoch::parse(b"another").unwrap(), Offset(offset));
            let after = Cursor { epoch, offset };
            let (token, from, owner_epoch) = (Token(3), gateway(2), OwnerEpoch(1));
            let fetched = world.apply(Input::Fetch { token, from, owner_epoch, topic, after });
            prop_assert!(matches!(&fetched[..], [Effect::Fetched(..)]));
        }
        let epoch = Bytes::from_static(b"another");
        let bind = v1::Bind {
            topic: name, seq, prev_seq, left: vec![session], cursor: Some(v1::Position { epoch, offset }),
            joined: vec![v1::Member { session, subject: Bytes::new() }], ..v1::Bind::default()
        };
        if let Ok(bind) = Bind::parse(bind) {
            let input = Input::Bind { token: Token(2), from: gateway(1), owner_epoch: OwnerEpoch(0), bind };
            prop_assert_eq!(world.apply(input).len(), 1);
        }
        world.flush();
    }
}

//! What holds whatever happens: a slot, its lanes and gateways that lose answers, miss entries and come late.

#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps nothing fails as it should"
)]

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::{DeliverAnswer, DeliverEntry, DeliverException, DeliverStatus, Publication};
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef, OwnerEpoch, Slot as Number, Topic, v1};
use ringcast_ring::Revision;
use ringcast_topic_server_core::lane::{Lane, Says};
use ringcast_topic_server_core::{Bind, Cursor, Effect, Input, Limits, Moment, Publishes, Slot, Token};

const GATEWAYS: usize = 3;
const TOPICS: usize = 3;

fn node(id: &str) -> NodeRef {
    NodeRef {
        node: NodeId::parse(id).unwrap(),
        incarnation: Incarnation(1),
    }
}

fn gateway(index: usize) -> NodeRef {
    node(&format!("gw-{index}"))
}

fn topic(index: usize) -> Bytes {
    Bytes::from(format!("t{index}"))
}

#[derive(Debug, Clone)]
enum Op {
    /// A gateway publishes so many to a topic; some of it again, as if the answer had been lost.
    Publish {
        from: usize,
        topic: usize,
        count: usize,
        again: usize,
    },
    Flush,
    /// The lane's call reaches the gateway; its answer may get lost, so that the call is repeated.
    Call {
        to: usize,
        answer_lost: bool,
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
        3 => Just(Op::Flush),
        4 => (gateways.clone(), any::<bool>()).prop_map(|(to, answer_lost)| Op::Call { to, answer_lost }),
        1 => gateways.clone().prop_map(|at| Op::Miss { at }),
        1 => (gateways, topics).prop_map(|(gateway, topic)| Op::Rebind { gateway, topic }),
    ]
}

/// A gateway as ownership.md has it: a cursor a topic, and what it passed on.
#[derive(Default)]
struct Gateway {
    cursors: BTreeMap<Bytes, Cursor>,
    passed: BTreeMap<Bytes, Vec<Publication>>,
    misses: bool,
}

impl Gateway {
    fn deliver(&mut self, entries: &[DeliverEntry]) -> DeliverAnswer {
        let mut answer = DeliverAnswer::default();
        for (index, entry) in entries.iter().enumerate() {
            assert!(entry.gap.is_none(), "the history is large enough");
            assert!(!entry.publications.is_empty(), "an entry with nothing in it");
            if std::mem::take(&mut self.misses) {
                continue;
            }
            let cursor = self
                .cursors
                .get_mut(&entry.topic)
                .expect("bound before anything was delivered");
            assert_eq!(cursor.epoch.as_bytes(), entry.epoch);
            if entry.prev_offset > cursor.offset.0 {
                let cursor = Some(v1::Position {
                    epoch: entry.epoch.clone(),
                    offset: cursor.offset.0,
                });
                let (index, status) = (index as u32, DeliverStatus::NeedFrom.into());
                answer.exceptions.push(DeliverException {
                    index,
                    status,
                    cursor,
                    owner_epoch: 0,
                });
                continue;
            }
            let known = cursor.offset.0;
            for publication in entry.publications.iter().filter(|one| one.offset > known) {
                assert_eq!(publication.offset, cursor.offset.0 + 1, "a hole within an entry");
                cursor.offset.0 += 1;
                self.passed
                    .entry(entry.topic.clone())
                    .or_default()
                    .push(publication.clone());
            }
        }
        answer
    }
}

struct World {
    slot: Slot,
    lanes: Vec<Lane>,
    gateways: Vec<Gateway>,
    numbers: Vec<u64>,
    binds: u64,
    /// What was committed where, by payload.
    committed: BTreeMap<Bytes, (Bytes, u64)>,
    heads: BTreeMap<Bytes, u64>,
    limits: Limits,
}

impl World {
    fn new() -> World {
        let limits = Limits {
            history_len_max: 100_000,
            entry_publications_max: 4,
            call_entries_max: 2,
            lane_bytes_max: 1_500,
            ..Limits::default()
        };
        let mut world = World {
            slot: Slot::new(Number(0), limits.clone()),
            lanes: (0..GATEWAYS).map(|_| Lane::new(limits.clone())).collect(),
            gateways: (0..GATEWAYS).map(|_| Gateway::default()).collect(),
            numbers: vec![0; GATEWAYS],
            binds: 0,
            committed: BTreeMap::new(),
            heads: BTreeMap::new(),
            limits,
        };
        let me = node("ts-1");
        let record = SlotRecord {
            owner_epoch: OwnerEpoch(1),
            base: OwnerEpoch(1),
            owner: me.clone(),
            replica: None,
            moving: None,
            cause: Cause::Birth,
            rest: Default::default(),
        };
        world.apply(Input::Record {
            revision: Revision(1),
            record,
            me,
            entropy: 1,
        });
        for gateway in 0..GATEWAYS {
            (0..TOPICS).for_each(|topic| world.bind(gateway, topic));
        }
        world
    }

    fn apply(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let moment = Moment {
            now: Millis(1),
            lease_valid: true,
            topics_free: 100,
        };
        self.slot.apply(input, moment, &mut effects);
        effects
    }

    fn bind(&mut self, index: usize, name: usize) {
        self.binds += 1;
        let cursor = self.gateways[index].cursors.get(&topic(name)).cloned();
        let bind = v1::Bind {
            topic: topic(name),
            seq: self.binds,
            joined: vec![v1::Member {
                session: 1 + index as u64,
                subject: Bytes::new(),
            }],
            cursor: cursor.map(|cursor| v1::Position {
                epoch: cursor.epoch.to_bytes(),
                offset: cursor.offset.0,
            }),
            ..v1::Bind::default()
        };
        let bind = Bind::parse(bind).unwrap();
        let input = Input::Bind {
            token: Token(0),
            from: gateway(index),
            owner_epoch: OwnerEpoch(1),
            bind,
        };
        let effects = self.apply(input);
        let [Effect::Bound(_, outcome)] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(outcome.status(), v1::BindStatus::Ok);
        let stands = Cursor::parse(outcome.cursor.as_ref().unwrap()).unwrap();
        let cursor = self.gateways[index]
            .cursors
            .entry(topic(name))
            .or_insert(stands.clone());
        assert_eq!(*cursor, stands, "the group stands where the gateway does");
    }

    fn publish(&mut self, from: usize, name: usize, count: usize, again: usize) {
        let first = self.numbers[from] + 1;
        self.numbers[from] += count as u64;
        let publish = |number: u64| v1::Publish {
            number,
            topic: topic(name),
            event: Bytes::from_static(b"e"),
            payload: Bytes::from(format!("{from}/{name}/{number}")),
            session: 1,
            target: 0,
        };
        let all: Vec<v1::Publish> = (first..first + count as u64).map(publish).collect();
        for publishes in std::iter::repeat_n(all, again + 1) {
            let payloads: Vec<Bytes> = publishes.iter().map(|publish| publish.payload.clone()).collect();
            let request = Publishes {
                token: Token(0),
                from: gateway(from),
                owner_epoch: OwnerEpoch(1),
                publishes,
            };
            let effects = self.apply(Input::Publish(request));
            let [Effect::Published(_, answer)] = &effects[..] else {
                panic!("{effects:?}")
            };
            assert_eq!(answer.outcomes.len(), count);
            for (payload, outcome) in payloads.into_iter().zip(&answer.outcomes) {
                let Some(Outcome::Committed(position)) = &outcome.outcome else {
                    panic!("{outcome:?}")
                };
                match self.committed.get(&payload) {
                    Some((_, offset)) => assert_eq!(*offset, position.offset, "appended twice"),
                    None => {
                        let head = self.heads.entry(topic(name)).or_default();
                        *head += 1;
                        assert_eq!(*head, position.offset, "offsets are 1, 2, 3, ...");
                        self.committed.insert(payload, (topic(name), position.offset));
                    }
                }
            }
        }
    }

    fn flush(&mut self) {
        let mut effects = Vec::new();
        self.slot.flush(Millis(1), &mut effects);
        for effect in effects {
            let Effect::Deliver(to, entry) = effect else {
                panic!("{effect:?}")
            };
            let index: usize = to.node.as_str()[3..].parse().unwrap();
            let from = v1::Position {
                epoch: entry.epoch.clone(),
                offset: entry.prev_offset,
            };
            let name = Topic::parse(&entry.topic).unwrap();
            if self.lanes[index].push(entry).is_err() {
                let from = Cursor::parse(&from).unwrap();
                self.apply(Input::Dropped {
                    gateway: to,
                    topic: name,
                    from,
                });
            }
            let waiting = self.lanes[index].waiting_bytes();
            assert!(waiting <= self.limits.lane_bytes_max, "{waiting} bytes wait");
        }
    }

    /// Whether there was anything to call about.
    fn call(&mut self, to: usize, answer_lost: bool) -> bool {
        let Some(entries) = self.lanes[to].next_call().map(<[_]>::to_vec) else {
            return false;
        };
        assert!(!entries.is_empty() && entries.len() <= self.limits.call_entries_max);
        let answer = self.gateways[to].deliver(&entries);
        if answer_lost {
            assert_eq!(self.lanes[to].next_call().unwrap(), entries, "repeated as it was");
            return true;
        }
        let answered = self.lanes[to].answered(&answer);
        for exception in answered.exceptions {
            let Says::NeedFrom(cursor) = exception.says else {
                panic!("{exception:?}")
            };
            self.apply(Input::NeedFrom {
                gateway: gateway(to),
                topic: exception.topic,
                cursor,
            });
        }
        for _ in answered.room {
            self.apply(Input::LaneRoom(gateway(to)));
        }
        true
    }

    /// Nothing goes wrong any more: publish once to every topic and let everything arrive.
    fn heal(&mut self) {
        for gateway in &mut self.gateways {
            gateway.misses = false;
        }
        // What was missed shows at the next publication of the topic, and no earlier.
        (0..TOPICS).for_each(|topic| self.publish(0, topic, 1, 0));
        for _ in 0..10_000 {
            self.flush();
            let called: Vec<bool> = (0..GATEWAYS).map(|to| self.call(to, false)).collect();
            if !called.contains(&true) {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_gateway_passes_on_everything_once_and_in_order(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            match op {
                Op::Publish { from, topic, count, again } => world.publish(from, topic, count, again),
                Op::Flush => world.flush(),
                Op::Call { to, answer_lost } => drop(world.call(to, answer_lost)),
                Op::Miss { at } => world.gateways[at].misses = true,
                Op::Rebind { gateway, topic } => world.bind(gateway, topic),
            }
        }
        world.heal();
        for gateway in &world.gateways {
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
        pushes in prop::collection::vec((0..4_u64, 1..5_u64, any::<bool>()), 1..200),
        lane_bytes_max in 500..5_000_usize,
    ) {
        let limits = Limits {
            lane_bytes_max, call_entries_max: 3, call_bytes_max: 900, entry_publications_max: 6, ..Limits::default()
        };
        let mut lane = Lane::new(limits.clone());
        let mut heads = [0; 4];
        let mut arrived = [0; 4];
        let mut calls = |lane: &mut Lane| {
            let Some(entries) = lane.next_call().map(<[_]>::to_vec) else { return false };
            assert!(!entries.is_empty() && entries.len() <= 3);
            for entry in &entries {
                let topic = &mut arrived[entry.slot as usize];
                assert!(entry.publications.len() <= 6);
                assert_eq!(entry.prev_offset, *topic, "out of order");
                for publication in &entry.publications {
                    *topic += 1;
                    assert_eq!(publication.offset, *topic);
                }
            }
            lane.answered(&DeliverAnswer::default());
            true
        };
        for (slot, count, call) in pushes {
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
        }
        while calls(&mut lane) {}
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
    ) {
        let mut world = World::new();
        let (name, event) = (Bytes::from(name.clone()), Bytes::from(name));
        let publish = v1::Publish { number, topic: name.clone(), event, payload: Bytes::new(), session, target };
        let request = |publishes| Publishes { token: Token(1), from: gateway(0), owner_epoch: OwnerEpoch(1), publishes };
        let effects = world.apply(Input::Publish(request(vec![publish.clone(), publish])));
        let answered = matches!(&effects[..], [Effect::Published(_, answer)] if answer.outcomes.len() == 2);
        prop_assert!(answered);
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

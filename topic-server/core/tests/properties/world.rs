//! A slot, its lanes, and gateways as far as an owner can see them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::{DeliverAnswer, DeliverEntry, DeliverException, DeliverStatus, Publication};
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef, OwnerEpoch, Slot as Number, Topic, v1};
use ringcast_ring::Revision;
use ringcast_topic_server_core::lane::{Lane, Says};
use ringcast_topic_server_core::{Bind, Cursor, Effect, Input, Limits, Moment, Publishes, Slot, Token};

pub(crate) const GATEWAYS: usize = 3;
pub(crate) const TOPICS: usize = 3;

pub(crate) fn node(id: &str) -> NodeRef {
    NodeRef {
        node: NodeId::parse(id).unwrap(),
        incarnation: Incarnation(1),
    }
}

pub(crate) fn gateway(index: usize) -> NodeRef {
    node(&format!("gw-{index}"))
}

pub(crate) fn topic(index: usize) -> Bytes {
    Bytes::from(format!("t{index}"))
}

/// A gateway as ownership.md has it: a cursor a topic, and what it passed on.
#[derive(Default)]
pub(crate) struct Gateway {
    pub(crate) cursors: BTreeMap<Bytes, Cursor>,
    pub(crate) passed: BTreeMap<Bytes, Vec<Publication>>,
    /// What came without an offset.
    pub(crate) once: Vec<Bytes>,
    pub(crate) misses: bool,
}

impl Gateway {
    pub(crate) fn deliver(&mut self, entries: &[DeliverEntry]) -> DeliverAnswer {
        let mut answer = DeliverAnswer::default();
        for (index, entry) in entries.iter().enumerate() {
            assert!(entry.gap.is_none(), "the history is large enough");
            assert_ne!(
                entry.publications.is_empty(),
                entry.unsequenced.is_empty(),
                "an entry with nothing in it, or with both"
            );
            if std::mem::take(&mut self.misses) {
                continue;
            }
            for sent in &entry.unsequenced {
                let publication = sent.publication.as_ref().expect("one that is sent");
                assert_eq!(publication.offset, 0);
                self.once.push(publication.payload.clone());
            }
            if !entry.unsequenced.is_empty() {
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

/// What a gateway has answered, and what it has yet to.
#[derive(Default)]
pub(crate) struct Answers {
    on_way: VecDeque<DeliverAnswer>,
    /// Calls whose answer waits for that of a later one.
    kept_back: u32,
    /// The calls of which the lane has no answer.
    unanswered: VecDeque<Vec<DeliverEntry>>,
}

pub(crate) struct World {
    pub(crate) slot: Slot,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) answers: Vec<Answers>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) numbers: Vec<u64>,
    pub(crate) binds: u64,
    /// What was committed where, by payload.
    pub(crate) committed: BTreeMap<Bytes, (Bytes, u64)>,
    pub(crate) heads: BTreeMap<Bytes, u64>,
    /// How many members each publication without an offset was sent to.
    pub(crate) matched: BTreeMap<Bytes, u32>,
    pub(crate) limits: Limits,
}

impl World {
    pub(crate) fn new() -> World {
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
            answers: (0..GATEWAYS).map(|_| Answers::default()).collect(),
            gateways: (0..GATEWAYS).map(|_| Gateway::default()).collect(),
            numbers: vec![0; GATEWAYS],
            binds: 0,
            committed: BTreeMap::new(),
            heads: BTreeMap::new(),
            matched: BTreeMap::new(),
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

    pub(crate) fn apply(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let moment = Moment {
            now: Millis(1),
            lease_valid: true,
            topics_free: 100,
        };
        self.slot.apply(input, moment, &mut effects);
        effects
    }

    pub(crate) fn bind(&mut self, index: usize, name: usize) {
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

    pub(crate) fn publish(&mut self, from: usize, name: usize, count: usize, again: usize) {
        let first = self.numbers[from] + 1;
        self.numbers[from] += count as u64;
        let publish = |number: u64| v1::Publish {
            number,
            topic: topic(name),
            event: Bytes::from_static(b"e"),
            payload: Bytes::from(format!("{from}/{name}/{number}")),
            session: 1,
            ..v1::Publish::default()
        };
        let all: Vec<v1::Publish> = (first..first + count as u64).map(publish).collect();
        for publishes in std::iter::repeat_n(all, again + 1) {
            let payloads: Vec<Bytes> = publishes.iter().map(|publish| publish.payload.clone()).collect();
            let request = Publishes {
                token: Token(0),
                from: gateway(from),
                owner_epoch: OwnerEpoch(1),
                publishes,
                held_ms: 0,
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

    pub(crate) fn flush(&mut self) {
        let mut effects = Vec::new();
        self.slot.flush(Millis(1), &mut effects);
        self.deliver(effects);
    }

    /// Publishes without an offset, to everyone or to one member.
    pub(crate) fn publish_once(&mut self, from: usize, name: usize, to_one: bool) {
        self.numbers[from] += 1;
        let number = self.numbers[from];
        let target = if to_one { v1::Target::One } else { v1::Target::All };
        let payload = Bytes::from(format!("once {from}/{name}/{number}"));
        let publish = v1::Publish {
            number,
            topic: topic(name),
            event: Bytes::from_static(b"e"),
            payload: payload.clone(),
            session: 1,
            target: target.into(),
            ephemeral: true,
            ..v1::Publish::default()
        };
        let request = Publishes {
            token: Token(0),
            from: gateway(from),
            owner_epoch: OwnerEpoch(1),
            publishes: vec![publish],
            held_ms: 0,
        };
        let mut effects = self.apply(Input::Publish(request));
        let Some(Effect::Published(_, answer)) = effects.pop() else {
            panic!("{effects:?}")
        };
        let Some(Outcome::Unsequenced(sent)) = &answer.outcomes[0].outcome else {
            panic!("{answer:?}")
        };
        self.matched.insert(payload, sent.matched);
        self.deliver(effects);
    }

    fn deliver(&mut self, effects: Vec<Effect>) {
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

    /// The lane's next call, if it may make one, arrives and is handled.
    pub(crate) fn send(&mut self, to: usize) -> bool {
        let Some(call) = self.lanes[to].next_call() else {
            return false;
        };
        let len = call.entries.len();
        assert!((1..=self.limits.call_entries_max).contains(&len));
        let mut answer = self.gateways[to].deliver(&call.entries);
        let answers = &mut self.answers[to];
        answer.calls = 1 + answers.kept_back;
        answers.kept_back = 0;
        if call.may_wait && answer.exceptions.is_empty() {
            answers.kept_back = answer.calls;
        } else {
            answers.on_way.push_back(answer);
        }
        answers.unanswered.push_back(call.entries.to_vec());
        true
    }

    /// The gateway's next answer arrives; one that was kept back leaves for want of another.
    pub(crate) fn answer(&mut self, to: usize) -> bool {
        let answers = &mut self.answers[to];
        let kept_back = |calls| DeliverAnswer {
            calls,
            ..DeliverAnswer::default()
        };
        let answer = match answers.on_way.pop_front() {
            Some(answer) => answer,
            None if answers.kept_back > 0 => kept_back(std::mem::take(&mut answers.kept_back)),
            None => return false,
        };
        answers.unanswered.drain(..answer.calls as usize);
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

    /// So many calls leave and do not arrive, and no answer does either.
    pub(crate) fn break_off(&mut self, to: usize, lost: usize) {
        let mut unanswered = std::mem::take(&mut self.answers[to]).unanswered;
        unanswered.extend((0..lost).map_while(|_| Some(self.lanes[to].next_call()?.entries.to_vec())));
        for _ in self.lanes[to].unanswered() {
            self.apply(Input::LaneRoom(gateway(to)));
        }
        for mut again in unanswered {
            again.retain(|entry| entry.unsequenced.is_empty());
            if !again.is_empty() {
                let next = self.lanes[to].next_call();
                assert_eq!(*next.unwrap().entries, again, "repeated as it was");
            }
        }
        // And once more, in the test's sight.
        self.lanes[to].unanswered();
    }

    /// Nothing goes wrong any more: publish once to every topic and let everything arrive.
    pub(crate) fn heal(&mut self) {
        for gateway in &mut self.gateways {
            gateway.misses = false;
        }
        // What was missed shows at the next publication of the topic, and no earlier.
        (0..TOPICS).for_each(|topic| self.publish(0, topic, 1, 0));
        for _ in 0..10_000 {
            self.flush();
            let busy: Vec<bool> = (0..GATEWAYS).map(|to| self.send(to) | self.answer(to)).collect();
            if !busy.contains(&true) {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

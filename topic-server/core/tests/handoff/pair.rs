//! Two nodes with one slot between them, a record, and a network that is turned by hand.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::record::{Cause, Move, MoveKind, SlotRecord};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::{
    Incarnation, Millis, NodeId, NodeRef, OwnerEpoch, SessionId, Slot as Number, Topic, v1,
};
use ringcast_ring::Revision;
use ringcast_topic_server_core::{
    Bind, Effect, Input, Limits, Moment, Publishes, PullPage, Role, Slot, Swap, Token,
};

pub(crate) fn node(id: &str) -> NodeRef {
    NodeRef {
        node: NodeId::parse(id).unwrap(),
        incarnation: Incarnation(1),
    }
}

/// A call on its way, or an answer on its way back.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Ask(PullPage),
    Answer(PullPage, v1::PullAnswer),
}

pub(crate) struct Pair {
    pub(crate) a: Slot,
    pub(crate) b: Slot,
    pub(crate) now: Millis,
    revision: u64,
    pub(crate) record: SlotRecord,
    pub(crate) network: VecDeque<Packet>,
    pub(crate) swaps: Vec<Swap>,
    pub(crate) moved: Vec<v1::EndedMove>,
    seqs: u64,
    moves: u32,
}

/// What a slot holds, as people can see it.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) topics: Vec<v1::TopicSummary>,
    members: BTreeMap<String, Vec<u64>>,
}

impl Pair {
    pub(crate) fn new(limits: &Limits) -> Pair {
        let mut pair = Pair {
            a: Slot::new(Number(7), limits.clone()),
            b: Slot::new(Number(7), limits.clone()),
            now: Millis(10_000),
            revision: 0,
            record: SlotRecord {
                owner_epoch: OwnerEpoch(1),
                base: OwnerEpoch(1),
                owner: node("ts-a"),
                replica: None,
                moving: None,
                cause: Cause::Birth,
                rest: Default::default(),
            },
            network: VecDeque::new(),
            swaps: Vec::new(),
            moved: Vec::new(),
            seqs: 0,
            moves: 0,
        };
        pair.tell_record();
        pair
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            lease_valid: true,
            topics_free: 1_000_000,
        }
    }

    /// Of the record as both have read it.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Writes the record as it stands, and both read it.
    pub(crate) fn tell_record(&mut self) {
        self.revision += 1;
        for me in ["ts-a", "ts-b"] {
            self.read(me);
        }
    }

    pub(crate) fn read(&mut self, me: &str) {
        let input = Input::Record {
            revision: Revision(self.revision),
            record: self.record.clone(),
            me: node(me),
            entropy: u128::from(self.revision) * 1_000 + me.len() as u128,
        };
        self.apply(me, input);
    }

    /// The planner wishes for the slot to go from `ts-a` to `ts-b`.
    pub(crate) fn wish(&mut self) {
        self.moves += 1;
        self.record.moving = Some(Move {
            id: format!("p1.7.{}", self.moves),
            kind: MoveKind::Owner,
            target: node("ts-b"),
        });
        self.tell_record();
    }

    /// The planner no longer wishes for anything.
    pub(crate) fn clear_wish(&mut self) {
        self.record.moving = None;
        self.tell_record();
    }

    fn slot(&mut self, me: &str) -> &mut Slot {
        if me == "ts-a" { &mut self.a } else { &mut self.b }
    }

    /// Applies an input and flushes; what the other side or a gateway would get is returned, calls are put on the network.
    pub(crate) fn apply(&mut self, me: &str, input: Input) -> Vec<Effect> {
        let (moment, now) = (self.moment(), self.now);
        let mut effects = Vec::new();
        let asked = match &input {
            Input::Pull { pull, .. } => Some(pull.clone()),
            _ => None,
        };
        let slot = self.slot(me);
        slot.apply(input, moment, &mut effects);
        slot.flush(now, &mut effects);
        let mut rest = Vec::new();
        for effect in effects {
            match effect {
                Effect::Pull(owner, pull) => {
                    assert_eq!((me, owner), ("ts-b", node("ts-a")));
                    self.network.push_back(Packet::Ask(pull));
                }
                Effect::PullAnswered(_, answer) => {
                    let asked = asked.clone().expect("only a call is answered");
                    self.network.push_back(Packet::Answer(asked, answer));
                }
                Effect::Swap(swap) => self.swaps.push(*swap),
                Effect::Moved(ended) => self.moved.push(ended),
                other => rest.push(other),
            }
        }
        rest
    }

    /// Lets one packet arrive.
    pub(crate) fn arrive(&mut self, packet: Packet) {
        match packet {
            Packet::Ask(pull) => {
                let (token, from) = (Token(1), node("ts-b"));
                self.apply("ts-a", Input::Pull { token, from, pull });
            }
            Packet::Answer(asked, answer) => {
                self.apply("ts-b", Input::Pulled(asked, Some(answer)));
            }
        }
    }

    /// Lets packets arrive until none is left or the write is wanted.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.swaps.is_empty() {
                return;
            }
            match self.network.pop_front() {
                Some(packet) => self.arrive(packet),
                None => return,
            }
        }
        panic!("the copy does not end");
    }

    /// Time passes, and timers with it.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = [self.a.deadline(), self.b.deadline()].into_iter().flatten().min() {
            if due > end {
                break;
            }
            self.now = self.now.max(due);
            self.apply("ts-a", Input::Tick);
            self.apply("ts-b", Input::Tick);
        }
        self.now = end;
    }

    /// The write that is wanted is made, if the record is still the one it expects; both read what came of it.
    pub(crate) fn make_swap(&mut self) -> bool {
        let swap = self.swaps.pop().expect("wanted");
        if swap.revision != Revision(self.revision) {
            self.apply("ts-a", Input::SwapRefused(swap.revision));
            return false;
        }
        self.record = swap.record;
        self.tell_record();
        true
    }

    pub(crate) fn publish(
        &mut self,
        me: &str,
        gateway: &str,
        number: u64,
        topic: &str,
        payload: &str,
    ) -> v1::SlotPublishAnswer {
        self.publish_id(me, gateway, number, topic, payload, "")
    }

    /// The same, with the id its client gave it.
    pub(crate) fn publish_id(
        &mut self,
        me: &str,
        gateway: &str,
        number: u64,
        topic: &str,
        payload: &str,
        id: &str,
    ) -> v1::SlotPublishAnswer {
        let publish = v1::Publish {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            ..sample(number, id)
        };
        self.publish_it(me, gateway, publish)
    }

    /// A publish to any one member, with the id its client gave it.
    pub(crate) fn publish_once(
        &mut self,
        me: &str,
        gateway: &str,
        number: u64,
        topic: &str,
        id: &str,
    ) -> v1::SlotPublishAnswer {
        let publish = v1::Publish {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            target: v1::Target::One.into(),
            ..sample(number, id)
        };
        self.publish_it(me, gateway, publish)
    }

    fn publish_it(&mut self, me: &str, gateway: &str, publish: v1::Publish) -> v1::SlotPublishAnswer {
        let request = Publishes {
            token: Token(2),
            from: node(gateway),
            owner_epoch: self.record.owner_epoch,
            publishes: vec![publish],
            held_ms: 3,
        };
        let effects = self.apply(me, Input::Publish(request));
        let answers = effects.into_iter().filter_map(|effect| match effect {
            Effect::Published(_, answer) => Some(answer),
            _ => None,
        });
        answers.last().expect("a question gets an answer")
    }

    /// Binds; a bind number of 0 takes the next.
    pub(crate) fn bind(
        &mut self,
        me: &str,
        gateway: &str,
        topic: &str,
        prev_seq: u64,
        joined: &[u64],
        left: &[u64],
    ) -> (u64, v1::BindOutcome) {
        self.seqs += 1;
        let seq = self.seqs;
        let bind = v1::Bind {
            slot: 7,
            owner_epoch: 0,
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            seq,
            prev_seq,
            joined: joined
                .iter()
                .map(|session| v1::Member {
                    session: *session,
                    subject: Bytes::from_static(b"s"),
                })
                .collect(),
            left: left.to_vec(),
            cursor: None,
        };
        let effects = self.apply(
            me,
            Input::Bind {
                token: Token(3),
                from: node(gateway),
                owner_epoch: self.record.owner_epoch,
                bind: Bind::parse(bind).unwrap(),
            },
        );
        let outcomes = effects.into_iter().filter_map(|effect| match effect {
            Effect::Bound(_, outcome) => Some(outcome),
            _ => None,
        });
        (seq, outcomes.last().expect("a question gets an answer"))
    }

    /// Everything that can be seen of the slot on a node that serves it.
    pub(crate) fn see(&mut self, me: &str) -> Seen {
        let listed = self.apply(
            me,
            Input::ListTopics {
                token: Token(4),
                prefix: String::new(),
                limit: 100_000,
            },
        );
        let Some(Effect::Listed(_, list)) = listed.into_iter().last() else {
            panic!("a list");
        };
        let mut members = BTreeMap::new();
        for topic in &list.topics {
            let name = Topic::parse(topic.topic.as_bytes()).unwrap();
            let (token, after, limit) = (Token(5), SessionId(0), 100_000);
            let asked = Input::ListMembers {
                token,
                topic: name.clone(),
                after,
                limit,
            };
            let Some(Effect::Members(_, list)) = self.apply(me, asked).into_iter().last() else {
                panic!("members");
            };
            members.insert(
                topic.topic.clone(),
                list.members.iter().map(|member| member.session).collect(),
            );
        }
        let topics = list.topics.into_iter().map(|topic| v1::TopicSummary {
            owner_epoch: 0,
            ..topic
        });
        Seen {
            topics: topics.collect(),
            members,
        }
    }

    /// Every history, as a gateway gets it that has nothing and goes away again.
    pub(crate) fn histories(&mut self, me: &str) -> BTreeMap<String, Vec<String>> {
        let topics = self.see(me).topics;
        let history = |topic: &v1::TopicSummary| (topic.topic.clone(), self.history(me, topic));
        topics
            .iter()
            .map(history)
            .filter(|(_, kept)| !kept.is_empty())
            .collect()
    }

    fn history(&mut self, me: &str, topic: &v1::TopicSummary) -> Vec<String> {
        self.seqs += 2;
        let bind = |seq, joined: &[u64]| {
            let members = joined.iter().map(|session| v1::Member {
                session: *session,
                subject: Bytes::new(),
            });
            Bind::parse(v1::Bind {
                topic: Bytes::copy_from_slice(topic.topic.as_bytes()),
                seq,
                joined: members.collect(),
                cursor: Some(v1::Position {
                    epoch: Bytes::copy_from_slice(topic.epoch.as_bytes()),
                    offset: 0,
                }),
                ..v1::Bind::default()
            })
            .unwrap()
        };
        let (from, owner_epoch, seq) = (node("gw-reader"), self.record.owner_epoch, self.seqs);
        let mut got = Vec::new();
        for bind in [bind(seq - 1, &[1]), bind(seq, &[])] {
            let input = Input::Bind {
                token: Token(6),
                from: from.clone(),
                owner_epoch,
                bind,
            };
            for effect in self.apply(me, input) {
                if let Effect::Deliver(gateway, entry) = effect
                    && gateway == from
                {
                    for kept in entry.publications {
                        assert_eq!(kept.offset, got.len() as u64 + 1);
                        got.push(String::from_utf8(kept.payload.to_vec()).unwrap());
                    }
                }
            }
        }
        got
    }

    pub(crate) fn roles(&self) -> (&Role, &Role) {
        (self.a.role(), self.b.role())
    }
}

fn sample(number: u64, id: &str) -> v1::Publish {
    v1::Publish {
        number,
        event: Bytes::from_static(b"e"),
        session: 5,
        msg_id: Bytes::copy_from_slice(id.as_bytes()),
        subject: Bytes::from_static(b"someone"),
        ..v1::Publish::default()
    }
}

/// Where the only publish of a call was committed.
pub(crate) fn committed(answer: &v1::SlotPublishAnswer) -> Option<u64> {
    match &answer.outcomes.first()?.outcome {
        Some(Outcome::Committed(position)) => Some(position.offset),
        _ => None,
    }
}

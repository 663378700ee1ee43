//! A topic whose slot wanders between two owners, against the promise that the owner ends up with the gateway's members
//! and the gateway with every publication, whatever is lost on the way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use ringcast_proto::v1::{self, BindStatus};
use ringcast_proto::{Millis, OwnerEpoch, SessionId, Topic};

use super::*;
use crate::backoff::Jitter;
use crate::gateway::CallFailed;
use crate::phoenix::{Json, Serializer};
use crate::table::{server, table_of};

const SLOT: Slot = Slot(0);
const NODES: [&str; 2] = ["ts-1", "ts-2"];

#[derive(Debug, Clone, Copy)]
enum Step {
    Join(u64),
    Leave(u64),
    /// The slot goes over with all it holds.
    Move,
    /// The slot begins empty at the other node.
    Fresh,
    /// The owner takes nothing for a while.
    Seal,
    /// The gateway hears who owns the slot.
    Table,
    Publish,
    /// What the owner has for the gateway goes out, and is lost or not.
    Deliver {
        lost: bool,
    },
    /// The oldest call reaches its node.
    Arrive,
    /// The oldest answer reaches the gateway.
    Return {
        lost: bool,
    },
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..6_u64).prop_map(Step::Join),
        2 => (1..6_u64).prop_map(Step::Leave),
        2 => Just(Step::Move),
        1 => Just(Step::Seal),
        1 => Just(Step::Table),
        3 => Just(Step::Publish),
        3 => (0..4).prop_map(|n| Step::Deliver { lost: n == 0 }),
        6 => Just(Step::Arrive),
        5 => (0..6).prop_map(|n| Step::Return { lost: n == 0 }),
        2 => Just(Step::Wait),
    ]
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    seq: u64,
    members: BTreeSet<u64>,
    sent: u64,
}

/// What one topic server knows of the one topic and the one gateway.
#[derive(Debug, Clone, Default)]
struct Held {
    owner_epoch: u64,
    epoch: u64,
    head: u64,
    group: Option<Group>,
    unbound: u64,
    /// Changes that were applied: they were what a new owner needed.
    changes: usize,
}

impl Held {
    fn position(&self, offset: u64) -> Option<v1::Position> {
        let epoch = Bytes::from(format!("e{}", self.epoch));
        Some(v1::Position { epoch, offset })
    }

    /// As a topic server does it.
    fn bind(&mut self, bind: &v1::Bind) -> v1::BindOutcome {
        let of = |status: BindStatus| v1::BindOutcome {
            status: status.into(),
            owner_epoch: self.owner_epoch,
            ..Default::default()
        };
        let cursor = bind.cursor.as_ref().map(|cursor| {
            let same = cursor.epoch == format!("e{}", self.epoch);
            if same { cursor.offset } else { 0 }
        });
        match &mut self.group {
            Some(group) if bind.seq <= group.seq => {}
            None if bind.prev_seq == 0 && bind.seq <= self.unbound => {}
            Some(group) if bind.prev_seq == group.seq => {
                self.changes += 1;
                group.seq = bind.seq;
                group
                    .members
                    .extend(bind.joined.iter().map(|member| member.session));
                group.members.retain(|session| !bind.left.contains(session));
                group.sent = cursor.map_or(group.sent, |cursor| cursor.min(group.sent));
            }
            _ if bind.prev_seq != 0 => return of(BindStatus::NeedFull),
            _ => {
                let members = bind.joined.iter().map(|member| member.session).collect();
                let sent = cursor.unwrap_or(self.head);
                let seq = bind.seq;
                self.group = Some(Group { seq, members, sent });
            }
        }
        if let Some(group) = self.group.take_if(|group| group.members.is_empty()) {
            self.unbound = group.seq;
        }
        let sent = self.group.as_ref().map_or(self.head, |group| group.sent);
        v1::BindOutcome {
            cursor: self.position(cursor.map_or(sent, |cursor| cursor.min(sent))),
            head: self.head,
            ..of(BindStatus::Ok)
        }
    }
}

struct World {
    interest: Interest,
    owners: Owners,
    topic: Topic,
    now: Millis,
    jitter: Jitter,
    last_call: u64,
    nodes: [Held; 2],
    owner: usize,
    sealed: bool,
    calls: VecDeque<(CallId, usize, Vec<v1::Bind>)>,
    answers: VecDeque<(CallId, v1::BindAnswer)>,
    joined: BTreeSet<u64>,
    /// Epoch and offset of what was passed on last; none since nobody was left, or while it begins anew.
    passed: Option<(u64, u64)>,
}

impl World {
    fn new() -> World {
        let born = Held {
            owner_epoch: 1,
            epoch: 1,
            ..Default::default()
        };
        let mut world = World {
            interest: Interest::default(),
            owners: Owners::default(),
            topic: Topic::parse(b"topics:matrix").expect("a legal name"),
            now: Millis(1_000),
            jitter: Jitter::new(1),
            last_call: 0,
            nodes: [born, Held::default()],
            owner: 0,
            sealed: false,
            calls: VecDeque::new(),
            answers: VecDeque::new(),
            joined: BTreeSet::new(),
            passed: None,
        };
        world.table();
        world
    }

    fn table(&mut self) {
        let owner_epoch = self.nodes[self.owner].owner_epoch;
        let table = table_of(1, &server(NODES[self.owner]), owner_epoch);
        self.owners.replace(Arc::new(table));
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(session) => {
                let member = Member {
                    subject: Bytes::new(),
                    serializer: Serializer::V2,
                    push_ref: Json::null(),
                    joined: false,
                    positions: false,
                    has: Offset(0),
                    stream: None,
                };
                // A client joins again only after it has left.
                self.leave(session);
                let (topic, now) = (self.topic.clone(), self.now);
                self.interest.join(SLOT, &topic, SessionId(session), member, now);
            }
            Step::Leave(session) => self.leave(session),
            Step::Move | Step::Fresh => {
                let before = self.nodes[self.owner].clone();
                self.owner = 1 - self.owner;
                self.sealed = false;
                let held = &mut self.nodes[self.owner];
                *held = before;
                held.owner_epoch += 1;
                // How far the gateway had got only the gateway knows.
                if let Some(group) = &mut held.group {
                    group.sent = held.head;
                }
                if let Step::Fresh = step {
                    (held.group, held.head, held.unbound) = (None, 0, 0);
                    held.epoch += 1;
                }
            }
            Step::Seal => self.sealed = !self.sealed,
            Step::Table => self.table(),
            Step::Publish if !self.sealed => self.nodes[self.owner].head += 1,
            Step::Publish => {}
            Step::Deliver { lost } => self.deliver(lost),
            Step::Arrive => self.arrive(),
            Step::Return { lost } => {
                if let Some((call, answer)) = self.answers.pop_front() {
                    let lost = lost.then(|| CallFailed::Unknown("lost".into()));
                    self.answered(call, lost.map_or(Ok(answer), Err));
                }
            }
            Step::Wait => self.now = self.now + Duration::from_millis(500),
        }
        let slots = self.owners.take_moved();
        self.interest.moved(&slots, &self.owners, self.now);
        let mut effects = Vec::new();
        self.interest
            .flush(&self.owners, self.now, &mut self.last_call, &mut effects);
        for effect in effects {
            let Effect::Bind(call, to, binds) = effect else {
                unreachable!("only binds leave")
            };
            let node = NODES.iter().position(|id| server(id) == to).expect("one of two");
            self.calls.push_back((call, node, binds));
        }
    }

    fn leave(&mut self, session: u64) {
        let topic = self.topic.clone();
        self.interest.leave(SLOT, &topic, SessionId(session), self.now);
        self.joined.remove(&session);
        if self.joined.is_empty() {
            self.passed = None;
        }
    }

    fn members(&self) -> BTreeSet<u64> {
        let wanted = self.interest.topic(SLOT, self.topic.as_str());
        wanted.map_or_else(BTreeSet::new, |wanted| {
            wanted.members.iter().map(|(session, _)| session.0).collect()
        })
    }

    fn arrive(&mut self) {
        let Some((call, node, binds)) = self.calls.pop_front() else {
            return;
        };
        let owner_epoch = self.nodes[self.owner].owner_epoch;
        let refused = |status: BindStatus| v1::BindOutcome {
            status: status.into(),
            owner: Some(v1::Owner {
                node: NODES[self.owner].into(),
                incarnation: 1,
                owner_epoch,
            }),
            ..Default::default()
        };
        let outcome = |bind: &v1::Bind| match (node == self.owner, self.sealed) {
            (false, _) => refused(BindStatus::NotOwner),
            (true, true) => refused(BindStatus::Sealed),
            (true, false) => self.nodes[node].bind(bind),
        };
        let outcomes = binds.iter().map(outcome).collect();
        let incarnation = 1;
        self.answers.push_back((
            call,
            v1::BindAnswer {
                incarnation,
                outcomes,
            },
        ));
    }

    fn answered(&mut self, call: CallId, answer: Result<v1::BindAnswer, CallFailed>) {
        let events = self
            .interest
            .bound(call, answer, &mut self.owners, self.now, &mut self.jitter);
        self.join(events);
    }

    fn join(&mut self, events: Vec<Event>) {
        for event in events {
            let session = match event {
                Event::Joined(_, session) => session,
                // The members here asked for no positions.
                Event::Anew(..) => continue,
                Event::Known(..) | Event::Refused(..) => unreachable!("nothing of the kind was asked for"),
            };
            assert!(
                self.members().contains(&session.0),
                "a session that has left joins"
            );
            self.joined.insert(session.0);
        }
    }

    fn deliver(&mut self, lost: bool) {
        let held = &mut self.nodes[self.owner];
        let Some(group) = held.group.as_mut().filter(|group| group.sent < held.head) else {
            return;
        };
        let publications = (group.sent + 1..=held.head).map(|offset| v1::Publication {
            offset,
            ..Default::default()
        });
        let entry = v1::DeliverEntry {
            slot: 0,
            owner_epoch: held.owner_epoch,
            topic: Bytes::from_static(b"topics:matrix"),
            epoch: Bytes::from(format!("e{}", held.epoch)),
            prev_offset: group.sent,
            publications: publications.collect(),
            ..v1::DeliverEntry::default()
        };
        if lost {
            return;
        }
        group.sent = held.head;
        let epoch = held.epoch;
        match self.interest.deliver(&entry, SLOT, &mut self.owners) {
            Passed::On { admitted, from, .. } => {
                let admitted = admitted.into_iter();
                self.join(
                    admitted
                        .map(|session| Event::Joined(self.topic.clone(), session))
                        .collect(),
                );
                for publication in &entry.publications[from..] {
                    if let Some((of, last)) = self.passed
                        && of == epoch
                    {
                        assert_eq!(publication.offset, last + 1, "once, in order, without a hole");
                    }
                    // Nobody sees what is passed on while nobody is joined.
                    self.passed = (!self.joined.is_empty()).then_some((epoch, publication.offset));
                }
            }
            Passed::Unsequenced => unreachable!("the model sends none"),
            Passed::No(exception) => {
                let group = self.nodes[self.owner].group.as_mut().expect("it delivered");
                match exception.status() {
                    v1::DeliverStatus::NeedFrom => {
                        group.sent = exception.cursor.expect("with a cursor").offset;
                    }
                    v1::DeliverStatus::NoInterest if group.seq <= self.interest.seq() => {
                        self.nodes[self.owner].group = None;
                    }
                    other => panic!("the present owner is not {other:?}"),
                }
            }
        }
    }

    /// Nothing is lost any more.
    fn heal(&mut self) {
        self.sealed = false;
        self.step(Step::Table);
        for _ in 0..30 {
            self.step(Step::Arrive);
            self.step(Step::Return { lost: false });
            self.step(Step::Wait);
        }
        assert!(!self.interest.busy(), "everything is told");
        // Without anything new that would show the hole.
        self.step(Step::Deliver { lost: false });
        let held = &self.nodes[self.owner];
        if held.group.is_some() {
            let cursor = self.interest.cursor(SLOT, &self.topic).expect("it is bound");
            assert_eq!(cursor.1.0, held.head, "what was missed is delivered by itself");
        }
        self.step(Step::Publish);
        self.step(Step::Deliver { lost: false });
    }
}

fn check(steps: Vec<Step>) {
    let mut world = World::new();
    steps.into_iter().for_each(|step| world.step(step));
    world.heal();
    let held = &world.nodes[world.owner];
    let members = world.members();
    let known = held.group.as_ref().map(|group| group.members.clone());
    assert_eq!(
        known.unwrap_or_default(),
        members,
        "the owner has the gateway's members"
    );
    assert_eq!(world.joined, members, "and everyone was told so");
    if !members.is_empty() {
        let cursor = world
            .interest
            .cursor(SLOT, &world.topic)
            .expect("it was delivered to");
        assert_eq!(cursor.1.0, held.head, "and has passed everything on");
        assert_eq!(world.owners.seen(SLOT), OwnerEpoch(held.owner_epoch));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn wherever_the_slot_goes_its_owner_ends_up_with_the_members_and_the_gateway_with_every_publication(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        check(steps);
    }

    #[test]
    fn the_same_holds_where_the_slot_begins_empty_now_and_then(
        steps in proptest::collection::vec(prop_oneof![20 => step(), 1 => Just(Step::Fresh)], 1..80),
    ) {
        check(steps);
    }
}

#[test]
fn a_new_owner_that_has_the_members_is_told_none_of_them() {
    let mut world = World::new();
    for session in 1..=5 {
        world.step(Step::Join(session));
    }
    for _ in 0..3 {
        world.step(Step::Arrive);
        world.step(Step::Return { lost: false });
    }
    let changes = world.nodes[0].changes;
    for _ in 0..4 {
        world.step(Step::Move);
        world.step(Step::Table);
        let (_, _, binds) = world.calls.front().expect("it is told at once");
        assert_eq!((binds[0].joined.len(), binds[0].left.len()), (0, 0));
        assert!(binds[0].prev_seq > 0 && binds[0].cursor.is_some());
        world.step(Step::Arrive);
        world.step(Step::Return { lost: false });
    }
    assert!(!world.interest.busy());
    assert_eq!(world.nodes[world.owner].changes, changes + 4);
}

#[test]
fn a_slot_with_more_topics_than_a_call_carries_does_not_starve_the_next() {
    let mut interest = Interest::default();
    let mut owners = Owners::default();
    owners.replace(Arc::new(table_of(3, &server("ts-1"), 1)));
    let (mut last_call, mut jitter, mut told) = (0, Jitter::new(1), Vec::new());
    let topics = 3 * CALL_TOPICS_MAX;
    for n in 0..topics {
        let topic = Topic::parse(format!("topics:t{n}").as_bytes()).expect("a legal name");
        let member = Member {
            subject: Bytes::new(),
            serializer: Serializer::V2,
            push_ref: Json::null(),
            joined: false,
            positions: false,
            has: Offset(0),
            stream: None,
        };
        for slot in [Slot(0), Slot(2)] {
            let few = slot == Slot(2) && n > 0;
            if !few {
                interest.join(slot, &topic, SessionId(1), member.clone(), Millis(1));
            }
        }
    }
    while told.len() < 4 {
        let mut effects = Vec::new();
        interest.flush(&owners, Millis(1), &mut last_call, &mut effects);
        let Some(Effect::Bind(call, _, binds)) = effects.pop() else {
            break;
        };
        told.push(binds.iter().filter(|bind| bind.slot == 2).count());
        let outcome = v1::BindOutcome {
            owner_epoch: 1,
            ..Default::default()
        };
        let answer = v1::BindAnswer {
            incarnation: 1,
            outcomes: vec![outcome; binds.len()],
        };
        interest.bound(call, Ok(answer), &mut owners, Millis(1), &mut jitter);
    }
    assert_eq!(told, [0, 1, 0, 0], "the second call has the other slot's topic");
}

/// Found by the tests above: the slot had been away and was back before this gateway heard of either.
#[test]
fn a_group_that_was_elsewhere_in_between_is_told_the_cursor() {
    let mut world = World::new();
    world.step(Step::Join(1));
    world.step(Step::Arrive);
    world.step(Step::Return { lost: false });
    for step in [Step::Move, Step::Publish, Step::Move, Step::Join(2), Step::Arrive] {
        world.step(step);
    }
    world.step(Step::Return { lost: false });
    let (_, _, binds) = world.calls.front().expect("it is told again");
    assert!(binds[0].prev_seq > 0 && binds[0].joined.is_empty());
    assert_eq!(binds[0].cursor.as_ref().map(|cursor| cursor.offset), Some(0));
    world.heal();
}

//! Sessions come and go, resume and miss things, while their topic moves, begins anew and forgets, and while answers and
//! deliveries are lost and overtake each other: every client gets everything once and in order, or is told what it does not.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod client;
mod owner;
mod table;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::Client;
use owner::{Owner, epoch_name};
use proptest::prelude::*;
use ringcast_gateway_core::gateway::{CallFailed, CallId, Config, Effect, Gateway, Input};
use ringcast_gateway_core::limits::Limits;
use ringcast_gateway_core::phoenix::{Serializer, decode_text};
use ringcast_proto::{Millis, NodeRef, SessionId, v1};

const CLIENTS: u64 = 4;
/// Publications a fetch brings at most.
const RECOVERED_MAX: u64 = 6;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A client comes, with the position it has, or, `back` offsets earlier.
    Join {
        client: u64,
        back: u64,
    },
    Leave {
        client: u64,
    },
    /// A client that is not here has been elsewhere, and has everything.
    Elsewhere {
        client: u64,
    },
    Publish {
        count: u64,
    },
    /// The owner takes the oldest bind; its answer is on its way, or lost.
    Bind {
        lost: bool,
    },
    /// The oldest answer to a bind arrives.
    Bound,
    Fetch {
        lost: bool,
    },
    Fetched,
    /// The owner delivers, if no call is out.
    Deliver {
        most: u64,
    },
    /// The owner forgets all but the last so many.
    Trim {
        keeps: u64,
    },
    Move,
    Fresh,
    Wait,
    /// A client joins again on the channel it has.
    Rejoin {
        client: u64,
        back: u64,
    },
    /// The gateway lost its lease and registers anew.
    Register,
    /// The gateway takes the call that is out; its answer is on its way or lost.
    Arrive {
        lost: bool,
    },
    /// The owner hears the answer.
    Answered,
    /// A client leaves the channel and stays connected.
    LeaveChannel {
        client: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 1..=CLIENTS;
    prop_oneof![
        4 => (client.clone(), 0..4_u64).prop_map(|(client, back)| Step::Join { client, back }),
        2 => client.clone().prop_map(|client| Step::Leave { client }),
        1 => client.prop_map(|client| Step::Elsewhere { client }),
        5 => (1..4_u64).prop_map(|count| Step::Publish { count }),
        4 => prop::bool::weighted(0.1).prop_map(|lost| Step::Bind { lost }),
        4 => Just(Step::Bound),
        4 => prop::bool::weighted(0.1).prop_map(|lost| Step::Fetch { lost }),
        4 => Just(Step::Fetched),
        5 => (1..5_u64).prop_map(|most| Step::Deliver { most }),
        1 => (0..5_u64).prop_map(|keeps| Step::Trim { keeps }),
        1 => Just(Step::Move),
        3 => (1..=CLIENTS, 0..4_u64).prop_map(|(client, back)| Step::Rejoin { client, back }),
        1 => Just(Step::Register),
        5 => prop::bool::weighted(0.15).prop_map(|lost| Step::Arrive { lost }),
        5 => Just(Step::Answered),
        2 => (1..=CLIENTS).prop_map(|client| Step::LeaveChannel { client }),
        1 => Just(Step::Fresh),
        2 => Just(Step::Wait),
    ]
}

struct World {
    gateway: Gateway,
    owner: Owner,
    now: Millis,
    clients: Vec<Client>,
    /// The session of each client, while it is connected.
    sessions: Vec<Option<SessionId>>,
    last_session: u64,
    binds: VecDeque<(CallId, Vec<v1::Bind>)>,
    bound: VecDeque<(CallId, Option<v1::BindAnswer>)>,
    fetches: VecDeque<(CallId, Vec<v1::Fetch>)>,
    fetched: VecDeque<(CallId, Option<v1::FetchAnswer>)>,
    out: Option<v1::DeliverEntry>,
    answer: Option<v1::DeliverAnswer>,
    taken: Option<v1::DeliverAnswer>,
    refs: u64,
}

impl World {
    fn new() -> World {
        let config = Config {
            namespaces: Vec::new(),
            limits: Limits::BENCH,
        };
        let mut world = World {
            gateway: Gateway::new(config, 7),
            owner: Owner::new(),
            now: Millis(1_000),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            sessions: vec![None; CLIENTS as usize],
            last_session: 0,
            binds: VecDeque::new(),
            bound: VecDeque::new(),
            fetches: VecDeque::new(),
            fetched: VecDeque::new(),
            out: None,
            answer: None,
            taken: None,
            refs: 0,
        };
        world.table();
        world
    }

    fn table(&mut self) {
        let table = table::owned_by("ts-1", self.owner.owner_epoch);
        self.input(Input::Table(Arc::new(table)));
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.gateway.apply(input, self.now, &mut effects);
        self.gateway.flush(self.now, &mut effects);
        for effect in effects {
            self.effect(effect);
        }
    }

    fn effect(&mut self, effect: Effect) {
        let to_owner = |to: &NodeRef| assert_eq!(to.node.as_str(), "ts-1");
        match effect {
            Effect::Write(session, frame) | Effect::Publication(session, frame, _) => {
                let client = self.sessions.iter().position(|open| *open == Some(session));
                let client = client.expect("written to a session that is open");
                let header = if frame.0[1] < 126 { 2 } else { 4 };
                self.clients[client].take(std::str::from_utf8(&frame.0[header..]).unwrap());
            }
            Effect::Bind(call, to, binds) => {
                to_owner(&to);
                self.binds.push_back((call, binds));
            }
            Effect::Fetch(call, to, fetches) => {
                to_owner(&to);
                self.fetches.push_back((call, fetches));
            }
            Effect::Delivered(_, answer) => {
                self.taken = Some(answer);
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join { client, back } => self.join(client as usize - 1, back),
            Step::Leave { client } => self.leave(client as usize - 1),
            Step::Elsewhere { client } => {
                let index = client as usize - 1;
                if self.sessions[index].is_none() {
                    self.clients[index].position = Some((self.owner.epoch, self.owner.head));
                }
            }
            Step::Publish { count } => self.owner.head += count,
            Step::Bind { lost } => {
                if let Some((call, binds)) = self.binds.pop_front() {
                    let outcomes = binds.iter().map(|bind| self.owner.bind(bind)).collect();
                    let answer = v1::BindAnswer {
                        incarnation: 1,
                        outcomes,
                    };
                    self.bound.push_back((call, (!lost).then_some(answer)));
                }
            }
            Step::Bound => {
                if let Some((call, answer)) = self.bound.pop_front() {
                    self.input(Input::Bound(
                        call,
                        answer.ok_or(CallFailed::Unknown("lost".into())),
                    ));
                }
            }
            Step::Fetch { lost } => {
                if let Some((call, fetches)) = self.fetches.pop_front() {
                    let fetch = |fetch| self.owner.fetch(fetch, RECOVERED_MAX);
                    let answer = v1::FetchAnswer {
                        incarnation: 1,
                        outcomes: fetches.iter().map(fetch).collect(),
                    };
                    self.fetched.push_back((call, (!lost).then_some(answer)));
                }
            }
            Step::Fetched => {
                if let Some((call, answer)) = self.fetched.pop_front() {
                    self.input(Input::Fetched(
                        call,
                        answer.ok_or(CallFailed::Unknown("lost".into())),
                    ));
                }
            }
            Step::Deliver { most } => {
                if self.out.is_none() {
                    self.out = self.owner.deliver(most);
                }
            }
            Step::Arrive { lost } => {
                if let Some(entry) = self.out.clone().filter(|_| self.answer.is_none()) {
                    self.input(Input::Deliver(CallId(999), vec![entry]));
                    self.answer = self.taken.take().filter(|_| !lost);
                }
            }
            Step::Answered => {
                if let Some(answer) = self.answer.take() {
                    let prev_offset = self.out.take().map_or(0, |entry| entry.prev_offset);
                    for exception in &answer.exceptions {
                        self.owner.exception(exception, answer.bind_seq, prev_offset);
                    }
                }
            }
            Step::Register => {
                (self.out, self.answer) = (None, None);
                self.owner.forget_group();
                self.binds.clear();
                self.bound.clear();
                self.fetches.clear();
                self.input(Input::Registered(ringcast_proto::Incarnation(2)));
            }
            Step::Rejoin { client, back } => {
                let index = client as usize - 1;
                if let Some(session) = self.sessions[index] {
                    self.say_join(index, session, back);
                }
            }
            Step::LeaveChannel { client } => {
                let index = client as usize - 1;
                if let Some(session) = self.sessions[index].filter(|_| self.clients[index].joined) {
                    self.clients[index].joined = false;
                    self.clients[index].left = true;
                    let reference = self.clients[index].reference;
                    let text = format!("[\"{reference}\",\"0\",\"topics:matrix\",\"phx_leave\",{{}}]");
                    let message = decode_text(Serializer::V2, text.into()).unwrap();
                    self.input(Input::Message { session, message });
                }
            }
            Step::Trim { keeps } => {
                self.owner.trimmed_to = self.owner.trimmed_to.max(self.owner.head.saturating_sub(keeps));
            }
            Step::Move => {
                (self.out, self.answer) = (None, None);
                self.owner.moved();
                self.table();
            }
            Step::Fresh => {
                (self.out, self.answer) = (None, None);
                self.owner.fresh();
                self.table();
            }
            Step::Wait => {
                self.now = self.now + Duration::from_millis(400);
                self.input(Input::Tick);
            }
        }
    }

    /// Those whose join takes too long are refused, which these clients never are: nothing here takes seconds.
    fn join(&mut self, index: usize, back: u64) {
        self.leave(index);
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.sessions[index] = Some(session);
        let serializer = Serializer::V2;
        self.input(Input::Open {
            session,
            serializer,
            subject: Bytes::new(),
        });
        self.say_join(index, session, back);
    }

    fn say_join(&mut self, index: usize, session: SessionId, back: u64) {
        let serializer = Serializer::V2;
        self.refs += 1;
        let reference = self.refs;
        let client = &mut self.clients[index];
        (client.joined, client.reference, client.left) = (false, reference, false);
        client.asked = client
            .position
            .map(|(epoch, offset)| (epoch, offset.saturating_sub(back)));
        let resume = client.asked.map_or("true".to_owned(), |(epoch, offset)| {
            format!("{{\"epoch\":\"{}\",\"offset\":{offset}}}", epoch_name(epoch))
        });
        let join = format!(
            "[\"{reference}\",\"{reference}\",\"topics:matrix\",\"phx_join\",{{\"resume\":{resume}}}]"
        );
        let message = decode_text(serializer, join.into()).unwrap();
        self.input(Input::Message { session, message });
    }

    fn leave(&mut self, index: usize) {
        if let Some(session) = self.sessions[index].take() {
            self.clients[index].joined = false;
            self.input(Input::Closed { session });
        }
    }

    /// Nothing is lost any more: everybody who is connected is joined, and has everything.
    fn heal(&mut self) {
        for _ in 0..200 {
            for step in [
                Step::Bind { lost: false },
                Step::Bound,
                Step::Fetch { lost: false },
                Step::Fetched,
                Step::Deliver { most: 3 },
                Step::Arrive { lost: false },
                Step::Answered,
            ] {
                self.step(step);
            }
            self.now = self.now + Duration::from_millis(20);
            self.input(Input::Tick);
        }
        for (client, session) in self.clients.iter().zip(&self.sessions) {
            if session.is_some() && !client.left {
                assert!(client.joined, "{client:?} of {session:?}");
                assert_eq!(client.position, Some((self.owner.epoch, self.owner.head)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn p7_p8_whatever_happens_a_client_gets_everything_once_in_order_or_is_told(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.heal();
    }
}

/// Everything the open calls wait for happens, until nothing is left.
fn settle(world: &mut World) {
    for _ in 0..20 {
        for step in [
            Step::Bind { lost: false },
            Step::Bound,
            Step::Fetch { lost: false },
            Step::Fetched,
            Step::Deliver { most: 3 },
            Step::Arrive { lost: false },
            Step::Answered,
        ] {
            world.step(step);
        }
    }
}

#[test]
fn p7_a_client_that_was_away_recovers_what_it_missed_and_one_away_too_long_begins_at_the_head() {
    let mut world = World::new();
    world.step(Step::Join { client: 1, back: 0 });
    world.step(Step::Join { client: 2, back: 0 });
    settle(&mut world);
    world.step(Step::Leave { client: 1 });
    world.step(Step::Publish { count: RECOVERED_MAX });
    settle(&mut world);
    world.step(Step::Join { client: 1, back: 0 });
    settle(&mut world);
    assert_eq!(world.clients[0].recovered, 1);
    assert_eq!(world.clients[0].position, Some((1, RECOVERED_MAX)));

    world.step(Step::Leave { client: 1 });
    world.step(Step::Publish {
        count: RECOVERED_MAX + 1,
    });
    settle(&mut world);
    world.step(Step::Join { client: 1, back: 0 });
    settle(&mut world);
    assert_eq!(world.clients[0].recovered, 1, "never a part of it");
    assert_eq!(world.clients[0].position, Some((1, 2 * RECOVERED_MAX + 1)));
}

#[test]
fn p7_what_is_published_while_a_fetch_is_on_its_way_follows_what_was_missed() {
    let mut world = World::new();
    world.step(Step::Join { client: 1, back: 0 });
    world.step(Step::Join { client: 2, back: 0 });
    settle(&mut world);
    world.step(Step::Leave { client: 1 });
    world.step(Step::Publish { count: 3 });
    settle(&mut world);
    world.step(Step::Join { client: 1, back: 0 });
    world.step(Step::Bind { lost: false });
    world.step(Step::Bound);
    world.step(Step::Fetch { lost: false });
    world.step(Step::Publish { count: 2 });
    world.step(Step::Deliver { most: 9 });
    world.step(Step::Arrive { lost: false });
    assert!(!world.clients[0].joined, "its fetch has no answer yet");
    world.step(Step::Fetched);
    assert_eq!(
        (world.clients[0].recovered, world.clients[0].position),
        (1, Some((1, 5)))
    );
}

#[test]
fn x2e_x2f_a_position_that_never_was_begins_at_the_head() {
    let mut world = World::new();
    world.step(Step::Publish { count: 2 });
    for made_up in [(1, 3), (2, 1), (9, 9)] {
        world.clients[0].position = Some(made_up);
        world.step(Step::Join { client: 1, back: 0 });
        settle(&mut world);
        assert_eq!(
            (world.clients[0].recovered, world.clients[0].position),
            (0, Some((1, 2)))
        );
    }
    assert_eq!(world.gateway.counts().resumed_ahead, 1);
    world.step(Step::Publish { count: 1 });
    settle(&mut world);
    assert_eq!(world.clients[0].position, Some((1, 3)));
}

#[test]
fn a_join_that_overtakes_the_word_that_nobody_is_there_misses_nothing() {
    let mut world = World::new();
    world.step(Step::Join { client: 1, back: 0 });
    settle(&mut world);
    world.step(Step::Join { client: 2, back: 0 });
    world.step(Step::Leave { client: 1 });
    world.step(Step::Leave { client: 2 });
    world.step(Step::Publish { count: 1 });
    world.step(Step::Deliver { most: 3 });
    world.step(Step::Arrive { lost: false });
    world.step(Step::Bind { lost: false });
    world.step(Step::Join { client: 3, back: 0 });
    world.step(Step::Bound);
    world.step(Step::Bind { lost: false });
    world.step(Step::Answered);
    world.heal();
}

#[test]
fn p7_a_session_that_resumes_meanwhile_misses_nothing_either() {
    let mut world = World::new();
    world.step(Step::Join { client: 1, back: 0 });
    world.step(Step::Join { client: 3, back: 0 });
    settle(&mut world);
    world.step(Step::Leave { client: 3 });
    settle(&mut world);
    world.step(Step::Join { client: 2, back: 0 });
    world.step(Step::Leave { client: 1 });
    world.step(Step::Leave { client: 2 });
    world.step(Step::Publish { count: 1 });
    world.step(Step::Deliver { most: 3 });
    world.step(Step::Arrive { lost: false });
    world.step(Step::Bind { lost: false });
    world.step(Step::Join { client: 3, back: 0 });
    world.step(Step::Bound);
    world.step(Step::Bind { lost: false });
    world.step(Step::Answered);
    world.heal();
}

#[test]
fn what_a_new_epoch_began_with_is_not_missed_though_the_slot_moved_on() {
    let mut world = World::new();
    world.step(Step::Join { client: 1, back: 0 });
    settle(&mut world);
    world.step(Step::Fresh);
    world.step(Step::Publish { count: 1 });
    // It is told a change to what it never had, and asks for everything.
    world.step(Step::Bind { lost: false });
    world.step(Step::Bound);
    world.step(Step::Bind { lost: true });
    world.step(Step::Move);
    world.step(Step::Publish { count: 1 });
    world.step(Step::Deliver { most: 9 });
    world.step(Step::Arrive { lost: false });
    world.step(Step::Answered);
    world.heal();
    assert_eq!(
        (world.clients[0].position, world.clients[0].missed),
        (Some((2, 2)), 0)
    );
}

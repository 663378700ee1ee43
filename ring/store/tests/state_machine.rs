//! Promises of the store's state machine, for any run of calls.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::time::Duration;

use proptest::prelude::*;
use ringcast_proto::record::{Key, NodeRecord, Plan, PlanId, Planner, Record, Role};
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef};
use ringcast_ring::{Change, Expect, Guard, Op, Revision, Snapshot};
use ringcast_ring_store::state::{BYTES_MAX, Durable, Store};
use ringcast_ring_store::{NodeInfo, RegisterRefused};
use serde_json::Map;

#[derive(Debug, Clone)]
enum Call {
    Register {
        node: u8,
    },
    Renew {
        node: u8,
        back: u64,
    },
    Release {
        node: u8,
    },
    TakePlanner {
        node: u8,
    },
    Put {
        key: u8,
        expect: Option<u64>,
        guard: Option<u8>,
    },
    Delete {
        key: u8,
    },
    Evict {
        node: u8,
    },
    Pass {
        ms: u64,
    },
    Resume,
}

fn call() -> impl Strategy<Value = Call> {
    let node = 0..3_u8;
    prop_oneof![
        node.clone().prop_map(|node| Call::Register { node }),
        (node.clone(), 0..2_u64).prop_map(|(node, back)| Call::Renew { node, back }),
        node.clone().prop_map(|node| Call::Release { node }),
        node.clone().prop_map(|node| Call::TakePlanner { node }),
        (
            0..4_u8,
            prop::option::of(0..40_u64),
            prop::option::of(node.clone())
        )
            .prop_map(|(key, expect, guard)| Call::Put { key, expect, guard }),
        (0..4_u8).prop_map(|key| Call::Delete { key }),
        node.prop_map(|node| Call::Evict { node }),
        (0..3000_u64).prop_map(|ms| Call::Pass { ms }),
        Just(Call::Resume),
    ]
}

const TTL: Duration = Duration::from_secs(2);

struct Run {
    store: Store,
    now: Millis,
    calls: u64,
    /// The present or last life of each node, and until when its lease must at least live.
    lives: [Option<(NodeRef, Millis)>; 3],
}

fn id(node: u8) -> NodeId {
    NodeId::parse(&format!("ts-{node}")).unwrap()
}

fn info(node: u8) -> NodeInfo {
    let record = NodeRecord {
        incarnation: Incarnation(0),
        role: Role::TopicServer,
        advertise: "h:1".to_owned(),
        build: "b".to_owned(),
        ready: false,
        leaving: false,
        rest: Map::new(),
    };
    NodeInfo {
        id: id(node),
        record,
        ttl: TTL,
    }
}

fn plan(wish: Vec<String>) -> Record {
    Record::Plan(Box::new(Plan {
        wish,
        ..Plan::default()
    }))
}

fn key(key: u8) -> Key {
    Key::Plan(PlanId(key.to_string()))
}

impl Run {
    fn new() -> Run {
        let now = Millis(1000);
        Run {
            store: Store::new(Durable::default(), 1000, now),
            now,
            calls: 0,
            lives: [None, None, None],
        }
    }

    fn life(&self, node: u8) -> NodeRef {
        let unknown = NodeRef {
            node: id(node),
            incarnation: Incarnation(0),
        };
        self.lives[usize::from(node)]
            .as_ref()
            .map_or(unknown, |(life, _)| life.clone())
    }

    fn change(&mut self, fill: impl FnOnce(&mut Change)) -> bool {
        let op = Op(format!("op-{}", self.calls));
        let mut change = Change {
            expect: vec![],
            guards: vec![],
            put: vec![],
            delete: vec![],
            op,
        };
        fill(&mut change);
        let (before, now) = (self.store.snapshot().clone(), self.now);
        match self.store.compare_and_swap(&change, now) {
            Ok(revision) => {
                let again = self.store.compare_and_swap(&change, now);
                if !change.put.is_empty() {
                    assert_eq!(again, Ok(revision), "a repeated change is done once");
                }
                true
            }
            Err(_) => {
                assert_eq!(*self.store.snapshot(), before, "a refused change does nothing");
                false
            }
        }
    }

    fn apply(&mut self, call: &Call) {
        self.calls += 1;
        let now = self.now;
        match *call {
            Call::Register { node } => {
                let free = self.store.snapshot().node(&id(node)).is_none();
                let outcome = self
                    .store
                    .register(&info(node), &Op(format!("op-{}", self.calls)), now);
                assert_eq!(outcome.is_ok(), free);
                if let Ok(lease) = outcome {
                    let before = self.life(node);
                    assert!(
                        lease.node.incarnation > before.incarnation,
                        "no incarnation comes twice"
                    );
                    self.lives[usize::from(node)] = Some((lease.node, now + TTL));
                }
            }
            Call::Renew { node, back } => {
                let mut life = self.life(node);
                life.incarnation.0 = life.incarnation.0.saturating_sub(back);
                let alive = self.store.snapshot().alive(&life);
                assert_eq!(self.store.renew(&life, now).is_ok(), alive);
                if alive {
                    self.lives[usize::from(node)] = Some((life, now + TTL));
                }
            }
            Call::Release { node } => {
                let life = self.life(node);
                self.store.release(&life, now);
                assert!(!self.store.snapshot().alive(&life));
            }
            Call::TakePlanner { node } => {
                let holder = self.life(node);
                let alive = self.store.snapshot().alive(&holder);
                let planner = Planner {
                    holder,
                    term: self.calls,
                    rest: Map::new(),
                };
                let taken = self.change(|change| change.put = vec![(Key::Planner, Record::Planner(planner))]);
                assert_eq!(taken, alive);
            }
            Call::Put {
                key: number,
                expect,
                guard,
            } => {
                let guard = guard.map(|node| Guard::Alive(self.life(node)));
                self.change(|change| {
                    change.expect = expect
                        .map(|at| (key(number), Expect::Revision(Revision(at))))
                        .into_iter()
                        .collect();
                    change.guards = guard.into_iter().collect();
                    change.put = vec![(key(number), plan(vec![number.to_string()]))];
                });
            }
            Call::Delete { key: number } => {
                assert!(self.change(|change| change.delete = vec![key(number)]));
                assert!(!self.store.snapshot().records.contains_key(&key(number)));
            }
            Call::Evict { node } => {
                assert!(self.change(|change| change.delete = vec![Key::Node(id(node))]));
                assert!(self.store.renew(&self.life(node), now).is_err());
            }
            Call::Pass { ms } => {
                let before = self.store.snapshot().clone();
                self.now = Millis(now.0 + ms);
                self.store.expire(self.now);
                for (life, until) in self.lives.iter().flatten().filter(|(life, _)| before.alive(life)) {
                    let alive = self.store.snapshot().alive(life);
                    assert!(alive || *until < self.now, "{life} ended before its ttl");
                }
                assert!(
                    self.store.next_expiry().is_none_or(|at| at > self.now),
                    "nobody overdue is left"
                );
            }
            Call::Resume => {
                self.store.resume(now);
                for (life, until) in self.lives.iter_mut().flatten() {
                    if self.store.snapshot().alive(life) {
                        *until = now + TTL;
                    }
                }
            }
        }
        let snapshot = self.store.snapshot();
        if let Some((_, planner)) = snapshot.planner() {
            assert!(
                snapshot.alive(&planner.holder),
                "a planner never outlives its lease"
            );
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_leases_and_records_keep_their_promises(calls in prop::collection::vec(call(), 1..120)) {
        let mut run = Run::new();
        for call in &calls {
            run.apply(call);
        }
        let mut watched = Snapshot::default();
        for (changed, revision) in run.store.changes_after(Revision(0), usize::MAX).unwrap().iter().zip(1..) {
            prop_assert_eq!(changed.revision, Revision(revision));
            watched.apply(changed);
        }
        prop_assert_eq!(&watched, run.store.snapshot());

        let durable = run.store.durable().clone();
        let restarted = Store::new(durable, 10, run.now);
        prop_assert_eq!(restarted.snapshot(), run.store.snapshot());
        let nodes = run.store.snapshot().nodes().count();
        let expected = (nodes > 0).then(|| run.now + TTL + Duration::from_millis(3001));
        prop_assert_eq!(restarted.next_expiry(), expected);

        let mut again = Run::new();
        for call in &calls {
            again.apply(call);
        }
        prop_assert_eq!(again.store, run.store);
    }
}

#[test]
fn a_store_that_is_full_refuses_more_and_takes_less() {
    let mut store = Store::new(Durable::default(), 10, Millis(0));
    let mut next = 0_u64;
    let mut put = |store: &mut Store, id: u64, len: usize| {
        next += 1;
        let put = vec![(Key::Plan(PlanId(id.to_string())), plan(vec!["x".repeat(len)]))];
        let change = Change {
            expect: vec![],
            guards: vec![],
            put,
            delete: vec![],
            op: Op(next.to_string()),
        };
        store.compare_and_swap(&change, Millis(0))
    };
    let mut held = 0;
    while put(&mut store, held, 100_000).is_ok() {
        held += 1;
    }
    assert_eq!(held, u64::try_from(BYTES_MAX / 100_000).unwrap());
    assert_eq!(put(&mut store, held, 100_000), Err(ringcast_ring::Refused::Full));
    put(&mut store, 0, 1000).unwrap();
    put(&mut store, held, 90_000).unwrap();
}

#[test]
fn a_registration_whose_lease_is_over_is_not_answered_as_if_it_held() {
    let (mut store, op) = (Store::new(Durable::default(), 10, Millis(0)), Op("op".into()));
    let first = store.register(&info(0), &op, Millis(0)).unwrap();
    let over = Millis(2001);
    assert_eq!(store.overdue(over), std::slice::from_ref(&first.node));
    let refused = store.register(&info(0), &op, over).unwrap_err();
    assert!(matches!(refused, RegisterRefused::Taken(_)), "{refused}");
    store.expire(over);
    let next = store.register(&info(0), &op, over).unwrap();
    assert!(next.node.incarnation > first.node.incarnation);
}

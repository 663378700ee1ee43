//! What a plan moves, what it refuses, and what its commit and abort make of the ring.

use std::fmt::Write;

use expect_test::{Expect as Golden, expect};
use proptest::prelude::*;
use ringcast_proto::Incarnation;
use ringcast_proto::record::{
    Birth, Cause, Finished, HistoryCause, Key, NodeRecord, PlanId, Record, Ring, RingNode, RingNodeState,
    Role, SlotRecord,
};
use ringcast_proto::{NodeRef, OwnerEpoch};

use super::*;
use crate::placement::tests::node;
use crate::{Change, Changed, Expect, Guard, Layout, Op, Revision, Stored};

const SLOTS: u16 = 256;

/// A store of one process: it does what a change says, if all it expects holds.
struct Store(Snapshot);

impl Store {
    /// A cluster of these members, where everything is as the ring places it.
    fn born(members: &[(&str, f64)]) -> Store {
        let birth = Birth {
            format: FORMAT,
            cluster_id: "c".to_owned(),
            slots: SLOTS,
            seed: 0x5249_4e47_4341_5354,
            rest: Default::default(),
        };
        let ring = Ring {
            version: 1,
            replicas: 1,
            vnodes_per_weight: 256,
            nodes: members
                .iter()
                .map(|(id, weight)| RingNode {
                    id: node(id),
                    weight: *weight,
                    state: RingNodeState::Up,
                })
                .collect(),
            pins: Default::default(),
            plan: None,
            rest: Default::default(),
        };
        let mut store = Store(Snapshot::default());
        for (id, _) in members {
            store.up(id, Role::TopicServer);
        }
        let layout = Layout::new(&birth, &ring, |_| true).unwrap();
        for (slot, place) in (0..).map(Slot).zip(layout.place()) {
            store.own(slot, layout.id(place.owner).unwrap().as_str());
        }
        store.put(Key::Birth, Record::Birth(birth));
        store.put(Key::Ring, Record::Ring(ring));
        store
    }

    fn put(&mut self, key: Key, record: Record) {
        self.write(vec![(key, Some(record))]);
    }

    fn write(&mut self, records: Vec<(Key, Option<Record>)>) {
        let revision = Revision(self.0.revision.0 + 1);
        let stored = |record| Stored {
            revision,
            op: Op("test".to_owned()),
            record,
        };
        let records = records.into_iter();
        let records = records.map(|(key, record)| (key, record.map(stored))).collect();
        self.0.apply(&Changed { revision, records });
    }

    fn up(&mut self, id: &str, role: Role) {
        let record = NodeRecord {
            incarnation: Incarnation(self.0.revision.0 + 1),
            role,
            advertise: "a:1".to_owned(),
            build: "1".to_owned(),
            ready: true,
            leaving: false,
            rest: Default::default(),
        };
        self.put(Key::Node(node(id)), Record::Node(record));
    }

    fn leave(&mut self, id: &str) {
        let mut record = self.0.node(&node(id)).unwrap().clone();
        record.leaving = true;
        self.put(Key::Node(node(id)), Record::Node(record));
    }

    fn kill(&mut self, id: &str) {
        self.write(vec![(Key::Node(node(id)), None)]);
    }

    fn own(&mut self, slot: Slot, id: &str) {
        let record = SlotRecord {
            owner_epoch: OwnerEpoch(1),
            base: OwnerEpoch(1),
            owner: NodeRef {
                node: node(id),
                incarnation: self.0.node(&node(id)).unwrap().incarnation,
            },
            replica: None,
            moving: None,
            cause: Cause::Birth,
            rest: Default::default(),
        };
        self.put(Key::Slot(slot), Record::Slot(record));
    }

    /// Whether it was done.
    fn apply(&mut self, change: Change) -> bool {
        let revision = |key| self.0.records.get(key).map(|stored| stored.revision);
        let expected = change.expect.iter().all(|(key, expect)| match expect {
            Expect::Absent => revision(key).is_none(),
            Expect::Revision(expected) => revision(key) == Some(*expected),
        });
        let guarded = change.guards.iter().all(|guard| match guard {
            Guard::Alive(node) => self.0.alive(node),
            Guard::Gone(_) | Guard::Planner(_) => panic!("a plan does not guard {guard:?}"),
        });
        if expected && guarded {
            let put = change.put.into_iter().map(|(key, record)| (key, Some(record)));
            self.write(
                put.chain(change.delete.into_iter().map(|key| (key, None)))
                    .collect(),
            );
        }
        expected && guarded
    }

    fn plan(&self, wishes: &[Wish]) -> Result<record::Plan, PlanError> {
        plan(&self.0, wishes, &BTreeMap::new())
    }

    /// Makes a plan and stores it.
    fn save(&mut self, name: &str, wishes: &[Wish]) {
        let plan = self.plan(wishes).unwrap();
        assert!(self.apply(save(&self.0, &id(name), &plan, op())));
    }

    fn commit(&self, name: &str) -> Result<Change, PlanError> {
        commit(&self.0, &id(name), "me@here", 7, op())
    }

    /// What the planner and the owners make of a plan in the end.
    fn carry_out(&mut self, plan: &record::Plan) {
        for planned in &plan.moves {
            self.own(planned.slot, planned.to.as_str());
        }
        let mut ring = self.0.ring().unwrap().clone();
        ring.nodes.clone_from(&plan.after.nodes);
        ring.pins.clone_from(&plan.after.pins);
        ring.plan = None;
        self.put(Key::Ring, Record::Ring(ring));
    }
}

fn three() -> Store {
    Store::born(&[("ts-1", 1.0), ("ts-2", 1.0), ("ts-3", 1.0)])
}

fn id(name: &str) -> PlanId {
    PlanId(name.to_owned())
}

fn op() -> Op {
    Op("op".to_owned())
}

fn add(id: &str) -> Wish {
    Wish::Add(node(id))
}

fn drain(id: &str) -> Wish {
    Wish::Drain(node(id))
}

fn remove(id: &str) -> Wish {
    let (node, dead) = (node(id), false);
    Wish::Remove { node, dead }
}

fn remove_dead(id: &str) -> Wish {
    let (node, dead) = (node(id), true);
    Wish::Remove { node, dead }
}

fn weight(id: &str, weight: f64) -> Wish {
    Wish::Weight(node(id), weight)
}

fn pin(slot: u16, id: &str) -> Wish {
    Wish::Pin(Slot(slot), node(id))
}

/// From whom to whom how many slots go, what everyone owns, and the warnings.
fn shown(plan: &record::Plan) -> String {
    let mut text = format!("{}\n", plan.wish.join(" "));
    let mut moves: BTreeMap<(&NodeId, &NodeId), usize> = BTreeMap::new();
    for planned in &plan.moves {
        *moves.entry((&planned.from, &planned.to)).or_default() += 1;
    }
    for ((from, to), count) in moves {
        writeln!(text, "{count} from {from} to {to}").unwrap();
    }
    for share in &plan.shares {
        let record::PlanShare {
            id,
            slots_before,
            slots_after,
            before,
            after,
        } = share;
        writeln!(
            text,
            "{id} {slots_before} -> {slots_after} ({before:.3} -> {after:.3})"
        )
        .unwrap();
    }
    for warning in &plan.warnings {
        writeln!(text, "! {warning}").unwrap();
    }
    text
}

fn check(store: &Store, wishes: &[Wish], golden: &Golden) {
    let plan = store.plan(wishes);
    golden.assert_eq(&plan.as_ref().map_or_else(|error| format!("{error}\n"), shown));
}

#[test]
fn a_wish_prints_as_the_words_that_ask_for_it() {
    let wishes = [
        add("ts-1"),
        drain("ts-1"),
        remove("ts-1"),
        remove_dead("ts-1"),
        weight("ts-1", 2.0),
        weight("ts-1", 0.25),
        pin(7, "ts-1"),
        Wish::Unpin(Slot(7)),
    ];
    assert_eq!(
        wishes.map(|wish| wish.to_string()).join(" "),
        "--add ts-1 --drain ts-1 --remove ts-1 --remove ts-1 --dead --weight ts-1=2 --weight ts-1=0.25 \
         --pin 7=ts-1 --unpin 7"
    );
}

#[test]
fn what_would_move_is_told_with_shares_and_loads_and_warnings() {
    let mut store = three();
    store.up("ts-4", Role::TopicServer);
    check(
        &store,
        &[add("ts-4")],
        &expect![[r#"
        --add ts-4
        30 from ts-1 to ts-4
        15 from ts-2 to ts-4
        22 from ts-3 to ts-4
        ts-1 94 -> 64 (0.367 -> 0.250)
        ts-2 72 -> 57 (0.281 -> 0.223)
        ts-3 90 -> 68 (0.352 -> 0.266)
        ts-4 0 -> 67 (0.000 -> 0.262)
        ! what is in 67 of the 67 slots that move is not known: their owners did not say
    "#]],
    );
    check(
        &store,
        &[add("ts-4"), weight("ts-4", 2.0)],
        &expect![[r#"
        --add ts-4 --weight ts-4=2
        45 from ts-1 to ts-4
        28 from ts-2 to ts-4
        33 from ts-3 to ts-4
        ts-1 94 -> 49 (0.367 -> 0.191)
        ts-2 72 -> 44 (0.281 -> 0.172)
        ts-3 90 -> 57 (0.352 -> 0.223)
        ts-4 0 -> 106 (0.000 -> 0.414)
        ! what is in 106 of the 106 slots that move is not known: their owners did not say
    "#]],
    );
    check(
        &store,
        &[drain("ts-2")],
        &expect![[r#"
        --drain ts-2
        42 from ts-2 to ts-1
        30 from ts-2 to ts-3
        ts-1 94 -> 136 (0.367 -> 0.531)
        ts-2 72 -> 0 (0.281 -> 0.000)
        ts-3 90 -> 120 (0.352 -> 0.469)
        ! what is in 72 of the 72 slots that move is not known: their owners did not say
    "#]],
    );
    check(
        &store,
        &[remove("ts-1"), drain("ts-2")],
        &expect![[r#"
        --remove ts-1 --drain ts-2
        94 from ts-1 to ts-3
        72 from ts-2 to ts-3
        ts-1 94 -> 0 (0.367 -> 0.000)
        ts-2 72 -> 0 (0.281 -> 0.000)
        ts-3 90 -> 256 (0.352 -> 1.000)
        ! only ts-3 is left to own slots: when it fails, nothing is served until it is back
        ! what is in 166 of the 166 slots that move is not known: their owners did not say
    "#]],
    );
    check(
        &store,
        &[weight("ts-3", 0.0)],
        &expect![[r#"
        --weight ts-3=0
        47 from ts-3 to ts-1
        43 from ts-3 to ts-2
        ts-1 94 -> 141 (0.367 -> 0.551)
        ts-2 72 -> 115 (0.281 -> 0.449)
        ts-3 90 -> 0 (0.352 -> 0.000)
        ! what is in 90 of the 90 slots that move is not known: their owners did not say
    "#]],
    );
    check(
        &store,
        &[weight("ts-3", 3.0)],
        &expect![[r#"
        --weight ts-3=3
        40 from ts-1 to ts-3
        35 from ts-2 to ts-3
        ts-1 94 -> 54 (0.367 -> 0.211)
        ts-2 72 -> 37 (0.281 -> 0.145)
        ts-3 90 -> 165 (0.352 -> 0.645)
        ! what is in 75 of the 75 slots that move is not known: their owners did not say
    "#]],
    );
    let pins: Vec<Wish> = (0..120).map(|slot| pin(slot, "ts-1")).collect();
    let plan = store.plan(&pins).unwrap();
    assert_eq!(
        plan.warnings[0],
        "ts-1 is to own 120 slots because of pins, more than 1.10 times its share (94)"
    );
    let load = SlotLoad {
        topics: 3,
        members: 4,
        bytes: 5,
    };
    let loads: BTreeMap<Slot, SlotLoad> = (0..SLOTS).map(|slot| (Slot(slot), load)).collect();
    let plan = super::plan(&store.0, &[drain("ts-2")], &loads).unwrap();
    assert_eq!(plan.warnings, [] as [String; 0]);
    let first = &plan.moves[0];
    assert_eq!(
        (first.topics, first.members, first.bytes),
        (Some(3), Some(4), Some(5))
    );
}

#[test]
fn the_slots_of_a_dead_node_are_no_moves_and_its_loss_is_told() {
    let mut store = three();
    store.kill("ts-2");
    check(
        &store,
        &[remove_dead("ts-2")],
        &expect![[r#"
        --remove ts-2 --dead
        ts-1 94 -> 136 (0.367 -> 0.531)
        ts-2 72 -> 0 (0.281 -> 0.000)
        ts-3 90 -> 120 (0.352 -> 0.469)
        ! ts-2 is down: its 72 slots begin empty, what it alone held is lost
    "#]],
    );
    store.up("ts-2", Role::TopicServer);
    check(
        &store,
        &[remove_dead("ts-2")],
        &expect![[r#"
        --remove ts-2 --dead
        42 from ts-2 to ts-1
        30 from ts-2 to ts-3
        ts-1 94 -> 136 (0.367 -> 0.531)
        ts-2 72 -> 0 (0.281 -> 0.000)
        ts-3 90 -> 120 (0.352 -> 0.469)
        ! what is in 72 of the 72 slots that move is not known: their owners did not say
    "#]],
    );
}

#[test]
fn a_wish_that_cannot_be_fulfilled_is_refused_in_clear_words() {
    let mut store = three();
    store.up("ts-4", Role::TopicServer);
    store.up("ts-5", Role::TopicServer);
    store.up("gw-1", Role::Gateway);
    store.leave("ts-5");
    store.kill("ts-3");
    let mut text = String::new();
    for wishes in [
        &[][..],
        &[drain("ts-9")],
        &[add("gw-1")],
        &[add("gw-2")],
        &[add("ts-1")],
        &[add("ts-5")],
        &[drain("ts-4")],
        &[weight("ts-4", 2.0)],
        &[remove("ts-3")],
        &[drain("ts-3")],
        &[weight("ts-3", 2.0)],
        &[pin(1, "ts-3")],
        &[add("ts-3")],
        &[drain("ts-1"), remove("ts-2")],
        &[weight("ts-1", 0.0), weight("ts-2", 0.0)],
        &[weight("ts-1", 0.001), drain("ts-2")],
        &[weight("ts-1", -1.0)],
        &[weight("ts-1", 1e9)],
        &[weight("ts-1", f64::NAN)],
        &[weight("ts-1", f64::INFINITY)],
        &[weight("ts-1", 1.0)],
        &[drain("ts-1"), drain("ts-1")],
        &[drain("ts-1"), weight("ts-1", 2.0)],
        &[add("ts-4"), drain("ts-4")],
        &[pin(256, "ts-1")],
        &[pin(1, "ts-1"), pin(1, "ts-2")],
        &[pin(1, "ts-1"), weight("ts-1", 0.0)],
        &[Wish::Unpin(Slot(3))],
    ] {
        let asked: Vec<String> = wishes.iter().map(Wish::to_string).collect();
        let error = store.plan(wishes).unwrap_err();
        writeln!(text, "{}\n    {error}", asked.join(" ")).unwrap();
    }
    let unborn = plan(&Snapshot::default(), &[add("ts-1")], &BTreeMap::new());
    writeln!(text, "{}", unborn.unwrap_err()).unwrap();
    expect![[r#"

            nothing to do: the ring is as wished and no slot would move
        --drain ts-9
            no topic server ts-9: did you mean ts-1?
        --add gw-1
            gw-1 is a gateway: only topic servers are in the ring
        --add gw-2
            no topic server gw-2: did you mean ts-2?
        --add ts-1
            ts-1 is in the ring already: `--weight ts-1=W` changes its share
        --add ts-5
            ts-5 is leaving: wait until it is back
        --drain ts-4
            ts-4 is not in the ring: `--add ts-4` first
        --weight ts-4=2
            ts-4 is not in the ring: `--add ts-4` first
        --remove ts-3
            ts-3 is down: `--dead` removes it, and what it alone holds is lost
        --drain ts-3
            ts-3 is in the ring and down: start it first, or remove it with `--dead`
        --weight ts-3=2
            ts-3 is in the ring and down: start it first, or remove it with `--dead`
        --pin 1=ts-3
            ts-3 is in the ring and down: start it first, or remove it with `--dead`
        --add ts-3
            ts-3 is in the ring already: `--weight ts-3=W` changes its share
        --drain ts-1 --remove ts-2
            ts-2 is the last topic server that is up and has weight: add another first
        --weight ts-1=0 --weight ts-2=0
            ts-2 is the last topic server that is up and has weight: add another first
        --weight ts-1=0.001 --drain ts-2
            ts-2 is the last topic server that is up and has weight: add another first
        --weight ts-1=-1
            weight -1 of ts-1, must be from 0 to 100
        --weight ts-1=1000000000
            weight 1000000000 of ts-1, must be from 0 to 100
        --weight ts-1=NaN
            weight NaN of ts-1, must be from 0 to 100
        --weight ts-1=inf
            weight inf of ts-1, must be from 0 to 100
        --weight ts-1=1
            nothing to do: the ring is as wished and no slot would move
        --drain ts-1 --drain ts-1
            ts-1 is named twice: one wish a node, or `--add` with `--weight`
        --drain ts-1 --weight ts-1=2
            ts-1 is named twice: one wish a node, or `--add` with `--weight`
        --add ts-4 --drain ts-4
            ts-4 is named twice: one wish a node, or `--add` with `--weight`
        --pin 256=ts-1
            slot 256, must be below 256
        --pin 1=ts-1 --pin 1=ts-2
            slot 1 is pinned or unpinned twice
        --pin 1=ts-1 --weight ts-1=0
            slot 1 cannot be pinned to ts-1, which is to own nothing: it is draining or has weight 0
        --unpin 3
            slot 3 is not pinned
        the ring is not born yet: it waits for its first topic servers
    "#]]
    .assert_eq(&text);
}

#[test]
fn without_a_wish_a_member_that_has_too_little_gets_its_share() {
    let mut store = three();
    assert_eq!(store.plan(&[]), Err(PlanError::NothingToDo));
    let lost: Vec<Slot> = store
        .0
        .slots()
        .filter(|(.., record)| record.owner.node == node("ts-2"))
        .map(|(slot, ..)| slot)
        .collect();
    for slot in &lost {
        store.own(*slot, "ts-1");
    }
    let plan = store.plan(&[]).unwrap();
    assert!(plan.moves.iter().all(|planned| planned.to == node("ts-2")));
    assert!(
        plan.moves.len() * 10 > lost.len() * 9,
        "{} of {}",
        plan.moves.len(),
        lost.len()
    );
}

#[test]
fn of_two_commits_at_once_one_wins_and_the_other_plan_is_stale() {
    let mut store = three();
    store.save("p", &[drain("ts-1")]);
    store.save("q", &[drain("ts-2")]);
    let (p, q) = (store.commit("p").unwrap(), store.commit("q").unwrap());
    assert!(store.apply(p));
    assert!(!store.apply(q));
    assert_eq!(store.commit("q"), Err(PlanError::Running(id("p"))));
    let ring = store.0.ring().unwrap();
    assert_eq!((ring.version, &ring.plan), (2, &Some(id("p"))));
    let history = store.0.history().next().unwrap();
    assert_eq!(
        (
            history.version,
            history.who.as_str(),
            history.cause,
            history.at_unix_ms
        ),
        (2, "me@here", HistoryCause::Commit, 7)
    );
    let plan = store.0.plan(&id("p")).unwrap().clone();
    store.carry_out(&plan);
    let (plan, base, now) = (id("q"), 1, 2);
    assert_eq!(store.commit("q"), Err(PlanError::Stale { plan, base, now }));
    assert_eq!(store.commit("r"), Err(PlanError::NoSuchPlan(id("r"))));
}

#[test]
fn a_plan_is_not_committed_while_one_it_counts_on_is_gone_or_goes() {
    let mut store = three();
    store.up("ts-4", Role::TopicServer);
    store.save("p", &[add("ts-4")]);
    let late = store.commit("p").unwrap();
    store.leave("ts-4");
    let changed = || PlanError::NodesChanged {
        plan: id("p"),
        node: node("ts-4"),
    };
    assert_eq!(store.commit("p"), Err(changed()));
    store.kill("ts-4");
    assert_eq!(store.commit("p"), Err(changed()));
    assert!(!store.apply(late), "the lease that it guards is gone");
}

#[test]
fn an_abort_goes_back_to_the_ring_before_and_says_how_far_it_was() {
    let mut store = three();
    store.up("ts-4", Role::TopicServer);
    store.save("p", &[add("ts-4"), remove("ts-1")]);
    let before = store.0.ring().unwrap().nodes.clone();
    let commit = store.commit("p").unwrap();
    assert!(store.apply(commit));
    let plan = store.0.plan(&id("p")).unwrap().clone();
    for planned in &plan.moves[..5] {
        store.own(planned.slot, planned.to.as_str());
    }
    let (aborted, change) = abort(&store.0, &id("u"), "me@here", 8, op()).unwrap();
    assert_eq!(aborted, id("p"));
    assert!(store.apply(change));
    let ring = store.0.ring().unwrap();
    assert_eq!((ring.version, &ring.plan), (3, &Some(id("u"))));
    let states: Vec<String> = ring
        .nodes
        .iter()
        .map(|member| format!("{} {:?}", member.id, member.state))
        .collect();
    assert_eq!(states, ["ts-1 Up", "ts-2 Up", "ts-3 Up", "ts-4 Draining"]);
    let undo = store.0.plan(&id("u")).unwrap().clone();
    assert_eq!((&undo.after.nodes, &undo.undoes), (&before, &Some(id("p"))));
    let home = |(one, other): (&record::PlanMove, &record::PlanMove)| {
        (one.slot, &one.from, &one.to) == (other.slot, &other.to, &other.from)
    };
    assert!(undo.moves.len() == plan.moves.len() && undo.moves.iter().zip(&plan.moves).all(home));
    let skipped = u32::try_from(plan.moves.len()).unwrap() - 5;
    let outcome = Finished { moved: 5, skipped };
    assert_eq!(progress(&store.0, &id("p")).unwrap().finished, Some(outcome));
    let causes: Vec<HistoryCause> = store.0.history().map(|history| history.cause).collect();
    assert_eq!(causes, [HistoryCause::Commit, HistoryCause::Abort]);
    let undoing = progress(&store.0, &id("u")).unwrap();
    assert_eq!((undoing.running, undoing.moved), (true, skipped));
    store.carry_out(&undo);
    let nothing = abort(&store.0, &id("v"), "me@here", 9, op());
    assert_eq!(nothing, Err(PlanError::NothingRunning));
}

#[test]
fn the_newest_plans_and_versions_are_kept_and_the_one_that_runs() {
    let mut store = three();
    store.save("p-00", &[drain("ts-1")]);
    let commit = store.commit("p-00").unwrap();
    assert!(store.apply(commit));
    for number in 1..=20 {
        store.save(&format!("p-{number:02}"), &[drain("ts-2")]);
    }
    let plans: Vec<&str> = store.0.plans().map(|(id, ..)| id.0.as_str()).collect();
    assert_eq!(
        plans.len(),
        18,
        "the one that runs, the one just stored, and 16 others"
    );
    assert_eq!((plans[0], plans[1]), ("p-00", "p-04"));
    let again = save(&store.0, &id("p-07"), store.0.plan(&id("p-08")).unwrap(), op());
    assert!(!store.apply(again), "a name is given once");

    let mut ring = store.0.ring().unwrap().clone();
    (ring.version, ring.plan) = (150, None);
    store.put(Key::Ring, Record::Ring(ring));
    for version in 3..=150 {
        let history = record::History {
            version,
            ..Default::default()
        };
        store.put(Key::History(version), Record::History(history));
    }
    store.save("q", &[drain("ts-2")]);
    assert_eq!(store.0.history().next().unwrap().version, 51);
    assert_eq!(store.0.history().count(), 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn plans_one_after_the_other_stay_within_bounds_and_move_only_what_they_must(
        count in 2..7usize,
        steps in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), 0.25..4.0), 1..8),
    ) {
        let members: Vec<String> = (1..=count).map(|number| format!("ts-{number}")).collect();
        let members: Vec<(&str, f64)> = members.iter().map(|id| (id.as_str(), 1.0)).collect();
        let mut store = Store::born(&members);
        for (step, (what, which, weight)) in steps.into_iter().enumerate() {
            let ring = store.0.ring().unwrap();
            let member = ring.nodes[which.index(ring.nodes.len())].clone();
            let new = format!("new-{step}");
            let wish = match what {
                0 => {
                    store.up(&new, Role::TopicServer);
                    add(&new)
                }
                1 if member.state == RingNodeState::Draining => Wish::Add(member.id.clone()),
                1 => Wish::Drain(member.id.clone()),
                2 => remove(member.id.as_str()),
                _ => Wish::Weight(member.id.clone(), weight),
            };
            let plan = match store.plan(std::slice::from_ref(&wish)) {
                Ok(plan) => plan,
                Err(error) => {
                    let sound = matches!(error, PlanError::LastNode { .. } | PlanError::NothingToDo);
                    prop_assert!(sound, "{wish}: {error}");
                    continue;
                }
            };
            let owned = |id: &NodeId| {
                let share = plan.shares.iter().find(|share| share.id == *id);
                share.map_or(0, |share| share.slots_after)
            };
            let up = plan.after.nodes.iter().filter(|member| member.state == RingNodeState::Up);
            let total: f64 = up.clone().map(|member| member.weight).sum();
            for member in up {
                let bound = 1.1 * f64::from(SLOTS) * member.weight / total;
                prop_assert!(f64::from(owned(&member.id)) < bound + 1.0 + 1e-6, "{wish}: {} owns {}", member.id, owned(&member.id));
            }
            let full = |id: &NodeId| {
                let member = plan.after.nodes.iter().find(|member| member.id == *id).unwrap();
                f64::from(owned(id)) + 1.0 > 1.1 * f64::from(SLOTS) * member.weight / total
            };
            let to_others = |id: &NodeId| plan.moves.iter().any(|planned| planned.to != *id);
            let only_from = |id: &NodeId| plan.moves.iter().all(|planned| planned.from == *id);
            match &wish {
                Wish::Add(id) => prop_assert!(!to_others(id) || full(id), "{wish} moves slots to others"),
                Wish::Drain(id) | Wish::Remove { node: id, .. } => {
                    prop_assert!(only_from(id), "{wish} moves slots of others");
                    prop_assert_eq!(owned(id), 0);
                }
                Wish::Weight(..) | Wish::Pin(..) | Wish::Unpin(_) => {}
            }
            let total: u32 = plan.shares.iter().map(|share| share.slots_after).sum();
            prop_assert_eq!(total, u32::from(SLOTS));
            store.carry_out(&plan);
            let counted = store.0.slots().filter(|(.., record)| record.owner.node == plan.shares[0].id).count();
            prop_assert_eq!(u32::try_from(counted).unwrap(), plan.shares[0].slots_after);
        }
    }
}

//! What a plan would move, and what it refuses.

use std::fmt::Write;

use expect_test::{Expect as Golden, expect};

use super::*;

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

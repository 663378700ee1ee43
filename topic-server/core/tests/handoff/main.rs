//! A slot changes hands between two cores: nothing is lost, whatever the network does and wherever it stops.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod ids;
mod pair;

use std::collections::BTreeMap;
use std::time::Duration;

use pair::{Packet, Pair, committed, node};
use proptest::prelude::*;
use ringcast_proto::record::{Cause, SlotRecord};
use ringcast_proto::v1::handoff_item::Item;
use ringcast_proto::v1::{self, BindStatus, PullStatus, SlotStatus};
use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch};
use ringcast_ring::Revision;
use ringcast_topic_server_core::{Input, Limits, PullPage, Role};

const A: &str = "ts-a";
const B: &str = "ts-b";

fn filled() -> Pair {
    let mut pair = Pair::new(&Limits::default());
    for topic in 0..40 {
        let name = format!("t{topic}");
        pair.bind(A, "gw-1", &name, 0, &[topic + 1, topic + 2], &[]);
        for number in 1..=5 {
            pair.publish(A, "gw-1", topic * 5 + number, &name, &format!("{topic}-{number}"));
        }
    }
    pair
}

#[test]
fn everything_goes_along() {
    let mut pair = filled();
    let (before, histories) = (pair.see(A), pair.histories(A));
    pair.wish();
    pair.run();
    assert_eq!(pair.roles().0, &Role::Sealed(OwnerEpoch(1)));
    assert!(pair.make_swap());
    assert_eq!(pair.roles().1, &Role::Owner(OwnerEpoch(2)));
    assert_eq!((pair.see(B), pair.histories(B)), (before, histories));
    // The gateway repeats its last publish, whose answer it did not get, and goes on.
    assert_eq!(committed(&pair.publish(B, "gw-1", 200, "t39", "again")), Some(5));
    assert_eq!(committed(&pair.publish(B, "gw-1", 201, "t39", "next")), Some(6));
    assert_eq!(
        pair.publish(A, "gw-1", 202, "t39", "late").rest(),
        SlotStatus::NotOwner
    );
    let moved = &pair.moved[..];
    assert!(
        matches!(moved, [moved] if moved.topics == 40 && moved.members == 80 && moved.id == "p1.7.1"),
        "{moved:?}"
    );
}

#[test]
fn what_happens_while_it_is_copied_goes_along() {
    let mut pair = filled();
    pair.wish();
    for _ in 0..2 {
        let packet = pair.network.pop_front().unwrap();
        pair.arrive(packet);
    }
    // Everything is handed out by now. It is told what follows: old topics, new ones, binds, leaves, gateways.
    pair.publish(A, "gw-1", 201, "t3", "late");
    pair.publish(A, "gw-2", 1, "new", "first");
    let (seq, _) = pair.bind(A, "gw-2", "t4", 0, &[70, 71], &[]);
    pair.bind(A, "gw-2", "t4", seq, &[72], &[70]);
    pair.bind(A, "gw-1", "t5", 0, &[], &[]);
    let (topic, bind_seq) = (ringcast_proto::Topic::parse(b"t6").unwrap(), 1_000);
    pair.apply(
        A,
        Input::NoInterest {
            gateway: node("gw-1"),
            topic,
            bind_seq,
            from: ringcast_topic_server_core::Cursor {
                epoch: ringcast_proto::Epoch::parse(b"any").unwrap(),
                offset: ringcast_proto::Offset(0),
            },
        },
    );
    let before = pair.see(A);
    pair.run();
    assert!(pair.make_swap());
    assert_eq!(pair.see(B), before);
}

#[test]
fn a_sealed_slot_appends_nothing_and_binds_nobody() {
    let mut pair = filled();
    pair.wish();
    pair.run();
    assert_eq!(pair.publish(A, "gw-1", 201, "t1", "x").rest(), SlotStatus::Sealed);
    let (_, outcome) = pair.bind(A, "gw-3", "t1", 0, &[9], &[]);
    assert_eq!(outcome.status(), BindStatus::Sealed);
    // A gateway that has read the record before the new owner did is not sent back to the old one.
    let swap = pair.swaps.last().unwrap();
    pair.record = swap.record.clone();
    assert_eq!(pair.publish(B, "gw-1", 201, "t1", "x").rest(), SlotStatus::Sealed);
}

#[test]
fn a_target_that_does_not_confirm_costs_a_quarter_of_a_second() {
    let mut pair = filled();
    pair.wish();
    while pair.roles().0 != &Role::Sealed(OwnerEpoch(1)) {
        let packet = pair.network.pop_front().unwrap();
        pair.arrive(packet);
    }
    let lost = pair.network.pop_front();
    pair.pass(Duration::from_millis(249));
    assert_eq!(pair.publish(A, "gw-1", 201, "t1", "x").rest(), SlotStatus::Sealed);
    pair.pass(Duration::from_millis(2));
    assert_eq!(committed(&pair.publish(A, "gw-1", 201, "t1", "x")), Some(6));
    // The last page arrives after all, and is worth nothing any more.
    pair.arrive(lost.unwrap());
    pair.run();
    assert!(pair.swaps.is_empty());
    // It is not sealed again at once, and the move comes to its end all the same.
    for _ in 0..40 {
        pair.pass(Duration::from_millis(50));
        pair.run();
    }
    let before = pair.see(A);
    assert!(pair.make_swap());
    assert_eq!(pair.see(B), before);
}

#[test]
fn a_slot_stays_sealed_for_as_long_as_the_outcome_of_the_write_is_unknown() {
    let mut pair = filled();
    pair.wish();
    pair.run();
    pair.pass(Duration::from_secs(3600));
    assert_eq!(pair.publish(A, "gw-1", 201, "t1", "x").rest(), SlotStatus::Sealed);
    assert!(pair.make_swap());
    assert_eq!(committed(&pair.publish(B, "gw-1", 201, "t1", "x")), Some(6));
}

#[test]
fn a_write_that_was_refused_leaves_the_owner_serving() {
    let mut pair = filled();
    pair.wish();
    pair.run();
    let swap = pair.swaps.pop().unwrap();
    pair.apply(A, Input::SwapRefused(swap.revision));
    assert_eq!(pair.roles().0, &Role::Owner(OwnerEpoch(1)));
    assert_eq!(committed(&pair.publish(A, "gw-1", 201, "t1", "x")), Some(6));
    pair.clear_wish();
    assert!(matches!(pair.roles().1, Role::None(Some(_))));
    assert_eq!(pair.b.counts().topics, 0);
}

#[test]
fn a_wish_that_is_taken_back_during_the_write_makes_it_impossible() {
    let mut pair = filled();
    pair.wish();
    pair.run();
    pair.clear_wish();
    assert_eq!(committed(&pair.publish(A, "gw-1", 201, "t1", "x")), Some(6));
    assert!(!pair.make_swap());
    assert_eq!(committed(&pair.publish(A, "gw-1", 202, "t1", "y")), Some(7));
}

#[test]
fn a_confirmation_of_an_earlier_attempt_confirms_nothing() {
    let mut pair = filled();
    pair.wish();
    let mut asked = Vec::new();
    while pair.swaps.is_empty() {
        let packet = pair.network.pop_front().unwrap();
        if let Packet::Ask(pull) = &packet {
            asked.push(pull.clone());
        }
        pair.arrive(packet);
    }
    let swap = pair.swaps.pop().unwrap();
    pair.apply(A, Input::SwapRefused(swap.revision));
    pair.publish(A, "gw-1", 201, "t1", "x");
    pair.pass(Duration::from_millis(1100));
    // The second attempt is about to get its last page when a copy of the first one's confirmation arrives.
    for _ in 0..4 {
        let Some(packet) = pair.network.pop_front() else {
            break;
        };
        pair.arrive(packet);
        pair.arrive(Packet::Ask(asked.last().unwrap().clone()));
        assert!(pair.swaps.is_empty());
    }
    let restarted = pair.network.iter().any(|packet| {
        matches!(packet, Packet::Answer(asked, answer) if asked.attempt == 0 && answer.status() == PullStatus::Restart)
    });
    assert!(restarted, "{:?}", pair.network);
    while pair.swaps.is_empty() {
        pair.pass(Duration::from_millis(50));
        pair.run();
    }
    let before = pair.see(A);
    assert!(pair.make_swap());
    assert_eq!(pair.see(B), before);
}

#[test]
fn a_page_of_a_copy_that_was_given_up_is_not_taken_for_one_of_the_next() {
    let mut pair = Pair::new(&Limits::default());
    pair.wish();
    // The owner seals and sends the only page there is; the answer is slow, so the target asks again.
    let Some(Packet::Ask(asked)) = pair.network.pop_front() else {
        panic!("a call")
    };
    pair.arrive(Packet::Ask(asked.clone()));
    let slow = pair.network.pop_front().unwrap();
    pair.pass(Duration::from_millis(300));
    pair.apply(B, Input::Pulled(asked, None));
    pair.pass(Duration::from_millis(200));
    assert_eq!(committed(&pair.publish(A, "gw-1", 1, "t", "x")), Some(1));
    pair.pass(Duration::from_secs(1));
    pair.arrive(slow);
    while pair.swaps.is_empty() {
        pair.run();
        pair.pass(Duration::from_millis(50));
    }
    assert!(pair.make_swap());
    assert_eq!(pair.histories(B)["t"], ["x"]);
}

#[test]
fn a_gateway_that_ends_while_its_groups_are_on_their_way_leaves_none() {
    let mut pair = filled();
    pair.apply(B, Input::GatewayGone(node("gw-1")));
    pair.wish();
    pair.run();
    assert!(pair.make_swap());
    let (_, outcome) = pair.bind(B, "gw-1", "t1", 0, &[5], &[]);
    assert_eq!(outcome.status(), BindStatus::NotOwner, "of a life that is over");
    assert!(matches!(&pair.moved[..], []), "nothing was appended yet");
    pair.pass(Duration::from_secs(2));
    assert_eq!(pair.moved[0].members, 0);
}

#[test]
fn a_giant_topic_and_a_busy_one_come_in_pages() {
    let mut pair = Pair::new(&Limits::default());
    let members: Vec<u64> = (1..=10_000).collect();
    pair.bind(A, "gw-1", "giant", 0, &members, &[]);
    let large = "x".repeat(30_000);
    for number in 1..=30 {
        pair.publish(A, "gw-1", number, "busy", &large);
    }
    let before = pair.see(A);
    pair.wish();
    let mut pages = 0;
    while pair.swaps.is_empty() {
        let packet = pair.network.pop_front().unwrap();
        if let Packet::Answer(_, answer) = &packet {
            pages += u32::from(answer.page.is_some());
        }
        pair.arrive(packet);
    }
    assert!(pages > 4, "{pages} pages");
    assert!(pair.make_swap());
    assert_eq!(pair.see(B), before);
}

#[test]
fn a_tail_of_more_than_a_page_comes_whole() {
    let mut pair = filled();
    pair.wish();
    for _ in 0..2 {
        let packet = pair.network.pop_front().unwrap();
        pair.arrive(packet);
    }
    let large = "x".repeat(60_000);
    for number in 201..=215 {
        pair.publish(A, "gw-1", number, "t1", &large);
    }
    let histories = pair.histories(A);
    pair.run();
    assert!(pair.make_swap());
    assert_eq!(pair.histories(B)["t1"].len(), histories["t1"].len());
}

#[test]
fn a_slot_that_is_always_busy_is_sealed_in_the_end() {
    let mut pair = filled();
    pair.wish();
    for round in 0..200u64 {
        for number in 0..100 {
            pair.publish(A, "gw-1", 1_000 + round * 100 + number, "t1", "x");
        }
        for _ in 0..2 {
            if let Some(packet) = pair.network.pop_front() {
                pair.arrive(packet);
            }
        }
        if !pair.swaps.is_empty() {
            return assert!(pair.make_swap());
        }
        pair.pass(Duration::from_millis(1));
    }
    panic!("never sealed");
}

fn life(id: &str, incarnation: u64) -> NodeRef {
    NodeRef {
        incarnation: Incarnation(incarnation),
        ..node(id)
    }
}

fn tell(pair: &mut Pair, who: &str, revision: u64, record: &SlotRecord, me: NodeRef) {
    let (revision, record) = (Revision(revision), record.clone());
    pair.apply(
        who,
        Input::Record {
            revision,
            record,
            me,
            entropy: 77,
        },
    );
}

#[test]
fn a_target_that_loses_its_lease_before_it_reads_that_it_owns_the_slot_can_claim_it() {
    let mut pair = filled();
    let (before, histories) = (pair.see(A), pair.histories(A));
    pair.wish();
    pair.run();
    let swapped = pair.swaps.pop().unwrap().record;
    tell(&mut pair, A, 100, &swapped, node(A));
    pair.apply(B, Input::Fenced);
    // What is still asked for, or answered, changes nothing.
    pair.pass(Duration::from_secs(1));
    pair.run();
    let me = life(B, 9);
    // The records this node shows are still those from before the write, when it claims what it had read from the store.
    let (last, shown) = (pair.revision(), pair.record.clone());
    tell(&mut pair, B, last, &shown, me.clone());
    let claimed = SlotRecord {
        owner_epoch: OwnerEpoch(3),
        owner: me.clone(),
        cause: Cause::Claim,
        ..swapped
    };
    tell(&mut pair, B, 101, &claimed, me);
    assert_eq!(pair.roles().1, &Role::Owner(OwnerEpoch(3)));
    assert_eq!((pair.see(B), pair.histories(B)), (before, histories));
}

#[test]
fn half_a_copy_does_not_outlive_the_lease() {
    let mut pair = filled();
    pair.wish();
    let packet = pair.network.pop_front().unwrap();
    pair.arrive(packet);
    pair.apply(B, Input::Fenced);
    assert!(matches!(pair.roles().1, Role::None(Some(_))));
    assert_eq!(pair.b.counts().topics, 0);
}

#[test]
fn a_conflict_of_a_late_write_does_not_drop_what_the_next_life_has_claimed() {
    let mut pair = filled();
    let before = pair.see(A);
    pair.wish();
    pair.run();
    let swap = pair.swaps.pop().unwrap();
    pair.apply(A, Input::Fenced);
    let me = life(A, 9);
    let claimed = SlotRecord {
        owner_epoch: OwnerEpoch(2),
        owner: me.clone(),
        moving: None,
        cause: Cause::Claim,
        ..pair.record.clone()
    };
    // As the shell tells it: what stands now, to the life that asked, then the refusal; the new life hears of it later.
    tell(&mut pair, A, 101, &claimed, node(A));
    pair.apply(A, Input::SwapRefused(swap.revision));
    tell(&mut pair, A, 101, &claimed, me);
    assert_eq!(pair.roles().0, &Role::Owner(OwnerEpoch(2)));
    pair.record = claimed;
    assert_eq!(pair.see(A), before);
}

#[test]
fn what_waits_for_a_target_that_cannot_keep_up_is_bounded() {
    let mut pair = filled();
    pair.wish();
    for _ in 0..2 {
        let packet = pair.network.pop_front().unwrap();
        pair.arrive(packet);
    }
    let large = "x".repeat(60_000);
    for number in 0..1_200 {
        pair.publish(A, "gw-2", number + 1, "t3", &large);
        // The target is heard, and asks for the same page again and again.
        if number % 100 == 0 {
            let asked = PullPage {
                owner_epoch: OwnerEpoch(1),
                move_id: "p1.7.1".to_owned(),
                attempt: 0,
                page: 0,
            };
            pair.arrive(Packet::Ask(asked));
        }
    }
    let asked = PullPage {
        owner_epoch: OwnerEpoch(1),
        move_id: "p1.7.1".to_owned(),
        attempt: 0,
        page: 0,
    };
    pair.arrive(Packet::Ask(asked));
    let mut answers = pair.network.iter().filter_map(|packet| match packet {
        Packet::Answer(_, answer) => Some(answer.status()),
        Packet::Ask(_) => None,
    });
    assert_eq!(
        answers.next_back(),
        Some(PullStatus::Restart),
        "64 MiB were told and nothing was given up"
    );
}

#[test]
fn little_is_left_to_send_once_a_slot_is_sealed() {
    let mut pair = Pair::new(&Limits::default());
    for gateway in ["gw-1", "gw-2", "gw-3"] {
        let members: Vec<u64> = (1..=20_000).collect();
        pair.bind(A, gateway, "giant", 0, &members, &[]);
    }
    pair.wish();
    let (mut pages, mut after_the_seal) = (0, 0);
    while pair.swaps.is_empty() {
        let packet = pair.network.pop_front().unwrap();
        if let Packet::Answer(_, answer) = &packet {
            pages += u32::from(answer.page.is_some());
            let sealed = matches!(pair.roles().0, Role::Sealed(_));
            after_the_seal += u32::from(answer.page.is_some() && sealed);
        }
        pair.arrive(packet);
    }
    assert!(
        pages > 3 && after_the_seal == 1,
        "{after_the_seal} of {pages} pages"
    );
}

#[test]
fn a_page_that_makes_no_sense_is_refused() {
    let topic = |offset| {
        Item::Topic(v1::HandoffTopic {
            topic: "x".into(),
            epoch: "aaaaaaaaaaaaaaaa".into(),
            offset,
        })
    };
    let publication = |offset| v1::HandoffPublication {
        publication: Some(v1::Publication {
            offset,
            ..v1::Publication::default()
        }),
        age_ms: u32::MAX,
    };
    let publications = |offset| {
        Item::Publications(v1::HandoffPublications {
            topic: "x".into(),
            publications: vec![publication(offset)],
        })
    };
    let group = |members: Vec<v1::Member>| {
        Item::Group(v1::HandoffGroup {
            topic: "x".into(),
            gateway: "gw-1".to_owned(),
            incarnation: 1,
            seq: 1,
            members,
        })
    };
    let ids = |msg_id: &'static str, offset| {
        let id = v1::HandoffId {
            msg_id: msg_id.into(),
            offset,
            ..v1::HandoffId::default()
        };
        Item::Ids(v1::HandoffIds {
            topic: "x".into(),
            ids: vec![id],
        })
    };
    let nobody = v1::Member::default();
    for items in [
        vec![topic(u64::MAX), publications(0)],
        vec![topic(3), publications(5)],
        vec![publications(1)],
        vec![topic(0), group(Vec::new())],
        vec![topic(0), group(vec![nobody])],
        vec![ids("1", 0)],
        vec![topic(3), ids("1", 4)],
        vec![topic(3), ids("", 3)],
    ] {
        let mut pair = filled();
        pair.wish();
        let Some(Packet::Ask(pull)) = pair.network.pop_front() else {
            panic!("a call")
        };
        let items = items.into_iter().map(|item| v1::HandoffItem { item: Some(item) });
        let page = v1::HandoffPage {
            number: 0,
            items: items.collect(),
            last: false,
        };
        let answer = v1::PullAnswer {
            status: PullStatus::Page.into(),
            page: Some(page),
            ..v1::PullAnswer::default()
        };
        pair.arrive(Packet::Answer(pull, answer));
        assert_eq!(pair.b.counts().topics, 0);
        // It begins anew, and gets there.
        let before = pair.see(A);
        while pair.swaps.is_empty() {
            pair.pass(Duration::from_millis(50));
            pair.run();
        }
        assert!(pair.make_swap());
        assert_eq!(pair.see(B), before);
    }
}

/// What a step of a random schedule does.
#[derive(Debug, Clone)]
enum Step {
    Publish(u8, u8),
    Bind(u8, u8, bool),
    Leave(u8, u8),
    Gone(u8),
    Arrive,
    Lose,
    Double,
    Reorder,
    Pass(u16),
    ClearAndWish,
    Swap,
    Refuse,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6u8, 0..3u8).prop_map(|(topic, gateway)| Step::Publish(topic, gateway)),
        4 => (0..6u8, 0..3u8, any::<bool>()).prop_map(|(topic, gateway, change)| Step::Bind(topic, gateway, change)),
        1 => (0..6u8, 0..3u8).prop_map(|(topic, gateway)| Step::Leave(topic, gateway)),
        1 => (0..3u8).prop_map(Step::Gone),
        12 => Just(Step::Arrive),
        2 => Just(Step::Lose),
        2 => Just(Step::Double),
        2 => Just(Step::Reorder),
        4 => (1..600u16).prop_map(Step::Pass),
        1 => Just(Step::ClearAndWish),
        3 => Just(Step::Swap),
        1 => Just(Step::Refuse),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_network_does_the_new_owner_has_what_the_old_one_had(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new(&Limits::default());
        pair.wish();
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut ids = BTreeMap::new();
        let (mut numbers, mut seqs, mut lives) = ([0u64; 3], BTreeMap::new(), [true; 3]);
        for step in steps {
            match step {
                Step::Publish(topic, gateway) if lives[usize::from(gateway)] => {
                    let number = &mut numbers[usize::from(gateway)];
                    let (next, name) = (*number + 1, format!("gw-{gateway}"));
                    let (topic_name, id) = (format!("t{topic}"), format!("{gateway}-{next}"));
                    let answer = pair.publish_id(A, &name, next, &topic_name, &id, &id);
                    if let Some(offset) = committed(&answer) {
                        *number += 1;
                        ids.insert((topic_name, id), (offset, pair.now));
                        histories.entry(format!("t{topic}")).or_default().push(format!("{gateway}-{next}"));
                    }
                }
                Step::Bind(topic, gateway, change) if lives[usize::from(gateway)] => {
                    let prev = seqs.get(&(topic, gateway)).copied().filter(|_| change).unwrap_or(0);
                    let (name, topic_name, member) = (format!("gw-{gateway}"), format!("t{topic}"), 1 + u64::from(topic) + prev);
                    let (seq, outcome) = pair.bind(A, &name, &topic_name, prev, &[member], &[]);
                    if outcome.status() == BindStatus::Ok {
                        seqs.insert((topic, gateway), seq);
                    }
                }
                Step::Leave(topic, gateway) if lives[usize::from(gateway)] => {
                    pair.bind(A, &format!("gw-{gateway}"), &format!("t{topic}"), 0, &[], &[]);
                    seqs.remove(&(topic, gateway));
                }
                Step::Gone(gateway) => {
                    lives[usize::from(gateway)] = false;
                    let gone = node(&format!("gw-{gateway}"));
                    pair.apply(A, Input::GatewayGone(gone.clone()));
                    pair.apply(B, Input::GatewayGone(gone));
                }
                Step::Publish(..) | Step::Bind(..) | Step::Leave(..) => {}
                Step::Arrive => {
                    if let Some(packet) = pair.network.pop_front() {
                        pair.arrive(packet);
                    }
                }
                Step::Lose => {
                    if let Some(Packet::Ask(pull) | Packet::Answer(pull, _)) = pair.network.pop_front() {
                        pair.apply(B, Input::Pulled(pull, None));
                    }
                }
                Step::Double => {
                    if let Some(packet) = pair.network.front().cloned() {
                        pair.network.push_back(packet);
                    }
                }
                Step::Reorder => pair.network.rotate_left(usize::from(!pair.network.is_empty())),
                Step::Pass(millis) => pair.pass(Duration::from_millis(millis.into())),
                Step::ClearAndWish => {
                    pair.clear_wish();
                    pair.wish();
                }
                Step::Refuse => {
                    if let Some(swap) = pair.swaps.pop() {
                        pair.apply(A, Input::SwapRefused(swap.revision));
                    }
                }
                Step::Swap => {
                    if pair.swaps.is_empty() {
                        continue;
                    }
                    if pair.swaps.len() > 1 {
                        // Only the last can still be made: the record has moved on.
                        pair.swaps.remove(0);
                    }
                    if !matches!(pair.roles().0, Role::Sealed(_)) {
                        prop_assert!(!pair.make_swap(), "a write was possible while the owner serves");
                        continue;
                    }
                    let before = pair.see(A);
                    if pair.make_swap() {
                        prop_assert_eq!(pair.roles().1, &Role::Owner(OwnerEpoch(2)));
                        prop_assert_eq!(pair.see(B), before);
                        prop_assert_eq!(pair.histories(B), histories);
                        for (number, ((topic, id), (offset, at))) in (1..).zip(&ids) {
                            // Ages are told in whole milliseconds, and an id must not be forgotten early.
                            prop_assert!(pair.now.since(*at) < Duration::from_secs(120), "no schedule takes so long");
                            let again = pair.publish_id(B, "gw-9", number, topic, "again", id);
                            prop_assert_eq!((committed(&again), again.outcomes[0].dup), (Some(*offset), true));
                        }
                        for gateway in 0..3usize {
                            if lives[gateway] && numbers[gateway] > 0 {
                                let again = pair.publish(B, &format!("gw-{gateway}"), numbers[gateway], "t0", "again");
                                prop_assert!(committed(&again).is_some(), "a kept outcome did not come along: {:?}", again);
                                let next = pair.publish(B, &format!("gw-{gateway}"), numbers[gateway] + 1, "t0", "next");
                                prop_assert!(committed(&next).is_some(), "{:?}", next);
                            }
                        }
                        return Ok(());
                    }
                }
            }
        }
    }
}

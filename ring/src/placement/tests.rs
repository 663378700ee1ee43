//! Golden places, bounds and pins.

use proptest::prelude::*;
use ringcast_proto::record::{FORMAT, RingNode};

use super::*;

pub(crate) fn node(id: &str) -> NodeId {
    NodeId::parse(id).unwrap()
}

/// The layout of these nodes and weights in a cluster of 1024 slots, born with the golden seed.
pub(crate) fn layout(members: &[(String, f64)]) -> Layout {
    layout_with(members, &[])
}

fn layout_with(members: &[(String, f64)], pins: &[(u16, &str)]) -> Layout {
    Layout::new(&birth(), &record(members, pins), |_| true).unwrap()
}

fn birth() -> Birth {
    let seed = 0x5249_4e47_4341_5354;
    Birth {
        format: FORMAT,
        cluster_id: "c".to_owned(),
        slots: 1024,
        seed,
        rest: Default::default(),
    }
}

fn record(members: &[(String, f64)], pins: &[(u16, &str)]) -> record::Ring {
    let member = |(id, weight): &(String, f64)| RingNode {
        id: node(id),
        weight: *weight,
        state: RingNodeState::Up,
    };
    record::Ring {
        version: 1,
        replicas: 2,
        vnodes_per_weight: 256,
        nodes: members.iter().map(member).collect(),
        pins: pins.iter().map(|(slot, id)| (Slot(*slot), node(id))).collect(),
        plan: None,
        rest: Default::default(),
    }
}

pub(crate) fn equal(prefix: &str, count: usize) -> Vec<(String, f64)> {
    (1..=count).map(|n| (format!("{prefix}{n}"), 1.0)).collect()
}

pub(crate) fn members() -> impl Strategy<Value = Vec<(String, f64)>> {
    let weights = prop_oneof![4 => Just(1.0), 1 => Just(0.5), 1 => Just(2.0), 1 => 0.05..4.0];
    prop::collection::btree_map("[a-z]{1,3}-[0-9]{1,2}", weights, 1..12).prop_map(|m| m.into_iter().collect())
}

/// `count <= ceil(1.10 x share)`, told without a division: one less is below 1.10 x share.
pub(crate) fn is_within_bound(count: u32, weight: f64, total: f64) -> bool {
    // Room for the rounding of weights to millionths.
    f64::from(count) - 1.0 < 1.1 * 1024.0 * weight / total + 1e-2
}

fn owned(layout: &Layout, places: &[Place]) -> Vec<usize> {
    (0..)
        .take(layout.ring().nodes().len())
        .map(|n| places.iter().filter(|place| place.owner == n).count())
        .collect()
}

#[test]
fn three_nodes_own_their_golden_slots() {
    let layout = layout(&equal("ts-", 3));
    let places = layout.place();
    // Number 0 is ts-1.
    for (slot, owner, replica) in [(0, 1, 3), (1, 3, 2), (2, 3, 1), (17, 2, 3), (1023, 2, 1)] {
        let place = Place {
            owner: owner - 1,
            replica: Some(replica - 1),
        };
        assert_eq!(places[slot], place, "slot {slot}");
    }
    assert_eq!(owned(&layout, &places), [351, 312, 361]);
}

#[test]
fn bounds_are_exact() {
    // In floating point 1.1 x 10 is more than 11, and its ceil 12.
    assert_eq!(bound(10, 1_000_000, 1_000_000), 11);
    assert_eq!(bound(1024, 1_000_000, 3_000_000), 376);
    assert_eq!(bound(1024, 500_000, 16_500_000), 35);
    assert_eq!(bound(1024, 1, u64::MAX), 1);
    assert_eq!(bound(1024, 0, 0), 0);
}

#[test]
fn the_fullest_node_and_the_newcomers_share_are_as_measured() {
    // Slots of the fullest over the mean, in percent, and what a newcomer owns, mean of 20 sets of names.
    for (nodes, fullest_max, ideal) in [(3, 108, 256), (16, 112, 60), (50, 113, 20)] {
        let (mut fullest, mut newcomer) = (0, 0);
        for set in 0..20 {
            let mut members = equal(&format!("set{set}-"), nodes);
            let layout_before = layout(&members);
            let before = layout_before.place();
            fullest += owned(&layout_before, &before).into_iter().max().unwrap() * nodes * 100 / 1024;
            members.push(("newcomer".to_owned(), 1.0));
            let layout_after = layout(&members);
            let number = layout_after.ring().number(&node("newcomer")).unwrap();
            newcomer += owned(&layout_after, &layout_after.place())[usize::from(number)];
        }
        assert!(
            fullest / 20 <= fullest_max,
            "{nodes} nodes, fullest {}",
            fullest / 20
        );
        let mean = newcomer / 20;
        assert!(
            mean * 100 >= ideal * 85 && mean * 100 <= ideal * 115,
            "{nodes} nodes, newcomer {mean}"
        );
    }
}

#[test]
fn a_node_without_weight_or_draining_or_not_eligible_owns_nothing() {
    let mut record = record(
        &[
            ("a".into(), 0.0),
            ("b".into(), 1.0),
            ("c".into(), 1.0),
            ("d".into(), 1.0),
        ],
        &[],
    );
    record.nodes[2].state = RingNodeState::Draining;
    let layout = Layout::new(&birth(), &record, |id| *id != node("d")).unwrap();
    assert_eq!(layout.ring().nodes(), [node("b")]);
    assert!(layout.place().iter().all(|place| *place
        == Place {
            owner: 0,
            replica: None
        }));
}

#[test]
fn pins_are_honoured_and_count() {
    let pins: Vec<(u16, &str)> = (0..340)
        .map(|slot| (slot * 3, "ts-2"))
        .chain([(1, "gone"), (5000, "ts-1")])
        .collect();
    let layout = layout_with(&equal("ts-", 3), &pins);
    let places = layout.place();
    assert!((0..340).all(|slot| places[slot * 3].owner == 1));
    // ts-2 is as full as it may get, pins included.
    assert_eq!(owned(&layout, &places)[1], 376);
}

#[test]
fn pins_beyond_the_bound_are_honoured_and_nothing_is_added() {
    let pins: Vec<(u16, &str)> = (0..500).map(|slot| (slot, "ts-2")).collect();
    let layout = layout_with(&equal("ts-", 3), &pins);
    assert_eq!(owned(&layout, &layout.place())[1], 500);
}

#[test]
fn no_node_no_place() {
    assert!(layout(&[]).place().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_node_is_above_its_bound(members in members()) {
        let layout = layout(&members);
        let total: f64 = members.iter().map(|(_, weight)| weight).sum();
        for (id, count) in layout.ring().nodes().iter().zip(owned(&layout, &layout.place())) {
            let weight = members.iter().find(|(member, _)| member == id.as_str()).unwrap().1;
            prop_assert!(is_within_bound(u32::try_from(count).unwrap(), weight, total), "{id}: {count}");
        }
    }

    #[test]
    fn every_slot_has_an_owner_and_another_replica(members in members()) {
        let layout = layout(&members);
        let places = layout.place();
        prop_assert_eq!(places.len(), 1024);
        for place in places {
            prop_assert!(place.replica != Some(place.owner));
            prop_assert_eq!(place.replica.is_some(), layout.ring().nodes().len() > 1);
        }
    }

    #[test]
    fn any_two_builds_agree((one, other) in members().prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle()))) {
        prop_assert_eq!(layout(&one).place(), layout(&other).place());
    }
}

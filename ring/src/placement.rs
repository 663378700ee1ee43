//! Where slots should be: the ring with its weights, pins, and a bound on how full a node may get.
//!
//! It promises that a node is never given more than `ceil(1.10 x its weighted share)` slots beyond its pins, that pins
//! are honoured while their node may own slots, and that any two builds agree.
//! *Invariant:* load is bounded here, once, in slot order, and never at look-up: that would need load numbers all
//! gateways agree on. Nobody derives an owner or a replica from the ring alone; the slot record names them.
//!
//! The ring by itself moves nothing it need not. The bound costs a little of that: when a full node gets room, slots
//! that had walked past it would like to come back. So what *moves* is not the difference of two placements from
//! scratch; it is found from who holds what now ([`Layout::fill`], and [`Layout::rebalance`] in `rebalance`).
//! Leaves out: who is alive and when (`planner`).

use std::collections::BTreeMap;

use ringcast_proto::record::{self, Birth, RingNodeState};
use ringcast_proto::{NodeId, Slot};

use crate::hash::Seeds;
use crate::ring::{Error, Ring};

/// A slot, as far as those who place are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: it must be given to a node.
    Vacant,
    /// This node of the layout.
    Node(u16),
    /// Somebody outside the layout, and it is to stay there.
    Elsewhere,
}

/// What a ring record asks for, ready to place slots: the ring of the nodes that may own some, how many each may own,
/// and which slots are pinned. Nodes go by their number in the ring.
#[derive(Debug, Clone)]
pub struct Layout {
    ring: Ring,
    slots: u16,
    /// By node: `ceil(1.10 x slots x weight / total weight)`.
    bounds: Vec<u32>,
    pins: BTreeMap<Slot, u16>,
}

/// A slot's owner, and its replica where there is a second node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The owner's number.
    pub owner: u16,
    /// The replica's number.
    pub replica: Option<u16>,
}

impl Layout {
    /// The layout of a ring record over those of its nodes that are `eligible`, up, and have weight.
    ///
    /// # Errors
    /// [`Error`], when the record's nodes make no ring.
    pub fn new(
        birth: &Birth,
        record: &record::Ring,
        eligible: impl Fn(&NodeId) -> bool,
    ) -> Result<Layout, Error> {
        let members = record
            .nodes
            .iter()
            .filter(|node| node.state == RingNodeState::Up && eligible(&node.id));
        let weights: BTreeMap<&NodeId, f64> = members.clone().map(|node| (&node.id, node.weight)).collect();
        let members = members.map(|node| (&node.id, node.weight));
        let ring = Ring::build(Seeds::new(birth.seed), record.vnodes_per_weight, members)?;

        let millionths: Vec<u64> = ring.nodes().iter().map(|id| millionths(weights[id])).collect();
        let total: u64 = millionths.iter().sum();
        let bounds = millionths
            .iter()
            .map(|weight| bound(birth.slots, *weight, total))
            .collect();
        let pins = record.pins.iter().filter(|(slot, _)| slot.0 < birth.slots);
        let pins = pins
            .filter_map(|(slot, id)| Some((*slot, ring.number(id)?)))
            .collect();
        Ok(Layout {
            ring,
            slots: birth.slots,
            bounds,
            pins,
        })
    }

    /// The ring it places by.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.slots
    }

    /// The most slots this node may own, pins aside.
    #[must_use]
    pub fn bound(&self, node: u16) -> u32 {
        self.bounds.get(usize::from(node)).copied().unwrap_or(0)
    }

    /// The node this slot is pinned to, if that node is in the layout.
    #[must_use]
    pub fn pin(&self, slot: Slot) -> Option<u16> {
        self.pins.get(&slot).copied()
    }

    /// The node of this number.
    #[must_use]
    pub fn id(&self, node: u16) -> Option<&NodeId> {
        self.ring.nodes().get(usize::from(node))
    }

    /// Owners for the vacant slots, in slot order, pins first: the first node of the slot's walk that is below its
    /// bound. Holders are by slot; nobody who holds a slot loses it. Without a node in the layout there are none.
    #[must_use]
    pub fn fill(&self, holders: &[Holder]) -> Vec<(Slot, u16)> {
        let mut owned = self.owned(holders);
        let vacant = || {
            let slots = (0..self.slots).map(Slot).zip(holders);
            slots
                .filter(|(_, holder)| **holder == Holder::Vacant)
                .map(|(slot, _)| slot)
        };
        // Pins count before anything else is placed, or a pinned node would fill up with what could go elsewhere.
        for node in vacant().filter_map(|slot| self.pin(slot)) {
            owned[usize::from(node)] += 1;
        }
        let mut placed = Vec::new();
        for slot in vacant() {
            let owner = self.pin(slot).or_else(|| {
                let owner = self.below_bound(self.ring.walk(slot), &owned)?;
                owned[usize::from(owner)] += 1;
                Some(owner)
            });
            placed.extend(owner.map(|owner| (slot, owner)));
        }
        placed
    }

    /// The placement from scratch: every slot's owner and replica. Empty when the layout has no node.
    ///
    /// The replica is the next distinct node of the walk after the owner that is below its bound *for replicas*, then
    /// one of those the walk had skipped.
    #[must_use]
    pub fn place(&self) -> Vec<Place> {
        let vacant = vec![Holder::Vacant; usize::from(self.slots)];
        let mut replicas = vec![0; self.bounds.len()];
        let place = |(slot, owner): (Slot, u16)| {
            let walk = self.ring.walk(slot);
            let after = walk.clone().skip_while(|node| *node != owner).skip(1);
            let skipped = walk.take_while(|node| *node != owner);
            let replica = self.below_bound(after.chain(skipped), &replicas);
            if let Some(replica) = replica {
                replicas[usize::from(replica)] += 1;
            }
            Place { owner, replica }
        };
        self.fill(&vacant).into_iter().map(place).collect()
    }

    /// How many slots each node holds.
    pub(crate) fn owned(&self, holders: &[Holder]) -> Vec<u32> {
        let mut owned = vec![0; self.bounds.len()];
        for holder in holders {
            if let Holder::Node(node) = holder
                && let Some(count) = owned.get_mut(usize::from(*node))
            {
                *count += 1;
            }
        }
        owned
    }

    /// The first candidate below its bound; should all be full, the first. Owners always find room, for the bounds sum
    /// up to 1.10 times the slots; the replica of a very heavy owner may not.
    pub(crate) fn below_bound(
        &self,
        mut candidates: impl Iterator<Item = u16> + Clone,
        counts: &[u32],
    ) -> Option<u16> {
        let room = |node: &u16| counts[usize::from(*node)] < self.bounds[usize::from(*node)];
        candidates.clone().find(room).or_else(|| candidates.next())
    }
}

/// A weight as a whole number, so that sums and shares are exact and do not depend on the order of addition.
fn millionths(weight: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite and from 0 up, the ring saw to it"
    )]
    let millionths = (weight * 1e6).round() as u64;
    millionths
}

/// `ceil(1.10 x slots x weight / total)`, in whole numbers: in floating point 1.1 x 10 is more than 11.
fn bound(slots: u16, weight: u64, total: u64) -> u32 {
    let share = 11 * u128::from(slots) * u128::from(weight);
    u32::try_from(share.div_ceil(10 * u128::from(total.max(1)))).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
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
        prop::collection::btree_map("[a-z]{1,3}-[0-9]{1,2}", weights, 1..12)
            .prop_map(|m| m.into_iter().collect())
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
}

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

use std::collections::{BTreeMap, BTreeSet};

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
    /// By node, in millionths.
    weights: Vec<u64>,
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
        let asked: BTreeMap<&NodeId, f64> = members.clone().map(|node| (&node.id, node.weight)).collect();
        let members = members.map(|node| (&node.id, node.weight));
        let ring = Ring::build(Seeds::new(birth.seed), record.vnodes_per_weight, members)?;

        let weights: Vec<u64> = ring.nodes().iter().map(|id| millionths(asked[id])).collect();
        let total: u64 = weights.iter().sum();
        let bounds = weights
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
            weights,
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

    /// The nodes that hold less than their weighted share less `percent` of it.
    pub(crate) fn starved(&self, holders: &[Holder], percent: u32) -> BTreeSet<u16> {
        let owned = self.owned(holders);
        let total: u64 = self.weights.iter().sum();
        let is_starved = |(weight, owned): (&u64, u32)| {
            let share = u128::from(self.slots) * u128::from(*weight) * u128::from(100 - percent.min(100));
            u128::from(owned) * u128::from(total) * 100 < share
        };
        (0..)
            .zip(self.weights.iter().zip(owned))
            .filter(|(_, node)| is_starved(*node))
            .map(|(number, _)| number)
            .collect()
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
pub(crate) mod tests;

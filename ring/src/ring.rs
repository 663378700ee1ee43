//! The consistent-hash ring: virtual nodes on a circle of 64-bit points, and from any slot a walk to the nodes it meets.
//!
//! It promises that a node that joins takes first places only for itself, that one that leaves gives up only its own,
//! and that any two builds from the same members agree, in whatever order they were listed.
//! *Invariant:* points are sorted, and no two are equal: the crate `hashring` decides between equal points by the order
//! they were added in, and removes by hash alone. It therefore only ever sees one `batch_add` and then `get`, which
//! finds the start; the walk runs over the sorted vector beside it.
//! Leaves out: how full a node may be (`placement`).

use std::hash::{BuildHasher, Hash, Hasher};

use hashring::HashRing;
use ringcast_proto::{NodeId, Slot};

use crate::hash::Seeds;

/// Most points of a ring, 4,096 nodes of weight 1: a slip in a weight must not cost all memory.
const POINTS_MAX: u32 = 1 << 20;

/// Why there is no such ring.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A weight is a finite number from 0 up.
    #[error("weight {weight} of {node}, must be a finite number from 0 up")]
    Weight {
        /// Whose.
        node: NodeId,
        /// What it says.
        weight: f64,
    },
    /// A node is listed once.
    #[error("{0} is in the ring twice")]
    Twice(NodeId),
    /// The weights ask for more virtual nodes than a ring may have.
    #[error("more than {POINTS_MAX} virtual nodes, up to and including those of {0}")]
    TooManyPoints(NodeId),
    /// Two virtual nodes would stand on one point, and their order be an accident.
    #[error("virtual nodes of {0} and {1} stand on one point")]
    EqualPoints(NodeId, NodeId),
}

/// A virtual node. Hashes as its point and nothing else, so that it stands exactly there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct VNode {
    point: u64,
    node: u16,
    /// Its place in the sorted vector.
    at: u32,
}

impl Hash for VNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.point);
    }
}

/// A point to look up.
struct Point(u64);

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Passes a point through as its own hash.
#[derive(Debug, Clone, Copy, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a derived Hash has crept into the ring: only points are hashed");
    }

    fn write_u64(&mut self, point: u64) {
        self.0 = point;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for Identity {
    type Hasher = Identity;

    fn build_hasher(&self) -> Identity {
        Identity::default()
    }
}

/// The ring of some nodes. Nodes are numbered in the order of their ids.
#[derive(Debug, Clone)]
pub struct Ring {
    seeds: Seeds,
    nodes: Vec<NodeId>,
    points: Vec<VNode>,
    start: HashRing<VNode, Identity>,
}

impl Ring {
    /// Builds the ring of these nodes and weights. A node whose weight rounds to no virtual node is left out.
    ///
    /// # Errors
    /// See [`Error`]; in every case the members are at fault, and no ring of them exists.
    pub fn build<'a>(
        seeds: Seeds,
        vnodes_per_weight: u32,
        members: impl IntoIterator<Item = (&'a NodeId, f64)>,
    ) -> Result<Ring, Error> {
        let mut members: Vec<(&NodeId, f64)> = members.into_iter().collect();
        members.sort_by_key(|(id, _)| *id);
        if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::Twice(pair[0].0.clone()));
        }

        let mut nodes = Vec::with_capacity(members.len());
        let mut points = Vec::new();
        for (id, weight) in members {
            let left = POINTS_MAX - u32::try_from(points.len()).expect("never more than POINTS_MAX");
            let vnodes = vnodes(id, weight, vnodes_per_weight)?;
            if vnodes > left {
                return Err(Error::TooManyPoints(id.clone()));
            }
            if vnodes == 0 {
                continue;
            }
            let node = u16::try_from(nodes.len()).map_err(|_| Error::TooManyPoints(id.clone()))?;
            nodes.push(id.clone());
            points.extend((0..vnodes).map(|v| VNode {
                point: seeds.point(id, v),
                node,
                at: 0,
            }));
        }

        points.sort_unstable();
        if let Some(pair) = points.windows(2).find(|pair| pair[0].point == pair[1].point) {
            let id = |vnode: VNode| nodes[usize::from(vnode.node)].clone();
            return Err(Error::EqualPoints(id(pair[0]), id(pair[1])));
        }
        for (at, vnode) in (0..).zip(&mut points) {
            vnode.at = at;
        }

        let mut start = HashRing::with_hasher(Identity::default());
        start.batch_add(points.clone());
        Ok(Ring {
            seeds,
            nodes,
            points,
            start,
        })
    }

    /// The nodes that have a point, in id order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// A node's number.
    #[must_use]
    pub fn number(&self, id: &NodeId) -> Option<u16> {
        let at = self.nodes.binary_search(id).ok()?;
        Some(u16::try_from(at).expect("build numbered it"))
    }

    /// The numbers of all nodes, each once, in the order one meets them going up from the slot's point.
    #[must_use]
    pub fn walk(&self, slot: Slot) -> Walk<'_> {
        let start = self
            .start
            .get(&Point(self.seeds.slot_point(slot)))
            .map_or(0, |vnode| vnode.at as usize);
        Walk {
            ring: self,
            at: start,
            met: vec![false; self.nodes.len()],
            left: self.nodes.len(),
        }
    }
}

/// How many virtual nodes a weight makes.
fn vnodes(id: &NodeId, weight: f64, vnodes_per_weight: u32) -> Result<u32, Error> {
    if !weight.is_finite() || weight < 0.0 {
        return Err(Error::Weight {
            node: id.clone(),
            weight,
        });
    }
    let vnodes = (weight * f64::from(vnodes_per_weight)).round();
    if vnodes > f64::from(POINTS_MAX) {
        return Err(Error::TooManyPoints(id.clone()));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within 0..=POINTS_MAX"
    )]
    Ok(vnodes as u32)
}

/// See [`Ring::walk`].
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    ring: &'a Ring,
    at: usize,
    met: Vec<bool>,
    left: usize,
}

impl Iterator for Walk<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        // Every node has a point, so as long as one is left, going round finds it.
        while self.left > 0 {
            let vnode = self.ring.points[self.at];
            self.at = (self.at + 1) % self.ring.points.len();
            if !std::mem::replace(&mut self.met[usize::from(vnode.node)], true) {
                self.left -= 1;
                return Some(vnode.node);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(id: &str) -> NodeId {
        NodeId::parse(id).unwrap()
    }

    fn ring(members: &[(NodeId, f64)]) -> Result<Ring, Error> {
        Ring::build(
            Seeds::new(7),
            64,
            members.iter().map(|(id, weight)| (id, *weight)),
        )
    }

    /// The node whose point comes first, by name: numbers change with the membership.
    fn first(ring: &Ring, slot: u16) -> Option<NodeId> {
        let number = ring.walk(Slot(slot)).next()?;
        Some(ring.nodes()[usize::from(number)].clone())
    }

    fn members(sizes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(NodeId, f64)>> {
        let weights = prop_oneof![Just(1.0), Just(0.5), Just(2.0), Just(0.0), 0.0..3.0];
        prop::collection::btree_map("[a-z]{1,4}-[0-9]{1,2}", weights, sizes).prop_map(|members| {
            members
                .into_iter()
                .map(|(id, weight)| (node(&id), weight))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn a_new_node_takes_slots_only_to_itself(old in members(1..9), weight in 0.1..3.0) {
            let newcomer = node("newcomer");
            let mut new = old.clone();
            new.push((newcomer.clone(), weight));
            let (before, after) = (ring(&old).unwrap(), ring(&new).unwrap());
            for slot in 0..512 {
                let (was, is) = (first(&before, slot), first(&after, slot));
                prop_assert!(was == is || is.as_ref() == Some(&newcomer), "slot {slot}: {was:?} to {is:?}");
            }
        }

        #[test]
        fn a_removed_node_gives_up_only_its_own(old in members(2..9), which: prop::sample::Index) {
            let mut new = old.clone();
            let (leaver, _) = new.remove(which.index(old.len()));
            let (before, after) = (ring(&old).unwrap(), ring(&new).unwrap());
            for slot in 0..512 {
                let (was, is) = (first(&before, slot), first(&after, slot));
                prop_assert!(was == is || was.as_ref() == Some(&leaver), "slot {slot}: {was:?} to {is:?}");
            }
        }

        #[test]
        fn any_two_builds_agree((old, shuffled) in members(0..9).prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle()))) {
            let (one, other) = (ring(&old).unwrap(), ring(&shuffled).unwrap());
            prop_assert_eq!(one.nodes(), other.nodes());
            for slot in 0..512 {
                prop_assert!(one.walk(Slot(slot)).eq(other.walk(Slot(slot))), "slot {}", slot);
            }
        }

        #[test]
        fn a_walk_starts_where_hashring_says_and_meets_every_node_once(members in members(1..9), slot: u16) {
            let ring = ring(&members).unwrap();
            let point = ring.seeds.slot_point(Slot(slot));
            let start = ring.start.get(&Point(point)).map(|vnode| vnode.node);
            prop_assert_eq!(ring.walk(Slot(slot)).next(), start);
            // The same, by looking at every point.
            let upwards = ring.points.iter().find(|vnode| vnode.point >= point).or(ring.points.first());
            prop_assert_eq!(upwards.map(|vnode| vnode.node), start);

            let mut met: Vec<u16> = ring.walk(Slot(slot)).collect();
            met.sort_unstable();
            prop_assert!(met.into_iter().eq((0..).take(ring.nodes().len())));
        }
    }

    #[test]
    fn a_slot_beyond_the_last_point_wraps_to_the_first() {
        let ring = Ring::build(Seeds::new(7), 1, [(&node("a"), 1.0), (&node("b"), 1.0)]).unwrap();
        let last = ring.points[1].point;
        let slot = (0..)
            .map(Slot)
            .find(|slot| ring.seeds.slot_point(*slot) > last)
            .unwrap();
        assert_eq!(ring.walk(slot).next(), Some(ring.points[0].node));
    }

    #[test]
    fn nodes_of_no_weight_are_not_on_the_ring() {
        let ring = ring(&[(node("a"), 0.0), (node("b"), 0.001), (node("c"), 1.0)]).unwrap();
        assert_eq!(ring.nodes(), [node("c")]);
        assert_eq!(ring.number(&node("a")), None);
    }

    #[test]
    fn an_empty_ring_walks_nowhere() {
        assert_eq!(ring(&[]).unwrap().walk(Slot(3)).next(), None);
    }

    #[test]
    fn what_is_no_ring_is_refused_by_name() {
        let refused = |members: &[(NodeId, f64)]| ring(members).unwrap_err().to_string();
        assert_eq!(
            refused(&[(node("a"), -1.0)]),
            "weight -1 of a, must be a finite number from 0 up"
        );
        assert_eq!(
            refused(&[(node("a"), f64::NAN)]),
            "weight NaN of a, must be a finite number from 0 up"
        );
        assert_eq!(
            refused(&[(node("a"), 1.0), (node("a"), 2.0)]),
            "a is in the ring twice"
        );
        let too_many = "more than 1048576 virtual nodes, up to and including those of a";
        assert_eq!(refused(&[(node("a"), 1e300)]), too_many);
        assert_eq!(refused(&[(node("a"), 16_385.0)]), too_many);
    }
}

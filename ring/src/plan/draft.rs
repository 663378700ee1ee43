//! The members and pins a plan starts from, and what its wishes make of them.
//!
//! *Invariant:* members are in id order, each once, and at least one that is up may own slots.

use std::collections::BTreeSet;

use ringcast_proto::record::{Birth, Membership, Ring, RingNode, RingNodeState, Role};
use ringcast_proto::{NodeId, Slot};

use super::Wish;
use super::error::{PlanError, WEIGHT_MAX, most_alike};
use crate::Snapshot;

/// See the module.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) before: Membership,
    pub(super) after: Membership,
    /// Nodes that slots may be taken for: they joined, came back or gained weight.
    pub(super) takers: BTreeSet<NodeId>,
    /// Nodes that are removed though they are down.
    pub(super) dead: BTreeSet<NodeId>,
    /// Slots that were pinned to a node that is removed.
    pub(super) unpinned: Vec<(Slot, NodeId)>,
    pub(super) is_rebalance: bool,
}

impl Draft {
    pub(super) fn new(
        snapshot: &Snapshot,
        birth: &Birth,
        ring: &Ring,
        wishes: &[Wish],
    ) -> Result<Draft, PlanError> {
        let mut before = base(snapshot, ring);
        before.nodes.sort_by(|one, other| one.id.cmp(&other.id));
        let mut draft = Draft {
            after: before.clone(),
            before,
            takers: BTreeSet::new(),
            dead: BTreeSet::new(),
            unpinned: Vec::new(),
            is_rebalance: wishes.is_empty(),
        };
        once_each(wishes)?;
        // An order in which every wish finds what it needs: nodes that are added can be weighed and pinned to.
        let in_order = |rank: u8| wishes.iter().filter(move |wish| self::rank(wish) == rank);
        for wish in (0..=2).flat_map(in_order) {
            draft.fulfil(snapshot, birth, wish)?;
        }
        draft.after.nodes.sort_by(|one, other| one.id.cmp(&other.id));
        draft.drop_pins_of_the_removed();
        draft.check_that_one_is_left(snapshot, ring, wishes)?;
        Ok(draft)
    }

    fn fulfil(&mut self, snapshot: &Snapshot, birth: &Birth, wish: &Wish) -> Result<(), PlanError> {
        match wish {
            Wish::Add(node) => self.add(snapshot, node),
            Wish::Drain(node) => {
                let member = self.member_that_is_up(snapshot, node)?;
                if member.state == RingNodeState::Draining {
                    return Err(PlanError::AlreadyDraining { node: node.clone() });
                }
                member.state = RingNodeState::Draining;
                Ok(())
            }
            Wish::Remove { node, dead } => {
                self.member(snapshot, node)?;
                if snapshot.topic_server(node).is_none() {
                    if !dead {
                        return Err(PlanError::Down { node: node.clone() });
                    }
                    self.dead.insert(node.clone());
                }
                self.after.nodes.retain(|member| member.id != *node);
                Ok(())
            }
            Wish::Weight(node, weight) => {
                if !(0.0..=WEIGHT_MAX).contains(weight) {
                    let (node, weight) = (node.clone(), *weight);
                    return Err(PlanError::Weight { node, weight });
                }
                let member = self.member_that_is_up(snapshot, node)?;
                let gains = *weight > member.weight && member.state == RingNodeState::Up;
                // -0 is a 0 that prints badly.
                member.weight = weight.abs();
                if gains {
                    self.takers.insert(node.clone());
                }
                Ok(())
            }
            Wish::Pin(slot, node) => {
                in_range(*slot, birth)?;
                let member = self.member_that_is_up(snapshot, node)?;
                if member.state == RingNodeState::Draining || member.weight == 0.0 {
                    let (slot, node) = (*slot, node.clone());
                    return Err(PlanError::PinToNothing { slot, node });
                }
                self.after.pins.insert(*slot, node.clone());
                Ok(())
            }
            Wish::Unpin(slot) => {
                in_range(*slot, birth)?;
                let pinned = self.after.pins.remove(slot);
                pinned.map(drop).ok_or(PlanError::NotPinned { slot: *slot })
            }
        }
    }

    fn add(&mut self, snapshot: &Snapshot, node: &NodeId) -> Result<(), PlanError> {
        known(snapshot, &self.before, node)?;
        let node_record = snapshot.topic_server(node);
        match self.after.nodes.iter_mut().find(|member| member.id == *node) {
            Some(member) if member.state == RingNodeState::Up => {
                return Err(PlanError::AlreadyIn { node: node.clone() });
            }
            _ if node_record.is_none() => return Err(PlanError::NotRegistered { node: node.clone() }),
            _ if node_record.is_some_and(|record| record.leaving) => {
                return Err(PlanError::Leaving { node: node.clone() });
            }
            Some(member) => member.state = RingNodeState::Up,
            None => self.after.nodes.push(RingNode {
                id: node.clone(),
                weight: 1.0,
                state: RingNodeState::Up,
            }),
        }
        self.takers.insert(node.clone());
        Ok(())
    }

    fn member(&mut self, snapshot: &Snapshot, node: &NodeId) -> Result<&mut RingNode, PlanError> {
        known(snapshot, &self.before, node)?;
        let members = &mut self.after.nodes;
        members
            .iter_mut()
            .find(|member| member.id == *node)
            .ok_or(PlanError::NotInRing { node: node.clone() })
    }

    fn member_that_is_up(&mut self, snapshot: &Snapshot, node: &NodeId) -> Result<&mut RingNode, PlanError> {
        let is_down = snapshot.topic_server(node).is_none();
        let member = self.member(snapshot, node)?;
        if is_down {
            return Err(PlanError::NotRegistered { node: node.clone() });
        }
        Ok(member)
    }

    fn drop_pins_of_the_removed(&mut self) {
        let Membership { nodes, pins } = &mut self.after;
        pins.retain(|slot, node| {
            let stays = nodes.iter().any(|member| member.id == *node);
            if !stays {
                self.unpinned.push((*slot, node.clone()));
            }
            stays
        });
    }

    /// The wish to blame is the last one that takes a node's slots away.
    fn check_that_one_is_left(
        &self,
        snapshot: &Snapshot,
        ring: &Ring,
        wishes: &[Wish],
    ) -> Result<(), PlanError> {
        let owns = |member: &RingNode| {
            member.state == RingNodeState::Up
                && (member.weight * f64::from(ring.vnodes_per_weight)).round() > 0.0
                && snapshot
                    .topic_server(&member.id)
                    .is_some_and(|record| !record.leaving)
        };
        if self.after.nodes.iter().any(owns) {
            return Ok(());
        }
        let takes_away = |wish: &Wish| match wish {
            Wish::Drain(node) | Wish::Remove { node, .. } | Wish::Weight(node, _) => Some(node.clone()),
            Wish::Add(_) | Wish::Pin(..) | Wish::Unpin(_) => None,
        };
        match wishes.iter().rev().find_map(takes_away) {
            Some(node) => Err(PlanError::LastNode { node }),
            // Nobody is up: whatever was wished for cannot be the reason.
            None => {
                Err(self
                    .after
                    .nodes
                    .first()
                    .map_or(PlanError::NotBorn, |member| PlanError::NotRegistered {
                        node: member.id.clone(),
                    }))
            }
        }
    }
}

/// What the ring is, or will be once the plan that runs is done.
fn base(snapshot: &Snapshot, ring: &Ring) -> Membership {
    let running = ring.plan.as_ref().and_then(|id| snapshot.plan(id));
    running.map_or_else(
        || Membership {
            nodes: ring.nodes.clone(),
            pins: ring.pins.clone(),
        },
        |plan| plan.after.clone(),
    )
}

fn known(snapshot: &Snapshot, members: &Membership, node: &NodeId) -> Result<(), PlanError> {
    let is_member = members.nodes.iter().any(|member| member.id == *node);
    match snapshot.node(node).map(|record| record.role) {
        Some(Role::Gateway) if !is_member => Err(PlanError::Gateway { node: node.clone() }),
        None if !is_member => {
            let registered = snapshot
                .nodes()
                .filter(|(_, record)| record.role == Role::TopicServer);
            let ids = members.nodes.iter().map(|member| &member.id);
            let nearest = most_alike(node, ids.chain(registered.map(|(id, _)| id)));
            let node = node.clone();
            Err(PlanError::UnknownNode { node, nearest })
        }
        _ => Ok(()),
    }
}

fn in_range(slot: Slot, birth: &Birth) -> Result<(), PlanError> {
    let slots = birth.slots;
    if slot.0 < slots {
        Ok(())
    } else {
        Err(PlanError::NoSuchSlot { slot, slots })
    }
}

fn rank(wish: &Wish) -> u8 {
    match wish {
        Wish::Add(_) | Wish::Drain(_) | Wish::Remove { .. } => 0,
        Wish::Weight(..) => 1,
        Wish::Pin(..) | Wish::Unpin(_) => 2,
    }
}

fn once_each(wishes: &[Wish]) -> Result<(), PlanError> {
    // `--drain A --weight A=2` is two opinions about one node; `--add A --weight A=2` is one.
    let (mut fates, mut weights, mut added) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut slots = BTreeSet::new();
    for wish in wishes {
        let (is_new, node) = match wish {
            Wish::Add(node) => (added.insert(node) && fates.insert(node), node),
            Wish::Drain(node) | Wish::Remove { node, .. } => (fates.insert(node), node),
            Wish::Weight(node, _) => (weights.insert(node), node),
            Wish::Pin(slot, _) | Wish::Unpin(slot) => {
                if !slots.insert(*slot) {
                    return Err(PlanError::SlotTwice { slot: *slot });
                }
                continue;
            }
        };
        if !is_new {
            return Err(PlanError::Twice { node: node.clone() });
        }
    }
    let both = |node: &&NodeId| fates.contains(*node) && !added.contains(*node);
    match weights.into_iter().find(both) {
        Some(node) => Err(PlanError::Twice { node: node.clone() }),
        None => Ok(()),
    }
}

//! What the planner reads out of a snapshot, once a round.
//!
//! *Invariant:* it holds what the records say and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::{
    Birth, Key, NodeRecord, Plan, PlanId, Planner as Tenure, Ring, RingNode, RingNodeState, Role, SlotRecord,
};
use ringcast_proto::{NodeId, NodeRef, Slot};

use crate::{Revision, Snapshot};

/// Where a slot stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing<'a> {
    /// The birth has not reached it.
    Unborn,
    /// Its owner lives.
    Owned(Revision, &'a SlotRecord),
    /// Its owner is gone.
    Lost(Revision, &'a SlotRecord),
}

/// See the module.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) birth: &'a Birth,
    pub(super) ring: &'a Ring,
    pub(super) ring_revision: Revision,
    pub(super) tenure: &'a Tenure,
    /// By slot.
    pub(super) standings: Vec<Standing<'a>>,
    /// The registered topic servers.
    pub(super) servers: BTreeMap<&'a NodeId, &'a NodeRecord>,
    members: BTreeMap<&'a NodeId, &'a RingNode>,
    plan: Option<&'a Plan>,
    /// By slot, where the plan that runs wants it; empty while none does.
    planned: Vec<Option<&'a NodeId>>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        birth: &'a Birth,
        ring: &'a Ring,
        tenure: &'a Tenure,
    ) -> View<'a> {
        let servers: BTreeMap<&NodeId, &NodeRecord> = snapshot
            .nodes()
            .filter(|(_, record)| record.role == Role::TopicServer)
            .collect();
        let plan = ring.plan.as_ref().and_then(|id| snapshot.plan(id));
        let mut view = View {
            snapshot,
            birth,
            ring,
            ring_revision: snapshot
                .records
                .get(&Key::Ring)
                .map(|stored| stored.revision)
                .unwrap_or_default(),
            tenure,
            standings: vec![Standing::Unborn; usize::from(birth.slots)],
            servers,
            members: ring.nodes.iter().map(|member| (&member.id, member)).collect(),
            plan,
            planned: Vec::new(),
        };
        for (slot, revision, record) in snapshot.slots() {
            let lives = view.lives(&record.owner);
            if let Some(standing) = view.standings.get_mut(usize::from(slot.0)) {
                *standing = if lives {
                    Standing::Owned(revision, record)
                } else {
                    Standing::Lost(revision, record)
                };
            }
        }
        if let Some(plan) = plan {
            view.planned = vec![None; usize::from(birth.slots)];
            for planned in &plan.moves {
                if let Some(to) = view.planned.get_mut(usize::from(planned.slot.0)) {
                    *to = Some(&planned.to);
                }
            }
        }
        view
    }

    /// The plan that runs, and its record, which only an operator with another tool can have removed.
    pub(super) fn plan(&self) -> Option<(&'a PlanId, Option<&'a Plan>)> {
        Some((self.ring.plan.as_ref()?, self.plan))
    }

    /// Where the plan that runs wants this slot.
    pub(super) fn planned(&self, slot: Slot) -> Option<&'a NodeId> {
        self.planned.get(usize::from(slot.0)).copied().flatten()
    }

    /// Every slot whose owner lives.
    pub(super) fn owned(&self) -> impl Iterator<Item = (Slot, Revision, &'a SlotRecord)> {
        (0..)
            .map(Slot)
            .zip(&self.standings)
            .filter_map(|(slot, standing)| match standing {
                Standing::Owned(revision, record) => Some((slot, *revision, *record)),
                Standing::Unborn | Standing::Lost(..) => None,
            })
    }

    /// Whether every slot has an owner that lives.
    pub(super) fn is_whole(&self) -> bool {
        let owned = |standing| matches!(standing, &Standing::Owned(..));
        self.standings.iter().all(owned)
    }

    /// Whether this life of a topic server is registered.
    pub(super) fn lives(&self, node: &NodeRef) -> bool {
        self.servers
            .get(&node.node)
            .is_some_and(|record| record.incarnation == node.incarnation)
    }

    /// The present life of a topic server, if it is registered.
    pub(super) fn life(&self, id: &NodeId) -> Option<NodeRef> {
        self.servers.get(id).map(|record| NodeRef {
            node: id.clone(),
            incarnation: record.incarnation,
        })
    }

    /// Whether the ring wants this node to own slots.
    pub(super) fn is_up(&self, id: &NodeId) -> bool {
        self.members.get(id).is_some_and(|member| {
            member.state == RingNodeState::Up
                && (member.weight * f64::from(self.ring.vnodes_per_weight)).round() > 0.0
        })
    }

    /// Whether it is about to end.
    pub(super) fn is_leaving(&self, id: &NodeId) -> bool {
        self.servers.get(id).is_some_and(|record| record.leaving)
    }

    /// Whether it may keep what it owns.
    pub(super) fn may_keep(&self, id: &NodeId) -> bool {
        self.is_up(id) && !self.is_leaving(id)
    }

    /// Whether it is there, and may keep what it is given.
    pub(super) fn can_take(&self, id: &NodeId) -> bool {
        self.servers.contains_key(id) && self.may_keep(id)
    }

    /// Whether more than half of those whom the ring wants to own slots are gone: a fault of the network or the store,
    /// and no time to move anything. Whoever is draining or being removed does not count.
    pub(super) fn is_mostly_gone(&self) -> bool {
        let wanted = || self.members.keys().filter(|id| self.is_up(id));
        let gone = wanted().filter(|id| !self.servers.contains_key(*id)).count();
        gone * 2 > wanted().count()
    }

    /// Everyone in the ring, in id order.
    pub(super) fn members(&self) -> impl Iterator<Item = &'a NodeId> {
        self.members.keys().copied()
    }

    /// Guards that these lives hold their leases, but for the planner's own, which every change guards.
    pub(super) fn alive<'n>(
        &self,
        nodes: BTreeSet<&'n NodeRef>,
    ) -> impl Iterator<Item = crate::Guard> + use<'n, '_, 'a> {
        let holder = &self.tenure.holder;
        nodes
            .into_iter()
            .filter(move |node| *node != holder)
            .cloned()
            .map(crate::Guard::Alive)
    }
}

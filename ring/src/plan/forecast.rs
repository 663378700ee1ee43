//! Who will own which slot once a plan is done, and what an operator should know about that beforehand.

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::{Birth, PlanShare, Ring};
use ringcast_proto::{NodeId, Slot};

use super::SlotLoad;
use super::draft::Draft;
use crate::Snapshot;
use crate::placement::{Holder, Layout};
use crate::ring::Error;

/// See the module.
#[derive(Debug)]
pub(super) struct Forecast {
    /// Slot, from, to; in slot order.
    pub(super) moves: Vec<(Slot, NodeId, NodeId)>,
    slots: u16,
    /// What each node owns before and after.
    counts: BTreeMap<NodeId, (u32, u32)>,
    /// What each node may own by its weight.
    bounds: BTreeMap<NodeId, u32>,
    /// Slots of removed nodes that are down, which nobody can move.
    lost: BTreeMap<NodeId, u32>,
}

impl Forecast {
    pub(super) fn new(
        snapshot: &Snapshot,
        birth: &Birth,
        ring: &Ring,
        draft: &Draft,
    ) -> Result<Forecast, Error> {
        let wanted = Ring {
            nodes: draft.after.nodes.clone(),
            pins: draft.after.pins.clone(),
            ..ring.clone()
        };
        // A node that is down takes nothing; what it held is with others already, and comes home when it is back.
        let can_take = |id: &NodeId| snapshot.topic_server(id).is_some_and(|record| !record.leaving);
        let layout = Layout::new(birth, &wanted, can_take)?;
        let gives_all = |id: &NodeId| {
            let member = draft.after.nodes.iter().find(|member| member.id == *id);
            // It may own slots and is only not able to now: they stay.
            let stays = |member: &ringcast_proto::record::RingNode| {
                member.state == ringcast_proto::record::RingNodeState::Up && member.weight > 0.0
            };
            !member.is_some_and(stays)
        };

        let owners = owners(snapshot, birth, ring);
        let holder = |owner: &Option<NodeId>| match owner {
            None => Holder::Elsewhere,
            Some(id) => match layout.ring().number(id) {
                Some(number) => Holder::Node(number),
                None if gives_all(id) => Holder::Vacant,
                None => Holder::Elsewhere,
            },
        };
        let holders: Vec<Holder> = owners.iter().map(holder).collect();
        let mut takers: BTreeSet<u16> = draft
            .takers
            .iter()
            .filter_map(|id| layout.ring().number(id))
            .collect();
        if draft.is_rebalance {
            takers.extend(layout.starved(&holders, 10));
        }

        let mut forecast = Forecast {
            moves: Vec::new(),
            slots: birth.slots,
            counts: BTreeMap::new(),
            bounds: BTreeMap::new(),
            lost: BTreeMap::new(),
        };
        for member in draft.before.nodes.iter().chain(&draft.after.nodes) {
            forecast.counts.insert(member.id.clone(), (0, 0));
        }
        for (number, id) in (0..).zip(layout.ring().nodes()) {
            forecast.bounds.insert(id.clone(), layout.bound(number));
        }
        for owner in owners.iter().flatten() {
            let (before, after) = forecast.counts.entry(owner.clone()).or_default();
            (*before, *after) = (*before + 1, *after + 1);
        }
        for transfer in layout.rebalance(&holders, &takers) {
            let from = owners[usize::from(transfer.slot.0)].clone();
            if let (Some(from), Some(to)) = (from, layout.id(transfer.to)) {
                forecast.transfer(draft, transfer.slot, from, to.clone());
            }
        }
        Ok(forecast)
    }

    fn transfer(&mut self, draft: &Draft, slot: Slot, from: NodeId, to: NodeId) {
        if let Some((_, after)) = self.counts.get_mut(&from) {
            *after -= 1;
        }
        self.counts.entry(to.clone()).or_default().1 += 1;
        if draft.dead.contains(&from) {
            *self.lost.entry(from).or_default() += 1;
        } else {
            self.moves.push((slot, from, to));
        }
    }

    pub(super) fn shares(&self) -> Vec<PlanShare> {
        let share = |count: u32| f64::from(count) / f64::from(self.slots.max(1));
        let shares = self.counts.iter().map(|(id, (before, after))| PlanShare {
            id: id.clone(),
            slots_before: *before,
            slots_after: *after,
            before: share(*before),
            after: share(*after),
        });
        shares.collect()
    }

    pub(super) fn warnings(&self, draft: &Draft, loads: &BTreeMap<Slot, SlotLoad>) -> Vec<String> {
        let mut warnings = Vec::new();
        for id in &draft.dead {
            warnings.push(match self.lost.get(id) {
                Some(slots) => {
                    format!("{id} is down: its {slots} slots begin empty, what it alone held is lost")
                }
                None => format!("{id} is down: what it alone held is lost, its slots began empty elsewhere"),
            });
        }
        if self.bounds.len() < 2 {
            let left = self.bounds.keys().next().map_or("nobody", NodeId::as_str);
            warnings.push(format!(
                "only {left} is left to own slots: when it fails, nothing is served until it is back"
            ));
        }
        for (id, bound) in &self.bounds {
            let after = self.counts.get(id).map_or(0, |(_, after)| *after);
            if after > *bound && draft.after.pins.values().any(|pinned| pinned == id) {
                warnings.push(format!(
                    "{id} is to own {after} slots because of pins, more than 1.10 times its share ({bound})"
                ));
            }
        }
        for (slot, id) in &draft.unpinned {
            warnings.push(format!("slot {slot} is no longer pinned: {id} is removed"));
        }
        for (slot, id) in &draft.after.pins {
            if !self.bounds.contains_key(id) {
                warnings.push(format!(
                    "slot {slot} is pinned to {id}, which cannot own it now: it goes where the ring wants it"
                ));
            }
        }
        let unknown = self.moves.iter().filter(|(slot, ..)| !loads.contains_key(slot));
        let unknown = unknown.count();
        if unknown > 0 {
            let all = self.moves.len();
            warnings.push(format!(
                "what is in {unknown} of the {all} slots that move is not known: their owners did not say"
            ));
        }
        warnings
    }
}

/// Who owns each slot, or will once what is under way is done: the plan that runs, or a move.
fn owners(snapshot: &Snapshot, birth: &Birth, ring: &Ring) -> Vec<Option<NodeId>> {
    let mut owners = vec![None; usize::from(birth.slots)];
    for (slot, _, record) in snapshot.slots() {
        let target = record.moving.as_ref().map(|moving| &moving.target);
        let owner = target
            .filter(|target| snapshot.alive(target))
            .unwrap_or(&record.owner);
        if let Some(entry) = owners.get_mut(usize::from(slot.0)) {
            *entry = Some(owner.node.clone());
        }
    }
    let running = ring.plan.as_ref().and_then(|id| snapshot.plan(id));
    for planned in running.iter().flat_map(|plan| &plan.moves) {
        if let Some(entry @ Some(_)) = owners.get_mut(usize::from(planned.slot.0))
            && snapshot.topic_server(&planned.to).is_some()
        {
            *entry = Some(planned.to.clone());
        }
    }
    owners
}

//! Which slots need an owner, and who gets them: those the birth has not reached, and those whose owner is gone.
//!
//! *Invariant:* a slot whose owner lives, or whose record names a replica, is never touched.

use std::collections::BTreeSet;

use ringcast_proto::record::{Cause, Key, Record, Ring, RingNode, RingNodeState, SlotRecord};
use ringcast_proto::{Millis, NodeId, NodeRef, OwnerEpoch, Slot};

use super::view::{Person, Standing, View};
use super::{Planner, guards};
use crate::claim::SLOTS_PER_CHANGE;
use crate::placement::{Holder, Layout};
use crate::{Change, Expect, Guard, Revision};

/// Most changes at a time. What is left is found again in the snapshot that shows these.
const CHANGES_PER_ROUND: usize = 8;

/// A slot that gets an owner.
struct Grant<'a> {
    slot: Slot,
    to: NodeRef,
    /// The record it replaces; none where the birth had not written one.
    lost: Option<(Revision, &'a SlotRecord)>,
}

impl Planner {
    pub(super) fn place_slots(&mut self, view: &View<'_>, now: Millis) -> Vec<Change> {
        if view.is_whole() {
            return Vec::new();
        }
        let Some(layout) = self.eligible(view, now) else {
            return Vec::new();
        };

        let mut grants = Vec::new();
        let mut holders = Vec::with_capacity(view.standings.len());
        for (slot, standing) in (0..).map(Slot).zip(&view.standings) {
            let held_by = |id| layout.ring().number(id).map_or(Holder::Elsewhere, Holder::Node);
            holders.push(match standing {
                Standing::Unborn => Holder::Vacant,
                // Whoever will have it has no room for another in its place.
                Standing::Owned(held) => held_by(view.planned(slot).unwrap_or(&held.record.owner.node)),
                // A pair is never skipped while it may live.
                Standing::Lost(_, record) if record.replica.is_some() => Holder::Elsewhere,
                Standing::Lost(revision, record) => {
                    let back = reborn(view, &record.owner.node);
                    let until = match &back {
                        Some(node) => self.sightings.own_waits_until(&node.node),
                        None => self.sightings.others_wait_until(),
                    };
                    // Where a plan was taking it, it need not move again.
                    let planned = || view.planned(slot).filter(|to| layout.ring().number(to).is_some());
                    if now < until {
                        self.wake_at(until);
                        Holder::Elsewhere
                    } else if let Some(to) = back.or_else(|| view.life(planned()?)) {
                        let holder = held_by(&to.node);
                        let lost = Some((*revision, *record));
                        grants.push(Grant { slot, to, lost });
                        holder
                    } else {
                        Holder::Vacant
                    }
                }
            });
        }
        for (slot, node) in layout.fill(&holders) {
            let lost = match &view.standings[usize::from(slot.0)] {
                Standing::Lost(revision, record) => Some((*revision, *record)),
                Standing::Unborn | Standing::Owned(..) => None,
            };
            let life = layout.id(node).and_then(|id| view.life(id));
            grants.extend(life.map(|to| Grant { slot, to, lost }));
        }
        grants.sort_by_key(|grant| grant.slot);
        let rounds = grants.chunks(SLOTS_PER_CHANGE).take(CHANGES_PER_ROUND);
        rounds.map(|grants| self.grant(grants, view)).collect()
    }

    /// The nodes that may get slots: those past hold-down, and if there are none, those that are there, and if there are
    /// none of those either, even who is draining. Who is about to end would only lose them again.
    fn eligible(&self, view: &View<'_>, now: Millis) -> Option<Layout> {
        let stays = |id: &NodeId| {
            view.person(id)
                .is_some_and(|person| person.incarnation.is_some() && !person.is_leaving)
        };
        let past_hold_down = |id: &NodeId| stays(id) && self.sightings.is_target(id, now);
        let even_who_drains = || Ring {
            nodes: view
                .ring
                .nodes
                .iter()
                .map(|member| RingNode {
                    id: member.id.clone(),
                    weight: 1.0,
                    state: RingNodeState::Up,
                })
                .collect(),
            ..view.ring.clone()
        };
        let has_nodes = |layout: &Layout| !layout.ring().nodes().is_empty();
        let of = |layout: Result<Layout, _>| layout.ok().filter(has_nodes);
        of(Layout::new(view.birth, view.ring, past_hold_down))
            .or_else(|| of(Layout::new(view.birth, view.ring, stays)))
            .or_else(|| of(Layout::new(view.birth, &even_who_drains(), stays)))
    }

    fn grant(&mut self, grants: &[Grant<'_>], view: &View<'_>) -> Change {
        let targets: BTreeSet<&NodeRef> = grants.iter().map(|grant| &grant.to).collect();
        let gone: BTreeSet<&NodeRef> = grants
            .iter()
            .filter_map(|grant| grant.lost)
            .map(|(_, record)| &record.owner)
            .collect();
        let mut guards = guards(view.tenure);
        guards.extend(view.alive(targets));
        guards.extend(gone.into_iter().cloned().map(Guard::Gone));
        Change {
            expect: grants
                .iter()
                .map(|grant| (Key::Slot(grant.slot), grant.expect()))
                .collect(),
            guards,
            put: grants
                .iter()
                .map(|grant| (Key::Slot(grant.slot), Record::Slot(grant.record())))
                .collect(),
            delete: Vec::new(),
            op: self.op(&view.tenure.holder),
        }
    }
}

impl Grant<'_> {
    fn expect(&self) -> Expect {
        self.lost
            .map_or(Expect::Absent, |(revision, _)| Expect::Revision(revision))
    }

    /// A slot that begins empty: its base is its owner_epoch.
    fn record(&self) -> SlotRecord {
        let owner_epoch = self
            .lost
            .map_or(OwnerEpoch(0), |(_, record)| record.owner_epoch)
            .next();
        SlotRecord {
            owner_epoch,
            base: owner_epoch,
            owner: self.to.clone(),
            replica: None,
            moving: None,
            cause: if self.lost.is_some() {
                Cause::Fresh
            } else {
                Cause::Birth
            },
            rest: self
                .lost
                .map(|(_, record)| record.rest.clone())
                .unwrap_or_default(),
        }
    }
}

/// The new life of a lost owner, if it may have its slots back: it is registered, and is to own some.
fn reborn(view: &View<'_>, id: &NodeId) -> Option<NodeRef> {
    view.life(id)
        .filter(|_| view.person(id).is_some_and(Person::may_keep))
}

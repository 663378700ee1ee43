//! Which slots need an owner, and who gets them: those the birth has not reached, and those whose owner is gone.
//!
//! *Invariant:* a slot whose owner lives, or whose record names a replica, is never touched.

use std::collections::BTreeSet;

use ringcast_proto::record::{Birth, Cause, Key, Planner as Tenure, Record, Ring, RingNodeState, SlotRecord};
use ringcast_proto::{Millis, NodeId, NodeRef, OwnerEpoch, Slot};

use super::{Planner, guards, sightings};
use crate::claim::SLOTS_PER_CHANGE;
use crate::placement::{Holder, Layout};
use crate::{Change, Expect, Guard, Revision, Snapshot};

/// Most changes at a time. What is left is found again in the snapshot that shows these.
const CHANGES_PER_ROUND: usize = 8;

/// A slot that gets an owner.
struct Grant<'a> {
    slot: Slot,
    to: NodeRef,
    /// The record it replaces; none where the birth had not written one.
    lost: Option<(Revision, &'a SlotRecord)>,
}

/// Where a slot stands.
enum Standing<'a> {
    Unborn,
    Owned(&'a NodeRef),
    Lost(Revision, &'a SlotRecord),
}

impl Planner {
    pub(super) fn place_slots(
        &mut self,
        snapshot: &Snapshot,
        birth: &Birth,
        ring: &Ring,
        tenure: &Tenure,
        now: Millis,
    ) -> Vec<Change> {
        let standings = standings(snapshot, birth.slots);
        if standings
            .iter()
            .all(|standing| matches!(standing, Standing::Owned(_)))
        {
            return Vec::new();
        }
        let Some(layout) = self.layout(snapshot, birth, ring, now) else {
            return Vec::new();
        };

        let mut grants = Vec::new();
        let mut holders = Vec::with_capacity(standings.len());
        for (slot, standing) in (0..).map(Slot).zip(&standings) {
            let held_by = |id| layout.ring().number(id).map_or(Holder::Elsewhere, Holder::Node);
            holders.push(match standing {
                Standing::Unborn => Holder::Vacant,
                Standing::Owned(owner) => held_by(&owner.node),
                // A pair is never skipped while it may live.
                Standing::Lost(_, record) if record.replica.is_some() => Holder::Elsewhere,
                Standing::Lost(revision, record) => {
                    let back = reborn(snapshot, ring, &record.owner.node);
                    let until = match &back {
                        Some(node) => self.sightings.own_waits_until(&node.node),
                        None => self.sightings.others_wait_until(),
                    };
                    if now < until {
                        self.wake_at(until);
                        Holder::Elsewhere
                    } else if let Some(to) = back {
                        let holder = held_by(&to.node);
                        grants.push(Grant {
                            slot,
                            to,
                            lost: Some((*revision, record)),
                        });
                        holder
                    } else {
                        Holder::Vacant
                    }
                }
            });
        }
        for (slot, node) in layout.fill(&holders) {
            let lost = match &standings[usize::from(slot.0)] {
                Standing::Lost(revision, record) => Some((*revision, *record)),
                Standing::Unborn | Standing::Owned(_) => None,
            };
            grants.extend(
                layout
                    .id(node)
                    .and_then(|id| alive(snapshot, id))
                    .map(|to| Grant { slot, to, lost }),
            );
        }
        grants.sort_by_key(|grant| grant.slot);
        let rounds = grants.chunks(SLOTS_PER_CHANGE).take(CHANGES_PER_ROUND);
        rounds.map(|grants| self.grant(grants, tenure)).collect()
    }

    /// The nodes that may get slots: those past hold-down, and if there are none, those that are there at all.
    fn layout(&self, snapshot: &Snapshot, birth: &Birth, ring: &Ring, now: Millis) -> Option<Layout> {
        let servers: BTreeSet<&NodeId> = sightings::topic_servers(snapshot).map(|(id, _)| id).collect();
        let past_hold_down = |id: &NodeId| servers.contains(id) && self.sightings.is_target(id, now);
        let layout = Layout::new(birth, ring, past_hold_down).ok()?;
        if layout.ring().nodes().is_empty() {
            return Layout::new(birth, ring, |id| servers.contains(id)).ok();
        }
        Some(layout)
    }

    fn grant(&mut self, grants: &[Grant<'_>], tenure: &Tenure) -> Change {
        let targets: BTreeSet<&NodeRef> = grants.iter().map(|grant| &grant.to).collect();
        let gone: BTreeSet<&NodeRef> = grants
            .iter()
            .filter_map(|grant| grant.lost)
            .map(|(_, record)| &record.owner)
            .collect();
        let mut guards = guards(tenure);
        guards.extend(
            targets
                .into_iter()
                .filter(|node| **node != tenure.holder)
                .cloned()
                .map(Guard::Alive),
        );
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
            op: self.op(&tenure.holder),
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

fn standings(snapshot: &Snapshot, slots: u16) -> Vec<Standing<'_>> {
    let mut standings: Vec<Standing<'_>> = (0..slots).map(|_| Standing::Unborn).collect();
    for (slot, revision, record) in snapshot.slots() {
        if let Some(standing) = standings.get_mut(usize::from(slot.0)) {
            let lives = snapshot.alive(&record.owner);
            *standing = if lives {
                Standing::Owned(&record.owner)
            } else {
                Standing::Lost(revision, record)
            };
        }
    }
    standings
}

/// The present life of a node, if it is registered.
fn alive(snapshot: &Snapshot, id: &NodeId) -> Option<NodeRef> {
    snapshot.node(id).map(|record| NodeRef {
        node: id.clone(),
        incarnation: record.incarnation,
    })
}

/// The new life of a lost owner, if it may have its slots back: it is registered, and the ring still wants it to own.
fn reborn(snapshot: &Snapshot, ring: &Ring, id: &NodeId) -> Option<NodeRef> {
    let wanted = |node: &&ringcast_proto::record::RingNode| node.id == *id && node.state == RingNodeState::Up;
    ring.nodes.iter().find(wanted).filter(|node| node.weight > 0.0)?;
    sightings::topic_servers(snapshot)
        .find(|(server, _)| *server == id)
        .map(|(id, incarnation)| NodeRef {
            node: id.clone(),
            incarnation,
        })
}

//! Whom the planner saw when: the only thing about the cluster that the records do not say.
//!
//! *Invariant:* it is a caution and no truth. What it holds can delay a take-over, by seconds; it can never cause one,
//! and a planner that has seen nothing yet is merely less careful.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::record::Role;
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef};

use crate::Snapshot;

/// A node that was lost is a target again after so long: one that comes and goes must not take slots along.
const HOLD_DOWN: Duration = Duration::from_secs(5);

/// A node that is gone for so long is not waited for by a plan that wanted to give it slots.
const PATIENCE: Duration = Duration::from_secs(5);

/// So long a node that lost its lease, but not its memory, has to claim its slots before they are begun empty.
const CLAIM_GRACE: Duration = Duration::from_secs(1);

/// More than half of the topic servers lost within this time is a fault of the network or of the store.
const LOSS_WINDOW: Duration = Duration::from_secs(3);

/// How long slots then wait before they are begun empty: their owners may well come back and claim them.
const BRAKE: Duration = Duration::from_secs(5);

/// The registered topic servers, in id order.
pub(super) fn topic_servers(snapshot: &Snapshot) -> impl Iterator<Item = (&NodeId, Incarnation)> {
    let servers = snapshot
        .nodes()
        .filter(|(_, record)| record.role == Role::TopicServer);
    servers.map(|(id, record)| (id, record.incarnation))
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Sightings {
    nodes: BTreeMap<NodeId, Sighting>,
    /// When each node last lost its lease, for [`LOSS_WINDOW`].
    losses: BTreeMap<NodeId, Millis>,
    /// Since when each member of the ring is not registered.
    gone: BTreeMap<NodeId, Millis>,
    newest: Millis,
    brake_until: Millis,
    cold_until: Millis,
    is_warm: bool,
}

#[derive(Debug, Clone)]
struct Sighting {
    /// None while it is not registered.
    incarnation: Option<Incarnation>,
    /// When this incarnation was first seen.
    since: Millis,
    /// Whether an earlier incarnation was seen to go without having said so.
    was_lost: bool,
    /// Whether this incarnation said that it would go.
    is_leaving: bool,
}

impl Sightings {
    pub(super) fn observe(&mut self, snapshot: &Snapshot, now: Millis) {
        // A snapshot without a record is one that was not loaded yet, and nothing to begin with.
        if !self.is_warm && !snapshot.records.is_empty() {
            self.is_warm = true;
            self.begin(snapshot, now);
        }
        self.losses.retain(|_, at| now.since(*at) < LOSS_WINDOW);
        let mut lost = Vec::new();
        for (id, sighting) in &mut self.nodes {
            let seen = sighting.incarnation;
            if seen.is_some_and(|incarnation| {
                !snapshot.alive(&NodeRef {
                    node: id.clone(),
                    incarnation,
                })
            }) {
                sighting.incarnation = None;
                // Who said so before it went is no loss: it may be back the next moment, with a newer build.
                sighting.was_lost = !sighting.is_leaving;
                if sighting.was_lost {
                    lost.push(id.clone());
                }
            }
        }
        for (id, incarnation) in topic_servers(snapshot) {
            let unseen = || Sighting {
                incarnation: None,
                since: now,
                was_lost: false,
                is_leaving: false,
            };
            let sighting = self.nodes.entry(id.clone()).or_insert_with(unseen);
            if sighting.incarnation != Some(incarnation) {
                sighting.incarnation = Some(incarnation);
                sighting.since = now;
                self.newest = now;
            }
            sighting.is_leaving = snapshot.node(id).is_some_and(|record| record.leaving);
        }
        if !lost.is_empty() {
            self.losses.extend(lost.into_iter().map(|id| (id, now)));
            let others = self
                .nodes
                .iter()
                .filter(|(id, node)| node.incarnation.is_some() && !self.losses.contains_key(*id));
            if self.losses.len() > others.count() {
                self.brake_until = now + BRAKE;
            }
        }
        let members = snapshot.ring().map_or(&[][..], |ring| &ring.nodes);
        self.gone
            .retain(|id, _| members.iter().any(|member| member.id == *id) && snapshot.node(id).is_none());
        for member in members
            .iter()
            .filter(|member| snapshot.node(&member.id).is_none())
        {
            if !self.gone.contains_key(&member.id) {
                self.gone.insert(member.id.clone(), now);
            }
        }
        // Only nodes of the ring are targets, so only they can be held down.
        self.nodes
            .retain(|id, node| node.incarnation.is_some() || members.iter().any(|member| member.id == *id));
    }

    /// A planner that begins to look while most of the ring is missing has come up together with the others, or before
    /// them: that is a loss nobody saw.
    fn begin(&mut self, snapshot: &Snapshot, now: Millis) {
        let members = snapshot.ring().map_or(&[][..], |ring| &ring.nodes);
        let missing = members
            .iter()
            .filter(|member| snapshot.node(&member.id).is_none());
        if missing.count() * 2 > members.len() {
            self.cold_until = now + BRAKE;
        }
    }

    /// When a topic server was last seen for the first time.
    pub(super) fn newest(&self) -> Millis {
        self.newest
    }

    /// Whether a node of this id may be given slots that were not its own.
    pub(super) fn is_target(&self, id: &NodeId, now: Millis) -> bool {
        let node = self.nodes.get(id);
        node.is_some_and(|node| node.incarnation.is_some()) && self.held_until(id, now).is_none()
    }

    /// Until when a node that is there, and was lost, is no target.
    pub(super) fn held_until(&self, id: &NodeId, now: Millis) -> Option<Millis> {
        let node = self.nodes.get(id)?;
        let until = node.since + HOLD_DOWN;
        (node.incarnation.is_some() && node.was_lost && now < until).then_some(until)
    }

    /// When a member of the ring that is gone is no longer waited for; none while it is there.
    pub(super) fn given_up_at(&self, id: &NodeId) -> Option<Millis> {
        self.gone.get(id).map(|since| *since + PATIENCE)
    }

    /// Until when a slot of a lost node waits before another node begins it empty.
    pub(super) fn others_wait_until(&self) -> Millis {
        self.brake_until.max(self.cold_until)
    }

    /// Until when a slot of a node that is back waits before that node begins it empty.
    pub(super) fn own_waits_until(&self, id: &NodeId) -> Millis {
        let claimed_by = self
            .nodes
            .get(id)
            .map_or(Millis(0), |node| node.since + CLAIM_GRACE);
        claimed_by.max(self.brake_until)
    }
}

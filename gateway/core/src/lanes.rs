//! One call in flight to each node; what arrives meanwhile is the next call's batch.
//!
//! *Invariant:* between [`Lanes::take`] and [`Lanes::done`] or [`Lanes::failed`] a node gets no second call, so order
//! holds without numbers on the wire.

use std::collections::BTreeMap;

use ringcast_proto::{Millis, NodeRef};

use crate::backoff::Jitter;
use crate::gateway::CallId;

#[derive(Debug, Default)]
struct Lane {
    in_flight: Option<CallId>,
    failures: u32,
    not_before: Millis,
}

/// The lanes of one kind of call.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<NodeRef, Lane>,
}

impl Lanes {
    /// From when on a call may leave for this node; none while one is in flight.
    pub(crate) fn free_at(&self, node: &NodeRef) -> Option<Millis> {
        match self.lanes.get(node) {
            None => Some(Millis(0)),
            Some(lane) => lane.in_flight.is_none().then_some(lane.not_before),
        }
    }

    /// A call leaves.
    pub(crate) fn take(&mut self, node: &NodeRef, call: CallId) {
        self.lanes.entry(node.clone()).or_default().in_flight = Some(call);
    }

    /// A call was answered.
    pub(crate) fn done(&mut self, node: &NodeRef, call: CallId) {
        if let Some(lane) = self
            .lanes
            .get_mut(node)
            .filter(|lane| lane.in_flight == Some(call))
        {
            *lane = Lane::default();
        }
    }

    /// A call was not answered: its outcome is unknown, and the node gets a pause.
    pub(crate) fn failed(&mut self, node: &NodeRef, call: CallId, now: Millis, jitter: &mut Jitter) {
        if let Some(lane) = self
            .lanes
            .get_mut(node)
            .filter(|lane| lane.in_flight == Some(call))
        {
            lane.in_flight = None;
            lane.not_before = now + jitter.delay(lane.failures);
            lane.failures = lane.failures.saturating_add(1);
        }
    }

    /// Forgets what is in flight, whose answers no longer count.
    pub(crate) fn clear(&mut self) {
        self.lanes.clear();
    }

    /// Forgets nodes that `keep` does not know and that nothing is in flight to.
    pub(crate) fn retain(&mut self, keep: impl Fn(&NodeRef) -> bool) {
        self.lanes
            .retain(|node, lane| lane.in_flight.is_some() || keep(node));
    }
}

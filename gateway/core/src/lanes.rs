//! One call in flight to each node; what arrives meanwhile is the next call's batch.
//!
//! *Invariant:* between [`Lanes::take`] and [`Lanes::done`] or [`Lanes::failed`] a node gets no second call, so order
//! holds without numbers on the wire.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::{Millis, NodeRef};

use crate::backoff::Jitter;
use crate::gateway::CallId;

/// Longer than owners that are gone are named for.
const FAILED_KEPT: Duration = Duration::from_secs(5);

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

    /// Forgets nodes that `keep` does not know, that nothing is in flight to, and that have not failed of late: a slot may
    /// name its owner for seconds after that is gone, and a call to it fails at once, again and again.
    pub(crate) fn retain(&mut self, now: Millis, keep: impl Fn(&NodeRef) -> bool) {
        let failed_of_late = |lane: &Lane| lane.failures > 0 && lane.not_before + FAILED_KEPT > now;
        self.lanes
            .retain(|node, lane| lane.in_flight.is_some() || failed_of_late(lane) || keep(node));
    }
}

#[cfg(test)]
mod tests {
    use ringcast_proto::{Incarnation, NodeId};

    use super::*;

    #[test]
    fn a_node_that_is_gone_keeps_its_pause_after_a_failure_and_is_forgotten_later() {
        let node = NodeRef {
            node: NodeId::parse("ts-1").unwrap(),
            incarnation: Incarnation(1),
        };
        let (mut lanes, mut jitter, mut now) = (Lanes::default(), Jitter::new(7), Millis(1_000));
        for call in 1..=8 {
            now = lanes.free_at(&node).unwrap().max(now);
            lanes.take(&node, CallId(call));
            lanes.failed(&node, CallId(call), now, &mut jitter);
            lanes.retain(now, |_| false);
        }
        assert!(now > Millis(1_100), "8 calls in {now:?}");
        lanes.retain(now + Duration::from_secs(6), |_| false);
        assert!(lanes.lanes.is_empty());
    }
}

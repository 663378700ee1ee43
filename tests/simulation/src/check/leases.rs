//! Whose lease may end: that of a node that was killed, paused, cut off from the store, or gave it back. Never that of a
//! node that nothing happened to.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::Incarnation;

use crate::network::Peer;
use crate::time::Time;

/// A lease is at most 3 s long, and clocks are 1 % wrong; what happened longer ago does not explain its end.
const LATELY: Duration = Duration::from_millis(4_000);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    harmed_until: BTreeMap<Peer, Time>,
    /// The lives that processes believe to be in.
    lives: BTreeMap<Peer, Incarnation>,
}

impl Leases {
    /// Something came between the node and the store.
    pub(crate) fn harmed(&mut self, node: Peer, until: Time) {
        let harmed = self.harmed_until.entry(node).or_default();
        *harmed = (*harmed).max(until);
    }

    /// The process knows that it is in this life.
    pub(crate) fn lives(&mut self, node: Peer, life: Incarnation) {
        self.lives.insert(node, life);
    }

    /// The process is no more: nobody keeps its lease, however long that lasts.
    pub(crate) fn dies(&mut self, node: Peer) {
        self.lives.remove(&node);
    }

    /// A life's lease has ended.
    ///
    /// # Errors
    /// Why it must not have.
    pub(crate) fn may_end(&self, node: Peer, life: Incarnation, now: Time) -> Result<(), String> {
        let harmed = self.harmed_until.get(&node);
        if self.lives.get(&node) != Some(&life) || harmed.is_some_and(|until| now.since(*until) <= LATELY) {
            return Ok(());
        }
        Err(format!(
            "the lease of {node:?} ended, and nothing had happened to it since {harmed:?}"
        ))
    }
}

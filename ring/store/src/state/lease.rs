//! When each registered node's lease runs out.
//!
//! *Invariant:* a lease found overdue is over: it cannot be renewed, though its records may take a moment to go.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef};

/// The deadlines of all leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    by_node: BTreeMap<NodeId, Deadline>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Deadline {
    incarnation: Incarnation,
    ttl: Duration,
    at: Millis,
    over: bool,
}

impl Leases {
    /// A node registered.
    pub fn grant(&mut self, node: &NodeRef, ttl: Duration, until: Millis) {
        let deadline = Deadline {
            incarnation: node.incarnation,
            ttl,
            at: until,
            over: false,
        };
        self.by_node.insert(node.node.clone(), deadline);
    }

    /// A node's record is gone.
    pub fn remove(&mut self, node: &NodeId) {
        self.by_node.remove(node);
    }

    /// Another TTL from `now` on; `false` if this life's lease is over or never was. Being late alone does not end a
    /// lease: what ends it is [`Leases::overdue`] having said so.
    pub fn renew(&mut self, node: &NodeRef, now: Millis) -> bool {
        match self.by_node.get_mut(&node.node) {
            Some(deadline) if deadline.incarnation == node.incarnation && !deadline.over => {
                deadline.at = deadline.at.max(now + deadline.ttl);
                true
            }
            _ => false,
        }
    }

    /// The lives that are over by `now`, in id order; it names them until their records are gone.
    pub fn overdue(&mut self, now: Millis) -> Vec<NodeRef> {
        let mut overdue = Vec::new();
        for (node, deadline) in &mut self.by_node {
            // Not yet in the very millisecond: time is cut to milliseconds, and no lease may end before its TTL.
            deadline.over |= deadline.at < now;
            if deadline.over {
                overdue.push(NodeRef {
                    node: node.clone(),
                    incarnation: deadline.incarnation,
                });
            }
        }
        overdue
    }

    /// No lease that is not over ends before its TTL and `grace` from `now`: for a store that could not listen.
    pub fn extend(&mut self, now: Millis, grace: Duration) {
        for deadline in self.by_node.values_mut().filter(|deadline| !deadline.over) {
            deadline.at = deadline.at.max(now + deadline.ttl + grace);
        }
    }

    /// When the next one will be overdue.
    #[must_use]
    pub fn next(&self) -> Option<Millis> {
        let running = self.by_node.values().filter(|deadline| !deadline.over);
        running
            .map(|deadline| Millis(deadline.at.0.saturating_add(1)))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(incarnation: u64) -> NodeRef {
        NodeRef {
            node: "ts-1".parse().unwrap(),
            incarnation: Incarnation(incarnation),
        }
    }

    fn granted() -> Leases {
        let mut leases = Leases::default();
        leases.grant(&node(7), Duration::from_secs(2), Millis(2000));
        leases
    }

    #[test]
    fn a_renewal_counts_from_when_the_store_hears_it() {
        let mut leases = granted();
        assert!(leases.renew(&node(7), Millis(1500)));
        assert_eq!(leases.overdue(Millis(3500)), []);
        assert_eq!(leases.overdue(Millis(3501)), [node(7)]);
    }

    #[test]
    fn a_lease_that_was_called_over_is_never_renewed() {
        let mut leases = granted();
        assert_eq!(leases.overdue(Millis(2001)), [node(7)]);
        assert!(!leases.renew(&node(7), Millis(2001)));
        leases.extend(Millis(2001), Duration::from_secs(3));
        assert_eq!(leases.overdue(Millis(2002)), [node(7)]);
        assert_eq!(leases.next(), None);
    }

    #[test]
    fn another_life_cannot_renew() {
        let mut leases = granted();
        assert!(!leases.renew(&node(8), Millis(100)));
        assert!(!leases.renew(&node(6), Millis(100)));
        assert_eq!(leases.next(), Some(Millis(2001)));
    }

    #[test]
    fn an_extension_never_shortens() {
        let mut leases = granted();
        leases.extend(Millis(100), Duration::from_secs(3));
        assert_eq!(leases.next(), Some(Millis(5101)));
        leases.extend(Millis(200), Duration::ZERO);
        assert_eq!(leases.next(), Some(Millis(5101)));
    }
}

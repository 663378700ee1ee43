//! The whole store of one process: records, lease deadlines, watch window.

use std::time::Duration;

use ringcast_proto::{Incarnation, Millis, NodeRef};
use ringcast_ring::{Change, Changed, Op, Refused, Revision, Snapshot};

use super::{Decided, Durable, Leases, Step, Window};
use crate::store::{Lease, NodeInfo, RegisterRefused, RenewError};

/// How many changes a watch may lag behind before it has to load again. A cluster of 1,024 slots is born in 17.
pub const WINDOW_LEN: usize = 1024;

/// What every node gets on top of its TTL after a restart of the store, to find it again.
const RESTART_GRACE: Duration = Duration::from_secs(3);

/// A ring store.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    durable: Durable,
    leases: Leases,
    window: Window,
}

impl Store {
    /// A store that goes on from `durable` (which may be empty) after a restart: nobody's deadline is known, so every
    /// registered node has its TTL and three seconds from `now`. It keeps `window_len` changes for watches.
    #[must_use]
    pub fn new(durable: Durable, window_len: usize, now: Millis) -> Store {
        let mut leases = Leases::default();
        for granted in durable.leases() {
            leases.grant(&granted.node, granted.ttl, now + granted.ttl + RESTART_GRACE);
        }
        let window = Window::new(durable.snapshot().revision, window_len);
        Store {
            durable,
            leases,
            window,
        }
    }

    /// Every record.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.durable.snapshot()
    }

    /// Everything a restart must find again.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// The present revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.snapshot().revision
    }

    /// Up to `len_max` changes after `after`; `None`: load again.
    #[must_use]
    pub fn changes_after(&self, after: Revision, len_max: usize) -> Option<Vec<Changed>> {
        self.window.after(after, len_max)
    }

    /// Carries out `change`, or nothing of it.
    ///
    /// # Errors
    /// [`Refused::Conflict`], [`Refused::Guard`] or [`Refused::Full`].
    pub fn compare_and_swap(&mut self, change: &Change, now: Millis) -> Result<Revision, Refused> {
        Ok(match self.durable.change(change)? {
            Decided::Already(revision) => revision,
            Decided::Step(step) => self.commit(step, now),
        })
    }

    /// Registers `node`, whose lease begins `now`.
    ///
    /// # Errors
    /// [`RegisterRefused::Taken`] or [`RegisterRefused::Full`].
    pub fn register(&mut self, node: &NodeInfo, op: &Op, now: Millis) -> Result<Lease, RegisterRefused> {
        let revision = match self.durable.register(node, op)? {
            Decided::Already(revision) => revision,
            Decided::Step(step) => self.commit(step, now),
        };
        let node_ref = NodeRef {
            node: node.id.clone(),
            incarnation: Incarnation(revision.0),
        };
        self.go_on_registered(&node_ref, now)?;
        Ok(Lease {
            node: node_ref,
            ttl: node.ttl,
        })
    }

    /// Before a registration is answered: its lease goes on for its TTL from `now`. It may have been granted long ago,
    /// to a question whose answer was lost, while whoever is answered counts from when it asked last.
    ///
    /// # Errors
    /// [`RegisterRefused`], if that life is over: asked for again, the same `op` begins the next.
    pub fn go_on_registered(&mut self, node: &NodeRef, now: Millis) -> Result<(), RegisterRefused> {
        if self.leases.renew(node, now) {
            return Ok(());
        }
        Err(match self.snapshot().node(&node.node) {
            Some(holder) => RegisterRefused::Taken(Box::new(holder.clone())),
            None => RegisterRefused::Unknown(format!("{node} ended before it was answered")),
        })
    }

    /// The lease of this life goes on for its TTL from `now`.
    ///
    /// # Errors
    /// [`RenewError::Lost`].
    pub fn renew(&mut self, node: &NodeRef, now: Millis) -> Result<(), RenewError> {
        if self.leases.renew(node, now) {
            Ok(())
        } else {
            Err(RenewError::Lost)
        }
    }

    /// Ends this life, if it is not over.
    pub fn release(&mut self, node: &NodeRef, now: Millis) {
        if let Some(step) = self.durable.end(node) {
            self.commit(step, now);
        }
    }

    /// Ends every life whose lease ran out, each at a revision of its own.
    pub fn expire(&mut self, now: Millis) {
        for node in self.overdue(now) {
            self.release(&node, now);
        }
    }

    /// The lives whose lease ran out. From now on none of them can be renewed; their records go when whoever asked
    /// commits their [`Durable::end`].
    pub fn overdue(&mut self, now: Millis) -> Vec<NodeRef> {
        self.leases.overdue(now)
    }

    /// When the next lease runs out.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Millis> {
        self.leases.next()
    }

    /// The store could not listen for a while and cannot tell who tried to renew: nobody's lease ends before its TTL
    /// from `now`.
    pub fn resume(&mut self, now: Millis) {
        self.leases.extend(now, Duration::ZERO);
    }

    /// Applies a step that was decided on the records as they are, here or in a copy of them.
    pub fn commit(&mut self, step: Step, now: Millis) -> Revision {
        self.durable.apply(&step);
        for (key, stored) in &step.changed.records {
            if let (ringcast_proto::record::Key::Node(node), None) = (key, stored) {
                self.leases.remove(node);
            }
        }
        if let Some(granted) = &step.granted {
            self.leases.grant(&granted.node, granted.ttl, now + granted.ttl);
        }
        let revision = step.changed.revision;
        self.window.push(step.changed);
        revision
    }
}

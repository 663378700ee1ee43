//! What this gateway knows of the cluster: who owns what, who it is itself, and whom it reaches.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use arc_swap::ArcSwapOption;
use ringcast_proto::{Incarnation, NodeRef, v1};
use ringcast_ring::SlotTable;
use ringcast_ring_store::{LeaseView, Mirror, Standing, clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;

/// Shared by everything that calls, is called, or reports.
#[derive(Debug)]
pub(crate) struct Cluster {
    lease: LeaseView,
    mirror: Mirror,
    table: ArcSwapOption<SlotTable>,
    reached: Mutex<BTreeSet<NodeRef>>,
}

/// Why a call between nodes is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("call without a header")]
    NoHeader,
    #[error("no ring yet")]
    NoRing,
    #[error("another cluster: birth digest {theirs:016x}, mine is {mine:016x}")]
    Birth { theirs: u64, mine: u64 },
    #[error("call to incarnation {theirs}, mine is {mine}")]
    Incarnation { theirs: u64, mine: u64 },
}

impl Cluster {
    pub(crate) fn new(lease: LeaseView, mirror: Mirror) -> Cluster {
        Cluster {
            lease,
            mirror,
            table: ArcSwapOption::empty(),
            reached: Mutex::default(),
        }
    }

    /// This gateway in its present life.
    pub(crate) fn node(&self) -> NodeRef {
        self.lease.node()
    }

    pub(crate) fn store_connected(&self) -> bool {
        self.mirror.connected()
    }

    /// Calls go by this table from now on.
    pub(crate) fn show(&self, table: Arc<SlotTable>) {
        self.table.store(Some(table));
    }

    /// The header of a call to `node`; none before there is a ring.
    pub(crate) fn header(&self, node: &NodeRef) -> Option<v1::CallHeader> {
        let birth_digest = self.table.load().as_ref()?.birth_digest();
        let me = self.node();
        Some(v1::CallHeader {
            birth_digest,
            from: me.node.as_str().to_owned(),
            from_incarnation: me.incarnation.0,
            to_incarnation: node.incarnation.0,
        })
    }

    /// Whether a call was meant for this life of this node, by a node of this cluster.
    pub(crate) fn check(&self, header: Option<&v1::CallHeader>) -> Result<(), Mismatch> {
        let header = header.ok_or(Mismatch::NoHeader)?;
        let mine = self.table.load().as_ref().ok_or(Mismatch::NoRing)?.birth_digest();
        if header.birth_digest != mine {
            return Err(Mismatch::Birth {
                theirs: header.birth_digest,
                mine,
            });
        }
        let mine = self.node().incarnation.0;
        if header.to_incarnation != mine {
            return Err(Mismatch::Incarnation {
                theirs: header.to_incarnation,
                mine,
            });
        }
        Ok(())
    }

    /// `node` has answered.
    pub(crate) fn reached(&self, node: NodeRef) {
        self.reached_nodes().insert(node);
    }

    /// There is no lane to `node` any more: the next one begins with a greeting.
    pub(crate) fn lane_gone(&self, node: &NodeRef) {
        self.reached_nodes().remove(node);
    }

    #[cfg(test)]
    pub(crate) fn has_reached(&self, node: &NodeRef) -> bool {
        self.reached_nodes().contains(node)
    }

    fn reached_nodes(&self) -> MutexGuard<'_, BTreeSet<NodeRef>> {
        self.reached
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.lease.valid(clock::now()) {
            reasons.push("not registered: no lease from the ring store".to_owned());
        }
        let table = self.table.load();
        let Some(table) = table.as_ref() else {
            reasons
                .push("no ring yet: it is born when the expected topic servers have registered".to_owned());
            return reasons;
        };
        if !table.is_whole() {
            reasons.push("some slots have no owner that is registered".to_owned());
        }
        let reached = self.reached_nodes();
        for owner in table.owners().iter().filter(|owner| !reached.contains(owner)) {
            reasons.push(format!("topic server {} has not answered yet", owner.node));
        }
        reasons
    }
}

/// Whether a gateway can do its work, to be asked at any time, also before it runs and after.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    cluster: Arc<OnceLock<Arc<Cluster>>>,
    draining: CancellationToken,
}

impl Readiness {
    pub(crate) fn new(draining: CancellationToken) -> Readiness {
        Readiness {
            cluster: Arc::default(),
            draining,
        }
    }

    pub(crate) fn joined(&self, cluster: Arc<Cluster>) {
        // A gateway runs once; a second cluster cannot come.
        self.cluster.set(cluster).ok();
    }

    /// Why it cannot do its work now; empty when it can.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        if self.draining.is_cancelled() {
            return vec!["shutting down".to_owned()];
        }
        match self.cluster.get() {
            Some(cluster) => cluster.reasons(),
            None => vec!["not registered yet".to_owned()],
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }
}

/// Makes a table of every snapshot and shows it to everybody, the hub last.
pub(crate) async fn follow(cluster: Arc<Cluster>, hub: Hub) {
    let mut snapshots = cluster.mirror.subscribe();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        if let Some(table) = SlotTable::from_snapshot(&snapshot).map(Arc::new) {
            let news = supersedes(&table, cluster.table.load().as_deref());
            if news {
                cluster.show(Arc::clone(&table));
                if hub.table(table).await.is_err() {
                    return;
                }
            }
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Whether `table` is to be shown in place of `shown`. A load that puts right what a watch missed is of the revision the
/// watch had come to, and says something else.
fn supersedes(table: &SlotTable, shown: Option<&SlotTable>) -> bool {
    shown.is_none_or(|shown| shown.revision() <= table.revision() && shown != table)
}

/// Tells the hub of every life of this node after the one it began with.
pub(crate) async fn stand(mut standing: watch::Receiver<Standing>, first: Incarnation, hub: Hub) {
    let mut told = first;
    loop {
        let now = *standing.borrow_and_update();
        if let Standing::Held(incarnation) = now
            && incarnation != told
        {
            if hub.registered(incarnation).await.is_err() {
                return;
            }
            told = incarnation;
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
mod tests {
    use ringcast_proto::record::{Birth, FORMAT, Key, Record};
    use ringcast_ring::{Op, Revision, Snapshot, Stored};

    use super::*;

    fn table(revision: u64, seed: u64) -> SlotTable {
        let birth = Birth {
            format: FORMAT,
            cluster_id: "c".to_owned(),
            slots: 1,
            seed,
            rest: Default::default(),
        };
        let (revision, op, record) = (Revision(revision), Op(String::new()), Record::Birth(birth));
        let stored = Stored { revision, op, record };
        let snapshot = Snapshot {
            revision,
            records: [(Key::Birth, stored)].into_iter().collect(),
        };
        SlotTable::from_snapshot(&snapshot).unwrap()
    }

    #[test]
    fn a_table_put_right_at_the_same_revision_is_shown() {
        let shown = table(5, 1);
        assert!(supersedes(&table(5, 2), Some(&shown)));
        assert!(supersedes(&table(6, 1), Some(&shown)));
        assert!(supersedes(&shown, None));
        assert!(!supersedes(&table(5, 1), Some(&shown)), "nothing new");
        assert!(!supersedes(&table(4, 2), Some(&shown)), "it never goes back");
    }
}

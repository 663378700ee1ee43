//! What every ring store can do.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use ringcast_proto::record::NodeRecord;
use ringcast_proto::{NodeId, NodeRef};
use ringcast_ring::{Change, Changed, Op, Refused, Revision, Snapshot};

/// The most conditions, and the most puts and deletes, of one change: etcd's default limit for a transaction.
pub const OPS_MAX: usize = 128;

/// A watch: ends when the store can no longer be heard; load, then watch again.
pub type Watch = Pin<Box<dyn Stream<Item = Watched> + Send>>;

/// Compare-and-swap, leases and a watch over the records of one cluster.
///
/// Every call ends by itself within a second or so, whatever the store does. Dropping a call leaves its outcome unknown.
pub trait RingStore: Clone + Send + Sync + 'static {
    /// Every record, at one revision.
    fn load(&self) -> impl Future<Output = Result<Snapshot, Unavailable>> + Send;

    /// Carries out `change`, all of it or nothing. A repeated change (same [`Op`]) that was done answers the revision
    /// it was done at as long as every record it put still stands; once one was overwritten it is a conflict.
    fn compare_and_swap(&self, change: Change) -> impl Future<Output = Result<Revision, Refused>> + Send;

    /// What changed after revision `after`, in order and without holes.
    fn watch(&self, after: Revision) -> Watch;

    /// Registers a node whose id nobody holds. Its incarnation is the revision of the registration. `op` is unique;
    /// the same registration with the same `op` is the same one, so that a lost answer can be asked for again.
    fn register(
        &self,
        node: &NodeInfo,
        op: &Op,
    ) -> impl Future<Output = Result<Lease, RegisterRefused>> + Send;

    /// Makes the lease live for another TTL from the moment the store hears this. How long the caller may rely on it
    /// is the caller's to reckon, from when it *sent* this.
    fn renew(&self, lease: &Lease) -> impl Future<Output = Result<(), RenewError>> + Send;

    /// Ends the lease: its node record goes, and the planner record if it held that. Ending one that is over is fine.
    fn release(&self, lease: &Lease) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What a watch says.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// The next revision.
    Changed(Changed),
    /// Nothing new up to this revision. At least once a second, so that silence means the store is away.
    Progress(Revision),
    /// The revision asked for is no longer kept: load, and watch from there. The watch ends.
    Resync,
}

/// A node that wants to register.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeInfo {
    /// Its id.
    pub id: NodeId,
    /// What others shall read; the incarnation in it is replaced by the one given.
    pub record: NodeRecord,
    /// How long the store keeps it without a renewal. Whole seconds from 2 work everywhere (etcd's floor).
    pub ttl: Duration,
}

/// A registered life of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Who, in which life.
    pub node: NodeRef,
    /// As granted, which may be more than was asked for.
    pub ttl: Duration,
}

/// The store was not reached, or did not answer; nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ring store is not reachable: {0}")]
pub struct Unavailable(pub String);

/// Why a node is not registered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RegisterRefused {
    /// The id is held: this is the holder's record.
    #[error("the id is taken by incarnation {} at {}", .0.incarnation, .0.advertise)]
    Taken(Box<NodeRecord>),
    /// The store has no room. Certainly not registered.
    #[error("the ring store has no room for changes")]
    Full,
    /// The store was not reached. Certainly not registered.
    #[error("the ring store is not reachable: {0}")]
    Unavailable(String),
    /// Perhaps registered: ask again with the same `op`.
    #[error("the outcome of the registration is unknown: {0}")]
    Unknown(String),
}

/// Why a lease was not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenewError {
    /// Over, for ever: stop, and register anew.
    #[error("the lease is lost")]
    Lost,
    /// Perhaps renewed: try again; until it succeeds the last success counts.
    #[error("the outcome of the renewal is unknown: {0}")]
    Unknown(String),
}

/// A name for a change that no other change has.
#[must_use]
pub fn fresh_op() -> Op {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).expect("the operating system has random bytes");
    Op(format!("{:032x}", u128::from_le_bytes(random)))
}

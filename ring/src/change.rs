//! What a node asks of the ring store: one atomic compare-and-swap with guards.

use ringcast_proto::NodeRef;
use ringcast_proto::record::{Key, Record};

use crate::{Revision, Stored};

/// Unique name of a change. It is stored with every record the change writes, so that a change whose outcome is
/// unknown can be repeated: it succeeds, or conflicts with itself and knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub String);

/// All or nothing: if every expectation and guard holds, all puts and deletes happen at one revision.
///
/// At most 64 slot records a change, because etcd takes 128 operations a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What each key must be now. A key that is put or deleted without being listed is written unconditionally.
    pub expect: Vec<(Key, Expect)>,
    /// Whose leases must live or be gone.
    pub guards: Vec<Guard>,
    /// Records to write. A planner record is kept on its holder's lease.
    pub put: Vec<(Key, Record)>,
    /// Keys to remove.
    pub delete: Vec<Key>,
    /// Its unique name.
    pub op: Op,
}

/// What a key must be for a change to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key must not exist.
    Absent,
    /// The record must be the one of this revision.
    Revision(Revision),
}

/// A condition on leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// This life of the node holds its lease.
    Alive(NodeRef),
    /// This life of the node is over: nothing can ever bring it back.
    Gone(NodeRef),
    /// The planner record exists with this term.
    Planner(u64),
}

/// Why a change did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Certainly not done: these keys are not as expected; here is what they are now (absent ones `None`).
    #[error("conflict on {} record(s), first {}", .0.len(), .0.first().map_or(String::new(), |(key, _)| key.to_string()))]
    Conflict(Vec<(Key, Option<Stored>)>),
    /// Certainly not done: this guard did not hold.
    #[error("guard {0:?} does not hold")]
    Guard(Guard),
    /// Certainly not done: the store has no room.
    #[error("the ring store has no room for changes")]
    Full,
    /// Certainly not done: the store was not reached.
    #[error("the ring store is not reachable: {0}")]
    Unavailable(String),
    /// Perhaps done: repeat the very same change to know.
    #[error("the outcome of the change is unknown: {0}")]
    Unknown(String),
}

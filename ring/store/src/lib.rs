//! The ring store: the one place with compare-and-swap, leases and a watch.
//!
//! A node registers and keeps its lease ([`Membership`]), sees every record ([`Mirror`]), and changes some of them
//! ([`RingStore::compare_and_swap`]). [`Memory`] keeps the records in this process; a [`Coordinator`] keeps them in one
//! file and serves them to [`Client`]s. One conformance suite holds them alike.
//!
//! *Invariant:* what [`RingStore::load`] or a watch has shown was durable before it was shown, and no revision or
//! incarnation is ever given out twice.
//! Leaves out: what the records mean and who may write which (`ringcast-ring`, `ringcast-topic-server-core`).

mod any;
pub mod clock;
pub mod coordinator;
mod live;
mod membership;
mod memory;
mod mirror;
pub mod state;
mod store;

pub use any::{AnyStore, OpenError};
pub use coordinator::{Client, Coordinator};
pub use membership::{JoinError, LeaseView, Membership, Standing};
pub use memory::Memory;
pub use mirror::Mirror;
pub use store::{
    Lease, NodeInfo, OPS_MAX, RegisterRefused, RenewError, RingStore, Unavailable, Watch, Watched, fresh_op,
};

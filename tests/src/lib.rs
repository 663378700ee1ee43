//! Everything the tests of the whole product share: clusters of real processes, clients, and exact bookkeeping.
//!
//! A test starts a [`Cluster`], talks to it through [`Client`]s and [`Raw`] sockets, and says
//! [`Cluster::finish`]. *Invariant:* a cluster that was not finished prints what its processes logged, a finished one
//! had no panic and no process that ended by itself, and in either case none of its processes outlives it.
//! Leaves out: what is promised. That is in `tests/`, a sentence a test.

pub mod cli;
pub mod client;
pub mod cluster;
pub mod crowd;
pub mod http;
pub mod ledger;
pub mod load;
pub mod metrics;
pub mod ports;
pub mod process;
pub mod raw;
pub mod resuming;
pub mod scenario;
pub mod stock;
pub mod wait;

pub use client::{Client, Frame};
pub use cluster::Cluster;
pub use raw::Raw;

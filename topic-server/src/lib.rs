//! A topic server: a task for every slot, a lane to every gateway, and the node's place in the cluster around them.
//!
//! It promises to serve a slot only while the ring store's record names this very life of this node, and to say where
//! else to ask. *Invariant:* nothing here decides anything about topics: inputs go to the core, effects come out.
//! Leaves out: what a topic is (`ringcast-topic-server-core`), where slots belong (`ringcast-ring`), clients (the
//! gateways).

mod admin;
mod changes;
mod config;
mod directory;
mod entropy;
mod fetch;
mod grpc;
mod header;
mod lane;
mod lanes;
mod leave;
mod memory;
mod metrics;
mod moves;
mod planner;
mod readiness;
mod roles;
mod server;
mod shared;
mod slot;
mod touch;
mod waits;

pub use config::Config;
pub use leave::DRAIN_DEADLINE;
pub use memory::history_memory_default;
pub use readiness::Readiness;
pub use ringcast_topic_server_core::{HistoryRule, Limits};
pub use server::{BuildError, RunError, TopicServer};

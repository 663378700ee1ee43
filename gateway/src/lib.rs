//! A gateway: terminates clients, and keeps for all its sessions one lane to each topic server.
//!
//! It promises that a slow or hostile client is its own problem: every queue is bounded, every wait has a deadline, and
//! nothing a client sends ends anything but its own connection. *Invariant:* this crate moves bytes and timers and
//! decides nothing about the protocol; that is `ringcast-gateway-core`, which one task (the hub) owns.
//! Leaves out: topic state, which belongs to the topics' owners.

mod authenticate;
mod config;
mod connection;
mod descriptors;
mod handshake;
mod http;
mod hub;
mod lanes;
mod mail;
mod metrics;
mod node;
mod poller;
mod ring;
mod rpc;
mod sessions;

pub use authenticate::{Anonymous, Authenticate, ConnectRequest, Refused};
pub use config::Config;
pub use node::{BuildError, Gateway, RunError};
pub use ring::Readiness;
pub use ringcast_gateway_core::limits::{Limits, Rate};
pub use ringcast_gateway_core::origin::{BadPattern, OriginCheck};
pub use ringcast_gateway_core::route::{
    ChannelPatternError, ClientEvents, Namespace, SlowConsumer, Targets, channel_pattern,
};

//! The whole cluster out of its pure cores, in one thread and virtual time, from a seed.
//!
//! It promises that a seed replays exactly: gateways, topic servers, planner, store and clients run under one scheduler,
//! over a network that delays, loses, doubles and reorders, on clocks that are wrong, while nodes die, stand still and
//! come back. after every event what has to hold is checked; at the end everything is healed and must come to
//! rest. *Invariant:* nothing but the seed decides what happens; a node knows only what reached it.
//! Leaves out: the shells (sockets, gRPC, threads, disks), whose thin logic is mirrored here: each mirror names its file.

#![forbid(unsafe_code)]

mod base;
mod check;
mod client;
mod env;
mod gateway;
mod network;
mod operator;
pub mod plant;
mod random;
mod report;
mod server;
mod sim;
mod store;
mod swarm;
mod time;
mod trace;
mod wire;

pub use check::Violation;
pub use plant::Plant;
pub use report::{Options, Report, run};
pub use time::Time;
pub use trace::Verbosity;

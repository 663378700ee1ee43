//! The coordinator: the ring store behind gRPC, on one durable file, without a server to install.
//!
//! A single point of failure for *changes* of the ring, and for nothing else: while it is away topics are served as
//! long as leases last.

mod client;
mod wire;

pub use client::Client;

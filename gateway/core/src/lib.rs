//! A gateway without its sockets: Phoenix and WebSocket codecs, sessions and their channels, what the gateway wants of
//! which topic, and the publishes on their way.
//!
//! It promises the frames of Phoenix, one for one, to whoever asks for nothing else. *Invariant:* inputs go in, effects
//! come out; time is an argument, so that a seed replays exactly.
//! Leaves out: sockets, gRPC, timers (`ringcast-gateway`), and everything a topic's owner decides.

#![forbid(unsafe_code)]

mod backoff;
mod fetching;
pub mod gateway;
mod interest;
mod lanes;
pub mod limits;
pub mod origin;
pub mod outbox;
mod owners;
pub mod phoenix;
pub mod place;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod policy;
mod publishing;
mod reason;
pub mod route;
mod session;
#[cfg(test)]
#[path = "../../../tests/src/stock.rs"]
#[expect(unreachable_pub, reason = "public in the crate whose file it is")]
mod stock;
#[cfg(test)]
mod table;
pub mod websocket;

//! A topic server without its sockets: slots and the topics in them, who is joined where, what was published, and the
//! lanes on which it leaves for the gateways.
//!
//! It promises one order and one history a topic. *Invariant:* inputs go in, effects come out; time, the state of the
//! lease and randomness are arguments, so that a seed replays exactly, and no input panics.
//! Leaves out: gRPC, tasks, timers and the ring store (`ringcast-topic-server`); which node should own what
//! (`ringcast-ring`); every word a client speaks (`ringcast-gateway-core`).

#![forbid(unsafe_code)]

mod admin;
mod bind;
mod budget;
mod chance;
mod copies;
mod delivered;
mod duty;
mod epochs;
mod fetch;
mod gateways;
mod group;
mod handoff;
mod history;
mod ids;
mod input;
pub mod lane;
mod limits;
mod planted;
mod publish;
mod role;
pub mod slot;
mod topic;
mod unsequenced;

pub use bind::{BadBind, Bind, Cursor};
pub use budget::{Budget, Shed};
pub use input::{Effect, Input, Moment, Publishes, PullPage, Swap, TapId, Token};
pub use lane::Lane;
pub use limits::{HistoryRule, Limits};
#[cfg(feature = "planted-bugs")]
pub use planted::PlantedBug;
pub use role::Role;
pub use slot::{Counts, Slot};

//! Topic to slot to node: hashing, the consistent-hash ring, who should own what, who owns what, and what the planner
//! does about the difference.
//!
//! It promises that any two builds given the same records answer alike. *Invariant:* the slot record decides, the ring
//! only proposes; nothing here reads a clock or draws a random number.
//! Leaves out: storing records and leases (`ringcast-ring-store`), moving bytes.

mod change;
mod hash;
mod snapshot;
mod table;

pub use change::{Change, Expect, Guard, Op, Refused};
pub use hash::{Seeds, birth_digest};
pub use snapshot::{Changed, Revision, Snapshot, Stored};
pub use table::{SlotOwner, SlotTable};

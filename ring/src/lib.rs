//! Topic to slot to node: hashing, the consistent-hash ring, who should own what, who owns what, and what the planner
//! does about the difference.
//!
//! It promises that any two builds given the same records answer alike. *Invariant:* the slot record decides, the ring
//! only proposes; nothing here reads a clock or draws a random number.
//! Leaves out: storing records and leases (`ringcast-ring-store`), moving bytes.

#![forbid(unsafe_code)]

mod change;
mod claim;
mod hash;
mod leave;
mod placement;
mod plan;
mod planner;
mod rebalance;
mod records;
mod ring;
mod snapshot;
mod status;
mod table;

pub use change::{Change, Expect, Guard, Op, Refused};
pub use claim::{SLOTS_PER_CHANGE, claim, claims};
pub use hash::{Seeds, birth_digest};
pub use leave::has_target;
pub use placement::{Holder, Layout, Place};
pub use plan::{PlanError, Progress, SlotLoad, Wish, abort, commit, plan, progress, save};
pub use planner::{Config as PlannerConfig, Planner};
pub use rebalance::Transfer;
pub use records::{Iter as RecordsIter, Records};
pub use ring::{Error as RingError, Ring, Walk};
pub use snapshot::{Changed, Revision, Snapshot, Stored};
pub use status::{GatewayStatus, MovePhase, MoveStatus, NodeState, NodeStatus, Status};
pub use table::{SlotOwner, SlotTable};

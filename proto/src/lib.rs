//! What Ringcast's parts say to each other: ids, the records of the ring store, and the messages between nodes.
//!
//! It promises names that cannot hold a wrong value: a [`Topic`] is 1 to 255 bytes of UTF-8, a [`NodeId`] fits in a
//! path and in a label. *Invariant:* nothing here decides anything.
//! Leaves out: how records are stored (`ringcast-ring-store`), and, without the feature `grpc`, tonic.

#[cfg(feature = "grpc")]
pub mod accept;
#[cfg(feature = "grpc")]
mod calls;
#[cfg(feature = "grpc")]
mod codec;
#[cfg(feature = "grpc")]
mod deliveries;
#[cfg(feature = "grpc")]
pub mod grpc;
mod id;
mod pattern;
pub mod record;
#[cfg(all(test, feature = "grpc"))]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
mod served;
mod small_map;
mod time;
#[cfg(feature = "grpc")]
mod topic_ids;

pub use id::{
    Epoch, Error as IdError, Incarnation, NodeId, NodeRef, Offset, OwnerEpoch, SessionId, Slot, Topic,
};
pub use pattern::{Pattern, PatternError};
pub use small_map::SmallMap;
pub use time::Millis;

/// The messages of package `ringcast.v1`, and behind the feature `grpc` its service stubs.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        reason = "generated; the .proto files hold the documentation"
    )]
    #![allow(clippy::all, clippy::allow_attributes_without_reason, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/ringcast.v1.rs"));
}

//! Bugs the simulation plants, to prove that what it checks would catch them.
//!
//! *Invariant:* without the feature `planted-bugs`, which nothing that ships has, none can be planted.

use crate::Limits;

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "planted-bugs"),
    expect(unreachable_pub, reason = "named outside of this crate only with the feature")
)]
pub enum PlantedBug {
    /// An owner serves again while the outcome of the write that hands its slot over is unknown.
    UnsealWithoutCas,
    /// What waits for the last page is left out of it.
    SnapshotMissingTail,
    /// A group arrives without one of its members.
    GroupLostOnMove,
    /// What a gateway has published, and under which numbers, stays behind.
    PublishNumbersNotTransferred,
    /// A slot that begins empty names its epochs as before.
    ReuseEpoch,
    /// A hole in the history is not announced.
    GapNotSent,
    /// The ids of clients' publishes stay behind when a slot moves.
    DedupNotTransferred,
    /// The window of ids is far smaller than it should be.
    DedupForgetsEarly,
    /// A fetch leaves out the last publication, and says that the topic's head is behind it.
    FetchMissesTail,
    /// A fetch that brings more than two publications leaves out the second.
    FetchHasHole,
}

impl Limits {
    /// Whether this bug is planted.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn plants(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }

    /// Whether this bug is planted: never.
    #[cfg(not(feature = "planted-bugs"))]
    pub(crate) const fn plants(&self, _: PlantedBug) -> bool {
        false
    }
}

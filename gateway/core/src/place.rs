//! Where a publication stands in what a channel with positions is sent (X3, X4, X7).
//!
//! *Invariant:* within a stream the offsets that are sent rise, and one that is left out is explained by a gap.

use std::sync::Arc;

use ringcast_proto::{Epoch, Offset, Topic};

use crate::phoenix::{self, Frame, Json, Serializer};
use crate::route::SlowConsumer;

/// What one channel is sent of one epoch of its topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Stream {
    /// Of which topic.
    pub topic: Topic,
    /// The channel's join_ref, which its gaps carry.
    pub join_ref: Json,
    /// How its connection writes.
    pub serializer: Serializer,
    /// Of which sequence.
    pub epoch: Epoch,
    /// What becomes of it when its client reads too slowly.
    pub slow_consumer: SlowConsumer,
}

/// Why publications will not come by themselves; the `reason` of X7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The gateway had to catch up, and the owner no longer has them.
    HistoryTrimmed,
    /// Continuity with the epoch before cannot be proved.
    EpochChanged,
    /// The client's outbox overflowed.
    SlowConsumer,
    /// The server shed them.
    Overload,
}

impl GapReason {
    /// As a client reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            GapReason::HistoryTrimmed => "history_trimmed",
            GapReason::EpochChanged => "epoch_changed",
            GapReason::SlowConsumer => "slow_consumer",
            GapReason::Overload => "overload",
        }
    }
}

impl Stream {
    /// The frame that says that `from` to `to`, both included, will not come. With `to` 0 nothing is known to be missed.
    #[must_use]
    pub fn gap(&self, from: Offset, to: Offset, reason: GapReason) -> Frame {
        // Epochs and reasons need no escaping.
        let payload = format!(
            "{{\"epoch\":\"{}\",\"from\":{},\"to\":{},\"reason\":\"{}\"}}",
            self.epoch,
            from.0,
            to.0,
            reason.as_str()
        );
        phoenix::push(
            self.serializer,
            &self.join_ref,
            &Json::null(),
            &self.topic,
            "gap",
            payload.as_bytes(),
        )
    }
}

/// What stands in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A publication, as it is passed on.
    Live,
    /// A publication that was missed and comes again: as much as a join may recover goes beyond the outbox's own bound.
    Missed,
    /// A publication without an offset: it may be left out, and no gap could tell of it.
    Fleeting,
    /// A gap of the owner's making, up to this offset. It may not be left out.
    Gap,
}

/// The place of one frame of a channel with positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// In which stream.
    pub stream: Arc<Stream>,
    /// Its offset.
    pub offset: Offset,
    /// What it is.
    pub sort: Sort,
}

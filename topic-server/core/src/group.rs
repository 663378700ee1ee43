//! The members of a topic on one gateway.

use bytes::Bytes;
use ringcast_proto::v1::GapReason;
use ringcast_proto::{Offset, SessionId};

use ringcast_proto::SmallMap;

/// *Invariant:* a group has members; one without is dropped.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The bind this state is the result of.
    pub(crate) seq: u64,
    /// Who is joined, and who each says it is.
    pub(crate) members: SmallMap<SessionId, Bytes>,
    /// The cursor: the last offset handed to the gateway's lane.
    pub(crate) sent: Offset,
    /// Where the group began: its members have no claim to what came before.
    pub(crate) began: Offset,
    /// The lane was full: nothing is handed to it until it says there is room.
    pub(crate) lagging: bool,
    /// The gateway's own cursor was of another epoch, so a hole before the first publication is of that making.
    pub(crate) from_other_epoch: bool,
}

impl Group {
    /// What followed `offset` has to go out again, as far as it is for this group.
    pub(crate) fn back_to(&mut self, offset: Offset) {
        self.sent = self.sent.min(offset.max(self.began));
    }

    /// Why publications that are no longer there are missing.
    pub(crate) fn gap_reason(&self) -> GapReason {
        if self.from_other_epoch && self.sent == Offset(0) {
            GapReason::EpochChanged
        } else {
            GapReason::HistoryTrimmed
        }
    }
}

//! Bugs the simulation plants, to prove that what it checks would catch them. Only with the feature `planted-bugs`, which
//! nothing that ships has.

use crate::limits::Limits;

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A delivery is taken under a lower owner_epoch than was seen.
    AcceptsOldEpoch,
    /// What is sent again is not sent as it was.
    RetryReorders,
    /// What the owner no longer has is passed over without a gap.
    GapNotTold,
    /// A session that missed more than can be had gets what can be, as if it were all.
    ResumePartial,
    /// What a session missed comes again when it is passed on to the others.
    ResumeDoubles,
    /// What an outbox has no room for is left out without a gap.
    OutboxDropsSilently,
}

impl Limits {
    /// Whether this bug is planted.
    pub(crate) fn plants(&self, bug: PlantedBug) -> bool {
        self.planted == Some(bug)
    }
}

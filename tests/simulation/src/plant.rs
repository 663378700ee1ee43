//! Bugs that can be planted, one line each, to prove that the invariants catch them.
//!
//! Leaves out: the lines themselves, which are where the bug would be: in the cores, behind their feature
//! `planted-bugs`, or in the mirror of a shell.

use std::fmt;

use ringcast_gateway_core::limits::Limits as GatewayLimits;
use ringcast_gateway_core::outbox::Outbox;
use ringcast_topic_server_core::Limits;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// An owner serves again while the outcome of the write that hands its slot over is unknown.
    UnsealWithoutCas,
    /// What waits for the last page of a move is left out of it.
    SnapshotMissingTail,
    /// A group arrives at its slot's new owner without one of its members.
    GroupLostOnMove,
    /// Under which numbers gateways have published stays behind when a slot moves.
    PublishNumbersNotTransferred,
    /// A slot that begins empty names its epochs as before.
    ReuseEpoch,
    /// A hole in a history is not announced.
    GapNotSent,
    /// A gateway takes a delivery under a lower owner_epoch than it has seen.
    GatewayAcceptsOldEpoch,
    /// What a gateway sends again it sends in another order.
    RetryReorders,
    /// A lease counts from when its renewal was answered, not from when it was sent.
    LeaseFromResponseTime,
    /// The ids of clients' publishes stay behind when a slot moves.
    DedupNotTransferred,
    /// A topic remembers far fewer ids than it should.
    DedupForgetsEarly,
    /// A fetch leaves out the last publication.
    FetchMissesTail,
    /// A fetch leaves out one in the middle.
    FetchHasHole,
    /// What an owner no longer has is passed over without a gap.
    GapNotTold,
    /// A session that missed more than can be had gets a part of it as if it were all.
    ResumePartial,
    /// What a session missed comes again when it is passed on to the others.
    ResumeDoubles,
    /// What an outbox has no room for is left out without a gap.
    OutboxDropsSilently,
}

/// All of them.
pub const ALL: &[Plant] = &[
    Plant::UnsealWithoutCas,
    Plant::SnapshotMissingTail,
    Plant::GroupLostOnMove,
    Plant::PublishNumbersNotTransferred,
    Plant::ReuseEpoch,
    Plant::GapNotSent,
    Plant::GatewayAcceptsOldEpoch,
    Plant::RetryReorders,
    Plant::LeaseFromResponseTime,
    Plant::DedupNotTransferred,
    Plant::DedupForgetsEarly,
    Plant::FetchMissesTail,
    Plant::FetchHasHole,
    Plant::GapNotTold,
    Plant::ResumePartial,
    Plant::ResumeDoubles,
    Plant::OutboxDropsSilently,
];

impl Plant {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Plant::UnsealWithoutCas => "bug_unseal_without_cas",
            Plant::SnapshotMissingTail => "bug_snapshot_missing_tail",
            Plant::GroupLostOnMove => "bug_group_lost_on_move",
            Plant::PublishNumbersNotTransferred => "bug_publish_numbers_not_transferred",
            Plant::ReuseEpoch => "bug_reuse_epoch",
            Plant::GapNotSent => "bug_gap_not_sent",
            Plant::GatewayAcceptsOldEpoch => "bug_gateway_accepts_old_epoch",
            Plant::RetryReorders => "bug_retry_reorders",
            Plant::LeaseFromResponseTime => "bug_lease_from_response_time",
            Plant::DedupNotTransferred => "bug_dedup_not_transferred",
            Plant::DedupForgetsEarly => "bug_dedup_forgets_early",
            Plant::FetchMissesTail => "bug_fetch_misses_tail",
            Plant::FetchHasHole => "bug_fetch_has_hole",
            Plant::GapNotTold => "bug_gap_not_told",
            Plant::ResumePartial => "bug_resume_partial",
            Plant::ResumeDoubles => "bug_resume_doubles",
            Plant::OutboxDropsSilently => "bug_outbox_drops_silently",
        }
    }

    /// The bug of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Plant> {
        ALL.iter().copied().find(|plant| plant.name() == name)
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Plants the bug where it is a core's.
#[cfg(feature = "planted-bugs")]
pub(crate) fn plant(plant: Option<Plant>, servers: &mut Limits, gateways: &mut GatewayLimits) {
    use ringcast_gateway_core::planted::PlantedBug as InGateway;
    use ringcast_topic_server_core::PlantedBug as InServer;

    let (server, gateway) = match plant {
        Some(Plant::UnsealWithoutCas) => (Some(InServer::UnsealWithoutCas), None),
        Some(Plant::SnapshotMissingTail) => (Some(InServer::SnapshotMissingTail), None),
        Some(Plant::GroupLostOnMove) => (Some(InServer::GroupLostOnMove), None),
        Some(Plant::PublishNumbersNotTransferred) => (Some(InServer::PublishNumbersNotTransferred), None),
        Some(Plant::ReuseEpoch) => (Some(InServer::ReuseEpoch), None),
        Some(Plant::GapNotSent) => (Some(InServer::GapNotSent), None),
        Some(Plant::GatewayAcceptsOldEpoch) => (None, Some(InGateway::AcceptsOldEpoch)),
        Some(Plant::RetryReorders) => (None, Some(InGateway::RetryReorders)),
        Some(Plant::DedupNotTransferred) => (Some(InServer::DedupNotTransferred), None),
        Some(Plant::DedupForgetsEarly) => (Some(InServer::DedupForgetsEarly), None),
        Some(Plant::FetchMissesTail) => (Some(InServer::FetchMissesTail), None),
        Some(Plant::FetchHasHole) => (Some(InServer::FetchHasHole), None),
        Some(Plant::GapNotTold) => (None, Some(InGateway::GapNotTold)),
        Some(Plant::ResumePartial) => (None, Some(InGateway::ResumePartial)),
        Some(Plant::ResumeDoubles) => (None, Some(InGateway::ResumeDoubles)),
        Some(Plant::OutboxDropsSilently) => (None, Some(InGateway::OutboxDropsSilently)),
        Some(Plant::LeaseFromResponseTime) | None => (None, None),
    };
    servers.planted = server;
    gateways.planted = gateway;
}

/// Plants nothing: this build has no bugs to plant.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn plant(_: Option<Plant>, _: &mut Limits, _: &mut GatewayLimits) {}

/// An outbox, with the bug where it is one's.
#[cfg(feature = "planted-bugs")]
pub(crate) fn outbox(plant: Option<Plant>) -> Outbox {
    use ringcast_gateway_core::planted::PlantedBug::OutboxDropsSilently;

    let mut outbox = Outbox::default();
    outbox.planted = (plant == Some(Plant::OutboxDropsSilently)).then_some(OutboxDropsSilently);
    outbox
}

/// An outbox without bugs.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn outbox(_: Option<Plant>) -> Outbox {
    Outbox::default()
}

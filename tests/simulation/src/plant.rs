//! Bugs that can be planted, one line each, to prove that the invariants catch them.
//!
//! Leaves out: the lines themselves, which are where the bug would be: in the cores, behind their feature
//! `planted-bugs`, or in the mirror of a shell.

use std::fmt;

use ringcast_gateway_core::limits::Limits as GatewayLimits;
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
        Some(Plant::LeaseFromResponseTime) | None => (None, None),
    };
    servers.planted = server;
    gateways.planted = gateway;
}

/// Plants nothing: this build has no bugs to plant.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) fn plant(_: Option<Plant>, _: &mut Limits, _: &mut GatewayLimits) {}

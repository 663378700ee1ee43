//! What has to hold, checked after every event, with the eye of one who sees everything.
//!
//! The names are those of the invariants (I1 ... I20) and promises (P1 ...) the project keeps. *Invariant:* nothing in
//! here is known to a node, and nothing of a node's own bookkeeping is believed in here. What happened to a publish is what
//! its owner decided when it came to it: what leaves nodes later, and what clients are told, is held against that.
//! Leaves out: what a client may receive in which order, which each client checks itself (`client`).

mod copies;
mod fleeting;
mod keys;
mod leases;
mod log;
mod ownership;
mod publishes;
mod seen;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use ringcast_proto::v1::{self, PublishOutcome};
use ringcast_proto::{Incarnation, OwnerEpoch, SessionId, Slot};
use ringcast_ring_store::state::Store;
use ringcast_topic_server_core::{PullPage, Role};

use self::fleeting::Fleeting;
pub(crate) use self::leases::Leases;
use self::log::Log;
pub(crate) use self::log::{Aim, Invoked, Place, PubId};
pub(crate) use self::ownership::Ownership;
pub(crate) use self::seen::Seen;
pub(crate) use self::view::{Gap, View};
use crate::network::Peer;
use crate::time::Time;

/// Copies of a slot that a move may begin: far more than any schedule of faults here makes it begin.
const ATTEMPTS_MAX: u32 = 200;

/// A slot that moves while nothing else is wrong is sealed no longer than this.
const PAUSE_MAX_MS: u32 = 250;

/// Calls a gateway makes in 100 ms at most: a lane has one in flight, and there are a dozen lanes; more is a loop.
const CALLS_MAX: u32 = 1_000;

/// Something that must never happen did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Time,
    /// Which invariant or promise.
    pub of: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken at {} s: {}", self.of, self.at, self.what)
    }
}

/// What is broken, and how.
pub(crate) type Broken = (&'static str, String);

/// What an ok to a publish says to a client with positions.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outcome {
    epoch: String,
    offset: Option<u64>,
    matched: Option<u32>,
    #[serde(default)]
    dup: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    violation: Option<Violation>,
    /// Whose lease may have ended.
    pub(crate) leases: Leases,
    /// Who owned what when.
    pub(crate) ownership: Ownership,
    log: Log,
    fleeting: Fleeting,
    /// Which publish went to which slot under which number of which life of a gateway, and who publishes it.
    numbers: BTreeMap<(Incarnation, Slot, u64), (PubId, SessionId)>,
    /// What was decided under these numbers, and under which owner_epoch.
    decided: BTreeMap<(Incarnation, Slot, u64), (PublishOutcome, OwnerEpoch)>,
    /// What was announced as missing to a gateway: (gateway, log) to ranges.
    gaps: BTreeMap<(Peer, u32), Vec<(u64, u64)>>,
    /// Where the publications of the delivery being handled stand.
    /// A repeat that was taken for a new publish has several.
    arriving: BTreeMap<PubId, Vec<Place>>,
    /// Where the publications stand that wait for clients without positions that read slowly.
    waiting: BTreeMap<SessionId, VecDeque<(PubId, Vec<Place>)>>,
    sessions: BTreeMap<SessionId, (usize, u64)>,
    /// What topics of each family keep for certain.
    pub(crate) kept: [(&'static str, u64); 2],
    /// Nothing goes wrong in this run but what operators do.
    pub(crate) strict: bool,
    roles: BTreeMap<(Peer, Slot), OwnerEpoch>,
    /// Calls of each gateway in the present tenth of a second.
    calls: BTreeMap<Peer, (u64, u32)>,
    /// Publications acknowledged to clients.
    pub(crate) acknowledged: u64,
    /// Copies that clients received.
    pub(crate) delivered: u64,
    /// Moves that ended.
    pub(crate) moves: u64,
    /// The longest time a slot was sealed in one of them.
    pub(crate) longest_pause_ms: u32,
    /// Joins that recovered.
    pub(crate) recovered: u64,
    /// Gaps that clients were told of.
    pub(crate) gaps_told: u64,
    /// Publishes that were acknowledged as repeats.
    pub(crate) dups: u64,
    /// Connections closed because their clients read too slowly.
    pub(crate) slow_closed: u64,
}

impl Checker {
    /// Notes the first violation.
    pub(crate) fn fail(&mut self, at: Time, of: &'static str, what: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at, of, what });
        }
    }

    /// What was broken, if anything.
    #[must_use]
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    fn hold(&mut self, at: Time, of: &'static str, held: Result<(), String>) {
        if let Err(what) = held {
            self.fail(at, of, what);
        }
    }

    pub(crate) fn hold_broken(&mut self, at: Time, held: Result<(), Broken>) {
        if let Err((of, what)) = held {
            self.fail(at, of, what);
        }
    }

    // The run.

    /// Ids a topic remembers, and for how long; what topics of each family keep for certain.
    pub(crate) fn expect(&mut self, ids: (usize, Duration), kept: [(&'static str, u64); 2]) {
        self.log.keys.window = ids;
        self.kept = kept;
        let forgetful = kept.iter().filter(|(_, kept)| *kept == 0);
        self.log.forgetful = forgetful.map(|(family, _)| *family).collect();
    }

    // The store.

    /// The store may have changed.
    pub(crate) fn store(&mut self, now: Time, store: &Store) {
        for ended in self.ownership.follow(store) {
            match ended {
                Ok((peer, life)) => {
                    let held = self.leases.may_end(peer, life, now);
                    self.hold(now, "P9", held);
                }
                Err(what) => self.fail(now, "I2", what),
            }
        }
        if self.strict && self.ownership.taken > 0 {
            self.fail(
                now,
                "P5",
                "a slot began empty although nothing is wrong".to_owned(),
            );
        }
    }

    // Topic servers.

    /// A process ended, its memory with it.
    pub(crate) fn forget(&mut self, peer: Peer) {
        self.roles.retain(|(of, _), _| *of != peer);
        self.leases.dies(peer);
    }

    /// What a node is to a slot, after an input.
    pub(crate) fn role(&mut self, now: Time, peer: Peer, slot: Slot, role: &Role) {
        let (Role::Owner(owner_epoch) | Role::Sealed(owner_epoch)) = role else {
            return;
        };
        let before = self.roles.insert((peer, slot), *owner_epoch);
        if before == Some(*owner_epoch) {
            return;
        }
        if before.is_some_and(|before| before > *owner_epoch) {
            self.fail(
                now,
                "I2",
                format!("slot {slot} fell from {before:?} to {owner_epoch} on {peer:?}"),
            );
        }
        let owner = self.ownership.owner(slot, *owner_epoch);
        if owner.is_none_or(|owner| self.ownership.peer(owner) != Some(peer)) {
            let what = format!("{peer:?} owns slot {slot} under {owner_epoch}, the store says {owner:?}");
            self.fail(now, "I1", what);
        }
    }

    /// A target asks for a page.
    pub(crate) fn pulls(&mut self, now: Time, slot: Slot, page: &PullPage) {
        if page.attempt > ATTEMPTS_MAX {
            self.fail(
                now,
                "I17",
                format!("attempt {} at move {} of slot {slot}", page.attempt, page.move_id),
            );
        }
    }

    /// A move ended at its target.
    pub(crate) fn moved(&mut self, now: Time, ended: &v1::EndedMove) {
        self.moves += 1;
        if self.strict && ended.pause_ms > PAUSE_MAX_MS {
            self.fail(
                now,
                "P10",
                format!("move {} paused its slot for {} ms", ended.id, ended.pause_ms),
            );
        }
        self.longest_pause_ms = self.longest_pause_ms.max(ended.pause_ms);
    }

    // Gateways.

    /// A gateway makes a call, or would.
    pub(crate) fn calls(&mut self, now: Time, gateway: Peer) {
        let tenth = now.0 / 100_000;
        let (present, made) = self.calls.entry(gateway).or_default();
        if *present != tenth {
            (*present, *made) = (tenth, 0);
        }
        *made += 1;
        if *made > CALLS_MAX {
            self.fail(
                now,
                "I18",
                format!("{gateway:?} makes more than {CALLS_MAX} calls in 100 ms"),
            );
        }
    }

    /// A client's connection is open.
    pub(crate) fn opened(&mut self, client: usize, connection: u64, session: SessionId) {
        self.sessions.insert(session, (client, connection));
    }

    /// The session of a client's connection.
    #[must_use]
    pub(crate) fn session_of(&self, client: usize, connection: u64) -> SessionId {
        let mut sessions = self.sessions.iter();
        let mine = sessions.find(|(_, of)| **of == (client, connection));
        mine.map_or(SessionId(0), |(session, _)| *session)
    }

    /// Whose session this is.
    #[must_use]
    pub(crate) fn client_of(&self, session: SessionId) -> Option<(usize, u64)> {
        self.sessions.get(&session).copied()
    }

    // Clients.

    // The end.

    /// Everything is at rest, and this is the head of every topic that has one.
    pub(crate) fn at_rest(
        &mut self,
        now: Time,
        heads: &BTreeMap<String, (bytes::Bytes, u64)>,
        serving_since: Time,
    ) {
        let broken = self.log.at_rest(heads, &self.ownership, serving_since);
        if let Some((of, what)) = broken {
            self.fail(now, of, what);
        }
    }

    /// The last place of a topic's epoch.
    #[must_use]
    pub(crate) fn head(&self, topic: &str, epoch: &[u8], offset: u64) -> Option<Place> {
        let log = self.log.number(topic.as_bytes(), epoch)?;
        Some(Place { log, offset })
    }
}

fn slot_of(slot: u32) -> Slot {
    Slot(u16::try_from(slot).unwrap_or(u16::MAX))
}

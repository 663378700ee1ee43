//! What has to hold, checked after every event, with the eye of one who sees everything.
//!
//! The names are those of the invariants (I1 ... I20) and promises (P1 ...) the project keeps. *Invariant:* nothing in
//! here is known to a node, and nothing of a node's own bookkeeping is believed in here.
//! Leaves out: what a client may receive in which order, which each client checks itself (`client`).

mod leases;
mod log;
mod ownership;
mod seen;

use std::collections::BTreeMap;
use std::fmt;

use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::{self, SlotPublishAnswer};
use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, SessionId, Slot};
use ringcast_ring_store::state::Store;
use ringcast_topic_server_core::{PullPage, Role};

pub(crate) use self::leases::Leases;
use self::log::{Append, Log};
pub(crate) use self::log::{Place, PubId};
pub(crate) use self::ownership::Ownership;
pub(crate) use self::seen::Seen;
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

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    violation: Option<Violation>,
    /// Whose lease may have ended.
    pub(crate) leases: Leases,
    /// Who owned what when.
    pub(crate) ownership: Ownership,
    log: Log,
    /// Under which number of which life of a gateway which publish went to which slot.
    numbers: BTreeMap<(Incarnation, Slot, u64), PubId>,
    /// What was announced as missing to a gateway: (gateway, log) to ranges.
    gaps: BTreeMap<(Peer, u32), Vec<(u64, u64)>>,
    /// Where the publications of the delivery being handled stand.
    arriving: BTreeMap<PubId, Place>,
    sessions: BTreeMap<SessionId, (usize, u64)>,
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

    /// A slot answered publishes.
    pub(crate) fn decided(&mut self, now: Time, peer: Peer, role: &Role, answer: &SlotPublishAnswer) {
        let commits = answer
            .outcomes
            .iter()
            .any(|outcome| matches!(outcome.outcome, Some(Outcome::Committed(_))));
        if commits && *role != Role::Owner(OwnerEpoch(answer.owner_epoch)) {
            let what = format!(
                "{peer:?} acknowledges in slot {} under {} as {role:?}",
                answer.slot, answer.owner_epoch
            );
            self.fail(now, "I7", what);
        }
    }

    /// An answer of a slot leaves for a gateway.
    pub(crate) fn acknowledged(
        &mut self,
        now: Time,
        node: &NodeRef,
        gateway: &NodeRef,
        answer: &SlotPublishAnswer,
    ) {
        let (slot, owner_epoch) = (slot_of(answer.slot), OwnerEpoch(answer.owner_epoch));
        for outcome in &answer.outcomes {
            let Some(Outcome::Committed(at)) = &outcome.outcome else {
                continue;
            };
            if !self.ownership.alive(node) {
                self.fail(
                    now,
                    "I9",
                    format!("{node} acknowledges in slot {slot} after its lease is over"),
                );
            }
            let held = self.ownership.commits(slot, owner_epoch, node);
            self.hold(now, "I1", held);
            let Some(&id) = self.numbers.get(&(gateway.incarnation, slot, outcome.number)) else {
                let what = format!(
                    "{node} acknowledges number {} of {gateway}, which nobody sent",
                    outcome.number
                );
                self.fail(now, "I5", what);
                continue;
            };
            let Some(topic) = self.log.topic(id) else { continue };
            let append = Append {
                slot,
                owner_epoch,
                topic,
                epoch: at.epoch.clone(),
                offset: at.offset,
                id,
                session: None,
            };
            self.append(now, append);
        }
    }

    /// An entry leaves a slot for a gateway's lane.
    pub(crate) fn fanned_out(&mut self, now: Time, node: &NodeRef, role: &Role, entry: &v1::DeliverEntry) {
        let (slot, owner_epoch) = (slot_of(entry.slot), OwnerEpoch(entry.owner_epoch));
        if !matches!(role, Role::Owner(mine) | Role::Sealed(mine) if *mine == owner_epoch) {
            self.fail(
                now,
                "I7",
                format!("{node} fans out slot {slot} under {owner_epoch} as {role:?}"),
            );
        }
        let held = self.ownership.commits(slot, owner_epoch, node);
        self.hold(now, "I1", held);
        for publication in &entry.publications {
            let Some(id) = PubId::parse(&publication.payload) else {
                self.fail(now, "I4", format!("{node} fans out what nobody published"));
                continue;
            };
            let append = Append {
                slot,
                owner_epoch,
                topic: entry.topic.clone(),
                epoch: entry.epoch.clone(),
                offset: publication.offset,
                id,
                session: Some(publication.session),
            };
            self.append(now, append);
        }
    }

    fn append(&mut self, now: Time, append: Append) {
        if let Err((of, what)) = self.log.append(append, &self.ownership) {
            self.fail(now, of, what);
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

    /// A gateway sends publishes under these numbers.
    pub(crate) fn numbered(&mut self, now: Time, life: Incarnation, slots: &[v1::SlotPublishes]) {
        for part in slots {
            for publish in &part.publishes {
                let Some(id) = PubId::parse(&publish.payload) else {
                    continue;
                };
                let before = self
                    .numbers
                    .insert((life, slot_of(part.slot), publish.number), id);
                if before.is_some_and(|before| before != id) {
                    let what = format!(
                        "number {} in slot {} names two publishes",
                        publish.number, part.slot
                    );
                    self.fail(now, "I5", what);
                }
            }
        }
    }

    /// A delivery reaches a gateway.
    pub(crate) fn arrives(&mut self, gateway: Peer, entries: &[v1::DeliverEntry]) {
        self.arriving.clear();
        for entry in entries {
            let Some(log) = self.log.number(&entry.topic, &entry.epoch) else {
                continue;
            };
            if let Some(gap) = &entry.gap {
                self.gaps
                    .entry((gateway, log))
                    .or_default()
                    .push((gap.from, gap.to));
            }
            for publication in &entry.publications {
                if let Some(id) = PubId::parse(&publication.payload) {
                    let offset = publication.offset;
                    self.arriving.insert(id, Place { log, offset });
                }
            }
        }
    }

    /// A client's connection is open.
    pub(crate) fn opened(&mut self, client: usize, connection: u64, session: SessionId) {
        self.sessions.insert(session, (client, connection));
    }

    /// Whose session this is.
    #[must_use]
    pub(crate) fn client_of(&self, session: SessionId) -> Option<(usize, u64)> {
        self.sessions.get(&session).copied()
    }

    // Clients.

    /// A client publishes.
    pub(crate) fn invoked(&mut self, now: Time, id: PubId, topic: &str) {
        self.log.invoked(now, id, topic);
    }

    /// A client is answered.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        id: PubId,
        _session: SessionId,
        ok: bool,
    ) -> Result<(), String> {
        self.acknowledged += u64::from(ok);
        if self.strict && !ok {
            return Err(format!("{id:?} is refused although nothing is wrong"));
        }
        self.log.answered(now, id, ok)
    }

    /// Where the copy a client receives stands.
    pub(crate) fn received(&mut self, id: PubId) -> Option<Place> {
        self.delivered += 1;
        self.arriving.get(&id).copied()
    }

    /// Whether a channel that is joined since `joined` and has received `last` may receive `next`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn follows(
        &self,
        _now: Time,
        gateway: Option<Peer>,
        joined: Time,
        last: Option<Place>,
        next: Place,
    ) -> Result<(), String> {
        let gap = |log: u32, offset: u64| {
            let ranges = gateway.and_then(|gateway| self.gaps.get(&(gateway, log)));
            ranges.is_some_and(|ranges| ranges.iter().any(|(from, to)| (*from..=*to).contains(&offset)))
        };
        self.log.follows(joined, last, next, gap, &self.ownership)
    }

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

    /// Whether a channel has received all it should have when the topic ends at `head`.
    ///
    /// # Errors
    /// What it misses.
    pub(crate) fn complete(
        &self,
        gateway: Option<Peer>,
        joined: Time,
        last: Option<Place>,
        head: Place,
    ) -> Result<(), String> {
        if last == Some(head) || head.offset == 0 {
            return Ok(());
        }
        // As if one more were to come: it must not leave a hole.
        let next = Place {
            offset: head.offset + 1,
            ..head
        };
        self.follows(Time(0), gateway, joined, last, next)
    }
}

fn slot_of(slot: u32) -> Slot {
    Slot(u16::try_from(slot).unwrap_or(u16::MAX))
}

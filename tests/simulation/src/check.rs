//! What has to hold, checked after every event, with the eye of one who sees everything.
//!
//! The names are those of the invariants (I1 ... I20) and promises (P1 ...) the project keeps. *Invariant:* nothing in
//! here is known to a node, and nothing of a node's own bookkeeping is believed in here. What happened to a publish is what
//! its owner decided when it came to it: what leaves nodes later, and what clients are told, is held against that.
//! Leaves out: what a client may receive in which order, which each client checks itself (`client`).

mod fleeting;
mod keys;
mod leases;
mod log;
mod ownership;
mod seen;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use ringcast_proto::v1::publish_outcome::Outcome as Decided;
use ringcast_proto::v1::{self, PublishOutcome, SlotPublishAnswer};
use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, SessionId, Slot};
use ringcast_ring_store::state::Store;
use ringcast_topic_server_core::{PullPage, Role};

use self::fleeting::Fleeting;
pub(crate) use self::leases::Leases;
pub(crate) use self::log::{Aim, Invoked, Place, PubId};
use self::log::{Append, Log};
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

    /// A slot decided on a gateway's publishes.
    pub(crate) fn decided(
        &mut self,
        now: Time,
        (node, gateway): (&NodeRef, &NodeRef),
        role: &Role,
        answer: &SlotPublishAnswer,
    ) {
        let (slot, owner_epoch) = (slot_of(answer.slot), OwnerEpoch(answer.owner_epoch));
        for outcome in &answer.outcomes {
            if matches!(outcome.outcome, Some(Decided::Refused(_)) | None) {
                continue;
            }
            if *role != Role::Owner(owner_epoch) {
                let what = format!("{node} commits in slot {slot} under {owner_epoch} as {role:?}");
                self.fail(now, "I7", what);
            }
            let held = self.decide(now, gateway, (slot, owner_epoch), outcome);
            self.hold_broken(now, held);
        }
    }

    /// A publish took effect, or its number had been decided on before.
    fn decide(
        &mut self,
        now: Time,
        gateway: &NodeRef,
        (slot, owner_epoch): (Slot, OwnerEpoch),
        outcome: &PublishOutcome,
    ) -> Result<(), Broken> {
        let number = (gateway.incarnation, slot, outcome.number);
        let Some(&(id, session)) = self.numbers.get(&number) else {
            let what = format!("number {} of {gateway}, which nobody sent", outcome.number);
            return Err(("I5", what));
        };
        if let Some((before, under)) = self.decided.get(&number)
            && *under >= self.ownership.fresh(slot)
        {
            if before == outcome {
                return Ok(());
            }
            return Err(("I5", format!("{id:?} came to {before:?}, and to {outcome:?}")));
        }
        self.decided.insert(number, (outcome.clone(), owner_epoch));
        let Some(topic) = self.log.topic(id) else {
            return Err(("I4", format!("{id:?} was published by nobody")));
        };
        let at = match &outcome.outcome {
            Some(Decided::Committed(at)) => Some(at),
            _ => None,
        };
        if outcome.dup {
            return self.repeats(id, &topic, at);
        }
        let Some(at) = at else {
            return self.took_fleeting_effect(now, id, slot, owner_epoch);
        };
        let append = Append {
            slot,
            owner_epoch,
            topic,
            epoch: at.epoch.clone(),
            offset: at.offset,
            id,
            session,
            connection: self.client_of(session).map(|(_, connection)| connection),
        };
        self.log.append(now, append, &self.ownership)
    }

    /// An owner says that a publish is a repeat.
    fn repeats(&mut self, id: PubId, topic: &[u8], at: Option<&v1::Position>) -> Result<(), Broken> {
        self.dups += 1;
        let Some(key) = self.log.key(id) else {
            return Err(("P6", format!("{id:?} has no id and is said to be a repeat")));
        };
        let Some(at) = at else {
            return self.log.keys.repeats(key, None);
        };
        let Some(log) = self.log.number(topic, &at.epoch) else {
            return Err(("P6", format!("{id:?} is said to be at {at:?}, where nothing is")));
        };
        let offset = at.offset;
        self.log.keys.repeats(key, Some(Place { log, offset }))
    }

    /// An answer of a slot leaves for a gateway.
    pub(crate) fn acknowledged(&mut self, now: Time, node: &NodeRef, answer: &SlotPublishAnswer) {
        let (slot, owner_epoch) = (slot_of(answer.slot), OwnerEpoch(answer.owner_epoch));
        for outcome in &answer.outcomes {
            if matches!(outcome.outcome, Some(Decided::Refused(_)) | None) {
                continue;
            }
            if !self.ownership.alive(node) {
                self.fail(
                    now,
                    "I9",
                    format!("{node} acknowledges in slot {slot} after its lease is over"),
                );
            }
            let held = self.ownership.commits(slot, owner_epoch, node);
            self.hold(now, "I1", held);
        }
    }

    /// An entry leaves a slot for a gateway's lane.
    pub(crate) fn fanned_out(
        &mut self,
        now: Time,
        (node, gateway): (&NodeRef, &NodeRef),
        role: &Role,
        entry: &v1::DeliverEntry,
    ) {
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
        let held = self.handed_out(gateway, entry);
        self.hold_broken(now, held);
        for publication in &entry.publications {
            let held = self.is_as_committed(entry, publication);
            self.hold_broken(now, held);
        }
    }

    /// What is fanned out is what its owner committed at that offset.
    fn is_as_committed(&self, entry: &v1::DeliverEntry, publication: &v1::Publication) -> Result<(), Broken> {
        let id = PubId::parse(&publication.payload);
        let id = id.ok_or_else(|| {
            (
                "I4",
                format!("{publication:?} is fanned out, which nobody published"),
            )
        })?;
        let offset = publication.offset;
        let log = self.log.number(&entry.topic, &entry.epoch);
        let there = log.and_then(|log| self.log.entry(Place { log, offset }));
        if there.is_none_or(|there| there.id != id || there.session.0 != publication.session) {
            let what = format!(
                "{publication:?} is fanned out in {:?}, where {there:?} is",
                entry.epoch
            );
            return Err(("I4", what));
        }
        let others = self.log.aim(id) == Some(&Aim::Others);
        if others != (publication.target() == v1::Target::Others) {
            return Err((
                "X6",
                format!("{id:?} is fanned out to {:?}", publication.target()),
            ));
        }
        Ok(())
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
                let sent = (id, SessionId(publish.session));
                let before = self
                    .numbers
                    .insert((life, slot_of(part.slot), publish.number), sent);
                if before.is_some_and(|before| before != sent) {
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
                    self.arriving.entry(id).or_default().push(Place { log, offset });
                }
            }
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

    /// A client means to publish.
    pub(crate) fn invoked(&mut self, now: Time, invoked: Invoked<'_>) {
        self.log.invoked(now, invoked);
    }

    /// A connection sends a publish, after so many others.
    pub(crate) fn sent(&mut self, id: PubId, connection: u64, before: u64) {
        self.log.sent(id, connection, before);
    }

    /// Whether a publish was sent more than once.
    #[must_use]
    pub(crate) fn is_repeated(&self, id: PubId) -> bool {
        self.log.is_repeated(id)
    }

    /// Who is to receive a publish.
    #[must_use]
    pub(crate) fn aim(&self, id: PubId) -> Option<&Aim> {
        self.log.aim(id)
    }

    /// A client is answered.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(crate) fn answered(
        &mut self,
        id: PubId,
        topic: &str,
        ok: bool,
        told: Option<&Outcome>,
    ) -> Result<(), String> {
        self.acknowledged += u64::from(ok);
        if self.strict && !ok {
            return Err(format!("{id:?} is refused although nothing is wrong"));
        }
        self.log.answered(id, ok)?;
        let Some(told) = told else { return Ok(()) };
        let wrong = |why: &str| Err(format!("{id:?} is answered with {told:?}: {why}"));
        let Some(offset) = told.offset else {
            let one = self.log.aim(id) == Some(&Aim::One);
            let fleeting = told.dup || self.log.aim(id).is_some_and(|aim| !aim.is_sequenced());
            return match told.matched {
                Some(matched) if fleeting && (!one || told.dup || matched <= 1) => Ok(()),
                _ => wrong("that is no outcome of it"),
            };
        };
        let place = self
            .log
            .number(topic.as_bytes(), told.epoch.as_bytes())
            .map(|log| Place { log, offset });
        let there = place
            .and_then(|place| self.log.entry(place))
            .map(|entry| entry.id);
        let same_key =
            || self.log.key(id).is_some() && there.and_then(|there| self.log.key(there)) == self.log.key(id);
        match there {
            Some(there) if there == id => Ok(()),
            Some(_) if told.dup && same_key() => Ok(()),
            _ => wrong(&format!("{there:?} is there")),
        }
    }

    /// A session reads slowly from now on: what is written for it waits.
    pub(crate) fn reads_slowly(&mut self, session: SessionId) {
        self.waiting.entry(session).or_default();
    }

    /// Whether what is written for this session waits.
    #[must_use]
    pub(crate) fn watches(&self, session: SessionId) -> bool {
        self.waiting.contains_key(&session)
    }

    /// A publication is written for a session without positions.
    pub(crate) fn written(&mut self, session: SessionId, id: PubId) {
        if let Some(waiting) = self.waiting.get_mut(&session) {
            waiting.push_back((id, self.arriving.get(&id).cloned().unwrap_or_default()));
        }
    }

    /// Where the copy stands that a client without positions receives.
    pub(crate) fn received(&mut self, session: SessionId, id: PubId, last: Option<Place>) -> Option<Place> {
        self.delivered += 1;
        let places = match self.waiting.get_mut(&session) {
            None => self.arriving.get(&id).cloned(),
            Some(waiting) => waiting
                .pop_front()
                .filter(|(written, _)| *written == id)
                .map(|(_, at)| at),
        };
        let places = places.unwrap_or_default();
        let next =
            |place: &&Place| last.is_none_or(|last| last.log != place.log || last.offset < place.offset);
        places.iter().find(next).or(places.first()).copied()
    }

    /// Whether a channel that is joined since `joined` and has received `last` may receive `next`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn follows(
        &self,
        gateway: Option<Peer>,
        (joined, session): (Time, SessionId),
        last: Option<Place>,
        next: Place,
    ) -> Result<(), String> {
        let gap = |log: u32, offset: u64| {
            let ranges = gateway.and_then(|gateway| self.gaps.get(&(gateway, log)));
            ranges.is_some_and(|ranges| ranges.iter().any(|(from, to)| (*from..=*to).contains(&offset)))
        };
        self.log
            .follows((joined, session), last, next, gap, &self.ownership)
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
        joined: (Time, SessionId),
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
        self.follows(gateway, joined, last, next)
    }
}

fn slot_of(slot: u32) -> Slot {
    Slot(u16::try_from(slot).unwrap_or(u16::MAX))
}

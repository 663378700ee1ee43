//! The owner's side: what is handed out, what happens meanwhile, the seal, and the wish for the write.

use std::collections::VecDeque;
use std::ops::Bound;
use std::time::Duration;

use ringcast_proto::record::{Cause, MoveKind, SlotRecord};
use ringcast_proto::v1::handoff_item::Item;
use ringcast_proto::v1::{HandoffPage, PullAnswer, PullStatus};
use ringcast_proto::{Millis, NodeRef, OwnerEpoch, Topic as TopicName};
use ringcast_ring::Revision;

use super::Piece;
use super::piece::page;
use crate::planted::PlantedBug;
use crate::slot::Slot;
use crate::{Effect, Moment, PullPage, Role, Swap, Token};

/// With so few entries left the slot is sealed: they fit into one page, and the pause is a call, a write and a message.
const SEAL_LAG_MAX: usize = 64;
/// A slot that gets more than that between two pages would never be sealed. The bound doubles with every so many pages.
const SEAL_PATIENCE_PAGES: u32 = 4;
/// Above this a page is full: large enough for one call to be worth it, small enough not to hold up others on the lane.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// Beyond this the target is too slow for what is published, and begins anew.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A target that has not confirmed by then keeps publishers waiting: the slot is unsealed. Nothing was written yet.
const SEAL_MAX: Duration = Duration::from_millis(250);
/// After that the slot is not sealed again for so long, or it would be sealed most of the time.
const SEAL_PAUSE: Duration = Duration::from_secs(1);
/// A target that is silent for so long costs the memory of what is kept for it.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A slot being given away, as of one attempt of the target.
#[derive(Debug)]
pub(crate) struct Giving {
    target: NodeRef,
    move_id: String,
    attempt: u32,
    handed: Handed,
    /// What the target has to apply next.
    waiting: VecDeque<Piece>,
    waiting_bytes: usize,
    /// The page sent last. It is sent again until the next is asked for.
    sent: Option<HandoffPage>,
    /// Pages since everything had been handed out once.
    rounds: u32,
    heard_at: Millis,
    sealed_at: Option<Millis>,
    /// The write is wanted, and it expects this revision of the record.
    swapping: Option<Revision>,
}

/// Which topics are handed out, or wait in order to be: what happens to them has to be told.
#[derive(Debug, PartialEq, Eq)]
enum Handed {
    Nothing,
    UpTo(TopicName),
    Everything,
}

impl Giving {
    fn new(target: NodeRef, pull: &PullPage, now: Millis) -> Giving {
        Giving {
            target,
            move_id: pull.move_id.clone(),
            attempt: pull.attempt,
            handed: Handed::Nothing,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: None,
            rounds: 0,
            heard_at: now,
            sealed_at: None,
            swapping: None,
        }
    }

    /// Whether what happens to this topic has to be told.
    pub(crate) fn covers(&self, topic: &TopicName) -> bool {
        match &self.handed {
            Handed::Nothing => false,
            Handed::UpTo(last) => topic <= last,
            Handed::Everything => true,
        }
    }

    pub(crate) fn tell(&mut self, piece: Piece) {
        self.waiting_bytes += piece.weight();
        self.waiting.push_back(piece);
    }

    fn is_for(&self, record: &SlotRecord) -> bool {
        let wish = record.moving.as_ref();
        wish.is_some_and(|wish| wish.id == self.move_id && wish.target == self.target)
    }

    fn sealed_ms(&self, now: Millis) -> u32 {
        // At least one, so that the target knows from it that the slot is sealed.
        let sealed = self.sealed_at.map(|at| now.since(at).as_millis().max(1));
        sealed.map_or(0, |millis| u32::try_from(millis).unwrap_or(u32::MAX))
    }

    /// Whether so little is left that the slot can be sealed.
    fn is_near(&self) -> bool {
        let patience = (self.rounds / SEAL_PATIENCE_PAGES).min(10);
        self.waiting.len() <= SEAL_LAG_MAX << patience && self.waiting_bytes <= PAGE_BYTES_MAX << patience
    }

    /// Whether the target cannot keep up: what waits for it would fill the memory.
    fn is_too_far(&self) -> bool {
        self.swapping.is_none() && self.waiting_bytes > WAITING_BYTES_MAX
    }

    /// When it is to be looked at though nothing happens.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        match (self.swapping, self.sealed_at) {
            (Some(_), _) => None,
            (None, Some(sealed_at)) => Some(sealed_at + SEAL_MAX),
            (None, None) => Some(self.heard_at + SILENCE_MAX),
        }
    }
}

impl Slot {
    pub(crate) fn pull(
        &mut self,
        token: Token,
        from: &NodeRef,
        pull: &PullPage,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let answer = self.hand_out(from, pull, moment.now, effects);
        effects.push(Effect::PullAnswered(token, answer));
    }

    fn hand_out(
        &mut self,
        from: &NodeRef,
        pull: &PullPage,
        now: Millis,
        effects: &mut Vec<Effect>,
    ) -> PullAnswer {
        if !self.is_wished(from, pull) {
            return status(PullStatus::NotOwner);
        }
        let same = |giving: &&Giving| giving.move_id == pull.move_id && giving.target == *from;
        match self.giving.as_ref().filter(same) {
            Some(giving) if giving.swapping.is_some() => return wait(giving.sealed_ms(now)),
            Some(giving) if giving.attempt == pull.attempt => {}
            // A late call of an attempt that was given up.
            Some(giving) if giving.attempt > pull.attempt => return status(PullStatus::Restart),
            // Of a copy that was given up, an answer may still be on its way: nobody could tell its pages from these.
            _ if pull.page > 0 || self.is_given_up(pull) => return status(PullStatus::Restart),
            _ => {
                self.unseal();
                self.giving = Some(Giving::new(from.clone(), pull, now));
            }
        }
        let Some(mut giving) = self.giving.take() else {
            return status(PullStatus::Restart);
        };
        giving.heard_at = now;
        let answer = self.next_page(&mut giving, pull.page, now, effects);
        self.giving = Some(giving);
        answer
    }

    fn is_given_up(&self, pull: &PullPage) -> bool {
        let given_up = self.given_up.as_ref();
        given_up.is_some_and(|(move_id, attempt)| *move_id == pull.move_id && pull.attempt <= *attempt)
    }

    /// Whether the record wants this very move, as far as this node can know.
    fn is_wished(&self, from: &NodeRef, pull: &PullPage) -> bool {
        let Some(owner_epoch) = self.serving().filter(|mine| *mine == pull.owner_epoch) else {
            return false;
        };
        let record = self.record.as_ref().map(|(_, record)| record);
        record
            .filter(|record| record.owner_epoch == owner_epoch)
            .and_then(|record| record.moving.as_ref())
            .is_some_and(|wish| {
                wish.id == pull.move_id && wish.target == *from && wish.kind == MoveKind::Owner
            })
    }

    fn next_page(
        &mut self,
        giving: &mut Giving,
        number: u64,
        now: Millis,
        effects: &mut Vec<Effect>,
    ) -> PullAnswer {
        let next = match &giving.sent {
            Some(sent) if sent.number == number => return self.resend(giving, now),
            Some(sent) => sent.number + 1,
            None => 0,
        };
        if number != next {
            return status(PullStatus::Restart);
        }
        if giving.sent.as_ref().is_some_and(|sent| sent.last) {
            return self.want_swap(giving, now, effects);
        }
        self.expand(giving);
        if giving.handed == Handed::Everything {
            giving.rounds = giving.rounds.saturating_add(1);
            if giving.sealed_at.is_none() && giving.is_near() && now >= self.seal_not_before {
                self.seal(giving, now);
            }
        }
        let (items, bytes) = page(&mut giving.waiting, PAGE_BYTES_MAX, now);
        giving.waiting_bytes -= bytes;
        let last = giving.sealed_at.is_some() && giving.waiting.is_empty();
        if items.is_empty() && !last {
            // Nothing new, and it may not be sealed yet.
            return wait(0);
        }
        giving.sent = Some(HandoffPage { number, items, last });
        self.resend(giving, now)
    }

    fn resend(&self, giving: &Giving, now: Millis) -> PullAnswer {
        PullAnswer {
            page: giving.sent.clone(),
            sealed_ms: giving.sealed_ms(now),
            ..status(PullStatus::Page)
        }
    }

    /// Lets further topics wait for their page, until one is full.
    fn expand(&self, giving: &mut Giving) {
        while giving.handed != Handed::Everything && giving.waiting_bytes < PAGE_BYTES_MAX {
            let after = match &giving.handed {
                Handed::UpTo(last) => Bound::Excluded(last.clone()),
                Handed::Nothing | Handed::Everything => Bound::Unbounded,
            };
            match self.topics.range((after, Bound::Unbounded)).next() {
                Some((name, topic)) => {
                    for piece in Piece::whole(topic) {
                        giving.tell(piece);
                    }
                    giving.handed = Handed::UpTo(name.clone());
                }
                None => giving.handed = Handed::Everything,
            }
        }
    }

    fn seal(&mut self, giving: &mut Giving, now: Millis) {
        let Role::Owner(owner_epoch) = self.role else {
            return;
        };
        self.role = Role::Sealed(owner_epoch);
        giving.sealed_at = Some(now);
        if self.limits.plants(PlantedBug::SnapshotMissingTail) {
            giving.waiting.clear();
        }
        for gateway in self.gateways.export() {
            giving.tell(Piece::Item(Item::Gateway(gateway)));
        }
    }

    /// The target has everything. From here on only the record tells how it ends.
    fn want_swap(&mut self, giving: &mut Giving, now: Millis, effects: &mut Vec<Effect>) -> PullAnswer {
        let Some((revision, record)) = &self.record else {
            return status(PullStatus::NotOwner);
        };
        giving.swapping = (!self.limits.plants(PlantedBug::UnsealWithoutCas)).then_some(*revision);
        effects.push(Effect::Swap(Box::new(Swap {
            revision: *revision,
            owner: record.owner.clone(),
            target: giving.target.clone(),
            record: SlotRecord {
                owner_epoch: record.owner_epoch.next(),
                base: record.base,
                owner: giving.target.clone(),
                replica: None,
                moving: None,
                cause: Cause::Swap,
                rest: record.rest.clone(),
            },
        })));
        wait(giving.sealed_ms(now))
    }

    /// The write that expected this revision was not made and never will be: the slot is still ours.
    pub(crate) fn swap_refused(&mut self, revision: Revision, now: Millis) {
        if self
            .giving
            .as_ref()
            .is_some_and(|giving| giving.swapping == Some(revision))
        {
            self.stop_giving();
            self.seal_not_before = now + SEAL_PAUSE;
        }
    }

    /// A newer record of the same owner: the move goes on if it is still wished for, and the write was not yet wanted.
    /// If it was, it expected an older record and can no longer be made.
    pub(crate) fn go_on_giving(&mut self, record: &SlotRecord) {
        let goes_on = |giving: &Giving| giving.is_for(record) && giving.swapping.is_none();
        if !self.giving.as_ref().is_some_and(goes_on) {
            self.stop_giving();
        }
    }

    pub(crate) fn stop_giving(&mut self) {
        self.unseal();
        if let Some(giving) = self.giving.take() {
            self.given_up = Some((giving.move_id, giving.attempt));
        }
    }

    fn unseal(&mut self) {
        if let Role::Sealed(owner_epoch) = self.role {
            self.role = Role::Owner(owner_epoch);
        }
    }

    /// Gives up what takes too long. What the write is wanted for waits for its outcome, however long that takes.
    pub(crate) fn look_after_giving(&mut self, now: Millis) {
        let Some(giving) = self.giving.as_ref().filter(|giving| giving.swapping.is_none()) else {
            return;
        };
        let over = giving.deadline().is_some_and(|deadline| deadline <= now);
        if over && giving.sealed_at.is_some() {
            self.seal_not_before = now + SEAL_PAUSE;
        }
        if over {
            self.stop_giving();
        }
    }

    /// Notes what happened to a topic that is handed out already.
    pub(crate) fn tell_target(&mut self, topic: &TopicName, piece: impl FnOnce() -> Piece) {
        let Some(giving) = self.giving.as_mut().filter(|giving| giving.covers(topic)) else {
            return;
        };
        giving.tell(piece());
        if giving.is_too_far() {
            self.stop_giving();
        }
    }

    /// Notes what was just appended to a topic, if it is handed out already.
    pub(crate) fn tell_target_of_append(&mut self, name: &str, at: Millis) {
        let Some(giving) = &mut self.giving else { return };
        let Some(topic) = self.topics.get(name).filter(|topic| giving.covers(&topic.key)) else {
            return;
        };
        if let Some(publication) = topic.history.last() {
            giving.tell(Piece::Publication(topic.name.clone(), at, publication.clone()));
        }
        if giving.is_too_far() {
            self.stop_giving();
        }
    }

    /// The owner_epoch it is sealed under.
    pub(crate) fn sealed(&self) -> Option<OwnerEpoch> {
        match self.role {
            Role::Sealed(owner_epoch) => Some(owner_epoch),
            _ => None,
        }
    }
}

fn status(status: PullStatus) -> PullAnswer {
    PullAnswer {
        status: status.into(),
        ..PullAnswer::default()
    }
}

fn wait(sealed_ms: u32) -> PullAnswer {
    PullAnswer {
        sealed_ms,
        ..status(PullStatus::Wait)
    }
}

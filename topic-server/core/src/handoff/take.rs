//! The target's side: pages asked for one by one and applied, and the moment they become a slot that serves.

use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::record::{MoveKind, SlotRecord};
use ringcast_proto::v1::handoff_item::Item;
use ringcast_proto::v1::{
    EndedMove, HandoffGroup, HandoffGroupChange, HandoffIds, HandoffPage, HandoffPublications, HandoffTopic,
    Member, PullAnswer, PullStatus,
};
use ringcast_proto::{
    Epoch, Incarnation, Millis, NodeId, NodeRef, Offset, OwnerEpoch, SessionId, Topic as TopicName,
};

use super::piece::weight;
use crate::bind::SUBJECT_BYTES_MAX;
use crate::copies::Copies;
use crate::ids::{First, Kept, Key};
use crate::planted::PlantedBug;
use crate::slot::Slot;
use crate::topic::Topic;
use crate::{Effect, Moment, PullPage, Role};

/// After a call without an answer, or one that says to look at the record.
const RETRY: Duration = Duration::from_millis(200);
/// An owner that has not read the record yet, in which this node has read the wish, reads it within milliseconds. Doubled
/// with every such answer, up to [`RETRY`].
const EARLY: Duration = Duration::from_millis(5);
/// The owner has nothing to send yet, or is writing the change that makes this node the owner.
const WAIT: Duration = Duration::from_millis(50);
/// There is no room for the topics; others may go.
const NO_ROOM: Duration = Duration::from_secs(5);
/// A publish that waited for the move comes within this time, if there is one: gateways ask again every few milliseconds.
const FIRST_APPEND_MAX: Duration = Duration::from_secs(1);

/// No topic gets there; room to count on is left.
const OFFSET_MAX: u64 = u64::MAX / 2;

/// A slot being copied from its owner.
#[derive(Debug)]
pub(crate) struct Learning {
    owner: NodeRef,
    owner_epoch: OwnerEpoch,
    move_id: String,
    attempt: u32,
    /// The page that is asked for, or is to be.
    page: u64,
    /// When to ask for it again; none while an answer is awaited.
    ask_at: Option<Millis>,
    /// Answers in a row that said that the owner knows of no such move.
    refusals: u32,
    began: Millis,
    bytes: u64,
    /// When the owner sealed the slot, by this node's clock: the last page is applied.
    sealed_at: Option<Millis>,
}

/// A slot that was taken over a moment ago.
#[derive(Debug)]
pub(crate) struct Takeover {
    sealed_at: Millis,
    owner_at: Millis,
    ended: EndedMove,
}

/// Why a page cannot be applied. It comes from a node of ours, so something is wrong with it or with us.
#[derive(Debug, PartialEq, Eq)]
enum BadPage {
    Broken,
    NoRoom,
}

impl Learning {
    fn new(record: &SlotRecord, now: Millis) -> Option<Learning> {
        let wish = record.moving.as_ref()?;
        Some(Learning {
            owner: record.owner.clone(),
            owner_epoch: record.owner_epoch,
            move_id: wish.id.clone(),
            attempt: 0,
            page: 0,
            ask_at: Some(now),
            refusals: 0,
            began: now,
            bytes: 0,
            sealed_at: None,
        })
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.ask_at
    }

    fn is_for(&self, record: &SlotRecord) -> bool {
        let wish = record.moving.as_ref();
        self.owner == record.owner
            && self.owner_epoch == record.owner_epoch
            && wish.is_some_and(|wish| wish.id == self.move_id)
    }

    fn asks(&self) -> PullPage {
        PullPage {
            owner_epoch: self.owner_epoch,
            move_id: self.move_id.clone(),
            attempt: self.attempt,
            page: self.page,
        }
    }
}

impl Takeover {
    pub(crate) fn deadline(&self) -> Millis {
        self.owner_at + FIRST_APPEND_MAX
    }
}

/// Whether the record wants `me` to learn the slot.
pub(crate) fn is_learner(record: &SlotRecord, me: &NodeRef) -> bool {
    let wish = record.moving.as_ref();
    wish.is_some_and(|wish| wish.target == *me && wish.kind == MoveKind::Owner)
}

impl Slot {
    /// Begins to copy the slot, or goes on with it if the record tells nothing new.
    pub(crate) fn learn(
        &mut self,
        record: &SlotRecord,
        entropy: u128,
        now: Millis,
        effects: &mut Vec<Effect>,
    ) {
        if self
            .learning
            .as_ref()
            .is_some_and(|learning| learning.is_for(record))
        {
            return;
        }
        self.clear(entropy, effects);
        self.role = Role::Learner(record.owner.clone(), record.owner_epoch);
        self.learning = Learning::new(record, now);
        self.ask(now, effects);
    }

    /// Asks for the page that is due.
    pub(crate) fn ask(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        if let Some(learning) = &mut self.learning
            && learning.ask_at.take_if(|at| *at <= now).is_some()
        {
            effects.push(Effect::Pull(learning.owner.clone(), learning.asks()));
        }
    }

    pub(crate) fn pulled(
        &mut self,
        asked: &PullPage,
        answer: Option<PullAnswer>,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) {
        // An answer to what is no longer asked says nothing.
        let awaited = |learning: &&mut Learning| learning.ask_at.is_none() && learning.asks() == *asked;
        let Some(learning) = self.learning.as_mut().filter(awaited) else {
            return;
        };
        let answer = answer.unwrap_or_default();
        let status = answer.status();
        learning.refusals = match status {
            PullStatus::NotOwner => learning.refusals.saturating_add(1),
            _ => 0,
        };
        let again = match (status, answer.page) {
            (PullStatus::Page, Some(page)) if page.number == asked.page => {
                learning.page += 1;
                if page.last {
                    let sealed = Duration::from_millis(answer.sealed_ms.into());
                    learning.sealed_at = Some(moment.now - sealed);
                }
                let owner_epoch = learning.owner_epoch;
                let bytes = page
                    .items
                    .iter()
                    .filter_map(|item| item.item.as_ref())
                    .map(weight);
                learning.bytes += bytes.sum::<usize>() as u64;
                match self.take(page, moment) {
                    Ok(last) => {
                        if last {
                            self.copy = Some(owner_epoch);
                        }
                        Duration::ZERO
                    }
                    Err(why) => {
                        self.restart();
                        if why == BadPage::NoRoom { NO_ROOM } else { RETRY }
                    }
                }
            }
            (PullStatus::Wait, _) => WAIT,
            (PullStatus::Restart, _) => {
                self.restart();
                WAIT
            }
            (PullStatus::NotOwner, _) => RETRY.min(EARLY * (1 << learning.refusals.min(8)) / 2),
            (PullStatus::Page | PullStatus::Unspecified, _) => RETRY,
        };
        if let Some(learning) = &mut self.learning {
            learning.ask_at = Some(moment.now + again);
        }
        self.ask(moment.now, effects);
    }

    /// Whatever is still answered, the copy stays as it is.
    pub(crate) fn ask_no_more(&mut self) {
        if let Some(learning) = &mut self.learning {
            learning.ask_at = None;
            learning.attempt = u32::MAX;
        }
    }

    /// The copy is worth nothing: another begins.
    fn restart(&mut self) {
        self.drop_topics();
        self.copy = None;
        if let Some(learning) = &mut self.learning {
            learning.attempt = learning.attempt.saturating_add(1);
            learning.page = 0;
            learning.sealed_at = None;
        }
    }

    /// Applies a page; whether it was the last.
    fn take(&mut self, page: HandoffPage, moment: Moment) -> Result<bool, BadPage> {
        for item in page.items {
            match item.item.ok_or(BadPage::Broken)? {
                Item::Topic(topic) => self.take_topic(&topic, moment)?,
                Item::Publications(list) => self.take_publications(list, moment.now)?,
                Item::Group(group) => self.take_group(group)?,
                Item::GroupChange(change) => self.take_change(change)?,
                Item::Gateway(_) if self.limits.plants(PlantedBug::PublishNumbersNotTransferred) => {}
                Item::Gateway(gateway) => self.gateways.import(gateway).ok_or(BadPage::Broken)?,
                Item::Ids(_) if self.limits.plants(PlantedBug::DedupNotTransferred) => {}
                Item::Ids(list) => self.take_ids(list, moment.now)?,
                Item::TopicGone(name) => {
                    let name = std::str::from_utf8(&name).map_err(|_| BadPage::Broken)?;
                    self.drop_topic(name);
                }
            }
        }
        Ok(page.last)
    }

    fn take_topic(&mut self, topic: &HandoffTopic, moment: Moment) -> Result<(), BadPage> {
        let key = TopicName::parse(&topic.topic).map_err(|_| BadPage::Broken)?;
        let epoch = Epoch::parse(&topic.epoch).map_err(|_| BadPage::Broken)?;
        self.drop_topic(key.as_str());
        if self.created >= moment.topics_free {
            return Err(BadPage::NoRoom);
        }
        if topic.offset > OFFSET_MAX {
            return Err(BadPage::Broken);
        }
        let rule = self.limits.rule(&key);
        let mut taken = Topic::new(key, epoch, rule);
        taken.head = Offset(topic.offset);
        self.add_topic(taken);
        Ok(())
    }

    fn taken(&mut self, name: &[u8]) -> Result<&mut Topic, BadPage> {
        let name = std::str::from_utf8(name).map_err(|_| BadPage::Broken)?;
        self.touch(name).ok_or(BadPage::Broken)
    }

    fn take_publications(&mut self, list: HandoffPublications, now: Millis) -> Result<(), BadPage> {
        let mut copies = Copies::default();
        let topic = self.taken(&list.topic)?;
        for kept in list.publications {
            let publication = kept.publication.ok_or(BadPage::Broken)?;
            if publication.offset != topic.head.next().0 {
                return Err(BadPage::Broken);
            }
            let age = Duration::from_millis(kept.age_ms.into());
            topic.head = topic.head.next();
            topic
                .history
                .push(publication, &topic.key, &mut copies, now - age);
        }
        Ok(())
    }

    fn take_ids(&mut self, list: HandoffIds, now: Millis) -> Result<(), BadPage> {
        let limits = self.limits.clone();
        let topic = self.taken(&list.topic)?;
        let head = topic.head;
        let ids = topic.ids.get_or_insert_default();
        for id in list.ids {
            let first = match Offset(id.offset) {
                Offset(0) => First::Matched(id.matched),
                offset if offset <= head => First::At(offset),
                _ => return Err(BadPage::Broken),
            };
            let key = Key::parse(&id.subject, &id.msg_id).map_err(|_| BadPage::Broken)?;
            let at = now - Duration::from_millis(id.age_ms.into());
            ids.push(Kept { key, at, first }, &limits);
        }
        Ok(())
    }

    fn take_group(&mut self, part: HandoffGroup) -> Result<(), BadPage> {
        let gateway = gateway(&part.gateway, part.incarnation)?;
        let members = members(part.members)?;
        if members.is_empty() {
            return Err(BadPage::Broken);
        }
        let group = self.taken(&part.topic)?.groups.or_default(gateway);
        group.seq = part.seq;
        group.members.extend(members);
        Ok(())
    }

    fn take_change(&mut self, change: HandoffGroupChange) -> Result<(), BadPage> {
        let gateway = gateway(&change.gateway, change.incarnation)?;
        let joined = members(change.joined)?;
        let topic = self.taken(&change.topic)?;
        let mut group = topic.groups.remove(&gateway).unwrap_or_default();
        if change.complete {
            group.members.clear();
        }
        for session in change.left {
            group.members.remove(&SessionId(session));
        }
        group.members.extend(joined);
        group.seq = change.seq;
        if !group.members.is_empty() {
            topic.groups.insert(gateway, group);
        }
        Ok(())
    }

    /// The record makes this node the owner, with everything it has copied.
    pub(crate) fn take_over(&mut self, me: &NodeRef, now: Millis) {
        let Some(learning) = self.learning.take() else {
            return;
        };
        let (mut topics, mut members) = (0, 0);
        for topic in self.topics.values_mut() {
            topics += 1;
            // A gateway may have ended while its groups were on their way.
            topic.groups.retain(|gateway, _| !self.gateways.is_over(gateway));
            for group in topic.groups.values_mut() {
                // What the old owner's lane has not delivered the gateway asks for, by its bind or its cursor.
                group.sent = topic.head;
                if self.limits.plants(PlantedBug::GroupLostOnMove) {
                    group.members.pop_last();
                }
                members += group.members.len() as u64;
            }
        }
        debug_assert_ne!(learning.owner, *me, "nobody learns from itself");
        let copy_ms = now.since(learning.began).as_millis();
        self.takeover = learning.sealed_at.map(|sealed_at| Takeover {
            sealed_at,
            owner_at: now,
            ended: EndedMove {
                id: learning.move_id,
                from: learning.owner.node.to_string(),
                copy_ms: u32::try_from(copy_ms).unwrap_or(u32::MAX),
                topics,
                members,
                bytes: learning.bytes,
                ..EndedMove::default()
            },
        });
    }

    /// Reports how long the slot appended nothing: until `now`, if a publish that had waited is the first to be appended,
    /// and else until it would have been.
    pub(crate) fn report_takeover(&mut self, now: Option<Millis>, effects: &mut Vec<Effect>) {
        if let Some(Takeover {
            sealed_at,
            owner_at,
            mut ended,
        }) = self.takeover.take()
        {
            let pause = now.unwrap_or(owner_at).since(sealed_at).as_millis();
            ended.pause_ms = u32::try_from(pause).unwrap_or(u32::MAX);
            effects.push(Effect::Moved(ended));
        }
    }
}

fn gateway(id: &str, incarnation: u64) -> Result<NodeRef, BadPage> {
    Ok(NodeRef {
        node: NodeId::parse(id).map_err(|_| BadPage::Broken)?,
        incarnation: Incarnation(incarnation),
    })
}

/// Copied out of the receive buffer: members stay for hours.
fn members(members: Vec<Member>) -> Result<Vec<(SessionId, Bytes)>, BadPage> {
    let member = |member: Member| match member.session {
        0 => Err(BadPage::Broken),
        _ if member.subject.len() > SUBJECT_BYTES_MAX => Err(BadPage::Broken),
        session => Ok((SessionId(session), Bytes::copy_from_slice(&member.subject))),
    };
    members.into_iter().map(member).collect()
}

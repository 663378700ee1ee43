//! One slot: the topics in it, the role this node has for it, and the gateways it talks to.
//!
//! It promises that a question always gets one answer, and that who asks after a change of owner is told. *Invariant:*
//! nothing is appended, acknowledged or handed to a lane unless this node is the owner as far as it can know.
//! Leaves out: replicas and moves; tasks, timers and lanes (the shell).

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::SlotRecord;
use ringcast_proto::{Millis, NodeRef, OwnerEpoch, Slot as SlotNumber, Topic as TopicName, v1};
use ringcast_ring::Revision;

use crate::epochs::Epochs;
use crate::gateways::{Admitted, Gateways};
use crate::role::{Turn, turn};
use crate::topic::Topic;
use crate::{Cursor, Effect, Input, Limits, Moment, Role, TapId};

/// How exact expiry is, in milliseconds: one wake-up a second however many topics there are.
const TICK_MS: u64 = 1000;

/// How much a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Topics.
    pub topics: usize,
    /// Members of all topics.
    pub members: usize,
    /// Bytes in all histories.
    pub history_bytes: usize,
    /// Publications appended so far. The only one that never falls.
    pub appended: u64,
}

/// The state machine of one slot on one node.
#[derive(Debug)]
pub struct Slot {
    number: SlotNumber,
    pub(crate) limits: Limits,
    role: Role,
    /// The owner_epoch under which what is held here was last ours.
    copy: Option<OwnerEpoch>,
    /// Of the newest record read.
    revision: Revision,
    /// The highest owner_epoch anybody spoke of since a write proved ours to be the highest.
    heard: OwnerEpoch,
    epochs: Epochs,
    pub(crate) topics: BTreeMap<TopicName, Topic>,
    pub(crate) gateways: Gateways,
    pub(crate) taps: BTreeMap<TapId, TopicName>,
    /// Topics to look at when flushing, once each.
    touched: Vec<TopicName>,
    /// When the oldest publication of a topic may go. A timer that finds nothing to do is harmless.
    timers: BTreeSet<(Millis, TopicName)>,
    /// Topics whose group on this gateway found its lane full.
    lagging: BTreeMap<NodeRef, BTreeSet<TopicName>>,
    counts: Counts,
    /// Topics made since the counts were last right.
    created: usize,
}

impl Slot {
    /// A slot of which nothing is known yet.
    #[must_use]
    pub fn new(number: SlotNumber, limits: Limits) -> Slot {
        Slot {
            number,
            limits,
            role: Role::None(None),
            copy: None,
            revision: Revision(0),
            heard: OwnerEpoch(0),
            epochs: Epochs::new(0),
            topics: BTreeMap::new(),
            gateways: Gateways::default(),
            taps: BTreeMap::new(),
            touched: Vec::new(),
            timers: BTreeSet::new(),
            lagging: BTreeMap::new(),
            counts: Counts::default(),
            created: 0,
        }
    }

    /// Which slot.
    #[must_use]
    pub fn number(&self) -> SlotNumber {
        self.number
    }

    /// What this node is to the slot.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// How much it holds, as of the last flush.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes one input. Questions are answered at once; what gateways have to get waits for [`Slot::flush`].
    pub fn apply(&mut self, input: Input, moment: Moment, effects: &mut Vec<Effect>) {
        match input {
            Input::Record {
                revision,
                record,
                me,
                entropy,
            } => {
                self.record(revision, &record, &me, entropy, effects);
            }
            Input::Confirmed(owner_epoch) => self.confirmed(owner_epoch),
            Input::Fenced => self.fence(effects),
            Input::Publish(request) => self.publish(request, moment, effects),
            Input::Bind {
                token,
                from,
                owner_epoch,
                bind,
            } => {
                self.bind(token, (from, owner_epoch), bind, moment, effects);
            }
            Input::NeedFrom {
                gateway,
                topic,
                cursor,
            } => self.need_from(&gateway, &topic, &cursor),
            Input::NoInterest {
                gateway,
                topic,
                bind_seq,
            } => self.no_interest(&gateway, &topic, bind_seq),
            Input::Stale(owner_epoch) => self.hear(owner_epoch, effects),
            Input::Dropped { gateway, topic, from } => self.dropped(gateway, topic, &from),
            Input::LaneRoom(gateway) => self.lane_room(&gateway),
            Input::GatewayGone(gateway) => {
                self.gateways.gone(&gateway);
                self.forget(&gateway);
            }
            Input::Tap(tap, topic) => self.tap(tap, topic, moment, effects),
            Input::Untap(tap) => self.untap(tap),
            Input::ListTopics { token, prefix, limit } => self.list_topics(token, &prefix, limit, effects),
            Input::ShowTopic(token, topic) => self.show_topic(token, &topic, effects),
            Input::ListMembers {
                token,
                topic,
                after,
                limit,
            } => {
                self.list_members(token, &topic, after, limit, effects);
            }
            Input::Tick => self.tick(moment.now),
        }
    }

    /// Hands out what gateways have to get, then lets go of what is too old, too much or of no use.
    pub fn flush(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let serving = self.serving();
        let slot = u32::from(self.number.0);
        for name in std::mem::take(&mut self.touched) {
            let Some(topic) = self.topics.get_mut(&name) else {
                continue;
            };
            topic.touched = false;
            if let Some(OwnerEpoch(owner_epoch)) = serving {
                topic.entries(&self.limits, |gateway, entry| {
                    let entry = v1::DeliverEntry {
                        slot,
                        owner_epoch,
                        ..entry
                    };
                    effects.push(Effect::Deliver(gateway.clone(), entry));
                });
            }
            // Only now: a burst larger than the history must still reach those who keep up.
            topic.history.trim(now, &self.limits);
            self.counts.less(topic.counted);
            if topic.is_idle() {
                self.topics.remove(&name);
                continue;
            }
            topic.counted = topic.counts();
            self.counts.more(topic.counted);
            if let (false, Some(Millis(due))) = (topic.timed, topic.history.expires(&self.limits)) {
                topic.timed = true;
                self.timers
                    .insert((Millis(due.saturating_add(TICK_MS - due % TICK_MS)), name));
            }
        }
        self.created = 0;
        debug_assert_eq!(
            self.counts.topics,
            self.topics.len(),
            "a topic was changed without being touched"
        );
    }

    /// When to apply [`Input::Tick`] and flush. A late or needless one is harmless.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.timers.first().map(|(due, _)| *due)
    }

    fn record(
        &mut self,
        revision: Revision,
        record: &SlotRecord,
        me: &NodeRef,
        entropy: u128,
        effects: &mut Vec<Effect>,
    ) {
        if revision < self.revision {
            return;
        }
        self.revision = revision;
        let role = match turn(record, me, self.copy) {
            Turn::Keep(role) => role,
            Turn::Empty(role) => {
                self.clear(entropy, effects);
                role
            }
        };
        if let Role::Owner(owner_epoch) = role {
            self.copy = Some(owner_epoch);
        } else {
            self.end_taps(effects);
        }
        if role != self.role {
            self.role = role;
            self.touch_all();
        }
    }

    /// Forgets everything that was held. Gateways bind again, and find new epochs.
    fn clear(&mut self, entropy: u128, effects: &mut Vec<Effect>) {
        self.end_taps(effects);
        self.epochs = Epochs::new(entropy);
        self.copy = None;
        self.topics.clear();
        self.gateways = Gateways::default();
        self.touched.clear();
        self.timers.clear();
        self.lagging.clear();
        self.counts = Counts {
            appended: self.counts.appended,
            ..Counts::default()
        };
        self.created = 0;
    }

    /// A publication was appended.
    pub(crate) fn count_append(&mut self) {
        self.counts.appended += 1;
    }

    fn fence(&mut self, effects: &mut Vec<Effect>) {
        if let Role::Owner(owner_epoch) = self.role {
            self.role = Role::Fenced(owner_epoch);
            self.end_taps(effects);
        }
    }

    fn confirmed(&mut self, owner_epoch: OwnerEpoch) {
        if self.role == Role::Owner(owner_epoch) && self.heard > owner_epoch {
            self.heard = owner_epoch;
            self.touch_all();
        }
    }

    /// The owner_epoch to serve under, if this node may serve.
    pub(crate) fn serving(&self) -> Option<OwnerEpoch> {
        match self.role {
            Role::Owner(owner_epoch) if owner_epoch >= self.heard => Some(owner_epoch),
            _ => None,
        }
    }

    /// Who does own the slot, if this node does not and knows.
    pub(crate) fn owner(&self) -> Option<v1::Owner> {
        let Role::None(Some((owner, owner_epoch))) = &self.role else {
            return None;
        };
        let (node, incarnation) = (owner.node.to_string(), owner.incarnation.0);
        Some(v1::Owner {
            node,
            incarnation,
            owner_epoch: owner_epoch.0,
        })
    }

    /// Whether to serve a gateway that has seen `owner_epoch`; under which one, or who to ask instead.
    pub(crate) fn serve(
        &mut self,
        from: &NodeRef,
        owner_epoch: OwnerEpoch,
        effects: &mut Vec<Effect>,
    ) -> Result<OwnerEpoch, Option<v1::Owner>> {
        self.hear(owner_epoch, effects);
        let Some(mine) = self.serving() else {
            return Err(self.owner());
        };
        match self.gateways.admit(from) {
            Admitted::Known => Ok(mine),
            Admitted::Renewed(before) => {
                self.forget(&before);
                Ok(mine)
            }
            Admitted::Refused => Err(None),
        }
    }

    /// Somebody speaks of an owner_epoch. If it is higher than ours, serving stops until the store has said more.
    fn hear(&mut self, owner_epoch: OwnerEpoch, effects: &mut Vec<Effect>) {
        if let Role::Owner(mine) = self.role
            && owner_epoch > mine.max(self.heard)
        {
            self.heard = owner_epoch;
            effects.push(Effect::Behind);
        }
    }

    fn need_from(&mut self, gateway: &NodeRef, name: &TopicName, cursor: &Cursor) {
        let Some(topic) = self.touch(name.as_str()) else {
            return;
        };
        let (sent, from_other_epoch) = topic.resume_after(cursor);
        if let Some(group) = topic.groups.get_mut(gateway) {
            group.sent = sent;
            group.from_other_epoch = from_other_epoch;
        }
    }

    fn no_interest(&mut self, gateway: &NodeRef, name: &TopicName, bind_seq: u64) {
        let Some(topic) = self.touch(name.as_str()) else {
            return;
        };
        topic
            .groups
            .retain(|node, group| node != gateway || group.seq > bind_seq);
    }

    fn dropped(&mut self, gateway: NodeRef, name: TopicName, from: &Cursor) {
        let Some(topic) = self.topics.get_mut(&name) else {
            return;
        };
        let Some(group) = topic
            .groups
            .get_mut(&gateway)
            .filter(|_| topic.epoch == from.epoch)
        else {
            return;
        };
        group.sent = group.sent.min(from.offset);
        group.lagging = true;
        self.lagging.entry(gateway).or_default().insert(name);
    }

    fn lane_room(&mut self, gateway: &NodeRef) {
        for name in self.lagging.remove(gateway).unwrap_or_default() {
            if let Some(group) = self
                .touch(name.as_str())
                .and_then(|topic| topic.groups.get_mut(gateway))
            {
                group.lagging = false;
            }
        }
    }

    /// Drops the groups of this life of a gateway and of those before it.
    fn forget(&mut self, gateway: &NodeRef) {
        let over = |node: &NodeRef| node.node == gateway.node && node.incarnation <= gateway.incarnation;
        self.lagging.retain(|node, _| !over(node));
        for (name, topic) in &mut self.topics {
            let before = topic.groups.len();
            topic.groups.retain(|node, _| !over(node));
            if topic.groups.len() != before && !std::mem::replace(&mut topic.touched, true) {
                self.touched.push(name.clone());
            }
        }
    }

    fn tick(&mut self, now: Millis) {
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, name)) = self.timers.pop_first() else {
                return;
            };
            if let Some(topic) = self.touch(name.as_str()) {
                topic.timed = false;
            }
        }
    }

    /// The topic, which the next flush will look at.
    pub(crate) fn touch(&mut self, name: &str) -> Option<&mut Topic> {
        let topic = self.topics.get_mut(name)?;
        if !topic.touched {
            topic.touched = true;
            self.touched.push(topic.key.clone());
        }
        Some(topic)
    }

    /// The same, of a topic that is made if it is not there. None where the node can hold no more.
    pub(crate) fn touch_or_create(&mut self, name: &str, moment: Moment) -> Option<&mut Topic> {
        if !self.topics.contains_key(name) {
            if self.created >= moment.topics_free {
                return None;
            }
            let key = TopicName::parse(name.as_bytes()).ok()?;
            self.created += 1;
            let topic = Topic::new(key.clone(), self.epochs.next());
            self.counts.more(topic.counted);
            self.topics.insert(key, topic);
        }
        self.touch(name)
    }

    fn touch_all(&mut self) {
        for (name, topic) in &mut self.topics {
            if !std::mem::replace(&mut topic.touched, true) {
                self.touched.push(name.clone());
            }
        }
    }
}

impl Counts {
    fn more(&mut self, other: Counts) {
        self.topics += other.topics;
        self.members += other.members;
        self.history_bytes += other.history_bytes;
    }

    fn less(&mut self, other: Counts) {
        self.topics -= other.topics;
        self.members -= other.members;
        self.history_bytes -= other.history_bytes;
    }
}

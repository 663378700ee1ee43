//! One slot: the topics in it, the role this node has for it, and the gateways it talks to.
//!
//! It promises that a question always gets one answer, and that who asks after a change of owner is told. *Invariant:*
//! nothing is appended, acknowledged or handed to a lane unless this node is the owner as far as it can know.
//! Leaves out: replicas; tasks, timers and lanes (the shell).

use std::collections::{BTreeMap, BTreeSet};

use ringcast_proto::record::SlotRecord;
use ringcast_proto::{Millis, NodeRef, Offset, OwnerEpoch, Slot as SlotNumber, Topic as TopicName, v1};
use ringcast_ring::Revision;

use crate::chance::Chance;
use crate::copies::Copies;
use crate::epochs::Epochs;
use crate::gateways::Gateways;
use crate::handoff::{Giving, Learning, Piece, Takeover};
use crate::topic::{Share, Topic};
use crate::{Effect, Input, Limits, Moment, Role, TapId};

/// How exact expiry is, in milliseconds: one wake-up a second however many topics there are.
const TICK_MS: u64 = 1000;

/// How much a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Topics.
    pub topics: usize,
    /// Members of all topics.
    pub members: usize,
    /// Bytes in all histories, and of the ids of clients' publishes.
    pub history_bytes: usize,
    /// Publications appended so far. Like all that follow, it never falls.
    pub appended: u64,
    /// Publications sent without an offset.
    pub unsequenced: u64,
    /// Publishes that were repeats, by the ids clients gave them.
    pub duplicates: u64,
    /// Publications that went since the node's memory was full.
    pub shed: u64,
}

/// Room for so many names of topics is kept from turn to turn.
const TOUCHED_KEPT: usize = 64;

/// The state machine of one slot on one node.
#[derive(Debug)]
pub struct Slot {
    number: SlotNumber,
    pub(crate) limits: Limits,
    pub(crate) role: Role,
    /// The owner_epoch under which what is held here was last ours.
    pub(crate) copy: Option<OwnerEpoch>,
    /// The newest record read.
    pub(crate) record: Option<(Revision, SlotRecord)>,
    /// The highest owner_epoch anybody spoke of since a write proved ours to be the highest.
    pub(crate) heard: OwnerEpoch,
    pub(crate) epochs: Epochs,
    pub(crate) chance: Chance,
    /// Boxed, for the nodes of a tree are half empty.
    pub(crate) topics: BTreeMap<TopicName, Box<Topic>>,
    pub(crate) gateways: Gateways,
    pub(crate) taps: BTreeMap<TapId, TopicName>,
    /// Topics to look at when flushing, once each.
    pub(crate) touched: Vec<TopicName>,
    pub(crate) copies: Copies,
    /// When the oldest publication of a topic may go. A timer that finds nothing to do is harmless.
    pub(crate) timers: BTreeSet<(Millis, TopicName)>,
    /// Topics whose group on this gateway found its lane full.
    pub(crate) lagging: BTreeMap<NodeRef, BTreeSet<TopicName>>,
    pub(crate) counts: Counts,
    /// Topics made since the counts were last right.
    pub(crate) created: usize,
    /// The copy another node is taking of the slot.
    pub(crate) giving: Option<Giving>,
    /// The move and the attempt of the last copy that was begun and given up.
    pub(crate) given_up: Option<(String, u32)>,
    /// The slot is not sealed before.
    pub(crate) seal_not_before: Millis,
    /// The copy this node is taking of the slot.
    pub(crate) learning: Option<Learning>,
    /// The slot came here by a move, and has appended nothing yet.
    pub(crate) takeover: Option<Takeover>,
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
            record: None,
            heard: OwnerEpoch(0),
            epochs: Epochs::new(0),
            chance: Chance::new(0),
            topics: BTreeMap::new(),
            gateways: Gateways::default(),
            taps: BTreeMap::new(),
            touched: Vec::new(),
            copies: Copies::default(),
            timers: BTreeSet::new(),
            lagging: BTreeMap::new(),
            counts: Counts::default(),
            created: 0,
            giving: None,
            given_up: None,
            seal_not_before: Millis(0),
            learning: None,
            takeover: None,
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
                self.record(revision, record, &me, (entropy, moment.now), effects);
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
            Input::Fetch {
                token,
                from,
                owner_epoch,
                topic,
                after,
            } => {
                self.fetch(token, (from, owner_epoch), &topic, &after, effects);
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
                from,
            } => self.no_interest(&gateway, &topic, bind_seq, &from),
            Input::Stale {
                gateway,
                topic,
                from,
                owner_epoch,
            } => {
                self.hear(owner_epoch, effects);
                self.unsent(&gateway, &topic, &from);
            }
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
            Input::Pull { token, from, pull } => self.pull(token, &from, &pull, moment, effects),
            Input::Pulled(asked, answer) => self.pulled(&asked, answer, moment, effects),
            Input::SwapRefused(revision) => self.swap_refused(revision, moment.now),
            Input::Shed(what) => self.shed(what, moment.now),
            Input::Tick => self.tick(moment.now, effects),
        }
    }

    /// Hands out what gateways have to get, then lets go of what is too old, too much or of no use.
    pub fn flush(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let serving = self.serving();
        let learns = self.learning.is_some();
        self.copies.end();
        let mut touched = std::mem::take(&mut self.touched);
        for name in touched.drain(..) {
            let Some(topic) = self.topics.get_mut(&name) else {
                continue;
            };
            topic.touched = false;
            if let Some(owner_epoch) = serving {
                hand_out(topic, self.number, owner_epoch, &self.limits, effects);
            }
            self.counts.less(topic.counted);
            if learns {
                // Half copied it may look idle, and only its owner lets go of anything.
                topic.counted = topic.share();
                self.counts.more(topic.counted);
                continue;
            }
            // Only now: a burst larger than the history must still reach those who keep up.
            topic.trim(now, &self.limits);
            if topic.is_idle() {
                if let Some(topic) = self.topics.remove(&name) {
                    self.tell_target(&name, || Piece::gone(&topic));
                }
                continue;
            }
            topic.counted = topic.share();
            self.counts.more(topic.counted);
            if let Some(due) = topic.expires(&self.limits).map(tick_after)
                && (topic.timer == Millis(0) || due < topic.timer)
            {
                self.timers.remove(&(topic.timer, name.clone()));
                topic.timer = due;
                self.timers.insert((due, name));
            }
        }
        if self.touched.is_empty() && touched.capacity() <= TOUCHED_KEPT {
            self.touched = touched;
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
        let timers = self.timers.first().map(|(due, _)| *due);
        let giving = self.giving.as_ref().and_then(Giving::deadline);
        let learning = self.learning.as_ref().and_then(Learning::deadline);
        let takeover = self.takeover.as_ref().map(Takeover::deadline);
        [timers, giving, learning, takeover].into_iter().flatten().min()
    }

    fn tick(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        self.look_after_giving(now);
        self.ask(now, effects);
        if self
            .takeover
            .as_ref()
            .is_some_and(|taken| taken.deadline() <= now)
        {
            self.report_takeover(None, effects);
        }
        while self.timers.first().is_some_and(|(due, _)| *due <= now) {
            let Some((due, name)) = self.timers.pop_first() else {
                return;
            };
            // A topic of the same name before this one may have left it behind.
            if let Some(topic) = self.touch(name.as_str()).filter(|topic| topic.timer == due) {
                topic.timer = Millis(0);
            }
        }
    }

    /// The topic, which the next flush will look at.
    pub(crate) fn touch(&mut self, name: &str) -> Option<&mut Topic> {
        let topic = &mut **self.topics.get_mut(name)?;
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
            let topic = Topic::new(key.clone(), self.epochs.next(), self.limits.rule(&key));
            let begun = Piece::topic(&topic, Offset(0));
            self.add_topic(topic);
            self.tell_target(&key, || begun);
        }
        self.touch(name)
    }

    pub(crate) fn add_topic(&mut self, topic: Topic) {
        self.created += 1;
        self.counts.more(topic.counted);
        self.topics.insert(topic.key.clone(), Box::new(topic));
    }

    pub(crate) fn drop_topic(&mut self, name: &str) {
        if let Some(topic) = self.topics.remove(name) {
            self.counts.less(topic.counted);
        }
    }

    pub(crate) fn drop_topics(&mut self) {
        for topic in std::mem::take(&mut self.topics).into_values() {
            self.counts.less(topic.counted);
        }
        self.touched.clear();
        self.timers.clear();
        self.lagging.clear();
        self.created = 0;
    }

    pub(crate) fn touch_all(&mut self) {
        for (name, topic) in &mut self.topics {
            if !std::mem::replace(&mut topic.touched, true) {
                self.touched.push(name.clone());
            }
        }
    }
}

/// Hands the lanes what the topic's gateways still have to get.
pub(crate) fn hand_out(
    topic: &mut Topic,
    slot: SlotNumber,
    owner_epoch: OwnerEpoch,
    limits: &Limits,
    effects: &mut Vec<Effect>,
) {
    topic.entries(limits, |gateway, entry| {
        let entry = v1::DeliverEntry {
            slot: slot.0.into(),
            owner_epoch: owner_epoch.0,
            ..entry
        };
        effects.push(Effect::Deliver(gateway.clone(), entry));
    });
}

/// A whole tick, when what is due has passed.
fn tick_after(Millis(due): Millis) -> Millis {
    Millis(due.saturating_add(TICK_MS - due % TICK_MS))
}

impl Counts {
    fn more(&mut self, share: Share) {
        self.topics += 1;
        self.members += share.members;
        self.history_bytes += share.history_bytes;
    }

    fn less(&mut self, share: Share) {
        self.topics -= 1;
        self.members -= share.members;
        self.history_bytes -= share.history_bytes;
    }
}

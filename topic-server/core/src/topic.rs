//! One topic: who is joined, what was published, what every gateway still has to get.
//!
//! *Invariant:* within an epoch offsets are 1, 2, 3, ..., and what is handed to a gateway's lane goes on exactly from
//! what was handed to it before.
//! Leaves out: which node owns the slot, and whether a publication is committed (`slot`).

use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::v1::{DeliverEntry, Gap, Publication};
use ringcast_proto::{Epoch, Millis, NodeRef, Offset, Topic as TopicName};

use crate::copies::Copies;
use crate::group::Group;
use crate::history::{History, weight};
use crate::ids::Ids;
use crate::limits::RuleIndex;
use crate::planted::PlantedBug;
use crate::{Cursor, Limits, TapId};
use ringcast_proto::SmallMap;

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) key: TopicName,
    /// The same bytes, as they go into entries.
    pub(crate) name: Bytes,
    pub(crate) epoch: Epoch,
    /// The last offset given.
    pub(crate) head: Offset,
    pub(crate) history: History,
    /// The ids clients gave their publishes; none: no client gave any lately.
    pub(crate) ids: Option<Box<Ids>>,
    /// The members, by gateway.
    pub(crate) groups: SmallMap<NodeRef, Group>,
    pub(crate) taps: Vec<TapId>,
    /// It is in the slot's list of topics to flush.
    pub(crate) touched: bool,
    /// When the slot's timers have it; 0: they do not.
    pub(crate) timer: Millis,
    /// How much history it keeps.
    pub(crate) rule: RuleIndex,
    /// What the slot's counts say of it.
    pub(crate) counted: Share,
}

/// What a topic adds to its slot's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Share {
    pub(crate) members: usize,
    pub(crate) history_bytes: usize,
}

/// A topic's name as bytes that are counted, not copied.
struct Name(TopicName);

impl AsRef<[u8]> for Name {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Topic {
    pub(crate) fn new(key: TopicName, epoch: Epoch, rule: RuleIndex) -> Topic {
        Topic {
            name: Bytes::from_owner(Name(key.clone())),
            key,
            epoch,
            head: Offset(0),
            history: History::default(),
            ids: None,
            groups: SmallMap::default(),
            taps: Vec::new(),
            touched: false,
            timer: Millis(0),
            rule,
            counted: Share::default(),
        }
    }

    /// Gives a publication the next offset and a place in the history.
    pub(crate) fn append(
        &mut self,
        mut publication: Publication,
        copies: &mut Copies,
        now: Millis,
    ) -> Offset {
        self.head = self.head.next();
        publication.offset = self.head.0;
        self.history.push(publication, &self.key, copies, now);
        self.head
    }

    /// Where a gateway that has everything up to `cursor` is to go on, and whether it has to begin again because its
    /// epoch is not this one.
    pub(crate) fn resume_after(&self, cursor: &Cursor) -> (Offset, bool) {
        if cursor.epoch == self.epoch {
            (cursor.offset.min(self.head), false)
        } else {
            (Offset(0), true)
        }
    }

    /// Hands out what every gateway that is not lagging still has to get, and moves the cursors to the head.
    pub(crate) fn entries(&mut self, limits: &Limits, mut out: impl FnMut(&NodeRef, DeliverEntry)) {
        for (gateway, group) in &mut self.groups {
            while !group.lagging && group.sent < self.head {
                let mut entry = next_entry(group, self.head, &self.history, limits);
                entry.topic = self.name.clone();
                entry.epoch = self.epoch.to_bytes();
                out(gateway, entry);
            }
        }
    }

    /// Nobody would miss it: nobody is joined, nobody looks, and there is nothing to resume from, and no publish that may
    /// come again.
    pub(crate) fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.taps.is_empty() && self.history.is_empty() && self.ids.is_none()
    }

    /// Whether the last publication it keeps came so long ago.
    pub(crate) fn is_idle_for(&self, idle: Duration, now: Millis) -> bool {
        let newest = self.history.newest();
        newest.is_some_and(|newest| now.since(newest) >= idle)
    }

    pub(crate) fn share(&self) -> Share {
        let ids = self.ids.as_ref().map_or(0, |ids| ids.bytes());
        Share {
            members: self.groups.values().map(|group| group.members.len()).sum(),
            history_bytes: self.history.bytes() + ids,
        }
    }

    /// Lets go of what is too old or too much.
    pub(crate) fn trim(&mut self, now: Millis, limits: &Limits) {
        self.history.trim(now, &limits.keep(self.rule));
        self.forget_ids(now, limits.ids_age_max);
    }

    pub(crate) fn forget_ids(&mut self, now: Millis, age_max: Duration) {
        if let Some(ids) = &mut self.ids {
            ids.forget(now, age_max);
        }
        self.ids = self.ids.take().filter(|ids| !ids.is_empty());
    }

    /// When there will be something to let go of.
    pub(crate) fn expires(&self, limits: &Limits) -> Option<Millis> {
        let history = self.history.expires(&limits.keep(self.rule));
        let ids = self.ids.as_ref().and_then(|ids| ids.expires(limits));
        [history, ids].into_iter().flatten().min()
    }
}

/// What follows a group's cursor, as far as one entry goes, and moves the cursor.
fn next_entry(group: &mut Group, head: Offset, history: &History, limits: &Limits) -> DeliverEntry {
    let first = history.first().unwrap_or(head.next());
    let missing = group.sent.next() < first && !limits.plants(PlantedBug::GapNotSent);
    let reason = group.gap_reason().into();
    let gap = missing.then(|| Gap {
        from: group.sent.next().0,
        to: first.0 - 1,
        reason,
    });
    let publications = take(history.after(group.sent), limits);
    let prev_offset = group.sent.0;
    group.sent = publications
        .last()
        .map_or(Offset(first.0 - 1), |last| Offset(last.offset));
    debug_assert!(
        prev_offset < group.sent.0 && group.sent <= head,
        "an entry must go forward"
    );
    DeliverEntry {
        prev_offset,
        bind_seq: group.seq,
        gap,
        publications,
        ..DeliverEntry::default()
    }
}

/// As many as one entry may carry, and at least one.
fn take<'a>(publications: impl Iterator<Item = &'a Publication>, limits: &Limits) -> Vec<Publication> {
    let mut bytes = 0;
    let fits = |publication: &&Publication| {
        let first = bytes == 0;
        bytes += weight(publication);
        first || bytes <= limits.entry_bytes_max
    };
    publications
        .take_while(fits)
        .take(limits.entry_publications_max.max(1))
        .cloned()
        .collect()
}

//! What waits for one gateway, and the calls that are on their way there.
//!
//! It promises that entries of a topic leave in the order they came, each in exactly one call, which is repeated until
//! it is answered, but for what has no offset and comes at most once; and that what waits has a bound. A few publications
//! may be on their way without an answer, and one answer is for several calls, so that where little is published nothing
//! waits and few answers are sent; what arrives when that credit is used up is the next call, so batches size themselves by
//! load. *Invariant:* a call is never empty, and consecutive
//! entries of a topic are one, as long as they are of one kind: publications with offsets and those without never share an
//! entry, nor overtake each other.
//! Leaves out: making calls, back-off, deadlines (the shell).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ringcast_proto::v1::{DeliverAnswer, DeliverEntry, DeliverException, DeliverStatus};
use ringcast_proto::{Epoch, Offset, OwnerEpoch, Slot, Topic};

use crate::history::weight;
use crate::{Cursor, Limits};

/// What an entry weighs besides its names and publications.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What the name of a session weighs.
const SESSION_BYTES: usize = 8;

/// The lane has no room. The entry is dropped; [`Answered::room`] will name its slot when there is some again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lane is full, {waiting_bytes} bytes wait")]
pub struct Full {
    /// How much waits.
    pub waiting_bytes: usize,
}

/// What a gateway said about an entry that it did not pass on whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// Whose entry it was.
    pub slot: Slot,
    /// Of which topic.
    pub topic: Topic,
    /// What it said.
    pub says: Says,
}

/// The gateway's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// It has everything up to here and wants what follows.
    NeedFrom(Cursor),
    /// Nobody there is joined.
    NoInterest {
        /// As of this bind.
        bind_seq: u64,
        /// What the entry went on from: who was joined by a later bind has nothing after it.
        from: Cursor,
    },
    /// It has seen this higher owner_epoch.
    Stale {
        /// The one it has seen.
        owner_epoch: OwnerEpoch,
        /// What the entry went on from: all after it is still to be had.
        from: Cursor,
    },
}

/// What an answer leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// For the slots to deal with.
    pub exceptions: Vec<Exception>,
    /// Slots that were refused, and may try again.
    pub room: Vec<Slot>,
}

#[derive(Debug)]
struct Waiting {
    entry: DeliverEntry,
    /// What it counts for, kept because an entry grows one publication at a time.
    bytes: usize,
}

/// A call to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What it carries; never empty.
    pub entries: Arc<Vec<DeliverEntry>>,
    /// One answer may be for it and calls after it.
    pub may_wait: bool,
}

#[derive(Debug)]
struct Out {
    entries: Arc<Vec<DeliverEntry>>,
    /// How many publications it counts for.
    len: usize,
}

/// The queue to one life of one gateway.
#[derive(Debug)]
pub struct Lane {
    limits: Limits,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// How many entries have left `waiting`: what `newest` counts from.
    left: u64,
    /// Where the newest waiting entry of a topic stands, counted from the lane's beginning.
    newest: BTreeMap<Bytes, u64>,
    /// Calls that have left and have no answer, the oldest first.
    out: VecDeque<Out>,
    /// How many of them are on their way; the others are to leave again.
    on_way: usize,
    /// Publications in `out`.
    out_len: usize,
    /// Publications that have left since an answer was asked for at once.
    unasked: usize,
    /// Refused since it was full. All they bring is refused, so that no slot's entries overtake each other.
    refused: BTreeSet<Slot>,
}

impl Lane {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Lane {
        Lane {
            limits,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            left: 0,
            newest: BTreeMap::new(),
            out: VecDeque::new(),
            on_way: 0,
            out_len: 0,
            unasked: 0,
            refused: BTreeSet::new(),
        }
    }

    /// Takes an entry, or refuses it and all of its slot until there is room.
    ///
    /// # Errors
    /// [`Full`].
    pub fn push(&mut self, entry: DeliverEntry) -> Result<(), Full> {
        let bytes = entry_weight(&entry);
        let slot = slot_of(&entry);
        // An empty lane takes an entry of any size, or one larger than the lane would never leave.
        let fits = self.waiting_bytes == 0 || self.waiting_bytes + bytes <= self.limits.lane_bytes_max;
        if !fits || self.refused.contains(&slot) {
            self.refused.insert(slot);
            return Err(Full {
                waiting_bytes: self.waiting_bytes,
            });
        }
        let index = self
            .newest
            .get(&entry.topic)
            .and_then(|at| usize::try_from(at.checked_sub(self.left)?).ok());
        if let Some(last) = index.and_then(|index| self.waiting.get_mut(index))
            && last.is_continued_by(&entry, bytes, &self.limits)
        {
            let more = publications_weight(&entry);
            last.entry.publications.extend(entry.publications);
            last.entry.unsequenced.extend(entry.unsequenced);
            last.bytes += more;
            self.waiting_bytes += more;
            return Ok(());
        }
        self.append(Waiting { entry, bytes });
        Ok(())
    }

    /// The next call to make, which leaves with this: the oldest that is to be repeated, or else a batch of what waits. None
    /// when nothing does, or when an answer has to come first.
    pub fn next_call(&mut self) -> Option<Call> {
        if self.on_way == self.out.len() {
            if !self.out.is_empty() && self.out_len >= self.limits.lane_credit {
                return None;
            }
            let entries = self.batch();
            if entries.is_empty() {
                return None;
            }
            self.leave(Arc::new(entries));
        }
        let out = self.out.get(self.on_way)?;
        self.on_way += 1;
        self.unasked += out.len;
        // Asked for at half of the credit, the answer is back before the rest is used up.
        let may_wait = 2 * self.unasked < self.limits.lane_credit;
        if !may_wait {
            self.unasked = 0;
        }
        Some(Call {
            entries: Arc::clone(&out.entries),
            may_wait,
        })
    }

    fn batch(&mut self) -> Vec<DeliverEntry> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            bytes += next.bytes;
            let full = batch.len() >= self.limits.call_entries_max || bytes > self.limits.call_bytes_max;
            if full && !batch.is_empty() {
                break;
            }
            batch.extend(self.take_front());
        }
        batch
    }

    fn leave(&mut self, entries: Arc<Vec<DeliverEntry>>) {
        // An entry that says of a gap only is something on its way as well.
        let len = entries.iter().map(|entry| len(entry).max(1)).sum();
        self.out_len += len;
        self.out.push_back(Out { entries, len });
    }

    fn append(&mut self, waiting: Waiting) {
        self.waiting_bytes += waiting.bytes;
        self.newest
            .insert(waiting.entry.topic.clone(), self.left + self.waiting.len() as u64);
        self.waiting.push_back(waiting);
    }

    fn take_front(&mut self) -> Option<DeliverEntry> {
        let Waiting { entry, bytes } = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes;
        if self.newest.get(&entry.topic) == Some(&self.left) {
            self.newest.remove(&entry.topic);
        }
        self.left += 1;
        Some(entry)
    }

    /// No answer came in time, or the way there broke: what is on its way may have arrived all the same. All of it leaves
    /// again, but for what has no offset, which comes at most once. Slots that were refused, and may try again.
    pub fn unanswered(&mut self) -> Vec<Slot> {
        (self.on_way, self.out_len, self.unasked) = (0, 0, 0);
        for Out { mut entries, .. } in std::mem::take(&mut self.out) {
            if entries.iter().any(|entry| !entry.unsequenced.is_empty()) {
                Arc::make_mut(&mut entries).retain(|entry| entry.unsequenced.is_empty());
            }
            if !entries.is_empty() {
                self.leave(entries);
            }
        }
        self.room()
    }

    /// The oldest calls were answered. What the answer says of calls and entries that do not exist is ignored.
    pub fn answered(&mut self, answer: &DeliverAnswer) -> Answered {
        let calls = usize::try_from(answer.calls).unwrap_or(usize::MAX).max(1);
        let calls = calls.min(self.on_way);
        self.on_way -= calls;
        // Exceptions are of the last one.
        let mut out = Arc::default();
        for Out { entries, len } in self.out.drain(..calls) {
            self.out_len -= len;
            out = entries;
        }
        let mut answered = Answered::default();
        for exception in &answer.exceptions {
            let entry = usize::try_from(exception.index)
                .ok()
                .and_then(|index| out.get(index));
            let read =
                entry.and_then(|entry| Some((read(entry, exception, answer.bind_seq)?, entry.owner_epoch)));
            let Some((exception, refused)) = read else {
                continue;
            };
            // What waits goes on from the entry that was refused: it would be refused as well. Not so what was sent
            // under a higher owner_epoch than the one that is stale.
            let up_to = match exception.says {
                Says::Stale { .. } => refused,
                Says::NeedFrom(_) | Says::NoInterest { .. } => u64::MAX,
            };
            self.forget(&exception.topic, up_to);
            answered.exceptions.push(exception);
        }
        answered.room = self.room();
        answered
    }

    fn room(&mut self) -> Vec<Slot> {
        if self.waiting_bytes > self.limits.lane_bytes_max / 2 {
            return Vec::new();
        }
        std::mem::take(&mut self.refused).into_iter().collect()
    }

    /// How many bytes wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Drops what waits of `topic` under owner_epochs up to this one.
    fn forget(&mut self, topic: &Topic, up_to: u64) {
        if !self.newest.contains_key(topic.as_bytes()) {
            return;
        }
        let all = std::mem::take(&mut self.waiting);
        self.newest.clear();
        self.waiting_bytes = 0;
        for waiting in all
            .into_iter()
            .filter(|Waiting { entry, .. }| entry.topic != topic.as_bytes() || entry.owner_epoch > up_to)
        {
            self.append(waiting);
        }
    }
}

impl Waiting {
    /// Whether `next` begins where this entry ends and both fit into one.
    fn is_continued_by(&self, next: &DeliverEntry, next_bytes: usize, limits: &Limits) -> bool {
        let last = &self.entry;
        if last.unsequenced.is_empty() != next.unsequenced.is_empty() {
            return false;
        }
        let end = match (last.publications.last(), &last.gap) {
            (Some(publication), _) => publication.offset,
            (None, Some(gap)) => gap.to,
            (None, None) => last.prev_offset,
        };
        next.gap.is_none()
            && last.bind_seq == next.bind_seq
            && end == next.prev_offset
            && last.owner_epoch == next.owner_epoch
            && last.epoch == next.epoch
            && len(last) + len(next) <= limits.entry_publications_max
            && self.bytes + next_bytes <= limits.entry_bytes_max
    }
}

/// How many bytes an entry counts for.
fn entry_weight(entry: &DeliverEntry) -> usize {
    ENTRY_OVERHEAD_BYTES + entry.topic.len() + entry.epoch.len() + publications_weight(entry)
}

fn publications_weight(entry: &DeliverEntry) -> usize {
    let unsequenced = entry.unsequenced.iter().map(|unsequenced| {
        unsequenced.publication.as_ref().map_or(0, weight) + SESSION_BYTES * unsequenced.to.len()
    });
    entry.publications.iter().map(weight).sum::<usize>() + unsequenced.sum::<usize>()
}

/// How many publications it carries.
fn len(entry: &DeliverEntry) -> usize {
    entry.publications.len() + entry.unsequenced.len()
}

fn slot_of(entry: &DeliverEntry) -> Slot {
    Slot(u16::try_from(entry.slot).unwrap_or(u16::MAX))
}

/// None where the exception makes no sense: the entry's topic goes on, and the gateway will say so again.
fn read(entry: &DeliverEntry, exception: &DeliverException, bind_seq: u64) -> Option<Exception> {
    let from = || {
        let epoch = Epoch::parse(&entry.epoch).ok()?;
        let offset = Offset(entry.prev_offset);
        Some(Cursor { epoch, offset })
    };
    let says = match DeliverStatus::try_from(exception.status).ok()? {
        DeliverStatus::Unspecified => return None,
        DeliverStatus::NeedFrom => Says::NeedFrom(Cursor::parse(exception.cursor.as_ref()?).ok()?),
        DeliverStatus::NoInterest => Says::NoInterest {
            bind_seq,
            from: from()?,
        },
        DeliverStatus::Stale => Says::Stale {
            owner_epoch: OwnerEpoch(exception.owner_epoch),
            from: from()?,
        },
    };
    Some(Exception {
        slot: slot_of(entry),
        topic: Topic::parse(&entry.topic).ok()?,
        says,
    })
}

#[cfg(test)]
mod tests {
    use ringcast_proto::v1::{Position, Publication, UnsequencedPublication};

    use super::*;

    fn entry(topic: &'static str, prev_offset: u64, payload_len: usize) -> DeliverEntry {
        let payload = Bytes::from(vec![0; payload_len]);
        let publications = vec![Publication {
            offset: prev_offset + 1,
            payload,
            ..Publication::default()
        }];
        DeliverEntry {
            topic: Bytes::from_static(topic.as_bytes()),
            prev_offset,
            publications,
            ..DeliverEntry::default()
        }
    }

    /// The entries of the next call; none: there is none.
    fn next(lane: &mut Lane) -> Vec<DeliverEntry> {
        let call = lane.next_call();
        call.map(|call| call.entries.to_vec()).unwrap_or_default()
    }

    fn call(lane: &mut Lane) -> Vec<(Bytes, u64, usize)> {
        next(lane)
            .iter()
            .map(|entry| (entry.topic.clone(), entry.prev_offset, entry.publications.len()))
            .collect()
    }

    #[test]
    fn topics_that_alternate_are_one_entry_each_in_the_next_call() {
        let mut lane = Lane::new(Limits::default());
        for offset in 0..3 {
            lane.push(entry("a", offset, 1)).unwrap();
            lane.push(entry("b", offset, 1)).unwrap();
        }
        assert_eq!(call(&mut lane), [("a".into(), 0, 3), ("b".into(), 0, 3)]);
    }

    fn with_credit(lane_credit: usize) -> Lane {
        Lane::new(Limits {
            lane_credit,
            ..Limits::default()
        })
    }

    fn answer_for(calls: u32) -> DeliverAnswer {
        DeliverAnswer {
            calls,
            ..DeliverAnswer::default()
        }
    }

    #[test]
    fn with_a_credit_of_one_what_arrives_while_a_call_is_out_is_the_next_call() {
        let mut lane = with_credit(1);
        lane.push(entry("a", 0, 1)).unwrap();
        assert!(!lane.next_call().unwrap().may_wait);
        lane.push(entry("a", 1, 1)).unwrap();
        lane.push(entry("a", 2, 1)).unwrap();
        assert_eq!(lane.next_call(), None);
        lane.answered(&answer_for(1));
        assert_eq!(call(&mut lane), [("a".into(), 1, 2)]);
        lane.answered(&answer_for(1));
        assert_eq!(lane.next_call(), None, "never an empty call");
    }

    #[test]
    fn calls_leave_without_answers_until_the_credit_is_used_up_and_half_of_it_asks_for_one() {
        let mut lane = with_credit(4);
        let mut may_wait = Vec::new();
        for offset in 0..4 {
            lane.push(entry("a", offset, 1)).unwrap();
            may_wait.push(lane.next_call().unwrap().may_wait);
        }
        assert_eq!(may_wait, [true, false, true, false]);
        lane.push(entry("a", 4, 1)).unwrap();
        lane.push(entry("a", 5, 1)).unwrap();
        assert_eq!(lane.next_call(), None, "the credit is used up");
        lane.answered(&answer_for(2));
        assert_eq!(call(&mut lane), [("a".into(), 4, 2)], "what waited is one call");
        lane.push(entry("a", 6, 1)).unwrap();
        assert_eq!(lane.next_call(), None, "four are on their way again");
        lane.answered(&answer_for(3));
        assert_eq!(call(&mut lane), [("a".into(), 6, 1)]);
    }

    #[test]
    fn calls_without_an_answer_are_repeated_in_their_order_before_anything_new() {
        let mut lane = with_credit(4);
        for topic in ["a", "b"] {
            lane.push(entry(topic, 0, 1)).unwrap();
            lane.next_call().unwrap();
        }
        lane.push(entry("c", 0, 1)).unwrap();
        lane.unanswered();
        for topic in ["a", "b", "c"] {
            assert_eq!(call(&mut lane), [(topic.into(), 0, 1)]);
        }
        lane.answered(&answer_for(2));
        lane.unanswered();
        assert_eq!(call(&mut lane), [("c".into(), 0, 1)], "the others are answered");
        lane.answered(&answer_for(u32::MAX));
        assert_eq!(lane.next_call(), None);
    }

    #[test]
    fn an_answer_is_no_answer_to_a_call_that_has_yet_to_leave_again() {
        let mut lane = with_credit(4);
        for topic in ["a", "b"] {
            lane.push(entry(topic, 0, 1)).unwrap();
            lane.next_call().unwrap();
        }
        lane.unanswered();
        lane.next_call().unwrap();
        lane.answered(&answer_for(2));
        assert_eq!(call(&mut lane), [("b".into(), 0, 1)]);
    }

    #[test]
    fn publications_without_an_offset_keep_their_place_and_an_entry_of_their_own() {
        let unsequenced = |prev_offset| {
            let mut entry = entry("a", prev_offset, 1);
            let publication = entry.publications.pop();
            entry.unsequenced = vec![UnsequencedPublication {
                publication,
                to: vec![7; 100],
            }];
            entry
        };
        let mut lane = Lane::new(Limits::default());
        lane.push(entry("a", 0, 1)).unwrap();
        let before = lane.waiting_bytes();
        lane.push(unsequenced(1)).unwrap();
        assert!(
            lane.waiting_bytes() > before + 800,
            "names of sessions are counted"
        );
        lane.push(unsequenced(1)).unwrap();
        lane.push(entry("a", 1, 1)).unwrap();
        lane.push(entry("a", 2, 1)).unwrap();
        let entries = next(&mut lane);
        let kinds: Vec<(usize, usize)> = entries
            .iter()
            .map(|entry| (entry.publications.len(), entry.unsequenced.len()))
            .collect();
        assert_eq!(kinds, [(1, 0), (0, 2), (2, 0)]);
        lane.answered(&DeliverAnswer::default());
        assert_eq!(lane.waiting_bytes(), 0);
    }

    #[test]
    fn a_call_that_is_repeated_does_not_repeat_what_has_no_offset() {
        let mut fleeting = entry("b", 0, 1);
        fleeting.unsequenced = vec![UnsequencedPublication {
            publication: fleeting.publications.pop(),
            to: Vec::new(),
        }];
        let topics = |lane: &mut Lane| {
            next(lane)
                .iter()
                .map(|entry| entry.topic.clone())
                .collect::<Vec<_>>()
        };
        let mut lane = Lane::new(Limits::default());
        lane.push(entry("a", 0, 1)).unwrap();
        lane.push(fleeting.clone()).unwrap();
        lane.push(entry("c", 0, 1)).unwrap();
        assert_eq!(topics(&mut lane), ["a", "b", "c"]);
        lane.unanswered();
        assert_eq!(topics(&mut lane), ["a", "c"]);
        lane.answered(&DeliverAnswer::default());
        lane.push(fleeting).unwrap();
        assert_eq!(topics(&mut lane), ["b"]);
        lane.unanswered();
        lane.push(entry("d", 0, 1)).unwrap();
        assert_eq!(topics(&mut lane), ["d"], "nothing is left of the call before");
    }

    #[test]
    fn a_slot_that_was_refused_is_refused_until_half_of_the_lane_is_free() {
        let mut lane = Lane::new(Limits {
            lane_bytes_max: 2_000,
            call_entries_max: 1,
            ..Limits::default()
        });
        for topic in ["a", "b", "c"] {
            lane.push(entry(topic, 0, 400)).unwrap();
        }
        assert!(lane.push(entry("d", 0, 400)).is_err());
        assert!(
            lane.push(entry("e", 0, 1)).is_err(),
            "a small one of the same slot must not overtake"
        );
        assert!(
            lane.push(DeliverEntry {
                slot: 9,
                ..entry("f", 0, 1)
            })
            .is_ok(),
            "another slot is not concerned"
        );
        let mut room = Vec::new();
        while room.is_empty() {
            assert!(
                lane.next_call().is_some(),
                "a refused slot is told before the lane is empty"
            );
            room = lane.answered(&DeliverAnswer::default()).room;
            assert_eq!(room.is_empty(), lane.waiting_bytes() > 1_000);
        }
        assert_eq!(room, [Slot(0)]);
        assert!(lane.push(entry("d", 0, 400)).is_ok());
    }

    #[test]
    fn entries_that_wait_behind_a_refused_one_are_not_sent_in_vain() {
        let mut lane = Lane::new(Limits::default());
        lane.push(entry("a", 5, 1)).unwrap();
        lane.next_call();
        lane.push(entry("a", 6, 1)).unwrap();
        lane.push(entry("b", 0, 1)).unwrap();
        let cursor = Some(Position {
            epoch: Bytes::from_static(b"e"),
            offset: 2,
        });
        let status = DeliverStatus::NeedFrom.into();
        let exceptions = vec![DeliverException {
            index: 0,
            status,
            cursor,
            owner_epoch: 0,
        }];
        let answered = lane.answered(&DeliverAnswer {
            exceptions,
            ..DeliverAnswer::default()
        });
        assert_eq!(answered.exceptions.len(), 1);
        assert_eq!(call(&mut lane), [("b".into(), 0, 1)]);
    }

    #[test]
    fn what_waits_under_a_newer_owner_epoch_outlives_a_stale_entry() {
        let under = |owner_epoch, prev_offset| DeliverEntry {
            owner_epoch,
            epoch: Bytes::from_static(b"e"),
            ..entry("a", prev_offset, 1)
        };
        let mut lane = Lane::new(Limits::default());
        lane.push(under(1, 5)).unwrap();
        lane.next_call();
        lane.push(under(1, 6)).unwrap();
        lane.push(under(2, 5)).unwrap();
        let exceptions = vec![DeliverException {
            index: 0,
            status: DeliverStatus::Stale.into(),
            cursor: None,
            owner_epoch: 2,
        }];
        let answered = lane.answered(&DeliverAnswer {
            exceptions,
            ..DeliverAnswer::default()
        });
        let says = Says::Stale {
            owner_epoch: OwnerEpoch(2),
            from: Cursor {
                epoch: Epoch::parse(b"e").unwrap(),
                offset: Offset(5),
            },
        };
        assert_eq!(answered.exceptions[0].says, says);
        let entries = next(&mut lane);
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].prev_offset, entries[0].owner_epoch), (5, 2));
    }

    #[test]
    fn a_slot_that_was_refused_has_room_again_though_nothing_that_waited_may_be_sent_twice() {
        let fleeting = |slot| DeliverEntry {
            slot,
            topic: Bytes::from(format!("t{slot}")),
            unsequenced: vec![UnsequencedPublication {
                publication: Some(Publication {
                    payload: vec![0; 600].into(),
                    ..Publication::default()
                }),
                to: Vec::new(),
            }],
            ..DeliverEntry::default()
        };
        let mut lane = Lane::new(Limits {
            lane_bytes_max: 1_000,
            ..Limits::default()
        });
        lane.push(fleeting(1)).unwrap();
        lane.next_call().unwrap();
        lane.push(fleeting(2)).unwrap();
        assert!(lane.push(fleeting(1)).is_err());
        assert_eq!(lane.unanswered(), [], "it is as full as before");
        lane.next_call().unwrap();
        assert_eq!(lane.unanswered(), [Slot(1)]);
        assert_eq!(lane.next_call(), None, "at most once");
        assert!(lane.push(fleeting(1)).is_ok());
    }
}

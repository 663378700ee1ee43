//! Leaving publications out: which, and what is told of them.
//!
//! *Invariant:* a publication that is left out is covered by a gap of its stream that stands where it stood or before, with
//! no publication of that stream between; a frame that was begun stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ringcast_proto::{Millis, Offset};

use super::{AGE_MAX, Gap, Held, Kind, LIVE, Lost, Outbox, REPLAY, Waiting, What};
use crate::place::{Place, Sort, Stream};
use crate::route::SlowConsumer;

/// A stream is where it is: two `Arc`s are two streams, however alike.
fn id(stream: &Arc<Stream>) -> usize {
    Arc::as_ptr(stream).addr()
}

fn is(place: &Place, policy: SlowConsumer) -> bool {
    place.stream.slow_consumer == policy
}

impl Outbox {
    /// Leaves out the oldest that may be, until half of the bound of live frames or of replays is free. `false`: it is not
    /// possible to free even an eighth, so that the next frames would be as hard to place.
    pub(super) fn make_room(&mut self, replay: bool, now: Millis) -> bool {
        let (bound, kind, mut held) = match replay {
            true => (REPLAY, Kind::Replay, self.replay),
            false => (LIVE, Kind::Live, self.live),
        };
        let mut out = self.superseded();
        for (waiting, _) in self.waiting.iter().zip(&out).filter(|(_, out)| **out) {
            if waiting.kind() == kind {
                held.remove(waiting.bytes.len());
            }
        }
        let goal = bound.eighths(4);
        // First what nobody was promised.
        let fleeting = |place: &Place| place.sort == Sort::Fleeting;
        self.mark_oldest(&mut out, kind, &mut held, goal, fleeting);
        self.mark_oldest(&mut out, kind, &mut held, goal, |place| {
            is(place, SlowConsumer::Gap)
        });
        if !held.is_within(bound.eighths(7)) {
            self.mark_oldest(&mut out, kind, &mut held, goal, |place| {
                is(place, SlowConsumer::Latest)
            });
        }
        if !held.is_within(bound.eighths(7)) {
            return false;
        }
        self.leave_out(&out, now);
        true
    }

    /// Leaves out what has waited too long, and what is half as old along with it. `false`: nothing.
    pub(super) fn shed_late(&mut self, now: Millis) -> bool {
        let mut out = self.superseded();
        let mut is_due = false;
        for (index, waiting) in self.waiting.iter().enumerate() {
            let age = now.since(waiting.since);
            if self.may_go(index, |place| is(place, SlowConsumer::Gap)) {
                out[index] = age > AGE_MAX / 2;
            }
            // One that was begun stays, and shows how late those behind it are.
            let is_begun = index == 0 && self.begun > 0 && matches!(waiting.what, What::Publication(_));
            is_due |= (out[index] || is_begun) && age > AGE_MAX;
        }
        let sheds = is_due && out.contains(&true);
        if sheds {
            self.leave_out(&out, now);
        }
        sheds
    }

    /// Whether this one may be left out, if it is `meant`.
    fn may_go(&self, index: usize, meant: impl Fn(&Place) -> bool) -> bool {
        let is_begun = index == 0 && self.begun > 0;
        !is_begun && matches!(&self.waiting[index].what, What::Publication(place) if meant(place))
    }

    /// Marks what has a newer publication behind it on a channel that wants only the newest.
    fn superseded(&self) -> Vec<bool> {
        let mut out = vec![false; self.waiting.len()];
        let mut seen = BTreeSet::new();
        for (index, waiting) in self.waiting.iter().enumerate().rev() {
            if let What::Publication(place) = &waiting.what
                && self.may_go(index, |place| {
                    place.sort != Sort::Fleeting && is(place, SlowConsumer::Latest)
                })
            {
                // The first seen from behind is the newest.
                out[index] = !seen.insert(id(&place.stream));
            }
        }
        out
    }

    /// Marks the oldest of `kind` that may go and are `meant` until what is held is within `goal`.
    fn mark_oldest(
        &self,
        out: &mut [bool],
        kind: Kind,
        held: &mut Held,
        goal: Held,
        meant: impl Fn(&Place) -> bool,
    ) {
        for (index, waiting) in self.waiting.iter().enumerate() {
            if held.is_within(goal) {
                return;
            }
            let may_go = |place: &Place| meant(place) && place.stream.slow_consumer != SlowConsumer::Close;
            if !out[index] && waiting.kind() == kind && self.may_go(index, may_go) {
                out[index] = true;
                held.remove(waiting.bytes.len());
            }
        }
    }

    /// Takes the marked ones out and puts gaps in their place.
    fn leave_out(&mut self, out: &[bool], now: Millis) {
        let mut kept = Kept {
            waiting: VecDeque::with_capacity(self.waiting.len()),
            open: BTreeMap::new(),
        };
        let mut lost: Option<Lost> = None;
        let mut lossy = false;
        for (index, (waiting, out)) in std::mem::take(&mut self.waiting).into_iter().zip(out).enumerate() {
            let (len, kind) = (waiting.bytes.len(), waiting.kind());
            match (waiting.what, out) {
                (What::Publication(place), true) => {
                    match kind {
                        Kind::Live => self.live.remove(len),
                        Kind::Replay => self.replay.remove(len),
                        Kind::Gap => {}
                    }
                    lossy |= place.stream.slow_consumer == SlowConsumer::Gap;
                    let lost = lost.get_or_insert_with(|| Lost {
                        begins: false,
                        publications: 0,
                        bytes: 0,
                        gaps: 0,
                        topic: place.stream.topic.clone(),
                        from: place.offset,
                        to: place.offset,
                        policy: place.stream.slow_consumer,
                    });
                    lost.publications += 1;
                    lost.bytes += len as u64;
                    if place.sort == Sort::Fleeting {
                        // It was at most once, and no gap could name it.
                        continue;
                    }
                    if lost.topic == place.stream.topic {
                        lost.to = place.offset;
                    }
                    #[cfg(feature = "planted-bugs")]
                    if self.planted == Some(crate::planted::PlantedBug::OutboxDropsSilently) {
                        continue;
                    }
                    lost.gaps += u64::from(kept.tell(&place, waiting.since));
                }
                (What::Publication(place), false) => {
                    if place.sort != Sort::Fleeting {
                        kept.open.remove(&id(&place.stream));
                    }
                    kept.put(waiting.bytes, waiting.since, What::Publication(place));
                }
                (What::Gap(gap), _) => {
                    let is_begun = index == 0 && self.begun > 0;
                    kept.put_gap(gap, is_begun, waiting.bytes, waiting.since);
                }
                (What::Told(stream), _) => {
                    kept.open.remove(&id(&stream));
                    kept.put(waiting.bytes, waiting.since, What::Told(stream));
                }
                (What::Kept, _) => kept.put(waiting.bytes, waiting.since, What::Kept),
            }
        }
        self.waiting = kept.waiting;
        let Some(lost) = lost else { return };
        let slow = self.slow.get_or_insert_default();
        slow.dropped += lost.publications;
        let begins = slow.begin(now);
        slow.lossy |= lossy;
        match &mut slow.lost {
            Some(before) => before.add(&lost),
            None => slow.lost = Some(Lost { begins, ..lost }),
        }
    }
}

impl Lost {
    /// What was left out after that; topic and offsets stay those of the first.
    fn add(&mut self, later: &Lost) {
        self.publications += later.publications;
        self.bytes += later.bytes;
        self.gaps += later.gaps;
        if self.topic == later.topic {
            self.to = later.to;
        }
    }
}

/// What stays.
struct Kept {
    waiting: VecDeque<Waiting>,
    /// The last gap of each stream, as long as nothing stays behind that gap that it may not reach beyond.
    open: BTreeMap<usize, usize>,
}

impl Kept {
    fn put(&mut self, bytes: Bytes, since: Millis, what: What) {
        self.waiting.push_back(Waiting { bytes, since, what });
    }

    /// Tells of a publication that is left out. `true`: by a gap that was not there before.
    fn tell(&mut self, place: &Place, since: Millis) -> bool {
        if self.grow(&place.stream, place.offset) {
            return false;
        }
        self.open.insert(id(&place.stream), self.waiting.len());
        let gap = Gap {
            stream: Arc::clone(&place.stream),
            from: place.offset,
            to: place.offset,
        };
        self.put(Bytes::new(), since, What::Gap(Box::new(gap)));
        true
    }

    /// Puts a gap that waited already, into the one before it if it can.
    fn put_gap(&mut self, gap: Box<Gap>, is_begun: bool, bytes: Bytes, since: Millis) {
        if self.grow(&gap.stream, gap.to) {
            return;
        }
        if !is_begun {
            self.open.insert(id(&gap.stream), self.waiting.len());
        }
        self.put(bytes, since, What::Gap(gap));
    }

    /// Lets the open gap of a stream reach up to `to`, if there is one.
    fn grow(&mut self, stream: &Arc<Stream>, to: Offset) -> bool {
        let open = self.open.get(&id(stream));
        let Some(waiting) = open.and_then(|index| self.waiting.get_mut(*index)) else {
            return false;
        };
        let What::Gap(gap) = &mut waiting.what else {
            return false;
        };
        gap.to = gap.to.max(to);
        waiting.bytes = Bytes::new();
        true
    }
}

//! The ids clients gave their publishes to a topic, and what became of each publish.
//!
//! It promises that a publish that comes again gets the first one's outcome, for as long as its id is in the window.
//! *Invariant:* a key stands for one outcome at a time, and ids are bytes of their own: nothing here keeps a receive
//! buffer, or a publication, alive.
//! Leaves out: a gateway's own retries, which publish numbers settle (`gateways`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::{Millis, Offset};

use crate::bind::SUBJECT_BYTES_MAX;
use crate::limits::Limits;
use crate::planted::PlantedBug;

/// As long as a message id may be: room for any kind of UUID and a name before it.
const MSG_ID_BYTES_MAX: usize = 128;

/// What an id takes besides its bytes: its place in the order, in the tree, and an allocation.
const OVERHEAD_BYTES: usize = 128;

/// Room for so many is not worth giving back.
const SMALL_LEN: usize = 64;

/// How soon [`PlantedBug::DedupForgetsEarly`] forgets.
const EARLY: usize = 16;

/// Who gave an id, and the id: two subjects that give the same one mean two publishes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Arc<[u8]>);

/// Why a key is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadKey;

/// What became of the first publish with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// It was appended.
    At(Offset),
    /// It was sent to so many sessions, without an offset.
    Matched(u32),
}

/// One id.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) key: Key,
    pub(crate) at: Millis,
    pub(crate) first: First,
}

/// The window of one topic.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    /// Which one of those ever kept a key stands for.
    newest: BTreeMap<Key, u64>,
    /// In the order they came. One whose key came again later stays until its turn.
    kept: VecDeque<Kept>,
    /// How many have left `kept`.
    left: u64,
    bytes: usize,
}

impl Key {
    /// Checks the lengths, and copies.
    pub(crate) fn parse(subject: &[u8], msg_id: &[u8]) -> Result<Key, BadKey> {
        let fits = subject.len() <= SUBJECT_BYTES_MAX && (1..=MSG_ID_BYTES_MAX).contains(&msg_id.len());
        let len = u16::try_from(subject.len()).map_err(|_| BadKey)?;
        if !fits {
            return Err(BadKey);
        }
        Ok(Key([&len.to_be_bytes(), subject, msg_id].concat().into()))
    }

    /// The subject and the id.
    pub(crate) fn parts(&self) -> (&[u8], &[u8]) {
        let (len, rest) = self.0.split_at(2);
        rest.split_at(usize::from(u16::from_be_bytes([len[0], len[1]])))
    }
}

impl Kept {
    /// The bytes it counts for.
    pub(crate) fn weight(&self) -> usize {
        OVERHEAD_BYTES + self.key.0.len()
    }
}

impl Ids {
    /// What became of the publish that gave this id, if it is remembered.
    pub(crate) fn first(&self, key: &Key, now: Millis, limits: &Limits) -> Option<First> {
        let at = self.newest.get(key)?.checked_sub(self.left)?;
        let kept = self.kept.get(usize::try_from(at).ok()?)?;
        (now.since(kept.at) < limits.ids_age_max).then_some(kept.first)
    }

    /// Remembers one, and forgets the oldest if these are too many.
    pub(crate) fn push(&mut self, kept: Kept, limits: &Limits) {
        self.newest
            .insert(kept.key.clone(), self.left + self.kept.len() as u64);
        self.bytes += kept.weight();
        self.kept.push_back(kept);
        let early = limits.plants(PlantedBug::DedupForgetsEarly);
        let max = if early { EARLY } else { limits.ids_max };
        while self.kept.len() > max {
            self.drop_oldest();
        }
    }

    /// Forgets what is as old as this or older.
    pub(crate) fn forget(&mut self, now: Millis, age_max: Duration) {
        while self
            .kept
            .front()
            .is_some_and(|kept| now.since(kept.at) >= age_max)
        {
            self.drop_oldest();
        }
        // The room that a burst took is given back once it is mostly empty.
        if self.kept.capacity() > 4 * self.kept.len().max(SMALL_LEN) {
            self.kept.shrink_to(2 * self.kept.len());
        }
    }

    /// When the oldest will be forgotten.
    pub(crate) fn expires(&self, limits: &Limits) -> Option<Millis> {
        self.kept.front().map(|kept| kept.at + limits.ids_age_max)
    }

    /// All of them, the oldest first.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.kept.pop_front() else {
            return;
        };
        self.bytes -= oldest.weight();
        if self.newest.get(&oldest.key) == Some(&self.left) {
            self.newest.remove(&oldest.key);
        }
        self.left += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> Key {
        Key::parse(b"someone", &number.to_be_bytes()).unwrap()
    }

    fn kept(number: u64, at: u64) -> Kept {
        let (key, at, first) = (key(number), Millis(at), First::At(Offset(number)));
        Kept { key, at, first }
    }

    #[test]
    fn a_key_has_bounds_and_its_subject_cannot_run_into_its_id() {
        assert_eq!(Key::parse(b"", b""), Err(BadKey));
        assert_eq!(Key::parse(b"", &[0; 129]), Err(BadKey));
        assert_eq!(Key::parse(&[0; 1025], b"1"), Err(BadKey));
        let longest = Key::parse(&[1; 1024], &[2; 128]).unwrap();
        assert_eq!(longest.parts(), (&[1; 1024][..], &[2; 128][..]));
        assert_ne!(Key::parse(b"ab", b"c"), Key::parse(b"a", b"bc"));
    }

    #[test]
    fn the_oldest_ids_go_first_and_nothing_of_them_stays() {
        let limits = Limits {
            ids_max: 3,
            ..Limits::default()
        };
        let mut ids = Ids::default();
        for number in 1..=5 {
            ids.push(kept(number, number), &limits);
        }
        let known = |ids: &Ids, number| ids.first(&key(number), Millis(5), &limits);
        assert_eq!(known(&ids, 2), None);
        assert_eq!(known(&ids, 3), Some(First::At(Offset(3))));
        ids.forget(Millis(1_004), Duration::from_secs(1));
        assert_eq!(
            (known(&ids, 4), known(&ids, 5)),
            (None, Some(First::At(Offset(5))))
        );
        assert_eq!((ids.len(), ids.newest.len()), (1, 1));
        assert_eq!(ids.expires(&limits), Some(Millis(120_005)));
        ids.forget(Millis(1_005), Duration::from_secs(1));
        assert_eq!((ids.bytes(), ids.newest.len()), (0, 0));
    }

    #[test]
    fn an_id_is_forgotten_after_its_time_and_may_come_again() {
        let limits = Limits::default();
        let mut ids = Ids::default();
        ids.push(kept(1, 0), &limits);
        assert_eq!(
            ids.first(&key(1), Millis(119_999), &limits),
            Some(First::At(Offset(1)))
        );
        assert_eq!(ids.first(&key(1), Millis(120_000), &limits), None);
        ids.push(
            Kept {
                first: First::Matched(7),
                ..kept(1, 120_000)
            },
            &limits,
        );
        // The first of the two goes, and the second is still known.
        ids.forget(Millis(120_000), limits.ids_age_max);
        assert_eq!(
            ids.first(&key(1), Millis(120_001), &limits),
            Some(First::Matched(7))
        );
    }
}

//! What became of each id that clients gave their publishes: one (subject, topic, msg_id) takes effect once (P6).
//!
//! Leaves out: what a gateway sends again by itself, which has numbers (`check`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::OwnerEpoch;

use super::{Broken, Place, PubId};
use crate::time::Time;

/// Fan-out and answers, by which effects are seen, lag behind them by less than this.
const SEEN_LATE: Duration = Duration::from_secs(3);
/// Ids whose effects were perhaps seen in another order than they had.
const UNORDERED: u64 = 16;

/// An id as P6 means it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) topic: Bytes,
    pub(super) subject: String,
    pub(super) msg_id: String,
}

/// What a publish came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// A place in the sequence.
    At(Place),
    /// None.
    Fleeting,
}

/// An effect that was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) took: Took,
    pub(super) id: PubId,
    pub(super) owner_epoch: OwnerEpoch,
    pub(super) at: Time,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keys {
    held: BTreeMap<Key, Vec<(Held, u64)>>,
    /// Ids of each topic that were seen.
    seen: BTreeMap<Bytes, u64>,
    /// Places that were named as those of an id before they were seen.
    promised: BTreeMap<Place, Key>,
    /// Ids that were said to have had an effect without a place.
    without_place: BTreeSet<Key>,
    /// Ids a topic remembers, and for how long.
    pub(super) window: (usize, Duration),
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
            promised: BTreeMap::new(),
            without_place: BTreeSet::new(),
            window: (10_000, Duration::from_secs(120)),
        }
    }
}

impl Keys {
    /// A publish with an id took effect in a slot that last began empty under `fresh`.
    pub(super) fn took_effect(&mut self, key: Key, held: Held, fresh: OwnerEpoch) -> Result<(), Broken> {
        if let Took::At(place) = held.took
            && let Some(promised) = self.promised.remove(&place)
            && promised != key
        {
            return Err((
                "P6",
                format!("{promised:?} was said to be at {place:?}, where {key:?} is"),
            ));
        }
        let seen = self.seen.entry(key.topic.clone()).or_default();
        let (ids, age) = self.window;
        for (before, nth) in self.held.get(&key).into_iter().flatten() {
            if before.took == held.took && before.id == held.id && before.owner_epoch == held.owner_epoch {
                return Ok(());
            }
            let young = held.at.since(before.at) + SEEN_LATE < age;
            let remembered = *seen - nth + UNORDERED < ids as u64;
            let lost = fresh > before.owner_epoch.min(held.owner_epoch);
            if young && remembered && !lost {
                return Err((
                    "P6",
                    format!("{key:?} took effect twice: {before:?}, then {held:?}"),
                ));
            }
        }
        *seen += 1;
        self.held.entry(key).or_default().push((held, *seen));
        Ok(())
    }

    /// An owner says that a publish is the repeat of one at `place`, where `there` is.
    pub(super) fn repeats(
        &mut self,
        key: &Key,
        place: Option<Place>,
        there: Option<PubId>,
    ) -> Result<(), Broken> {
        let Some(place) = place else { return Ok(()) };
        let Some(there) = there else {
            let before = self.promised.insert(place, key.clone());
            return match before {
                Some(before) if before != *key => {
                    Err(("P6", format!("{key:?} and {before:?} are both at {place:?}")))
                }
                _ => Ok(()),
            };
        };
        let held = self.held.get(key).into_iter().flatten();
        let known = held
            .into_iter()
            .any(|(held, _)| held.took == Took::At(place) && held.id == there);
        if known {
            return Ok(());
        }
        Err((
            "P6",
            format!("{key:?} is said to be at {place:?}, where {there:?} is"),
        ))
    }

    /// An owner says that something with this id had an effect without a place, on whoever was there.
    pub(super) fn had_no_place(&mut self, key: &Key) {
        if !self.held.contains_key(key) {
            self.without_place.insert(key.clone());
        }
    }

    /// Whether anything with this id was seen to take effect.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.held.contains_key(key)
            || self.without_place.contains(key)
            || self.promised.values().any(|promised| promised == key)
    }

    /// Where it did.
    pub(super) fn places(&self, key: &Key) -> Vec<Place> {
        let held = self.held.get(key).into_iter().flatten();
        held.filter_map(|(held, _)| match held.took {
            Took::At(place) => Some(place),
            Took::Fleeting => None,
        })
        .collect()
    }
}

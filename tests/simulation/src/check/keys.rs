//! What became of each id that clients gave their publishes: one (subject, topic, msg_id) takes effect once (P6).
//!
//! Leaves out: what a gateway sends again by itself, which has numbers (`check`).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::OwnerEpoch;

use super::{Broken, Place};
use crate::time::Time;

/// The clocks of owners, which measure the ages of ids, differ from true time by less than this over an id's life.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3);

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

/// One effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) took: Took,
    pub(super) owner_epoch: OwnerEpoch,
    pub(super) at: Time,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keys {
    /// The effects of each, and how many ids of the topic had had one by then.
    held: BTreeMap<Key, Vec<(Held, u64)>>,
    /// Ids of each topic that had an effect.
    counted: BTreeMap<Bytes, u64>,
    /// Ids a topic remembers, and for how long.
    pub(super) window: (usize, Duration),
}

impl Default for Keys {
    fn default() -> Keys {
        Keys {
            held: BTreeMap::new(),
            counted: BTreeMap::new(),
            window: (10_000, Duration::from_secs(120)),
        }
    }
}

impl Keys {
    /// A publish with an id took effect in a slot that last began empty under `fresh`.
    pub(super) fn took_effect(&mut self, key: Key, held: Held, fresh: OwnerEpoch) -> Result<(), Broken> {
        let counted = self.counted.entry(key.topic.clone()).or_default();
        let (ids, age) = self.window;
        for (before, nth) in self.held.get(&key).into_iter().flatten() {
            let young = held.at.since(before.at) + CLOCKS_DIFFER < age;
            let remembered = *counted - nth < ids as u64;
            let lost = fresh > before.owner_epoch.min(held.owner_epoch);
            if young && remembered && !lost {
                return Err((
                    "P6",
                    format!("{key:?} took effect twice: {before:?}, then {held:?}"),
                ));
            }
        }
        *counted += 1;
        self.held.entry(key).or_default().push((held, *counted));
        Ok(())
    }

    /// An owner says that a publish is the repeat of one that came to this; no place: to none.
    pub(super) fn repeats(&self, key: &Key, place: Option<Place>) -> Result<(), Broken> {
        let took = place.map_or(Took::Fleeting, Took::At);
        let mut held = self.held.get(key).into_iter().flatten();
        if held.any(|(held, _)| held.took == took) {
            return Ok(());
        }
        Err((
            "P6",
            format!("{key:?} is said to have come to {took:?}, which it never did"),
        ))
    }

    /// Whether anything with this id took effect.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.held.contains_key(key)
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

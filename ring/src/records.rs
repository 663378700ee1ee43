//! A sorted map of records that costs little to copy: every change makes a new snapshot while readers hold the old one.
//!
//! *Invariant:* copies share their records; writing one in a copy leaves the others as they were.

use std::collections::{BTreeMap, btree_map};
use std::ops::{Index, RangeBounds};
use std::sync::Arc;

use ringcast_proto::record::Key;

use crate::Stored;

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Records(BTreeMap<Key, Arc<Stored>>);

/// Records with their keys, in key order.
pub type Iter<'a> = std::iter::Map<
    btree_map::Iter<'a, Key, Arc<Stored>>,
    fn((&'a Key, &'a Arc<Stored>)) -> (&'a Key, &'a Stored),
>;

impl Records {
    /// The record under `key`.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Stored> {
        self.0.get(key).map(Arc::as_ref)
    }

    /// Whether there is one.
    #[must_use]
    pub fn contains_key(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    /// Puts a record in the place of the one before it, if there was one.
    pub fn insert(&mut self, key: Key, stored: Stored) {
        self.0.insert(key, Arc::new(stored));
    }

    /// Takes the record away; nothing happens where there is none.
    pub fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in key order.
    pub fn iter(&self) -> Iter<'_> {
        self.0.iter().map(|(key, stored)| (key, stored.as_ref()))
    }

    /// Those whose keys are in `range`, in key order.
    pub fn range(&self, range: impl RangeBounds<Key>) -> impl DoubleEndedIterator<Item = (&Key, &Stored)> {
        self.0.range(range).map(|(key, stored)| (key, stored.as_ref()))
    }
}

impl FromIterator<(Key, Stored)> for Records {
    fn from_iter<I: IntoIterator<Item = (Key, Stored)>>(records: I) -> Records {
        let shared = records.into_iter().map(|(key, stored)| (key, Arc::new(stored)));
        Records(shared.collect())
    }
}

impl<const N: usize> From<[(Key, Stored); N]> for Records {
    fn from(records: [(Key, Stored); N]) -> Records {
        records.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = (&'a Key, &'a Stored);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Index<&Key> for Records {
    type Output = Stored;

    /// For keys that are known to be there.
    fn index(&self, key: &Key) -> &Stored {
        &self.0[key]
    }
}

#[cfg(test)]
mod tests {
    use crate::Revision;
    use crate::snapshot::tests::snapshot;

    #[test]
    fn writing_a_record_in_a_copy_leaves_the_others_as_they_were() {
        const FIRST: &str = r#"{"version":1,"cause":"commit"}"#;
        let before = snapshot(&[("history/1", FIRST), ("history/2", FIRST)]).records;
        let keys: Vec<_> = before.iter().map(|(key, _)| key.clone()).collect();
        let mut after = before.clone();
        let mut newer = before[&keys[0]].clone();
        newer.revision = Revision(9);
        after.insert(keys[0].clone(), newer);
        after.remove(&keys[1]);
        assert_eq!((before.len(), after.len()), (2, 1));
        assert_eq!(
            (before[&keys[0]].revision, after[&keys[0]].revision),
            (Revision(1), Revision(9))
        );
        assert!(before.contains_key(&keys[1]) && after.get(&keys[1]).is_none());
        assert_eq!(after.range(keys[0].clone()..).count(), 1);
    }
}

//! A sorted map that is small as long as little is in it: most topics have one gateway, and most gateways one member of it.
//!
//! It promises the order and the answers of a `BTreeMap`, whose smallest node has room for eleven entries. *Invariant:*
//! few entries are a sorted vector without spare room, many are a `BTreeMap`, and between the two it changes rarely:
//! whatever is done, no step takes longer than O(log n) plus a constant.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

/// With so many entries the vector becomes a tree. Moving half of them for one in the middle is still cheaper.
const FEW_MAX: usize = 32;

/// With so few the tree becomes a vector again: far from [`FEW_MAX`], or one member that comes and goes would pay for all.
const FEW_AGAIN: usize = FEW_MAX / 2;

/// A map from `K` to `V`, sorted by `K`.
#[derive(Debug, Clone)]
pub struct SmallMap<K, V> {
    entries: Entries<K, V>,
}

#[derive(Debug, Clone)]
enum Entries<K, V> {
    Few(Vec<(K, V)>),
    #[expect(
        clippy::box_collection,
        reason = "for all that are few, which take a quarter less without it"
    )]
    Many(Box<BTreeMap<K, V>>),
}

use Entries::{Few, Many};

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> SmallMap<K, V> {
        SmallMap {
            entries: Few(Vec::new()),
        }
    }
}

impl<K: Ord, V> SmallMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        match &self.entries {
            Few(few) => few.len(),
            Many(many) => many.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What `key` has.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.entries {
            Few(few) => find(few, key).ok().map(|at| &few[at].1),
            Many(many) => many.get(key),
        }
    }

    /// The key as it is kept, and what it has, to be changed.
    pub fn find_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(&K, &mut V)>
    where
        K: Borrow<Q>,
    {
        match &mut self.entries {
            Few(few) => {
                let at = find(few, key).ok()?;
                let (key, value) = &mut few[at];
                Some((key, value))
            }
            Many(many) => {
                let from: (Bound<&Q>, Bound<&Q>) = (Bound::Included(key), Bound::Included(key));
                many.range_mut::<Q, _>(from).next()
            }
        }
    }

    /// The same, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match &mut self.entries {
            Few(few) => find(few, key).ok().map(|at| &mut few[at].1),
            Many(many) => many.get_mut(key),
        }
    }

    /// Whether `key` has something.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// Gives `key` a value; the one it had before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match &mut self.entries {
            Few(few) => match find(few, &key) {
                Ok(at) => Some(std::mem::replace(&mut few[at].1, value)),
                Err(at) if few.len() < FEW_MAX => {
                    few.reserve_exact(1);
                    few.insert(at, (key, value));
                    None
                }
                Err(_) => {
                    let mut many: BTreeMap<K, V> = std::mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    self.entries = Many(Box::new(many));
                    None
                }
            },
            Many(many) => many.insert(key, value),
        }
    }

    /// What `key` has, to be changed; the default if it had nothing.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        K: Clone,
        V: Default,
    {
        if !self.contains_key(&key) {
            self.insert(key.clone(), V::default());
        }
        self.get_mut(&key).expect("it was there or has been inserted")
    }

    /// Takes `key` out, and what it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let removed = match &mut self.entries {
            Few(few) => find(few, key).ok().map(|at| few.remove(at).1),
            Many(many) => many.remove(key),
        };
        if removed.is_some() {
            self.shrink();
        }
        removed
    }

    /// Takes the last entry out.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let popped = match &mut self.entries {
            Few(few) => few.pop(),
            Many(many) => many.pop_last(),
        };
        self.shrink();
        popped
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        *self = SmallMap::default();
    }

    /// Keeps only what `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        match &mut self.entries {
            Few(few) => few.retain_mut(|(key, value)| keep(key, value)),
            Many(many) => many.retain(keep),
        }
        self.shrink();
    }

    /// The entries by key.
    pub fn iter(&self) -> Iter<'_, K, V> {
        match &self.entries {
            Few(few) => Iter::Few(few.iter()),
            Many(many) => Iter::Many(many.iter()),
        }
    }

    /// The entries after `key`, by key.
    pub fn after(&self, key: &K) -> Iter<'_, K, V> {
        match &self.entries {
            Few(few) => Iter::Few(few[few.partition_point(|(other, _)| other <= key)..].iter()),
            Many(many) => Iter::Rest(many.range((Bound::Excluded(key), Bound::Unbounded))),
        }
    }

    /// The values by key.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The values by key, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.into_iter().map(|(_, value)| value)
    }

    /// Lets go of the room nothing is in any more.
    fn shrink(&mut self) {
        match &mut self.entries {
            Few(few) => few.shrink_to_fit(),
            Many(many) if many.len() <= FEW_AGAIN => {
                let mut few: Vec<(K, V)> = std::mem::take(&mut **many).into_iter().collect();
                few.shrink_to_fit();
                self.entries = Few(few);
            }
            Many(_) => {}
        }
    }
}

/// Where `key` is, or where it would be.
fn find<K: Borrow<Q>, Q: Ord + ?Sized, V>(few: &[(K, V)], key: &Q) -> Result<usize, usize> {
    few.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

/// As what is in them, however it is kept.
impl<K: Ord, V: PartialEq> PartialEq for SmallMap<K, V> {
    fn eq(&self, other: &SmallMap<K, V>) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Ord, V: Eq> Eq for SmallMap<K, V> {}

impl<K: Ord, V> Extend<(K, V)> for SmallMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SmallMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SmallMap<K, V> {
        let mut map = SmallMap::default();
        map.extend(entries);
        map
    }
}

/// Goes through a map by key.
#[derive(Debug)]
pub enum Iter<'a, K, V> {
    /// Of a vector.
    Few(std::slice::Iter<'a, (K, V)>),
    /// Of a tree.
    Many(btree_map::Iter<'a, K, V>),
    /// Of a tree's end.
    Rest(btree_map::Range<'a, K, V>),
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Few(few) => few.next().map(|(key, value)| (key, value)),
            Iter::Many(many) => many.next(),
            Iter::Rest(rest) => rest.next(),
        }
    }
}

/// Takes a map apart by key.
#[derive(Debug)]
pub enum IntoIter<K, V> {
    /// Out of a vector.
    Few(std::vec::IntoIter<(K, V)>),
    /// Out of a tree.
    Many(btree_map::IntoIter<K, V>),
}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        match self {
            IntoIter::Few(few) => few.next(),
            IntoIter::Many(many) => many.next(),
        }
    }
}

impl<K: Ord, V> IntoIterator for SmallMap<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    fn into_iter(self) -> IntoIter<K, V> {
        match self.entries {
            Few(few) => IntoIter::Few(few.into_iter()),
            Many(many) => IntoIter::Many(many.into_iter()),
        }
    }
}

/// The same, with values that may be changed.
#[derive(Debug)]
pub enum IterMut<'a, K, V> {
    /// Of a vector.
    Few(std::slice::IterMut<'a, (K, V)>),
    /// Of a tree.
    Many(btree_map::IterMut<'a, K, V>),
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            IterMut::Few(few) => few.next().map(|(key, value)| (&*key, value)),
            IterMut::Many(many) => many.next(),
        }
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a SmallMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<'a, K: Ord, V> IntoIterator for &'a mut SmallMap<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> IterMut<'a, K, V> {
        match &mut self.entries {
            Few(few) => IterMut::Few(few.iter_mut()),
            Many(many) => IterMut::Many(many.iter_mut()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys few enough to meet again, and enough of them to cross both bounds.
    const KEYS: u8 = 3 * FEW_MAX as u8;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u16),
        Remove(u8),
        Change(u8, u16),
        OrDefault(u8),
        PopLast,
        Clear,
        /// What comes after this many others of every four is kept.
        Retain(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..KEYS, any::<u16>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => (0..KEYS).prop_map(Step::Remove),
            2 => (0..KEYS, any::<u16>()).prop_map(|(key, value)| Step::Change(key, value)),
            2 => (0..KEYS).prop_map(Step::OrDefault),
            2 => Just(Step::PopLast),
            1 => (0..4u8).prop_map(Step::Retain),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..300)
    }

    fn is_exact(map: &SmallMap<u8, u16>) -> bool {
        match &map.entries {
            Few(few) => few.len() <= FEW_MAX && few.capacity() == few.len(),
            Many(many) => many.len() > FEW_AGAIN,
        }
    }

    proptest! {
        #[test]
        fn it_answers_as_a_tree_does(steps in steps()) {
            let (mut small, mut tree) = (SmallMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(small.insert(key, value), tree.insert(key, value)),
                    Step::Remove(key) => prop_assert_eq!(small.remove(&key), tree.remove(&key)),
                    Step::Change(key, value) => {
                        if let Some(old) = small.get_mut(&key) {
                            *old = value;
                        }
                        if let Some(old) = tree.get_mut(&key) {
                            *old = value;
                        }
                    }
                    Step::OrDefault(key) => prop_assert_eq!(small.or_default(key), tree.entry(key).or_default()),
                    Step::PopLast => prop_assert_eq!(small.pop_last(), tree.pop_last()),
                    Step::Clear => {
                        small.clear();
                        tree.clear();
                    }
                    Step::Retain(rest) => {
                        small.retain(|key, _| key % 4 >= rest);
                        tree.retain(|key, _| key % 4 >= rest);
                    }
                }
                prop_assert!(small.iter().eq(&tree));
                prop_assert!(small.values().eq(tree.values()));
                prop_assert!((&mut small).into_iter().eq(&mut tree));
                prop_assert!(small.values_mut().eq(tree.values_mut()));
                prop_assert_eq!((small.len(), small.is_empty()), (tree.len(), tree.is_empty()));
                for key in 0..KEYS {
                    prop_assert_eq!(small.get(&key), tree.get(&key));
                    prop_assert_eq!(small.contains_key(&key), tree.contains_key(&key));
                    prop_assert!(small.after(&key).eq(tree.range((Bound::Excluded(key), Bound::Unbounded))));
                }
                prop_assert!(is_exact(&small), "{:?}", small.entries);
                prop_assert_eq!(tree.iter().map(|(key, value)| (*key, *value)).collect::<SmallMap<_, _>>(), small.clone());
            }
        }
    }

    #[test]
    fn an_empty_one_takes_no_more_than_a_vector() {
        assert_eq!(size_of::<SmallMap<u64, u64>>(), size_of::<Vec<u64>>());
    }

    #[test]
    fn one_that_comes_and_goes_at_the_bound_does_not_turn_it_over_and_over() {
        let mut map: SmallMap<u8, ()> = (0..=FEW_MAX as u8).map(|key| (key, ())).collect();
        map.remove(&0);
        assert!(matches!(map.entries, Many(_)), "still far from few");
        map.retain(|key, ()| usize::from(*key) <= FEW_AGAIN);
        assert!(matches!(map.entries, Few(_)));
        map.insert(0, ());
        assert!(matches!(map.entries, Few(_)), "still far from many");
    }
}

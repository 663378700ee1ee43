//! Who must move, from who holds what to what the ring asks for: a slot stays where it is unless it must go.
//!
//! It promises, of [`Layout::rebalance`] with its takers (the nodes that joined, came back or gained weight):
//! a slot whose holder may keep it goes to a taker and to nobody else, save where every taker is full and the holder
//! still above its bound; without takers nothing moves but what is vacant, pinned elsewhere or above a bound. So a new
//! node takes slots only to itself and a removed one gives up only its own, *with* the bound as without it.
//! *Invariant:* afterwards no node holds more than its bound, but for slots pinned to it.
//!
//! The price: after many changes the slots are not exactly where a placement from scratch would put them. That is worth
//! nothing to anybody, while every move is a pause.
//! Leaves out: how many at once, and carrying them out.

use std::collections::BTreeSet;

use ringcast_proto::Slot;

use crate::placement::{Holder, Layout};

/// A slot that changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transfer {
    /// Which.
    pub slot: Slot,
    /// Who held it; nobody, if it was vacant.
    pub from: Option<u16>,
    /// Who gets it.
    pub to: u16,
}

impl Layout {
    /// The transfers that take `holders` (by slot) to where this layout is satisfied, in slot order.
    ///
    /// `takers` are the nodes that slots may be taken *for*.
    #[must_use]
    pub fn rebalance(&self, holders: &[Holder], takers: &BTreeSet<u16>) -> Vec<Transfer> {
        let mut table = holders.to_vec();
        table.resize(usize::from(self.slots()), Holder::Elsewhere);
        for (slot, holder) in (0..).map(Slot).zip(&mut table) {
            if let (Holder::Node(_), Some(pin)) = (*holder, self.pin(slot)) {
                *holder = Holder::Node(pin);
            }
        }
        for (slot, node) in self.fill(&table) {
            table[usize::from(slot.0)] = Holder::Node(node);
        }
        Draft {
            layout: self,
            owned: self.owned(&table),
            table,
        }
        .settle(takers)
        .transfers(holders)
    }
}

/// A table being changed, and how many slots each node holds in it.
struct Draft<'a> {
    layout: &'a Layout,
    table: Vec<Holder>,
    owned: Vec<u32>,
}

impl Draft<'_> {
    fn settle(mut self, takers: &BTreeSet<u16>) -> Self {
        let walks: Vec<Vec<u16>> = (0..self.layout.slots())
            .map(|slot| self.layout.ring().walk(Slot(slot)).collect())
            .collect();

        // What the ring gives the takers: slots whose walk meets one before the holder.
        for (slot, walk) in (0..).map(Slot).zip(&walks) {
            let Some(holder) = self.movable(slot).filter(|holder| !takers.contains(holder)) else {
                continue;
            };
            let mut nearer = walk.iter().take_while(|node| **node != holder);
            if let Some(taker) = nearer.find(|node| takers.contains(node) && self.has_room(**node)) {
                self.give(slot, holder, *taker);
            }
        }
        // What the bounds demand on top, nearest first, so that a slot's old holder stays close behind on its walk.
        // First to takers; to others only what no taker has room for.
        for to_anyone in [false, true] {
            for depth in 0..self.owned.len() {
                for (slot, walk) in (0..).map(Slot).zip(&walks) {
                    let Some(holder) = self.movable(slot).filter(|holder| self.is_above_bound(*holder))
                    else {
                        continue;
                    };
                    let target = walk[depth];
                    if (to_anyone || takers.contains(&target)) && self.has_room(target) {
                        self.give(slot, holder, target);
                    }
                }
            }
        }
        self
    }

    /// The holder of a slot that may be taken away from it.
    fn movable(&self, slot: Slot) -> Option<u16> {
        match self.table[usize::from(slot.0)] {
            Holder::Node(node) if self.layout.pin(slot).is_none() => Some(node),
            Holder::Node(_) | Holder::Vacant | Holder::Elsewhere => None,
        }
    }

    fn has_room(&self, node: u16) -> bool {
        self.owned[usize::from(node)] < self.layout.bound(node)
    }

    fn is_above_bound(&self, node: u16) -> bool {
        self.owned[usize::from(node)] > self.layout.bound(node)
    }

    fn give(&mut self, slot: Slot, from: u16, to: u16) {
        self.table[usize::from(slot.0)] = Holder::Node(to);
        self.owned[usize::from(from)] -= 1;
        self.owned[usize::from(to)] += 1;
    }

    fn transfers(self, before: &[Holder]) -> Vec<Transfer> {
        let pairs = (0..).map(Slot).zip(before.iter().zip(&self.table));
        let transfer = |(slot, (was, is)): (Slot, (&Holder, &Holder))| match (*was, *is) {
            (Holder::Vacant, Holder::Node(to)) => Some(Transfer { slot, from: None, to }),
            (Holder::Node(from), Holder::Node(to)) if from != to => Some(Transfer {
                slot,
                from: Some(from),
                to,
            }),
            _ => None,
        };
        pairs.filter_map(transfer).collect()
    }
}

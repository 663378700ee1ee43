//! The owner_epochs a gateway has seen, and that it passes nothing on that is below (I10).

use std::collections::BTreeMap;

use ringcast_proto::v1::{self, DeliverStatus};
use ringcast_ring::SlotTable;

use super::Checker;
use crate::time::Time;

/// What one process of a gateway has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    by_slot: BTreeMap<u32, u64>,
    entries: Vec<v1::DeliverEntry>,
}

impl Seen {
    /// A table is shown to it.
    pub(crate) fn table(&mut self, table: &SlotTable) {
        for slot in 0..table.slots() {
            if let Some(owner) = table.owner(ringcast_proto::Slot(slot)) {
                self.raise(u32::from(slot), owner.owner_epoch.0);
            }
        }
    }

    /// It is given outcomes.
    pub(crate) fn published(&mut self, answer: &v1::PublishAnswer) {
        for part in answer.slots.iter().filter(|part| !part.outcomes.is_empty()) {
            self.raise(part.slot, part.owner_epoch);
        }
    }

    /// It is about to handle these.
    pub(crate) fn deliver(&mut self, entries: Vec<v1::DeliverEntry>) {
        self.entries = entries;
    }

    /// It has handled them.
    pub(crate) fn delivered(&mut self, now: Time, answer: &v1::DeliverAnswer, check: &mut Checker) {
        for (index, entry) in (0_u32..).zip(std::mem::take(&mut self.entries)) {
            let seen = self.by_slot.get(&entry.slot).copied().unwrap_or(0);
            let exception = answer
                .exceptions
                .iter()
                .find(|exception| exception.index == index);
            if exception.is_none() && entry.owner_epoch < seen {
                let what = format!(
                    "slot {} of {} was passed on, {seen} was seen",
                    entry.slot, entry.owner_epoch
                );
                check.fail(now, "I10", what);
            }
            if exception.is_none_or(|exception| exception.status() != DeliverStatus::Stale) {
                self.raise(entry.slot, entry.owner_epoch);
            }
        }
    }

    fn raise(&mut self, slot: u32, owner_epoch: u64) {
        let seen = self.by_slot.entry(slot).or_default();
        *seen = (*seen).max(owner_epoch);
    }
}

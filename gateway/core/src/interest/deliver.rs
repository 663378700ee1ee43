//! A delivered entry, held against what the topic has passed on.
//!
//! *Invariant:* a publication is passed on only if it follows the cursor, and never under an owner_epoch lower than one
//! that was seen.

use ringcast_proto::v1::{self, DeliverStatus};
use ringcast_proto::{Epoch, Offset, OwnerEpoch, SessionId, Slot};

use super::Interest;
use crate::owners::Owners;

/// What became of a delivered entry.
#[derive(Debug)]
pub(crate) enum Passed {
    /// Pass on `publications[from..]`, after admitting these sessions.
    On { admitted: Vec<SessionId>, from: usize },
    /// Nothing to pass on; the owner is told why.
    No(v1::DeliverException),
}

impl Interest {
    /// Holds a delivered entry against the cursor.
    pub(crate) fn deliver(&mut self, entry: &v1::DeliverEntry, slot: Slot, owners: &mut Owners) -> Passed {
        let no = |status: DeliverStatus| v1::DeliverException {
            status: status.into(),
            ..Default::default()
        };
        if !owners.see(slot, OwnerEpoch(entry.owner_epoch)) {
            let owner_epoch = owners.seen(slot).0;
            return Passed::No(v1::DeliverException {
                owner_epoch,
                ..no(DeliverStatus::Stale)
            });
        }
        let wanted = std::str::from_utf8(&entry.topic)
            .ok()
            .and_then(|topic| self.slots.get_mut(&slot)?.get_mut(topic))
            .filter(|wanted| !wanted.members.is_empty());
        let Some(wanted) = wanted else {
            return Passed::No(no(DeliverStatus::NoInterest));
        };
        let Ok(epoch) = Epoch::parse(&entry.epoch) else {
            return Passed::No(no(DeliverStatus::NoInterest));
        };

        let mut admitted = Vec::new();
        let known = match &wanted.cursor {
            Some((known, offset)) if *known == epoch => *offset,
            // A delivery from a group of before the last leave: those who joined since have not asked for it.
            None if wanted.in_flight.is_none() => {
                return Passed::On {
                    admitted,
                    from: entry.publications.len(),
                };
            }
            // The owner knows us, though its answer to the bind is still on its way.
            _ => {
                if let Some(seq) = wanted.in_flight.as_ref().map(|sent| sent.seq) {
                    admitted = wanted.admit(seq);
                }
                Offset(entry.prev_offset)
            }
        };
        if entry.prev_offset > known.0 {
            let cursor = Some(v1::Position {
                epoch: entry.epoch.clone(),
                offset: known.0,
            });
            return Passed::No(v1::DeliverException {
                cursor,
                ..no(DeliverStatus::NeedFrom)
            });
        }
        let gap_to = entry.gap.as_ref().map_or(0, |gap| gap.to);
        let last = entry
            .publications
            .last()
            .map_or(entry.prev_offset, |publication| publication.offset);
        let from = entry
            .publications
            .partition_point(|publication| publication.offset <= known.0);
        wanted.cursor = Some((epoch, Offset(known.0.max(gap_to).max(last))));
        Passed::On { admitted, from }
    }
}

//! A delivered entry, held against what the topic has passed on.
//!
//! *Invariant:* a publication is passed on only if it follows the cursor, and never under an owner_epoch lower than one
//! that was seen.

use ringcast_proto::v1::{self, DeliverStatus};
use ringcast_proto::{Epoch, Offset, OwnerEpoch, SessionId, Slot};

use super::{Interest, Kept};
use crate::owners::Owners;
use crate::place::GapReason;

/// What became of a delivered entry.
#[derive(Debug)]
pub(crate) enum Passed {
    /// Pass on `publications[from..]`, after admitting these sessions and telling what is missed before.
    On {
        epoch: Epoch,
        admitted: Vec<SessionId>,
        missed: Option<Missed>,
        from: usize,
    },
    /// Pass on what has no offset.
    Unsequenced,
    /// Nothing to pass on; the owner is told why.
    No(v1::DeliverException),
}

/// Publications that will not come: `from` to `to`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    pub(crate) reason: GapReason,
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

        if !entry.unsequenced.is_empty() {
            return Passed::Unsequenced;
        }
        let (mut admitted, mut missed) = (Vec::new(), None);
        let known = match &wanted.cursor {
            Some((known, offset)) if *known == epoch => *offset,
            // A delivery from a group of before the last leave: those who joined since have not asked for it.
            None if !wanted.asked_for(entry.bind_seq) => {
                return Passed::On {
                    epoch,
                    admitted,
                    missed,
                    from: entry.publications.len(),
                };
            }
            // Of a new epoch nothing was passed on: what came before, another owner may have sent in vain.
            Some(_) if entry.prev_offset > 0 => {
                let epoch = entry.epoch.clone();
                return Passed::No(v1::DeliverException {
                    cursor: Some(v1::Position { epoch, offset: 0 }),
                    ..no(DeliverStatus::NeedFrom)
                });
            }
            // The owner knows us, though its answer to the bind is still on its way.
            _ => {
                if let Some(seq) = wanted.in_flight.as_ref().map(|sent| sent.seq) {
                    admitted = wanted.let_in(seq);
                }
                let to = Offset(entry.prev_offset);
                if wanted.cursor.is_some() {
                    wanted.begin_anew(epoch.clone(), to);
                    let (from, reason) = (Offset(1), GapReason::EpochChanged);
                    missed = Some(Missed { from, to, reason });
                }
                to
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
        if let Some(gap) = entry.gap.as_ref().filter(|gap| gap.to > known.0) {
            let (from, to, reason) = (Offset(gap.from).max(known.next()), Offset(gap.to), reason(gap));
            missed = Some(match missed {
                // What is missed of the new epoch is all of one making.
                Some(anew) => Missed { to, ..anew },
                None => Missed { from, to, reason },
            });
            if let Some(kept) = &mut wanted.kept {
                *kept = Kept::from(to);
            }
        }
        let last = entry
            .publications
            .last()
            .map_or(entry.prev_offset, |publication| publication.offset);
        let from = entry
            .publications
            .partition_point(|publication| publication.offset <= known.0);
        let cursor = Offset(known.0.max(gap_to).max(last));
        wanted.cursor = Some((epoch.clone(), cursor));
        if let Some(kept) = &mut wanted.kept {
            kept.push(&entry.publications[from..]);
        }
        Passed::On {
            epoch,
            admitted,
            missed,
            from,
        }
    }
}

fn reason(gap: &v1::Gap) -> GapReason {
    match gap.reason() {
        v1::GapReason::EpochChanged => GapReason::EpochChanged,
        v1::GapReason::Overload => GapReason::Overload,
        // Of a later build: what it is for whoever reads it here.
        v1::GapReason::HistoryTrimmed | v1::GapReason::Unspecified => GapReason::HistoryTrimmed,
    }
}

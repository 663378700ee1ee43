//! One topic as this gateway wants it.
//!
//! *Invariant:* what the owner is told is everything, or a change to the members that a confirmed bind left. A bind's
//! number names those members wherever the slot goes, so a new owner that has them is told no more than the present one.

use std::sync::Arc;

use bytes::Bytes;
use ringcast_proto::v1;
use ringcast_proto::{Epoch, Millis, NodeRef, Offset, OwnerEpoch, SessionId, Slot, SmallMap, Topic};

use super::changes::Changes;
use super::kept::Kept;
use crate::gateway::CallId;
use crate::phoenix::{Json, Serializer};
use crate::place::Stream;

/// A session that joined or is joining a topic.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) subject: Bytes,
    pub(crate) serializer: Serializer,
    /// The join_ref its event frames carry; null for broadcast-style channels.
    pub(crate) push_ref: Json,
    /// Until the owner knows it, it sees nothing.
    pub(crate) joined: bool,
    /// It asked for positions: where it goes on is judged before it is joined.
    pub(crate) positions: bool,
    /// Publications up to this one are not for it: it has them.
    pub(crate) has: Offset,
    /// What it is sent, once it is joined and if it asked for positions.
    pub(crate) stream: Option<Arc<Stream>>,
}

/// The last bind that was confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) seq: u64,
    /// Who holds it and delivers; none since the slot went to another owner, who may hold it too.
    pub(super) at: Option<(NodeRef, OwnerEpoch)>,
}

/// From where a bind lets the owner go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// From the end: nothing was passed on.
    Head,
    /// From where its group stands under this owner_epoch.
    Group(OwnerEpoch),
    /// From the cursor it is told.
    Cursor,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) call: CallId,
    pub(super) to: NodeRef,
    pub(super) seq: u64,
    /// It says that nobody is left.
    pub(super) empty: bool,
    /// From where the owner is to go on.
    pub(super) from: From,
    /// What it tells beyond the confirmed bind.
    pub(super) told: Changes,
}

/// One topic's members here, what the owner knows of them, and the cursor.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) members: SmallMap<SessionId, Member>,
    /// Members that wait for the owner, with the bind that told it (0: none yet).
    pub(super) joining: SmallMap<SessionId, u64>,
    /// What no bind has told yet.
    pub(super) untold: Changes,
    pub(super) cursor: Option<(Epoch, Offset)>,
    pub(super) bound: Option<Bound>,
    pub(super) in_flight: Option<InFlight>,
    /// Some owner may hold members of ours.
    pub(super) owner_knows: bool,
    /// Since when it waits to be told.
    pub(super) queued: Option<Millis>,
    /// What was passed on while sessions wait for what they missed.
    pub(super) kept: Option<Kept>,
}

/// Whom the owner's word lets in.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// They see what is published from now on.
    pub(super) joined: Vec<SessionId>,
    /// The owner knows them; where they go on is still to be judged.
    pub(super) known: Vec<SessionId>,
}

impl Wanted {
    /// Nobody wants it, and nobody has to be told so.
    pub(super) fn is_over(&self) -> bool {
        self.members.is_empty() && !self.owner_knows && self.in_flight.is_none() && self.queued.is_none()
    }

    /// Whether a bind has to leave, and neither waits nor is on its way.
    pub(super) fn has_to_tell(&self) -> bool {
        self.in_flight.is_none() && self.queued.is_none() && !self.is_over() && !self.up_to_date()
    }

    fn up_to_date(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.at.is_some())
            && self.untold.is_empty()
            && self.owner_knows != self.members.is_empty()
    }

    pub(super) fn join(&mut self, session: SessionId, member: Member) {
        self.members.insert(session, member);
        self.joining.insert(session, 0);
        self.untold.join(session);
    }

    /// Whether it was a member.
    pub(super) fn leave(&mut self, session: SessionId) -> bool {
        if self.members.remove(&session).is_none() {
            return false;
        }
        self.joining.remove(&session);
        let untold = self.untold.forget(session);
        if !untold || self.bound.is_some() || self.in_flight.is_some() {
            self.untold.leave(session);
        }
        true
    }

    /// Those without positions whom the bind numbered `seq` or an earlier one told the owner about are joined now.
    pub(super) fn let_in(&mut self, seq: u64) -> Vec<SessionId> {
        let (mut joined, members) = (Vec::new(), &mut self.members);
        self.joining.retain(|session, told| {
            let member = members.get_mut(session).filter(|member| !member.positions);
            let Some(member) = member.filter(|_| (1..=seq).contains(told)) else {
                return true;
            };
            member.joined = true;
            joined.push(*session);
            false
        });
        joined
    }

    /// The same with those with positions, as an owner confirms it: where these go on is still to be judged.
    pub(super) fn admit(&mut self, seq: u64) -> Admitted {
        let joined = self.let_in(seq);
        let mut known = Vec::new();
        self.joining.retain(|session, told| {
            let waits = !(1..=seq).contains(told);
            if !waits {
                known.push(*session);
            }
            waits
        });
        Admitted { joined, known }
    }

    /// Whether what a group of this bind is sent is for those who are joining. 0: of a build that does not say.
    pub(super) fn asked_for(&self, bind_seq: u64) -> bool {
        let in_flight = self.in_flight.as_ref();
        in_flight.is_some_and(|sent| bind_seq == 0 || sent.seq <= bind_seq)
    }

    /// The cursor is of another epoch now. Where somebody was told of the one before, from where on they go.
    pub(super) fn begin_anew(&mut self, epoch: Epoch, offset: Offset) {
        self.cursor = Some((epoch, offset));
        if let Some(kept) = &mut self.kept {
            *kept = Kept::from(offset);
        }
    }

    /// The slot has this owner now. Whatever another one holds has to be told again.
    pub(super) fn moved(&mut self, owner: Option<&(NodeRef, OwnerEpoch)>) {
        if let Some(bound) = &mut self.bound {
            // An owner may have answered under an epoch of which the table hears later.
            let stays = |(at, epoch): &(NodeRef, OwnerEpoch)| {
                owner.is_some_and(|(owner, since)| owner == at && since <= epoch)
            };
            bound.at = bound.at.take().filter(stays);
        }
    }

    /// What was in flight was not confirmed: it is told again, with what came since.
    pub(super) fn tell_again(&mut self, told: Changes) {
        let since = std::mem::take(&mut self.untold);
        if self.bound.is_some() {
            self.untold = told.then(since);
        }
        // Otherwise everything will be told, and changes are changes to nothing.
    }

    /// The bind that brings the owner up to date: a change where it holds, or may hold, the rest, else everything.
    pub(super) fn bind(
        &mut self,
        slot: Slot,
        topic: &Topic,
        to: &NodeRef,
        owner_epoch: OwnerEpoch,
        seq: u64,
        call: CallId,
    ) -> v1::Bind {
        let member = |(session, member): (&SessionId, &Member)| v1::Member {
            session: session.0,
            subject: member.subject.clone(),
        };
        let told = std::mem::take(&mut self.untold);
        let empty = self.members.is_empty();
        let (prev_seq, from) = match &self.bound {
            // Whatever the owner holds: nobody is left.
            _ if empty => (0, From::Head),
            _ if self.cursor.is_none() => (0, From::Head),
            None => (0, From::Cursor),
            Some(Bound {
                seq,
                at: Some((_, owner_epoch)),
            }) => (*seq, From::Group(*owner_epoch)),
            // The group came along with the slot; how far it had got here only this gateway knows.
            Some(Bound { seq, at: None }) => (*seq, From::Cursor),
        };
        let cursor = self.cursor.as_ref().filter(|_| from == From::Cursor);
        let cursor = cursor.map(|(epoch, offset)| v1::Position {
            epoch: epoch.to_bytes(),
            offset: offset.0,
        });
        let (joined, left) = if prev_seq == 0 {
            (self.members.iter().map(member).collect(), Vec::new())
        } else {
            let joined = told.joined.iter();
            (
                joined
                    .filter_map(|id| Some((id, self.members.get(id)?)))
                    .map(member)
                    .collect(),
                told.left.iter().map(|session| session.0).collect(),
            )
        };
        for told in self.joining.values_mut() {
            *told = seq;
        }
        self.owner_knows = true;
        self.in_flight = Some(InFlight {
            call,
            to: to.clone(),
            seq,
            empty,
            from,
            told,
        });
        v1::Bind {
            slot: u32::from(slot.0),
            owner_epoch: owner_epoch.0,
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            seq,
            prev_seq,
            joined,
            left,
            cursor,
        }
    }
}

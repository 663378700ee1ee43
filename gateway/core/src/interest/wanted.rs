//! One topic as this gateway wants it.
//!
//! *Invariant:* what the owner is told is everything, or a change to what it has confirmed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ringcast_proto::v1;
use ringcast_proto::{Epoch, NodeRef, Offset, OwnerEpoch, SessionId, Slot, Topic};

use crate::gateway::CallId;
use crate::phoenix::{Json, Serializer};

/// A session that joined or is joining a topic.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) subject: Bytes,
    pub(crate) serializer: Serializer,
    /// The join_ref its event frames carry; null for broadcast-style channels.
    pub(crate) push_ref: Json,
    /// Until the owner knows it, it sees nothing.
    pub(crate) joined: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) to: NodeRef,
    pub(super) owner_epoch: OwnerEpoch,
    pub(super) seq: u64,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) call: CallId,
    pub(super) to: NodeRef,
    pub(super) owner_epoch: OwnerEpoch,
    pub(super) seq: u64,
    /// It says that nobody is left.
    pub(super) empty: bool,
}

/// One topic's members here, what the owner knows of them, and the cursor.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) members: BTreeMap<SessionId, Member>,
    /// Members that wait for the owner, with the bind that told it (0: none yet).
    pub(super) joining: BTreeMap<SessionId, u64>,
    pub(super) joined_since: BTreeSet<SessionId>,
    pub(super) left_since: BTreeSet<SessionId>,
    pub(super) cursor: Option<(Epoch, Offset)>,
    pub(super) bound: Option<Bound>,
    pub(super) in_flight: Option<InFlight>,
    /// Some owner may hold members of ours.
    pub(super) owner_knows: bool,
    pub(super) queued: bool,
}

impl Wanted {
    pub(super) fn up_to_date(&self) -> bool {
        self.bound.is_some()
            && self.joined_since.is_empty()
            && self.left_since.is_empty()
            && self.owner_knows != self.members.is_empty()
    }

    /// Those the bind numbered `seq` or an earlier one told the owner about are joined now.
    pub(super) fn admit(&mut self, seq: u64) -> Vec<SessionId> {
        let told: Vec<SessionId> = self
            .joining
            .iter()
            .filter(|(_, told)| (1..=seq).contains(*told))
            .map(|(&session, _)| session)
            .collect();
        for session in &told {
            self.joining.remove(session);
            if let Some(member) = self.members.get_mut(session) {
                member.joined = true;
            }
        }
        told
    }

    /// The bind that brings the owner up to date: a change where it knows the rest, else everything.
    pub(super) fn bind(
        &mut self,
        slot: Slot,
        topic: &Topic,
        to: &NodeRef,
        owner_epoch: OwnerEpoch,
        seq: u64,
        call: CallId,
    ) -> v1::Bind {
        let known = self
            .bound
            .take()
            .filter(|bound| bound.to == *to && bound.owner_epoch == owner_epoch);
        let member = |(session, member): (&SessionId, &Member)| v1::Member {
            session: session.0,
            subject: member.subject.clone(),
        };
        let joined_since = std::mem::take(&mut self.joined_since);
        let left_since = std::mem::take(&mut self.left_since);
        let (prev_seq, joined, left) = match known {
            Some(bound) => {
                let joined = joined_since
                    .iter()
                    .filter_map(|id| self.members.get_key_value(id))
                    .map(member)
                    .collect();
                (
                    bound.seq,
                    joined,
                    left_since.into_iter().map(|session| session.0).collect(),
                )
            }
            None => (0, self.members.iter().map(member).collect(), Vec::new()),
        };
        for told in self.joining.values_mut() {
            *told = seq;
        }
        let empty = self.members.is_empty();
        self.owner_knows = true;
        self.in_flight = Some(InFlight {
            call,
            to: to.clone(),
            owner_epoch,
            seq,
            empty,
        });
        v1::Bind {
            slot: u32::from(slot.0),
            owner_epoch: owner_epoch.0,
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            seq,
            prev_seq,
            joined,
            left,
            // With a change the owner goes on from where its group stands.
            cursor: match prev_seq {
                0 => self.cursor.as_ref().map(|(epoch, offset)| v1::Position {
                    epoch: epoch.to_bytes(),
                    offset: offset.0,
                }),
                _ => None,
            },
        }
    }
}

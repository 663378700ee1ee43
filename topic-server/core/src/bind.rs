//! A gateway's bind: who is joined there, and up to where it has passed on.
//!
//! It promises that after an OK the owner's members are the gateway's, as of that bind. *Invariant:* a change is
//! applied only to the very state it was made from; anything else is answered with the request for everything.

use bytes::Bytes;
use ringcast_proto::v1::{self, BindOutcome, BindStatus};
use ringcast_proto::{Epoch, IdError, NodeRef, Offset, OwnerEpoch, SessionId, Topic as TopicName};

use crate::duty::{SEALED_RETRY_MS, Unserved};
use crate::group::Group;
use crate::handoff::Piece;
use crate::input::position;
use crate::slot::Slot;
use crate::topic::Topic;
use crate::{Effect, Moment, Token};
use ringcast_proto::SmallMap;

/// As long as the longest subject a token may carry.
pub(crate) const SUBJECT_BYTES_MAX: usize = 1024;

/// A place in a topic's sequence: everything up to `offset` is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Of which sequence.
    pub epoch: Epoch,
    /// The last one there; 0 when none is.
    pub offset: Offset,
}

/// One gateway's members of one topic, or a change to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    topic: TopicName,
    seq: u64,
    /// The bind this one is a change to; none when it is complete.
    prev_seq: Option<u64>,
    joined: SmallMap<SessionId, Bytes>,
    left: Vec<SessionId>,
    cursor: Option<Cursor>,
}

/// Why a bind cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadBind {
    /// The topic or the cursor's epoch is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Binds are numbered from 1, and each after the one it changes.
    #[error("bind number {seq} cannot follow {prev_seq}")]
    Seq {
        /// Its number.
        seq: u64,
        /// The number of the one it changes.
        prev_seq: u64,
    },
    /// Sessions are numbered from 1.
    #[error("session 0 cannot be a member")]
    Session,
    /// A subject has a bound.
    #[error("subject of {0} bytes, must be at most 1,024")]
    Subject(usize),
}

impl Cursor {
    /// Checks what came in a message.
    ///
    /// # Errors
    /// [`IdError`], if the epoch is none.
    pub fn parse(position: &v1::Position) -> Result<Cursor, IdError> {
        Ok(Cursor {
            epoch: Epoch::parse(&position.epoch)?,
            offset: Offset(position.offset),
        })
    }
}

impl Bind {
    /// Checks what came in a message, and copies it out of the receive buffer: members stay for hours.
    ///
    /// # Errors
    /// [`BadBind`].
    pub fn parse(bind: v1::Bind) -> Result<Bind, BadBind> {
        let v1::Bind {
            topic,
            seq,
            prev_seq,
            joined,
            left,
            cursor,
            ..
        } = bind;
        if seq <= prev_seq {
            return Err(BadBind::Seq { seq, prev_seq });
        }
        let member = |member: v1::Member| match member {
            v1::Member { session: 0, .. } => Err(BadBind::Session),
            v1::Member { subject, .. } if subject.len() > SUBJECT_BYTES_MAX => {
                Err(BadBind::Subject(subject.len()))
            }
            v1::Member { session, subject } => Ok((SessionId(session), Bytes::copy_from_slice(&subject))),
        };
        Ok(Bind {
            topic: TopicName::parse(&topic)?,
            seq,
            prev_seq: (prev_seq > 0).then_some(prev_seq),
            joined: joined.into_iter().map(member).collect::<Result<_, _>>()?,
            left: left.into_iter().map(SessionId).collect(),
            cursor: cursor.as_ref().map(Cursor::parse).transpose()?,
        })
    }
}

impl Bind {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether it says everything, rather than a change.
    pub(crate) fn is_complete(&self) -> bool {
        self.prev_seq.is_none()
    }

    pub(crate) fn joined(&self) -> &SmallMap<SessionId, Bytes> {
        &self.joined
    }

    pub(crate) fn left(&self) -> &[SessionId] {
        &self.left
    }
}

impl Slot {
    pub(crate) fn bind(
        &mut self,
        token: Token,
        (from, owner_epoch): (NodeRef, OwnerEpoch),
        bind: Bind,
        moment: Moment,
        effects: &mut Vec<Effect>,
    ) {
        let outcome = match self.serve(&from, owner_epoch, effects) {
            Err(Unserved::NotOwner(owner)) => BindOutcome {
                owner,
                ..status(BindStatus::NotOwner)
            },
            Err(Unserved::Sealed) => BindOutcome {
                retry_after_ms: SEALED_RETRY_MS,
                ..status(BindStatus::Sealed)
            },
            Ok(mine) => BindOutcome {
                owner_epoch: mine.0,
                ..self.rebind(self.gateways.known_as(from), bind, moment)
            },
        };
        effects.push(Effect::Bound(token, outcome));
    }

    fn rebind(&mut self, from: NodeRef, bind: Bind, moment: Moment) -> BindOutcome {
        let name = bind.topic.clone();
        let bound = self
            .topics
            .get(&name)
            .and_then(|topic| topic.groups.get(&from))
            .map(|group| group.seq);
        match (bound, bind.prev_seq) {
            // Applied before, and the answer was lost: nothing to do but answer again.
            (Some(seq), _) if bind.seq <= seq => {}
            (Some(seq), Some(prev_seq)) if prev_seq != seq => return status(BindStatus::NeedFull),
            (None, Some(_)) => return status(BindStatus::NeedFull),
            // Overtaken by a later one, after which there was no group: its members have left since, or are told again.
            (None, None) if bind.seq <= self.gateways.unbound(&from) => {}
            // Nobody was, and nobody is: not worth making a topic for.
            (None, None) if bind.joined.is_empty() => self.gateways.unbind(&from, bind.seq),
            (_, _) => {
                let Some(topic) = self.touch_or_create(name.as_str(), moment) else {
                    return status(BindStatus::TooManyTopics);
                };
                regroup(topic, &from, &bind);
                let bytes = topic.name.clone();
                if !topic.groups.contains_key(&from) {
                    self.gateways.unbind(&from, bind.seq);
                }
                self.tell_target(&name, || Piece::bound(bytes, &from, &bind));
            }
        }
        let ok = status(BindStatus::Ok);
        match self.topics.get(&name) {
            Some(topic) => BindOutcome {
                cursor: Some(stands(topic, &from, &bind)),
                head: topic.head.0,
                ..ok
            },
            None => ok,
        }
    }
}

fn status(status: BindStatus) -> BindOutcome {
    BindOutcome {
        status: status.into(),
        ..BindOutcome::default()
    }
}

/// Makes the group what the bind says. Either it is complete, or the group is what it is a change to.
fn regroup(topic: &mut Topic, from: &NodeRef, bind: &Bind) {
    let (mut sent, from_other_epoch) = match &bind.cursor {
        Some(cursor) => topic.resume_after(cursor),
        None => (topic.head, false),
    };
    let mut members = bind.joined.clone();
    let (mut began, mut lagging) = (sent, false);
    // Its place is kept, for most binds put a group there again.
    if let Some(group) = topic.groups.get_mut(from).map(std::mem::take) {
        lagging = group.lagging;
        if bind.prev_seq.is_some() {
            // What lies between the gateway's cursor and ours is on the lane, which loses nothing: sending it again at
            // every join would be waste. After a move it may have been on the old owner's lane: then a cursor is told.
            if !from_other_epoch {
                sent = sent.min(group.sent);
            }
            began = group.began;
            members = group.members;
            for session in &bind.left {
                members.remove(session);
            }
            members.extend(
                bind.joined
                    .iter()
                    .map(|(session, subject)| (*session, subject.clone())),
            );
        }
    }
    if members.is_empty() {
        topic.groups.remove(from);
        return;
    }
    let group = Group {
        seq: bind.seq,
        members,
        sent,
        began,
        lagging,
        from_other_epoch,
    };
    topic.groups.insert(from.clone(), group);
}

/// From where the gateway is to expect deliveries: never after the cursor it gave, or it would skip what is on the way.
fn stands(topic: &Topic, from: &NodeRef, bind: &Bind) -> v1::Position {
    let sent = topic.groups.get(from).map_or(topic.head, |group| group.sent);
    let offset = match &bind.cursor {
        Some(cursor) => topic.resume_after(cursor).0.min(sent),
        None => sent,
    };
    position(&topic.epoch, offset)
}

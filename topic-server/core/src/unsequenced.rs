//! Publications without an offset: sent to whoever is there, at most once, and remembered by nobody.
//!
//! It promises that such a publication leaves after everything of its topic that came before it, and that whoever published
//! it learns how many sessions it was meant for. *Invariant:* it changes no cursor, no history and no head.
//! Leaves out: repeating what a lost call cost.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use ringcast_proto::v1::{self, DeliverEntry, Publication, Target, UnsequencedPublication};
use ringcast_proto::{Epoch, NodeRef, Offset, OwnerEpoch, SessionId};

use crate::Effect;
use crate::chance::Chance;
use crate::group::Group;
use crate::slot::{Slot, hand_out};
use crate::topic::Topic;

/// Names one publish may give.
const NAMES_MAX: usize = 100;

/// As long as a name may be.
const NAME_BYTES_MAX: usize = 255;

/// Who gets a publication.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    All,
    /// All but this session.
    Others(SessionId),
    One,
    Members(Names),
}

/// Members by their names: the subject, or without one the session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    subjects: BTreeSet<Bytes>,
    sessions: BTreeSet<SessionId>,
}

/// Why a target is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadTarget;

impl Whom {
    pub(crate) fn parse(target: i32, session: u64, names: Vec<Bytes>) -> Result<Whom, BadTarget> {
        Ok(match Target::try_from(target).map_err(|_| BadTarget)? {
            Target::All => Whom::All,
            Target::Others => Whom::Others(SessionId(session)),
            Target::One => Whom::One,
            Target::Members => Whom::Members(Names::parse(names)?),
        })
    }

    /// Whether it can be a place in the sequence, which everyone has in common.
    pub(crate) fn is_sequenced(&self) -> bool {
        match self {
            Whom::All | Whom::Others(_) => true,
            Whom::One | Whom::Members(_) => false,
        }
    }
}

impl Names {
    fn parse(names: Vec<Bytes>) -> Result<Names, BadTarget> {
        let fits = |name: &Bytes| (1..=NAME_BYTES_MAX).contains(&name.len());
        if !(1..=NAMES_MAX).contains(&names.len()) || !names.iter().all(fits) {
            return Err(BadTarget);
        }
        Ok(Names {
            sessions: names.iter().filter_map(|name| session(name)).collect(),
            subjects: names.into_iter().collect(),
        })
    }

    fn name(&self, session: SessionId, subject: &Bytes) -> bool {
        if subject.is_empty() {
            self.sessions.contains(&session)
        } else {
            self.subjects.contains(subject)
        }
    }
}

/// The session whose number this is, written as numbers are.
fn session(name: &[u8]) -> Option<SessionId> {
    let text = std::str::from_utf8(name).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(SessionId(number))
}

impl Slot {
    /// Sends it to whoever is there; how many that are. A gateway whose lane has no room is passed over.
    pub(crate) fn send_once(
        &mut self,
        name: &str,
        mut publication: Publication,
        whom: &Whom,
        owner_epoch: OwnerEpoch,
        effects: &mut Vec<Effect>,
    ) -> u32 {
        let number = self.number();
        let Some(topic) = self.topics.get_mut(name) else {
            return 0;
        };
        // A session must not see what it published later before what it published first.
        hand_out(topic, number, owner_epoch, &self.limits, effects);
        own(&mut publication);
        let (shares, matched) = shares(topic, whom, &mut self.chance);
        for (gateway, prev_offset, to) in shares {
            let unsequenced = UnsequencedPublication {
                publication: Some(publication.clone()),
                to,
            };
            let entry = DeliverEntry {
                slot: number.0.into(),
                owner_epoch: owner_epoch.0,
                topic: topic.name.clone(),
                epoch: topic.epoch.to_bytes(),
                // Should it be refused or dropped, then what is to be had again follows this.
                prev_offset: prev_offset.0,
                unsequenced: vec![unsequenced],
                ..DeliverEntry::default()
            };
            effects.push(Effect::Deliver(gateway, entry));
        }
        u32::try_from(matched).unwrap_or(u32::MAX)
    }
}

/// A small publication must not keep a large receive buffer alive while it waits on a lane.
fn own(publication: &mut Publication) {
    let mut copy = BytesMut::with_capacity(publication.event.len() + publication.payload.len());
    copy.extend_from_slice(&publication.event);
    copy.extend_from_slice(&publication.payload);
    let mut copy = copy.freeze();
    publication.event = copy.split_to(publication.event.len());
    publication.payload = copy;
}

/// A gateway's part: what its group has had, and which sessions there it is for; none means all.
type Share = (NodeRef, Offset, Vec<u64>);

fn shares(topic: &Topic, whom: &Whom, chance: &mut Chance) -> (Vec<Share>, usize) {
    let reachable = || topic.groups.iter().filter(|(_, group)| !group.lagging);
    let mut shares = Vec::new();
    let mut matched = 0;
    match whom {
        Whom::All | Whom::Others(_) => {
            for (gateway, group) in reachable() {
                let members = group.members.len() - excluded(group, whom);
                if members > 0 {
                    matched += members;
                    shares.push((gateway.clone(), group.sent, Vec::new()));
                }
            }
        }
        Whom::One => {
            let mut at = chance.below(reachable().map(|(_, group)| group.members.len()).sum());
            for (gateway, group) in reachable() {
                if let Some((session, _)) = group.members.iter().nth(at) {
                    matched = 1;
                    shares.push((gateway.clone(), group.sent, vec![session.0]));
                    break;
                }
                at -= group.members.len();
            }
        }
        Whom::Members(names) => {
            for (gateway, group) in reachable() {
                let named = |(session, subject): &(&SessionId, &Bytes)| names.name(**session, subject);
                let to: Vec<u64> = group
                    .members
                    .iter()
                    .filter(named)
                    .map(|(session, _)| session.0)
                    .collect();
                if !to.is_empty() {
                    matched += to.len();
                    shares.push((gateway.clone(), group.sent, to));
                }
            }
        }
    }
    (shares, matched)
}

/// How many of the group it is not for.
fn excluded(group: &Group, whom: &Whom) -> usize {
    match whom {
        Whom::Others(sender) => usize::from(group.members.contains_key(sender)),
        Whom::All | Whom::One | Whom::Members(_) => 0,
    }
}

/// As it is answered.
pub(crate) fn outcome(epoch: &Epoch, matched: u32) -> v1::Unsequenced {
    v1::Unsequenced {
        epoch: epoch.to_bytes(),
        matched,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Result<Names, BadTarget> {
        let copy = |name: &&str| Bytes::copy_from_slice(name.as_bytes());
        Names::parse(names.iter().map(copy).collect())
    }

    #[test]
    fn names_have_bounds() {
        assert_eq!(names(&[]), Err(BadTarget));
        assert_eq!(names(&[""]), Err(BadTarget));
        assert_eq!(names(&[&"x".repeat(256)]), Err(BadTarget));
        assert_eq!(names(&["x"; 101]), Err(BadTarget));
        assert!(names(&[&"x".repeat(255)[..]; 100]).is_ok());
        assert_eq!(Whom::parse(9, 1, Vec::new()), Err(BadTarget));
    }

    #[test]
    fn a_session_without_a_subject_is_named_by_its_number_alone() {
        let named = names(&["ann", "17", "+18", "019"]).unwrap();
        let anonymous = |session| named.name(SessionId(session), &Bytes::new());
        assert!(anonymous(17) && !anonymous(18) && !anonymous(19));
        let known = |subject| named.name(SessionId(17), &Bytes::from_static(subject));
        assert!(known(b"ann") && known(b"17") && !known(b"bob"));
    }
}

//! What a page is made of.

use std::collections::VecDeque;

use bytes::Bytes;
use ringcast_proto::v1::handoff_item::Item;
use ringcast_proto::v1::{
    HandoffGroup, HandoffGroupChange, HandoffId, HandoffIds, HandoffItem, HandoffPublication,
    HandoffPublications, HandoffTopic, Member, Publication,
};
use ringcast_proto::{Millis, NodeRef, Offset, SessionId};

use crate::Bind;
use crate::group::Group;
use crate::history;
use crate::ids::{First, Kept};
use crate::topic::Topic;

/// Members in one piece: some 24 bytes each without subjects, so that a page is never much larger than it should be.
const GROUP_MEMBERS_MAX: usize = 2048;

/// What an item weighs besides the bytes in it.
const OVERHEAD_BYTES: usize = 64;

/// Something to hand over.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A publication of this topic, with the time it was appended: its age is reckoned when it leaves.
    Publication(Bytes, Millis, Publication),
    /// An id of a publish to this topic.
    Id(Bytes, Kept),
    /// What is ready as it is.
    Item(Item),
}

impl Piece {
    /// The bytes it counts for, roughly.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Piece::Publication(_, _, publication) => history::weight(publication),
            Piece::Id(_, kept) => kept.weight(),
            Piece::Item(item) => weight(item),
        }
    }

    /// A topic that begins here.
    pub(crate) fn topic(topic: &Topic, Offset(offset): Offset) -> Piece {
        Piece::Item(Item::Topic(HandoffTopic {
            topic: topic.name.clone(),
            epoch: topic.epoch.to_bytes(),
            offset,
        }))
    }

    /// A topic that is no more.
    pub(crate) fn gone(topic: &Topic) -> Piece {
        Piece::Item(Item::TopicGone(topic.name.clone()))
    }

    /// Everything a topic is, as of now.
    pub(crate) fn whole(topic: &Topic) -> Vec<Piece> {
        let before = topic
            .history
            .first()
            .map_or(topic.head, |Offset(first)| Offset(first - 1));
        let mut pieces = vec![Piece::topic(topic, before)];
        let publications = topic.history.kept();
        pieces
            .extend(publications.map(|(at, kept)| Piece::Publication(topic.name.clone(), *at, kept.clone())));
        let ids = topic.ids.iter().flat_map(|ids| ids.kept());
        pieces.extend(ids.map(|kept| Piece::Id(topic.name.clone(), kept.clone())));
        for (gateway, group) in &topic.groups {
            let members: Vec<Member> = group.members.iter().map(member).collect();
            pieces.extend(members.chunks(GROUP_MEMBERS_MAX).map(|members| {
                Piece::Item(Item::Group(HandoffGroup {
                    topic: topic.name.clone(),
                    gateway: gateway.node.to_string(),
                    incarnation: gateway.incarnation.0,
                    seq: group.seq,
                    members: members.to_vec(),
                }))
            }));
        }
        pieces
    }

    /// A bind that was applied to a topic's group.
    pub(crate) fn bound(topic: Bytes, gateway: &NodeRef, bind: &Bind) -> Piece {
        Piece::Item(Item::GroupChange(HandoffGroupChange {
            topic,
            gateway: gateway.node.to_string(),
            incarnation: gateway.incarnation.0,
            seq: bind.seq(),
            complete: bind.is_complete(),
            joined: bind.joined().iter().map(member).collect(),
            left: bind.left().iter().map(|session| session.0).collect(),
        }))
    }

    /// A group that was dropped.
    pub(crate) fn unbound(topic: Bytes, gateway: &NodeRef, group: &Group) -> Piece {
        Piece::Item(Item::GroupChange(HandoffGroupChange {
            topic,
            gateway: gateway.node.to_string(),
            incarnation: gateway.incarnation.0,
            seq: group.seq,
            complete: true,
            ..HandoffGroupChange::default()
        }))
    }
}

fn member((session, subject): (&SessionId, &Bytes)) -> Member {
    Member {
        session: session.0,
        subject: subject.clone(),
    }
}

/// The bytes an item counts for, roughly.
pub(super) fn weight(item: &Item) -> usize {
    let members = |members: &[Member]| members.iter().map(|member| 16 + member.subject.len()).sum();
    OVERHEAD_BYTES
        + match item {
            Item::Topic(topic) => topic.topic.len(),
            Item::Publications(list) => {
                let kept = list.publications.iter();
                kept.filter_map(|kept| kept.publication.as_ref())
                    .map(history::weight)
                    .sum()
            }
            Item::Group(group) => members(&group.members),
            Item::GroupChange(change) => members(&change.joined) + 8 * change.left.len(),
            Item::Gateway(gateway) => 48 * gateway.kept.len(),
            Item::Ids(list) => {
                let one = |id: &HandoffId| OVERHEAD_BYTES + id.subject.len() + id.msg_id.len();
                list.ids.iter().map(one).sum()
            }
            Item::TopicGone(_) => 0,
        }
}

fn id(kept: &Kept, now: Millis) -> HandoffId {
    let (subject, msg_id) = kept.key.parts();
    let (offset, matched) = match kept.first {
        First::At(Offset(offset)) => (offset, 0),
        First::Matched(matched) => (0, matched),
    };
    HandoffId {
        subject: Bytes::copy_from_slice(subject),
        msg_id: Bytes::copy_from_slice(msg_id),
        offset,
        matched,
        age_ms: age_ms(kept.at, now),
    }
}

fn age_ms(at: Millis, now: Millis) -> u32 {
    u32::try_from(now.since(at).as_millis()).unwrap_or(u32::MAX)
}

/// Takes pieces off the front for one page, at least one if there is any; publications of a topic in a row are one item.
pub(super) fn page(
    waiting: &mut VecDeque<Piece>,
    bytes_max: usize,
    now: Millis,
) -> (Vec<HandoffItem>, usize) {
    let mut items: Vec<HandoffItem> = Vec::new();
    let mut bytes = 0;
    while let Some(piece) = waiting.front() {
        if bytes > 0 && bytes + piece.weight() > bytes_max {
            break;
        }
        bytes += piece.weight();
        let Some(piece) = waiting.pop_front() else { break };
        match piece {
            Piece::Item(item) => items.push(HandoffItem { item: Some(item) }),
            Piece::Id(topic, kept) => {
                let id = id(&kept, now);
                match items.last_mut().map(|last| &mut last.item) {
                    Some(Some(Item::Ids(list))) if list.topic == topic => list.ids.push(id),
                    _ => items.push(HandoffItem {
                        item: Some(Item::Ids(HandoffIds { topic, ids: vec![id] })),
                    }),
                }
            }
            Piece::Publication(topic, at, publication) => {
                let kept = HandoffPublication {
                    publication: Some(publication),
                    age_ms: age_ms(at, now),
                };
                match items.last_mut().map(|last| &mut last.item) {
                    Some(Some(Item::Publications(list))) if list.topic == topic => {
                        list.publications.push(kept)
                    }
                    _ => items.push(HandoffItem {
                        item: Some(Item::Publications(HandoffPublications {
                            topic,
                            publications: vec![kept],
                        })),
                    }),
                }
            }
        }
    }
    (items, bytes)
}

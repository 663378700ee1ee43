//! `ringcast topic ls|show|members|tap|publish`.

mod list;
mod members;
mod publish;
mod show;
mod tap;

pub(crate) use list::list;
pub(crate) use members::members;
pub(crate) use publish::publish;
pub(crate) use show::show;
pub(crate) use tap::tap;

use ringcast_proto::v1::TopicSummary;
use serde::Serialize;

/// A topic as its owner sees it.
#[derive(Serialize)]
struct Summary {
    topic: String,
    slot: u32,
    owner: String,
    owner_epoch: u64,
    epoch: String,
    offset: u64,
    members: u64,
    groups: Vec<Group>,
    history: History,
    /// Ids of publishes it remembers.
    ids: u64,
}

/// Members on one gateway.
#[derive(Serialize)]
struct Group {
    gateway: String,
    members: u64,
}

/// What the owner still has of the past.
#[derive(Serialize)]
struct History {
    len: u64,
    bytes: u64,
}

impl Summary {
    fn of(summary: TopicSummary, owner: &str) -> Summary {
        let group = |group: ringcast_proto::v1::TopicGroup| Group {
            gateway: group.gateway,
            members: group.members,
        };
        Summary {
            topic: summary.topic,
            slot: summary.slot,
            owner: owner.to_owned(),
            owner_epoch: summary.owner_epoch,
            epoch: summary.epoch,
            offset: summary.offset,
            members: summary.members,
            groups: summary.groups.into_iter().map(group).collect(),
            history: History {
                len: summary.history_len,
                bytes: summary.history_bytes,
            },
            ids: summary.ids,
        }
    }
}

//! Between the store's types and the messages of `store.proto`.
//!
//! *Invariant:* what comes out of a message is whole and within bounds; whatever is not is refused by name.

use std::time::Duration;

use ringcast_proto::record::{Key, NodeRecord, Record};
use ringcast_proto::v1::change_reply::Result as Outcome;
use ringcast_proto::{Incarnation, NodeId, NodeRef, v1};
use ringcast_ring::{Change, Changed, Expect, Guard, Op, Refused, Revision, Snapshot, Stored};
use tonic::Status;

use crate::store::{NodeInfo, OPS_MAX, Watched};

/// Longest key: `node/` and the longest id have room, a plan's id has 200 characters.
const KEY_BYTES_MAX: usize = 208;
/// Longest record: a ring of a few thousand pins.
const RECORD_BYTES_MAX: usize = 512 * 1024;
/// Longest name of a change.
const OP_BYTES_MAX: usize = 128;
/// Below, a store cannot expire a lease in time; above, a dead node would stay for too long.
const TTL_MS: std::ops::RangeInclusive<u64> = 100..=60_000;

/// What is wrong with a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{what} missing")]
    Missing { what: &'static str },
    #[error("{what} of {len}, at most {len_max}")]
    TooLong {
        what: &'static str,
        len: usize,
        len_max: usize,
    },
    #[error("key {0} twice in one change")]
    Twice(Key),
    #[error("ttl of {0} ms, must be 100 to 60000")]
    Ttl(u64),
    #[error(transparent)]
    Record(#[from] ringcast_proto::record::Error),
    #[error(transparent)]
    Id(#[from] ringcast_proto::IdError),
}

fn bounded(what: &'static str, len: usize, len_max: usize) -> Result<(), Error> {
    if len > len_max {
        Err(Error::TooLong { what, len, len_max })
    } else {
        Ok(())
    }
}

fn key(text: &str) -> Result<Key, Error> {
    bounded("key", text.len(), KEY_BYTES_MAX)?;
    Ok(text.parse()?)
}

fn op(text: String) -> Result<Op, Error> {
    bounded("op", text.len(), OP_BYTES_MAX)?;
    if text.is_empty() {
        Err(Error::Missing { what: "op" })
    } else {
        Ok(Op(text))
    }
}

fn record(key: &Key, json: &[u8]) -> Result<Record, Error> {
    bounded("record", json.len(), RECORD_BYTES_MAX)?;
    Ok(Record::decode(key, json)?)
}

pub(super) fn node_ref(node: &str, incarnation: u64) -> Result<NodeRef, Error> {
    Ok(NodeRef {
        node: NodeId::parse(node)?,
        incarnation: Incarnation(incarnation),
    })
}

pub(super) fn stored_to(key: &Key, stored: &Stored) -> v1::StoredRecord {
    v1::StoredRecord {
        key: key.to_string(),
        value: stored.record.encode().into(),
        revision: stored.revision.0,
        op: stored.op.0.clone(),
    }
}

fn stored_from(message: v1::StoredRecord) -> Result<(Key, Stored), Error> {
    let key = key(&message.key)?;
    let record = record(&key, &message.value)?;
    Ok((
        key,
        Stored {
            revision: Revision(message.revision),
            op: Op(message.op),
            record,
        },
    ))
}

pub(super) fn snapshot_to(snapshot: &Snapshot) -> v1::LoadReply {
    let records = snapshot
        .records
        .iter()
        .map(|(key, stored)| stored_to(key, stored))
        .collect();
    v1::LoadReply {
        revision: snapshot.revision.0,
        records,
    }
}

pub(super) fn snapshot_from(message: v1::LoadReply) -> Result<Snapshot, Error> {
    let records = message
        .records
        .into_iter()
        .map(stored_from)
        .collect::<Result<_, _>>()?;
    Ok(Snapshot {
        revision: Revision(message.revision),
        records,
    })
}

pub(super) fn change_to(change: &Change) -> v1::ChangeRequest {
    let expect = |(key, expect): &(Key, Expect)| v1::Expectation {
        key: key.to_string(),
        revision: match expect {
            Expect::Absent => None,
            Expect::Revision(revision) => Some(revision.0),
        },
    };
    let node = |node: &NodeRef| v1::NodeGuard {
        node: node.node.to_string(),
        incarnation: node.incarnation.0,
    };
    let guard = |guard: &Guard| v1::Guard {
        guard: Some(match guard {
            Guard::Alive(alive) => v1::guard::Guard::Alive(node(alive)),
            Guard::Gone(gone) => v1::guard::Guard::Gone(node(gone)),
            Guard::Planner(term) => v1::guard::Guard::PlannerTerm(*term),
        }),
    };
    let put = |(key, record): &(Key, Record)| v1::PutRecord {
        key: key.to_string(),
        value: record.encode().into(),
    };
    v1::ChangeRequest {
        expect: change.expect.iter().map(expect).collect(),
        guards: change.guards.iter().map(guard).collect(),
        put: change.put.iter().map(put).collect(),
        delete: change.delete.iter().map(Key::to_string).collect(),
        op: change.op.0.clone(),
    }
}

pub(super) fn change_from(message: v1::ChangeRequest) -> Result<Change, Error> {
    bounded("conditions", message.expect.len() + message.guards.len(), OPS_MAX)?;
    bounded(
        "puts and deletes",
        message.put.len() + message.delete.len(),
        OPS_MAX,
    )?;
    let expect = |expectation: v1::Expectation| {
        let expect = expectation
            .revision
            .map_or(Expect::Absent, |at| Expect::Revision(Revision(at)));
        Ok((key(&expectation.key)?, expect))
    };
    let put = |put: v1::PutRecord| {
        let key = key(&put.key)?;
        let record = record(&key, &put.value)?;
        Ok((key, record))
    };
    let change = Change {
        expect: message
            .expect
            .into_iter()
            .map(expect)
            .collect::<Result<_, Error>>()?,
        guards: message
            .guards
            .into_iter()
            .map(guard_from)
            .collect::<Result<_, Error>>()?,
        put: message.put.into_iter().map(put).collect::<Result<_, Error>>()?,
        delete: message
            .delete
            .iter()
            .map(|text| key(text))
            .collect::<Result<_, Error>>()?,
        op: op(message.op)?,
    };
    let mut written = std::collections::BTreeSet::new();
    for key in change.put.iter().map(|(key, _)| key).chain(&change.delete) {
        if !written.insert(key) {
            return Err(Error::Twice(key.clone()));
        }
    }
    Ok(change)
}

fn guard_from(message: v1::Guard) -> Result<Guard, Error> {
    Ok(match message.guard.ok_or(Error::Missing { what: "guard" })? {
        v1::guard::Guard::Alive(node) => Guard::Alive(node_ref(&node.node, node.incarnation)?),
        v1::guard::Guard::Gone(node) => Guard::Gone(node_ref(&node.node, node.incarnation)?),
        v1::guard::Guard::PlannerTerm(term) => Guard::Planner(term),
    })
}

pub(super) fn outcome_to(outcome: Result<Revision, Refused>, guards: &[Guard]) -> Result<Outcome, Status> {
    match outcome {
        Ok(revision) => Ok(Outcome::Revision(revision.0)),
        Err(Refused::Conflict(conflicts)) => {
            let (mut current, mut absent) = (Vec::new(), Vec::new());
            for (key, stored) in conflicts {
                match stored {
                    Some(stored) => current.push(stored_to(&key, &stored)),
                    None => absent.push(key.to_string()),
                }
            }
            Ok(Outcome::Conflict(v1::Conflict { current, absent }))
        }
        Err(Refused::Guard(guard)) => match guards.iter().position(|asked| *asked == guard) {
            Some(index) => Ok(Outcome::Guard(u32::try_from(index).unwrap_or(u32::MAX))),
            None => match guard {
                Guard::Alive(NodeRef { node, incarnation }) => Ok(Outcome::HolderGone(v1::NodeGuard {
                    node: node.to_string(),
                    incarnation: incarnation.0,
                })),
                Guard::Gone(_) | Guard::Planner(_) => {
                    Err(Status::internal("refused for a guard nobody named"))
                }
            },
        },
        Err(Refused::Full) => Ok(Outcome::Full(true)),
        // `ResourceExhausted` says that nothing was done, `Unavailable` leaves it open.
        Err(Refused::Unavailable(reason)) => Err(Status::resource_exhausted(reason)),
        Err(Refused::Unknown(reason)) => Err(Status::unavailable(reason)),
    }
}

/// The refusal in a reply to a change with these guards, or the revision it was done at.
pub(super) fn outcome_from(outcome: Outcome, guards: &[Guard]) -> Result<Result<Revision, Refused>, Error> {
    Ok(match outcome {
        Outcome::Revision(revision) => Ok(Revision(revision)),
        Outcome::Conflict(conflict) => {
            let current = conflict
                .current
                .into_iter()
                .map(|message| stored_from(message).map(|(key, stored)| (key, Some(stored))));
            let absent = conflict.absent.iter().map(|text| Ok((key(text)?, None)));
            Err(Refused::Conflict(
                current.chain(absent).collect::<Result<_, Error>>()?,
            ))
        }
        Outcome::Guard(index) => {
            let guard = usize::try_from(index).ok().and_then(|index| guards.get(index));
            Err(Refused::Guard(
                guard
                    .ok_or(Error::Missing {
                        what: "guard that was asked for",
                    })?
                    .clone(),
            ))
        }
        Outcome::HolderGone(node) => Err(Refused::Guard(Guard::Alive(node_ref(
            &node.node,
            node.incarnation,
        )?))),
        Outcome::Full(_) => Err(Refused::Full),
    })
}

pub(super) fn watched_to(watched: Watched) -> v1::WatchReply {
    let event = match watched {
        Watched::Changed(changed) => {
            let revision = changed.revision.0;
            let (mut put, mut delete) = (Vec::new(), Vec::new());
            for (key, stored) in &changed.records {
                match stored {
                    Some(stored) => put.push(stored_to(key, stored)),
                    None => delete.push(key.to_string()),
                }
            }
            v1::watch_reply::Event::Changed(v1::WatchChange {
                revision,
                put,
                delete,
            })
        }
        Watched::Progress(revision) => v1::watch_reply::Event::Progress(revision.0),
        Watched::Resync => v1::watch_reply::Event::Resync(true),
    };
    v1::WatchReply { event: Some(event) }
}

pub(super) fn watched_from(message: v1::WatchReply) -> Result<Watched, Error> {
    Ok(match message.event.ok_or(Error::Missing { what: "event" })? {
        v1::watch_reply::Event::Changed(change) => {
            let mut records = std::collections::BTreeMap::new();
            for message in change.put {
                let (key, stored) = stored_from(message)?;
                records.insert(key, Some(stored));
            }
            for text in &change.delete {
                records.insert(key(text)?, None);
            }
            let records = records.into_iter().collect();
            Watched::Changed(Changed {
                revision: Revision(change.revision),
                records,
            })
        }
        v1::watch_reply::Event::Progress(revision) => Watched::Progress(Revision(revision)),
        v1::watch_reply::Event::Resync(_) => Watched::Resync,
    })
}

pub(super) fn register_to(node: &NodeInfo, op: &Op) -> v1::RegisterRequest {
    v1::RegisterRequest {
        node: node.id.to_string(),
        record: Record::Node(node.record.clone()).encode().into(),
        ttl_ms: u64::try_from(node.ttl.as_millis()).unwrap_or(u64::MAX),
        op: op.0.clone(),
    }
}

pub(super) fn register_from(message: v1::RegisterRequest) -> Result<(NodeInfo, Op), Error> {
    if !TTL_MS.contains(&message.ttl_ms) {
        return Err(Error::Ttl(message.ttl_ms));
    }
    let id = NodeId::parse(&message.node)?;
    let record = node_record(&id, &message.record)?;
    Ok((
        NodeInfo {
            id,
            record,
            ttl: Duration::from_millis(message.ttl_ms),
        },
        op(message.op)?,
    ))
}

pub(super) fn node_record(id: &NodeId, json: &[u8]) -> Result<NodeRecord, Error> {
    match record(&Key::Node(id.clone()), json)? {
        Record::Node(record) => Ok(record),
        _ => Err(Error::Missing { what: "node record" }),
    }
}

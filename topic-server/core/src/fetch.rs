//! What a session that resumes has missed: the last publications of a topic.
//!
//! It promises that they are contiguous and end at the topic's head, so that whoever finds the first of them right after
//! its own position has missed nothing else. *Invariant:* a fetch changes nothing, no topic is made for it, and what it
//! brings has a bound.
//! Leaves out: which session has recovered by it (the gateway judges each on its own).

use ringcast_proto::v1::{FetchOutcome, FetchStatus, Publication};
use ringcast_proto::{NodeRef, OwnerEpoch, Topic as TopicName};

use crate::duty::{SEALED_RETRY_MS, Unserved};
use crate::history::weight;
use crate::input::position;
use crate::planted::PlantedBug;
use crate::slot::Slot;
use crate::topic::Topic;
use crate::{Cursor, Effect, Limits, Token};

impl Slot {
    pub(crate) fn fetch(
        &mut self,
        token: Token,
        (from, owner_epoch): (NodeRef, OwnerEpoch),
        name: &TopicName,
        after: &Cursor,
        effects: &mut Vec<Effect>,
    ) {
        let outcome = match self.serve(&from, owner_epoch, effects) {
            Err(Unserved::NotOwner(owner)) => FetchOutcome {
                owner,
                ..status(FetchStatus::NotOwner)
            },
            Err(Unserved::Sealed) => FetchOutcome {
                retry_after_ms: SEALED_RETRY_MS,
                ..status(FetchStatus::Sealed)
            },
            Ok(mine) => {
                let topic = self.topics.get(name);
                FetchOutcome {
                    owner_epoch: mine.0,
                    head: topic.map(|topic| position(&topic.epoch, topic.head)),
                    publications: topic.map_or_else(Vec::new, |topic| tail(topic, after, &self.limits)),
                    ..status(FetchStatus::Ok)
                }
            }
        };
        effects.push(Effect::Fetched(token, outcome));
    }
}

/// As many of the last publications after the cursor as are there and as one fetch may bring.
fn tail(topic: &Topic, after: &Cursor, limits: &Limits) -> Vec<Publication> {
    if after.epoch != topic.epoch {
        return Vec::new();
    }
    let mut bytes = 0;
    let newest_first = topic.history.after(after.offset).rev();
    let mut publications: Vec<Publication> = newest_first
        .take(limits.recovery_len_max)
        .take_while(|publication| {
            bytes += weight(publication);
            bytes <= limits.recovery_bytes_max
        })
        .cloned()
        .collect();
    publications.reverse();
    if limits.plants(PlantedBug::FetchMissesTail) {
        publications.pop();
    }
    if limits.plants(PlantedBug::FetchHasHole) && publications.len() > 2 {
        publications.remove(1);
    }
    publications
}

fn status(status: FetchStatus) -> FetchOutcome {
    FetchOutcome {
        status: status.into(),
        ..FetchOutcome::default()
    }
}

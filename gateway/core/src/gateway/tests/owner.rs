//! What owners of topics say, as far as a test lets them: one sequence for all topics, ids, and no members.

use ringcast_proto::v1::publish_outcome::Outcome;

use super::world::table;
use super::*;

impl World {
    /// The owner answers every open bind.
    pub(super) fn bound(&mut self) {
        for (call, binds) in std::mem::take(&mut self.binds) {
            let outcome = v1::BindOutcome {
                owner_epoch: self.owner_epoch,
                cursor: Some(self.head()),
                head: self.offset,
                ..Default::default()
            };
            let outcomes = vec![outcome; binds.len()];
            self.input(Input::Bound(
                call,
                Ok(v1::BindAnswer {
                    incarnation: 1,
                    outcomes,
                }),
            ));
        }
    }

    pub(super) fn head(&self) -> v1::Position {
        v1::Position {
            epoch: Bytes::from_static(b"e1"),
            offset: self.offset,
        }
    }

    /// The owner takes every open publish; it tells the publisher, or leaves that to the delivery. What took an offset
    /// comes back, what took none is in `unsequenced`.
    pub(super) fn published(&mut self) -> Vec<v1::Publication> {
        let mut publications = Vec::new();
        for (call, slots) in std::mem::take(&mut self.publishes) {
            let mut answers = Vec::new();
            for slot in slots {
                let mut outcomes = Vec::new();
                for publish in slot.publishes {
                    outcomes.push(self.append(publish, &mut publications));
                }
                answers.push(v1::SlotPublishAnswer {
                    slot: slot.slot,
                    owner_epoch: self.owner_epoch,
                    outcomes,
                    ..Default::default()
                });
            }
            self.input(Input::Published(
                call,
                Ok(v1::PublishAnswer {
                    incarnation: 1,
                    slots: answers,
                }),
            ));
        }
        publications
    }

    fn append(
        &mut self,
        publish: v1::Publish,
        publications: &mut Vec<v1::Publication>,
    ) -> v1::PublishOutcome {
        let id = (
            publish.topic.clone(),
            publish.subject.clone(),
            publish.msg_id.clone(),
        );
        if let Some(first) = self.ids.get(&id) {
            return v1::PublishOutcome {
                number: publish.number,
                outcome: Some(first.clone()),
                dup: true,
            };
        }
        let sequenced =
            !publish.ephemeral && matches!(publish.target(), v1::Target::All | v1::Target::Others);
        let mut publication = v1::Publication {
            offset: 0,
            event: publish.event,
            payload: publish.payload,
            session: publish.session,
            number: publish.number,
            target: publish.target,
            binary: publish.binary,
        };
        let outcome = if sequenced {
            self.offset += 1;
            publication.offset = self.offset;
            publications.push(publication);
            Outcome::Committed(self.head())
        } else {
            self.unsequenced.push(publication);
            Outcome::Unsequenced(v1::Unsequenced {
                epoch: self.head().epoch,
                matched: self.matched,
            })
        };
        if !publish.msg_id.is_empty() {
            self.ids.insert(id, outcome.clone());
        }
        v1::PublishOutcome {
            number: publish.number,
            outcome: Some(outcome),
            dup: false,
        }
    }

    pub(super) fn deliver(&mut self, topic: &str, owner_epoch: u64, publications: Vec<v1::Publication>) {
        let prev_offset = publications.first().map_or(0, |first| first.offset - 1);
        let entry = v1::DeliverEntry {
            prev_offset,
            publications,
            ..entry(topic, owner_epoch)
        };
        self.input(Input::Deliver(CallId(999), vec![entry]));
    }

    /// The owner sends what it kept nothing of; `to` is told with targets `one` and `members`.
    pub(super) fn deliver_unsequenced(&mut self, topic: &str, to: &[u64]) {
        let unsequenced = std::mem::take(&mut self.unsequenced)
            .into_iter()
            .map(|publication| v1::UnsequencedPublication {
                publication: Some(publication),
                to: to.to_vec(),
            });
        let entry = v1::DeliverEntry {
            unsequenced: unsequenced.collect(),
            ..entry(topic, self.owner_epoch)
        };
        self.input(Input::Deliver(CallId(999), vec![entry]));
    }
}

fn entry(topic: &str, owner_epoch: u64) -> v1::DeliverEntry {
    v1::DeliverEntry {
        slot: u32::from(table("ts-1", 1).slot_of(topic.as_bytes()).0),
        owner_epoch,
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        epoch: Bytes::from_static(b"e1"),
        ..Default::default()
    }
}

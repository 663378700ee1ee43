//! What the CLI asks a topic server, and taps.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ringcast_proto::{SessionId, Topic, v1};
use ringcast_topic_server_core::{Input, TapId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::grpc::Service;
use crate::slot::{Mail, SlotHandle};

/// People wait longer than lanes.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
const LIMIT_DEFAULT: u32 = 100;
/// Ten thousand summaries or members of usual names fill a message of 4 MiB about half.
const LIMIT_MAX: u32 = 10_000;
/// Publications a tap may lag behind before it is dropped.
const TAP_LEN: usize = 256;

impl Service {
    pub(crate) async fn list(&self, request: v1::ListTopicsRequest) -> Result<v1::ListTopicsReply, Status> {
        let limit = limit(request.limit);
        let mut found = v1::ListTopicsReply::default();
        // One slot after the other, each with no more than what is listed in the end.
        for slot in self.shared.all_slots() {
            let prefix = request.prefix.clone();
            let reply = ask(slot, |answer| Mail::ListTopics {
                prefix,
                limit,
                answer,
            })
            .await?;
            found.truncated |= reply.truncated;
            found.topics.extend(reply.topics);
            if found.topics.len() > 2 * LIMIT_MAX as usize {
                shorten(&mut found, limit);
            }
        }
        shorten(&mut found, limit);
        Ok(found)
    }

    pub(crate) async fn show(&self, request: v1::ShowTopicRequest) -> Result<v1::ShowTopicReply, Status> {
        let (slot, topic) = self.find(&request.topic)?;
        ask(slot, |answer| Mail::ShowTopic(topic, answer)).await
    }

    pub(crate) async fn members(
        &self,
        request: v1::ListMembersRequest,
    ) -> Result<v1::ListMembersReply, Status> {
        let (slot, topic) = self.find(&request.topic)?;
        let (after, limit) = (SessionId(request.after), limit(request.limit));
        ask(slot, |answer| Mail::ListMembers {
            topic,
            after,
            limit,
            answer,
        })
        .await
    }

    /// What each slot that is owned here holds.
    pub(crate) async fn stats(&self) -> Result<v1::SlotStatsReply, Status> {
        let mut slots = Vec::new();
        for slot in self.shared.all_slots() {
            slots.extend(ask(slot, Mail::Stats).await?);
        }
        Ok(v1::SlotStatsReply { slots })
    }

    pub(crate) fn follow(
        &self,
        request: v1::TapRequest,
    ) -> Result<<Service as v1::topic_server_server::TopicServer>::TapStream, Status> {
        let (slot, topic) = self.find(&request.topic)?;
        let tap = TapId(self.shared.taps.fetch_add(1, Ordering::Relaxed));
        let (events, receiver) = mpsc::channel(TAP_LEN);
        if !slot.try_ask(Mail::Tap(tap, topic, events.clone())) {
            return Err(Status::resource_exhausted("the slot is overloaded"));
        }
        // A caller that hangs up while nothing is published must not keep its place. A weak sender: the slot alone
        // decides when the stream ends.
        let (slot, stop) = (slot.clone(), self.shared.stop.clone());
        let weak = events.downgrade();
        drop(events);
        self.shared.tasks.spawn(async move {
            while let Some(events) = weak.upgrade() {
                let look = tokio::time::timeout(ANSWER_DEADLINE, events.closed());
                if matches!(stop.run_until_cancelled(look).await, None | Some(Ok(()))) {
                    break;
                }
            }
            slot.tell(Input::Untap(tap)).await;
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    fn find(&self, topic: &str) -> Result<(&SlotHandle, Topic), Status> {
        let topic =
            Topic::parse(topic.as_bytes()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let directory = self.shared.directory.load();
        let slot = directory
            .as_ref()
            .and_then(|directory| self.shared.slot(directory.slot_of(topic.as_bytes())));
        slot.map(|slot| (slot, topic))
            .ok_or_else(|| Status::unavailable("the ring is not born yet"))
    }
}

async fn ask<T>(slot: &SlotHandle, mail: impl FnOnce(oneshot::Sender<T>) -> Mail) -> Result<T, Status> {
    let (answer, answered) = oneshot::channel();
    if !slot.try_ask(mail(answer)) {
        return Err(Status::resource_exhausted("the slot is overloaded"));
    }
    match tokio::time::timeout(ANSWER_DEADLINE, answered).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(_)) => Err(Status::unavailable("the topic server is stopping")),
        Err(_) => Err(Status::deadline_exceeded("the slot did not answer in time")),
    }
}

fn limit(asked: u32) -> usize {
    let limit = if asked == 0 {
        LIMIT_DEFAULT
    } else {
        asked.min(LIMIT_MAX)
    };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Keeps the first `limit` in order of name.
fn shorten(found: &mut v1::ListTopicsReply, limit: usize) {
    found.topics.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
    found.truncated |= found.topics.len() > limit;
    found.topics.truncate(limit);
}

//! An owner of slots that lives in the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ringcast_proto::grpc::{Answers, Calls, TopicIds, answers};
use ringcast_proto::v1;
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::topic_server_server::TopicServer;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

const EPOCH: &[u8] = b"epoch1";

/// What the owner knows of a topic.
#[derive(Default)]
pub(crate) struct Owned {
    head: u64,
    sent: u64,
    /// Subjects by session.
    members: BTreeMap<u64, Bytes>,
    /// By subject and id.
    outcomes: BTreeMap<(Bytes, Bytes), Outcome>,
}

impl Owned {
    /// What becomes of a publish, and what is delivered of it.
    fn take(&mut self, slot: u32, publish: &v1::Publish) -> (Outcome, v1::DeliverEntry) {
        let mut entry = v1::DeliverEntry {
            slot,
            owner_epoch: 1,
            topic: publish.topic.clone(),
            epoch: EPOCH.into(),
            ..Default::default()
        };
        let mut publication = v1::Publication {
            offset: 0,
            event: publish.event.clone(),
            payload: publish.payload.clone(),
            session: publish.session,
            number: publish.number,
            target: publish.target,
            binary: publish.binary,
        };
        let to = match publish.target() {
            v1::Target::All | v1::Target::Others if !publish.ephemeral => {
                self.head += 1;
                publication.offset = self.head;
                entry.prev_offset = self.sent;
                entry.publications = vec![publication];
                self.sent = self.head;
                let at = v1::Position {
                    epoch: EPOCH.into(),
                    offset: self.head,
                };
                return (Outcome::Committed(at), entry);
            }
            v1::Target::All | v1::Target::Others => Vec::new(),
            v1::Target::One => self.members.keys().take(1).copied().collect(),
            v1::Target::Members => {
                let named = |(_, subject): &(&u64, &Bytes)| publish.names.contains(subject);
                self.members.iter().filter(named).map(|(id, _)| *id).collect()
            }
        };
        let matched = if publish.ephemeral {
            self.members.len()
        } else {
            to.len()
        };
        entry.unsequenced = vec![v1::UnsequencedPublication {
            publication: Some(publication),
            to,
        }];
        let sent = v1::Unsequenced {
            epoch: EPOCH.into(),
            matched: matched as u32,
        };
        (Outcome::Unsequenced(sent), entry)
    }
}

/// The owner of all slots: one offset sequence a topic, one member group, no history.
#[derive(Clone, Default)]
pub(crate) struct Owner {
    pub(super) incarnation: u64,
    pub(super) gateway: Arc<Mutex<Option<GatewayClient<tonic::transport::Channel>>>>,
    pub(super) topics: Arc<Mutex<BTreeMap<Bytes, Owned>>>,
    pub(super) header: Arc<Mutex<Option<v1::CallHeader>>>,
    pub(super) tasks: TaskTracker,
    pub(super) lane: Arc<tokio::sync::Mutex<Calls<v1::DeliverCall, v1::DeliverAnswer>>>,
    /// While a test holds it, nothing that is published is answered.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
    /// Told of every call with publishes.
    pub(crate) asked: Arc<tokio::sync::Notify>,
}

impl Owner {
    fn publish_all(&self, slot: &v1::SlotPublishes) -> (v1::SlotPublishAnswer, Vec<v1::DeliverEntry>) {
        let (mut outcomes, mut entries) = (Vec::new(), Vec::new());
        let mut topics = self.topics.lock().unwrap();
        for publish in &slot.publishes {
            let topic = topics.entry(publish.topic.clone()).or_default();
            let id = (publish.subject.clone(), publish.msg_id.clone());
            let known = topic.outcomes.get(&id).filter(|_| !id.1.is_empty()).cloned();
            let dup = known.is_some();
            let outcome = known.unwrap_or_else(|| {
                let (outcome, entry) = topic.take(slot.slot, publish);
                entries.push(entry);
                topic.outcomes.insert(id, outcome.clone());
                outcome
            });
            outcomes.push(v1::PublishOutcome {
                number: publish.number,
                outcome: Some(outcome),
                dup,
            });
        }
        let answer = v1::SlotPublishAnswer {
            slot: slot.slot,
            owner_epoch: 1,
            outcomes,
            ..Default::default()
        };
        (answer, entries)
    }

    async fn take(self, call: v1::PublishCall) -> Result<v1::PublishAnswer, Status> {
        self.asked.notify_one();
        drop(self.gate.lock().await);
        let slots = call.slots;
        let (answers, entries): (Vec<_>, Vec<_>) = slots.iter().map(|slot| self.publish_all(slot)).unzip();
        let header = self.header.lock().unwrap().clone();
        let (gateway, lane) = (
            self.gateway.lock().unwrap().clone().unwrap(),
            Arc::clone(&self.lane),
        );
        self.tasks.spawn(async move {
            let mut lane = lane.lock().await;
            let call = v1::DeliverCall {
                header,
                entries: entries.concat(),
                may_wait: false,
            };
            lane.call(call, async |calls| gateway.clone().deliver(calls).await)
                .await
                .unwrap();
        });
        Ok(v1::PublishAnswer {
            incarnation: self.incarnation,
            slots: answers,
        })
    }

    fn bind_all(&self, call: v1::BindCall) -> v1::BindAnswer {
        let theirs = call.header.unwrap();
        assert_eq!(theirs.to_incarnation, self.incarnation);
        *self.header.lock().unwrap() = Some(v1::CallHeader {
            birth_digest: theirs.birth_digest,
            from: "ts-1".to_owned(),
            from_incarnation: self.incarnation,
            to_incarnation: theirs.from_incarnation,
        });
        let mut topics = self.topics.lock().unwrap();
        let outcome = |bind: v1::Bind| {
            let topic = topics.entry(bind.topic).or_default();
            if bind.prev_seq == 0 {
                topic.members.clear();
            }
            topic.members.retain(|session, _| !bind.left.contains(session));
            let joined = bind.joined.into_iter();
            topic
                .members
                .extend(joined.map(|member| (member.session, member.subject)));
            topic.sent = bind.cursor.map_or(topic.head, |cursor| cursor.offset);
            v1::BindOutcome {
                owner_epoch: 1,
                cursor: Some(v1::Position {
                    epoch: EPOCH.into(),
                    offset: topic.sent,
                }),
                head: topic.head,
                ..Default::default()
            }
        };
        let outcomes = call.binds.into_iter().map(outcome).collect();
        v1::BindAnswer {
            incarnation: self.incarnation,
            outcomes,
        }
    }
}

#[tonic::async_trait]
impl TopicServer for Owner {
    type PublishStream = Answers<v1::PublishAnswer>;

    async fn publish(
        &self,
        calls: Request<Streaming<v1::PublishCall>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let (owner, mut topic_ids) = (self.clone(), TopicIds::default());
        let answer = move |mut call| {
            let resolved = topic_ids.resolve(&mut call);
            let owner = owner.clone();
            async move {
                resolved.map_err(|unknown| Status::invalid_argument(unknown.to_string()))?;
                owner.take(call).await
            }
        };
        let answers = answers(calls.into_inner(), std::future::pending(), answer);
        Ok(Response::new(answers))
    }

    type BindStream = Answers<v1::BindAnswer>;

    async fn bind(
        &self,
        calls: Request<Streaming<v1::BindCall>>,
    ) -> Result<Response<Self::BindStream>, Status> {
        let owner = self.clone();
        let answer = move |call| std::future::ready(Ok(owner.bind_all(call)));
        let answers = answers(calls.into_inner(), std::future::pending(), answer);
        Ok(Response::new(answers))
    }

    async fn fetch(&self, call: Request<v1::FetchCall>) -> Result<Response<v1::FetchAnswer>, Status> {
        let topics = self.topics.lock().unwrap();
        let outcome = |fetch: v1::Fetch| v1::FetchOutcome {
            owner_epoch: 1,
            head: topics.get(&fetch.topic).map(|topic| v1::Position {
                epoch: EPOCH.into(),
                offset: topic.head,
            }),
            ..Default::default()
        };
        Ok(Response::new(v1::FetchAnswer {
            incarnation: self.incarnation,
            outcomes: call.into_inner().fetches.into_iter().map(outcome).collect(),
        }))
    }

    async fn pull(&self, _: Request<v1::PullCall>) -> Result<Response<v1::PullAnswer>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn slot_stats(
        &self,
        _: Request<v1::SlotStatsRequest>,
    ) -> Result<Response<v1::SlotStatsReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_moves(
        &self,
        _: Request<v1::ListMovesRequest>,
    ) -> Result<Response<v1::ListMovesReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_topics(
        &self,
        _: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn show_topic(
        &self,
        _: Request<v1::ShowTopicRequest>,
    ) -> Result<Response<v1::ShowTopicReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn list_members(
        &self,
        _: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type TapStream = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<v1::TapEvent, Status>> + Send>>;

    async fn tap(&self, _: Request<v1::TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

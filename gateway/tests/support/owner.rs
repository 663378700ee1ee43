//! An owner of slots that lives in the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ringcast_proto::v1;
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::v1::topic_server_server::TopicServer;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

const EPOCH: &[u8] = b"epoch1";

/// What the owner knows of a topic.
#[derive(Default)]
pub(crate) struct Owned {
    head: u64,
    sent: u64,
}

/// The owner of all slots: one offset sequence a topic, one member group, no history.
#[derive(Clone, Default)]
pub(crate) struct Owner {
    pub(super) incarnation: u64,
    pub(super) gateway: Arc<Mutex<Option<GatewayClient<tonic::transport::Channel>>>>,
    pub(super) topics: Arc<Mutex<BTreeMap<Bytes, Owned>>>,
    pub(super) header: Arc<Mutex<Option<v1::CallHeader>>>,
    pub(super) tasks: TaskTracker,
    pub(super) lane: Arc<tokio::sync::Mutex<()>>,
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
            topic.head += 1;
            let position = v1::Position {
                epoch: EPOCH.into(),
                offset: topic.head,
            };
            let outcome = Some(v1::publish_outcome::Outcome::Committed(position));
            outcomes.push(v1::PublishOutcome {
                number: publish.number,
                outcome,
                dup: false,
            });
            entries.push(v1::DeliverEntry {
                slot: slot.slot,
                owner_epoch: 1,
                topic: publish.topic.clone(),
                epoch: EPOCH.into(),
                prev_offset: topic.sent,
                gap: None,
                publications: vec![v1::Publication {
                    offset: topic.head,
                    event: publish.event.clone(),
                    payload: publish.payload.clone(),
                    session: publish.session,
                    number: publish.number,
                    target: publish.target,
                    binary: publish.binary,
                }],
                unsequenced: Vec::new(),
            });
            topic.sent = topic.head;
        }
        let answer = v1::SlotPublishAnswer {
            slot: slot.slot,
            owner_epoch: 1,
            outcomes,
            ..Default::default()
        };
        (answer, entries)
    }
}

#[tonic::async_trait]
impl TopicServer for Owner {
    async fn publish(&self, call: Request<v1::PublishCall>) -> Result<Response<v1::PublishAnswer>, Status> {
        self.asked.notify_one();
        drop(self.gate.lock().await);
        let slots = call.into_inner().slots;
        let (answers, entries): (Vec<_>, Vec<_>) = slots.iter().map(|slot| self.publish_all(slot)).unzip();
        let header = self.header.lock().unwrap().clone();
        let (gateway, lane) = (
            self.gateway.lock().unwrap().clone().unwrap(),
            Arc::clone(&self.lane),
        );
        self.tasks.spawn(async move {
            let _one_call_in_flight = lane.lock().await;
            let call = v1::DeliverCall {
                header,
                entries: entries.concat(),
            };
            gateway.clone().deliver(call).await.unwrap();
        });
        Ok(Response::new(v1::PublishAnswer {
            incarnation: self.incarnation,
            slots: answers,
        }))
    }

    async fn bind(&self, call: Request<v1::BindCall>) -> Result<Response<v1::BindAnswer>, Status> {
        let call = call.into_inner();
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
        Ok(Response::new(v1::BindAnswer {
            incarnation: self.incarnation,
            outcomes,
        }))
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

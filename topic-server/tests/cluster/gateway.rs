//! As much of a gateway as a topic server sees: a registration, a Deliver service, and calls.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::grpc::{self, Answers, Calls, TopicIds};
use ringcast_proto::record::{NodeRecord, Role};
use ringcast_proto::v1::gateway_server::{Gateway as Service, GatewayServer};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::topic_server_client::TopicServerClient;
use ringcast_proto::v1::{self, CallHeader, Publish};
use ringcast_proto::{Incarnation, NodeId};
use ringcast_ring::{SlotOwner, SlotTable};
use ringcast_ring_store::{AnyStore, Membership, NodeInfo, RingStore};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::PATIENCE;

type Received = BTreeMap<Bytes, Topic>;

/// What came of a topic, as clients would have seen it.
#[derive(Default)]
struct Topic {
    epoch: Bytes,
    offset: u64,
    lines: Vec<String>,
}

pub(crate) struct Gateway {
    store: AnyStore,
    membership: Membership,
    received: watch::Receiver<Received>,
    seq: Mutex<u64>,
    epochs: Mutex<BTreeMap<String, Bytes>>,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Deliveries {
    incarnation: Arc<Mutex<u64>>,
    received: watch::Sender<Received>,
}

impl Deliveries {
    fn take(&self, call: v1::DeliverCall) -> v1::DeliverAnswer {
        let incarnation = *self.incarnation.lock().unwrap();
        assert_eq!(call.header.unwrap().to_incarnation, incarnation);
        assert!(!call.entries.is_empty(), "an empty call");
        let mut exceptions = Vec::new();
        self.received.send_modify(|received| {
            for (index, entry) in call.entries.into_iter().enumerate() {
                let topic = received.entry(entry.topic.clone()).or_default();
                if let Some(cursor) = topic.pass_on(&entry) {
                    exceptions.push(v1::DeliverException {
                        index: u32::try_from(index).unwrap(),
                        status: v1::DeliverStatus::NeedFrom.into(),
                        cursor: Some(cursor),
                        owner_epoch: 0,
                    });
                }
            }
        });
        v1::DeliverAnswer {
            incarnation,
            exceptions,
            ..v1::DeliverAnswer::default()
        }
    }
}

#[tonic::async_trait]
impl Service for Deliveries {
    type DeliverStream = Answers<v1::DeliverAnswer>;

    async fn deliver(
        &self,
        calls: Request<Streaming<v1::DeliverCall>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let deliveries = self.clone();
        let mut topic_ids = TopicIds::default();
        let answer = move |mut call| {
            let resolved = topic_ids.resolve(&mut call);
            let answer = resolved.map(|()| deliveries.take(call));
            std::future::ready(answer.map_err(|unknown| Status::invalid_argument(unknown.to_string())))
        };
        let answers = grpc::answer_deliveries(calls.into_inner(), std::future::pending(), answer);
        Ok(Response::new(answers))
    }

    async fn server_publish(
        &self,
        _: Request<v1::ServerPublishRequest>,
    ) -> Result<Response<v1::ServerPublishReply>, Status> {
        Err(Status::unimplemented("nobody asks this one"))
    }

    async fn list_connections(
        &self,
        _: Request<v1::ListConnectionsRequest>,
    ) -> Result<Response<v1::ListConnectionsReply>, Status> {
        Err(Status::unimplemented("nobody asks this one"))
    }
}

impl Topic {
    /// Takes what follows the cursor and skips what it has. What it needs first, if something is missing.
    fn pass_on(&mut self, entry: &v1::DeliverEntry) -> Option<v1::Position> {
        if self.epoch != entry.epoch {
            (self.epoch, self.offset) = (entry.epoch.clone(), entry.prev_offset);
        }
        if entry.prev_offset > self.offset {
            return Some(v1::Position {
                epoch: self.epoch.clone(),
                offset: self.offset,
            });
        }
        for unsequenced in &entry.unsequenced {
            let publication = unsequenced.publication.as_ref().expect("one that is sent");
            assert_eq!(publication.offset, 0);
            let payload = String::from_utf8_lossy(&publication.payload);
            self.lines.push(format!("once {payload} {:?}", unsequenced.to));
        }
        for publication in &entry.publications {
            if publication.offset > self.offset {
                self.offset = publication.offset;
                let payload = String::from_utf8_lossy(&publication.payload);
                self.lines.push(format!("{} {payload}", publication.offset));
            }
        }
        None
    }
}

/// A publish of session 1.
pub(crate) fn publish(topic: &str, number: u64, payload: &str) -> Publish {
    Publish {
        number,
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        event: Bytes::from_static(b"event"),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        session: 1,
        ..Publish::default()
    }
}

impl Gateway {
    pub(crate) async fn start(id: &str, store: &AnyStore) -> Gateway {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let record = NodeRecord {
            incarnation: Incarnation(0),
            role: Role::Gateway,
            advertise: listener.local_addr().unwrap().to_string(),
            build: "test".into(),
            ready: true,
            leaving: false,
            rest: Default::default(),
        };
        let info = NodeInfo {
            id: NodeId::parse(id).unwrap(),
            record,
            ttl: Duration::from_secs(3),
        };
        let received = watch::Sender::new(Received::new());
        let incarnation = Arc::new(Mutex::new(0));
        let deliveries = Deliveries {
            incarnation: incarnation.clone(),
            received: received.clone(),
        };
        let stop = CancellationToken::new();
        let incoming = futures_util::stream::unfold(listener, |listener| async {
            let connection = listener.accept().await.unwrap().0;
            Some((Ok::<_, Infallible>(connection), listener))
        });
        let serving = grpc::server().serve_with_incoming_shutdown(
            GatewayServer::new(deliveries),
            Box::pin(incoming),
            stop.clone().cancelled_owned(),
        );
        TaskTracker::new().spawn(serving);
        let membership = Membership::join(store.clone(), info, PATIENCE).await.unwrap();
        *incarnation.lock().unwrap() = membership.lease().node().incarnation.0;
        Gateway {
            store: store.clone(),
            membership,
            received: received.subscribe(),
            seq: Mutex::new(0),
            epochs: Mutex::default(),
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) async fn leave(self) {
        self.membership.leave().await;
    }

    async fn owner(&self, topic: &str) -> (SlotTable, SlotOwner) {
        let table = SlotTable::from_snapshot(&self.store.load().await.unwrap()).unwrap();
        let owner = table.owner(table.slot_of(topic.as_bytes())).unwrap().clone();
        (table, owner)
    }

    pub(crate) async fn header(&self, topic: &str) -> CallHeader {
        let (table, owner) = self.owner(topic).await;
        let me = self.membership.lease().node();
        CallHeader {
            birth_digest: table.birth_digest(),
            from: me.node.to_string(),
            from_incarnation: me.incarnation.0,
            to_incarnation: owner.owner.incarnation.0,
        }
    }

    pub(crate) async fn client(&self, topic: &str) -> TopicServerClient<tonic::transport::Channel> {
        let (table, owner) = self.owner(topic).await;
        TopicServerClient::new(grpc::channel(table.address(&owner.owner).unwrap()).unwrap())
    }

    /// Binds one member, again while the owner has not heard of this gateway or of its own role yet.
    pub(crate) async fn bind(&self, topic: &str, cursor: Option<u64>) -> v1::BindOutcome {
        let cursor = cursor.map(|offset| v1::Position {
            epoch: self.epochs.lock().unwrap()[topic].clone(),
            offset,
        });
        self.bind_from(topic, cursor).await
    }

    pub(crate) async fn bind_from(&self, topic: &str, cursor: Option<v1::Position>) -> v1::BindOutcome {
        let seq = {
            let mut seq = self.seq.lock().unwrap();
            *seq += 1;
            *seq
        };
        let again = async {
            loop {
                let (table, owner) = self.owner(topic).await;
                let bind = v1::Bind {
                    slot: table.slot_of(topic.as_bytes()).0.into(),
                    owner_epoch: owner.owner_epoch.0,
                    topic: Bytes::copy_from_slice(topic.as_bytes()),
                    seq,
                    joined: vec![v1::Member {
                        session: self.session(),
                        subject: Bytes::new(),
                    }],
                    cursor: cursor.clone(),
                    ..v1::Bind::default()
                };
                let call = v1::BindCall {
                    header: Some(self.header(topic).await),
                    binds: vec![bind],
                };
                let mut owner = self.client(topic).await;
                match Calls::default().call(call, |calls| owner.bind(calls)).await {
                    Ok(mut answer) => {
                        let outcome = answer.outcomes.remove(0);
                        if !matches!(
                            outcome.status(),
                            v1::BindStatus::NotOwner | v1::BindStatus::Sealed
                        ) {
                            return outcome;
                        }
                    }
                    Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, again)
            .await
            .expect("bound in time");
        let epoch = outcome.cursor.as_ref().unwrap().epoch.clone();
        self.epochs.lock().unwrap().insert(topic.into(), epoch);
        outcome
    }

    /// Its one member of every topic.
    pub(crate) fn session(&self) -> u64 {
        self.membership.lease().node().incarnation.0 << 32 | 1
    }

    /// The offsets, once all are committed.
    pub(crate) async fn publish(&self, topic: &str, publishes: Vec<Publish>) -> Vec<u64> {
        let offset = |outcome: &v1::PublishOutcome| match &outcome.outcome {
            Some(Outcome::Committed(position)) => position.offset,
            other => panic!("{other:?}"),
        };
        self.outcomes(topic, publishes).await.iter().map(offset).collect()
    }

    /// What became of them, once all are decided.
    pub(crate) async fn outcomes(&self, topic: &str, publishes: Vec<Publish>) -> Vec<v1::PublishOutcome> {
        let again = async {
            let mut held: Option<Instant> = None;
            loop {
                let (table, _) = self.owner(topic).await;
                let slots = vec![v1::SlotPublishes {
                    slot: table.slot_of(topic.as_bytes()).0.into(),
                    owner_epoch: 0,
                    publishes: publishes.clone(),
                    held_ms: held.map_or(0, |held| {
                        u32::try_from(held.elapsed().as_millis()).unwrap().max(1)
                    }),
                }];
                match self.publish_slots(self.header(topic).await, topic, slots).await {
                    Ok(answer) if answer.slots[0].rest() == v1::SlotStatus::Ok => return answer,
                    Ok(_) => held = held.or_else(|| Some(Instant::now())),
                    // The life that was called is over, or has not heard of this gateway yet.
                    Err(status) => assert!(
                        matches!(status.code(), Code::Unavailable | Code::FailedPrecondition),
                        "{status}"
                    ),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut answer = tokio::time::timeout(PATIENCE, again)
            .await
            .expect("published in time");
        answer.slots.remove(0).outcomes
    }

    /// Asks the owner of the first topic for what follows these offsets.
    pub(crate) async fn fetch(&self, after: &[(&str, u64)]) -> Vec<v1::FetchOutcome> {
        let (table, owner) = self.owner(after[0].0).await;
        let fetch = |(topic, offset): &(&str, u64)| v1::Fetch {
            slot: table.slot_of(topic.as_bytes()).0.into(),
            owner_epoch: owner.owner_epoch.0,
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            after: Some(v1::Position {
                epoch: self.epochs.lock().unwrap()[*topic].clone(),
                offset: *offset,
            }),
        };
        self.fetch_these(after[0].0, after.iter().map(fetch).collect())
            .await
    }

    pub(crate) async fn fetch_these(&self, topic: &str, fetches: Vec<v1::Fetch>) -> Vec<v1::FetchOutcome> {
        let header = Some(self.header(topic).await);
        let call = v1::FetchCall { header, fetches };
        let answer = self.client(topic).await.fetch(call).await.unwrap();
        answer.into_inner().outcomes
    }

    pub(crate) async fn call(
        &self,
        header: CallHeader,
        topic: &str,
        slot: u32,
        publishes: Vec<Publish>,
    ) -> Result<v1::PublishAnswer, Status> {
        let slots = vec![v1::SlotPublishes {
            slot,
            owner_epoch: 0,
            publishes,
            held_ms: 0,
        }];
        self.publish_slots(header, topic, slots).await
    }

    async fn publish_slots(
        &self,
        header: CallHeader,
        topic: &str,
        slots: Vec<v1::SlotPublishes>,
    ) -> Result<v1::PublishAnswer, Status> {
        let call = v1::PublishCall {
            header: Some(header),
            slots,
        };
        let mut owner = self.client(topic).await;
        Calls::default().call(call, |calls| owner.publish(calls)).await
    }

    /// The first `len` publications of the topic that were delivered.
    pub(crate) async fn receive(&self, topic: &str, len: usize) -> Vec<String> {
        let mut received = self.received.clone();
        let enough = received.wait_for(|received| {
            received
                .get(topic.as_bytes())
                .is_some_and(|all| all.lines.len() >= len)
        });
        let received = tokio::time::timeout(PATIENCE, enough)
            .await
            .expect("received in time")
            .unwrap();
        received[topic.as_bytes()].lines.clone()
    }

    /// The epoch of what was delivered last.
    pub(crate) fn epoch(&self, topic: &str) -> Bytes {
        self.received.borrow()[topic.as_bytes()].epoch.clone()
    }

    /// How many publications were delivered in all.
    pub(crate) fn received(&self) -> usize {
        self.received
            .borrow()
            .values()
            .map(|topic| topic.lines.len())
            .sum()
    }

    /// The gateways of the topic's members, as its owner tells people.
    pub(crate) async fn members(&self, topic: &str) -> Vec<String> {
        let request = v1::ListMembersRequest {
            topic: topic.into(),
            after: 0,
            limit: 10,
        };
        let reply = self
            .client(topic)
            .await
            .list_members(request)
            .await
            .unwrap()
            .into_inner();
        let mut gateways: Vec<String> = reply.members.into_iter().map(|member| member.gateway).collect();
        gateways.sort();
        gateways
    }
}

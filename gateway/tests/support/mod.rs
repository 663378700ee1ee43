//! A real gateway on real sockets, before an owner of all slots that lives in the test.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ringcast_gateway::{Config, Gateway, Readiness, RunError};
use ringcast_proto::record::{Birth, Cause, FORMAT, Key, NodeRecord, Record, Role, SlotRecord};
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::v1::topic_server_server::{TopicServer, TopicServerServer};
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot, grpc, v1};
use ringcast_ring::{Change, SlotTable, Snapshot};
use ringcast_ring_store::{AnyStore, Membership, Memory, NodeInfo, RingStore, fresh_op};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

/// Nothing in these tests takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

const SLOTS: u16 = 4;
const EPOCH: &[u8] = b"epoch1";

/// What the owner knows of a topic.
#[derive(Default)]
struct Owned {
    head: u64,
    sent: u64,
}

/// The owner of all slots: one offset sequence a topic, one member group, no history.
#[derive(Clone, Default)]
struct Owner {
    incarnation: u64,
    gateway: Arc<Mutex<Option<GatewayClient<tonic::transport::Channel>>>>,
    topics: Arc<Mutex<BTreeMap<Bytes, Owned>>>,
    header: Arc<Mutex<Option<v1::CallHeader>>>,
    tasks: TaskTracker,
    lane: Arc<tokio::sync::Mutex<()>>,
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
                }],
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

/// A cluster of one gateway and the owner.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) rpc_address: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) store: AnyStore,
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
    _owner: Membership,
    tasks: TaskTracker,
}

impl World {
    /// A gateway with the defaults.
    pub(crate) async fn start() -> World {
        World::with(|_| {}).await
    }

    /// A gateway with changes to the defaults, ready.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> World {
        let (store, stop, tasks) = (
            AnyStore::Memory(Memory::start().unwrap()),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        let mut config = Config::new(NodeId::parse("gw-1").unwrap(), store.clone());
        change(&mut config);
        let gateway = Gateway::build(config, &NoMetrics).await.unwrap();
        let (address, rpc_address, readiness) =
            (gateway.address(), gateway.rpc_address(), gateway.readiness());
        assert_eq!(readiness.reasons(), ["not registered yet"]);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let membership = Membership::join(store.clone(), info(listener.local_addr().unwrap()), PATIENCE)
            .await
            .unwrap();
        let owner = Owner {
            incarnation: membership.lease().node().incarnation.0,
            tasks: tasks.clone(),
            ..Default::default()
        };
        *owner.gateway.lock().unwrap() = Some(GatewayClient::new(
            grpc::channel(&rpc_address.to_string()).unwrap(),
        ));
        let serving = grpc::server().serve_with_incoming_shutdown(
            TopicServerServer::new(owner),
            TcpListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
        tasks.spawn(serving);
        birth(&store, membership.lease().node()).await;
        let running = tasks.spawn(gateway.run(stop.clone()));
        let world = World {
            address,
            rpc_address,
            readiness,
            store,
            stop,
            running,
            _owner: membership,
            tasks,
        };
        world.ready().await;
        world
    }

    async fn ready(&self) {
        let ready = async {
            while !self.readiness.is_ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, ready).await;
        outcome.unwrap_or_else(|_| panic!("not ready: {:?}", self.readiness.reasons()));
    }

    /// A client that speaks V2.
    pub(crate) async fn client(&self) -> Client {
        self.client_at("/socket/websocket?vsn=2.0.0").await
    }

    pub(crate) async fn client_at(&self, path: &str) -> Client {
        let request = format!("ws://{}{path}", self.address)
            .into_client_request()
            .unwrap();
        let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        Client { socket }
    }

    /// A connection that says what it is told to, byte for byte.
    pub(crate) async fn raw(&self) -> Raw {
        Raw {
            stream: TcpStream::connect(self.address).await.unwrap(),
        }
    }

    /// A raw connection after its handshake.
    pub(crate) async fn raw_socket(&self) -> Raw {
        self.raw().await.shaken().await
    }

    /// The same, with a kernel that takes little before it is read.
    pub(crate) async fn deaf_socket(&self) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        Raw { stream }.shaken().await
    }

    /// Asks the gateway to end, and tells how long that took.
    pub(crate) async fn stop(self) -> (Result<(), RunError>, Duration) {
        let begun = std::time::Instant::now();
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap();
        (ended, begun.elapsed())
    }

    pub(crate) async fn header(&self) -> v1::CallHeader {
        let snapshot: Snapshot = self.store.load().await.unwrap();
        let me = snapshot
            .node(&NodeId::parse("gw-1").unwrap())
            .unwrap()
            .incarnation;
        let table = SlotTable::from_snapshot(&snapshot).unwrap();
        v1::CallHeader {
            birth_digest: table.birth_digest(),
            from: "ts-1".to_owned(),
            from_incarnation: 1,
            to_incarnation: me.0,
        }
    }
}

pub(crate) const HANDSHAKE: &[u8] =
    b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: gw\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn info(address: SocketAddr) -> NodeInfo {
    let record = NodeRecord {
        incarnation: Incarnation(0),
        role: Role::TopicServer,
        advertise: address.to_string(),
        build: "test".to_owned(),
        ready: false,
        rest: Default::default(),
    };
    NodeInfo {
        id: NodeId::parse("ts-1").unwrap(),
        record,
        ttl: Duration::from_secs(2),
    }
}

async fn birth(store: &AnyStore, owner: NodeRef) {
    let birth = Birth {
        format: FORMAT,
        cluster_id: "test".to_owned(),
        slots: SLOTS,
        seed: 7,
        rest: Default::default(),
    };
    let slot = SlotRecord {
        owner_epoch: OwnerEpoch(1),
        base: OwnerEpoch(1),
        owner,
        replica: None,
        moving: None,
        cause: Cause::Birth,
        rest: Default::default(),
    };
    let mut put = vec![(Key::Birth, Record::Birth(birth))];
    put.extend((0..SLOTS).map(|number| (Key::Slot(Slot(number)), Record::Slot(slot.clone()))));
    let change = Change {
        expect: vec![],
        guards: vec![],
        put,
        delete: vec![],
        op: fresh_op(),
    };
    store.compare_and_swap(change).await.unwrap();
}

/// A well-behaved client.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.socket.send(message.into()).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        next.expect("a message in time").expect("not closed yet").unwrap()
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.to_string(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// The code of the close frame, which must be next.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        match self.next().await {
            Message::Close(frame) => frame.map(|frame| frame.code.into()),
            other => panic!("expected a close, got {other:?}"),
        }
    }

    /// Joins `topic` with this join_ref and takes the reply.
    pub(crate) async fn join(&mut self, join_ref: &str, topic: &str) {
        self.send(format!(
            r#"["{join_ref}","{join_ref}","{topic}","phx_join",{{}}]"#
        ))
        .await;
        let reply =
            format!(r#"["{join_ref}","{join_ref}","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        assert_eq!(self.text().await, reply);
    }

    /// Proves that the connection and the gateway live.
    pub(crate) async fn heartbeat(&mut self) {
        self.send(r#"[null,"h","phoenix","heartbeat",{}]"#).await;
        assert_eq!(
            self.text().await,
            r#"[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]"#
        );
    }
}

/// A client of bytes.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    async fn shaken(mut self) -> Raw {
        self.send(HANDSHAKE).await;
        assert!(self.head().await.starts_with("HTTP/1.1 101 "));
        self
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends what may not be taken to its end.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// The head of an HTTP answer.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await);
        }
        String::from_utf8(head).unwrap()
    }

    /// A server's frame: its first byte and its payload.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let (first, len) = (self.byte().await, self.byte().await);
        let len = match len {
            126 => u64::from(self.byte().await) << 8 | u64::from(self.byte().await),
            127 => panic!("no frame here is so long"),
            short => u64::from(short),
        };
        let mut payload = vec![0; len as usize];
        tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut payload))
            .await
            .unwrap()
            .unwrap();
        (first, payload)
    }

    /// The code of the next frame, which must be a close.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{payload:?}");
        payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        drop(
            tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest))
                .await
                .expect("an end in time"),
        );
        rest
    }

    async fn byte(&mut self) -> u8 {
        tokio::time::timeout(PATIENCE, self.stream.read_u8())
            .await
            .expect("a byte in time")
            .expect("a byte")
    }
}

/// A client's frame under a mask of zeros.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    match payload.len() {
        len @ 0..=125 => frame.extend([first, 0x80 | len as u8]),
        len @ 126..=0xffff => {
            frame.extend([first, 0xfe]);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.extend([first, 0xff]);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// A recorder that forgets.
struct NoMetrics;

impl metrics::Recorder for NoMetrics {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }
    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }
    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

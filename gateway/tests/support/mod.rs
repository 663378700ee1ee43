//! A real gateway on real sockets, before an owner of all slots that lives in the test.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "all of this is a test")]

pub(crate) mod client;
mod owner;
mod recorded;
#[path = "../../../tests/src/stock.rs"]
#[expect(unreachable_pub, reason = "public in the crate whose file it is")]
mod stock;

use std::net::SocketAddr;
use std::time::Duration;

use ringcast_gateway::{Config, Gateway, Readiness, RunError};
use ringcast_proto::record::{Birth, Cause, FORMAT, Key, NodeRecord, Record, Role, SlotRecord};
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::v1::topic_server_server::TopicServerServer;
use ringcast_proto::{Incarnation, NodeId, NodeRef, OwnerEpoch, Slot, grpc, v1};
use ringcast_ring::{Change, SlotTable, Snapshot};
use ringcast_ring_store::{AnyStore, Membership, Memory, NodeInfo, RingStore, fresh_op};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use client::{Client, Raw};
use owner::Owner;
pub(crate) use recorded::Recorded;

/// Nothing in these tests takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

const SLOTS: u16 = 4;

/// A cluster of one gateway and the owner.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) rpc_address: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) store: AnyStore,
    pub(crate) owner: Owner,
    pub(crate) recorded: Recorded,
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
        let recorded = Recorded::default();
        let gateway = Gateway::build(config, &recorded).await.unwrap();
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
            TopicServerServer::new(owner.clone()),
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
            owner,
            recorded,
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
        Client::new(socket)
    }

    /// A connection that says what it is told to, byte for byte.
    pub(crate) async fn raw(&self) -> Raw {
        Raw::new(TcpStream::connect(self.address).await.unwrap())
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
        Raw::new(stream).shaken().await
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
        leaving: false,
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

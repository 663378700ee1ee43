//! Real topic servers over a store in memory, and a gateway that is only as much of one as they can see.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cut;
mod gateway;
mod leaving;
mod moves;
mod proxy;
mod publishers;
mod recovery;

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use ringcast_proto::record::Key;
use ringcast_proto::v1::{BindStatus, SlotStatus};
use ringcast_proto::{Incarnation, NodeId, NodeRef, Slot};
use ringcast_ring::{Change, SlotTable};
use ringcast_ring_store::{AnyStore, Memory, RingStore, fresh_op};
use ringcast_topic_server::{Config, Readiness, RunError, TopicServer};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::gateway::{Gateway, publish};

/// Longer than anything here takes; reached only by what would never happen.
const PATIENCE: Duration = Duration::from_secs(10);

struct Cluster {
    store: AnyStore,
    servers: JoinSet<Result<(), RunError>>,
    stop: CancellationToken,
    metrics: PrometheusHandle,
    recorder: Arc<metrics_exporter_prometheus::PrometheusRecorder>,
}

struct Server {
    readiness: watch::Receiver<Readiness>,
    stop: CancellationToken,
    crash: AbortHandle,
}

impl Server {
    /// Waits until it has ended.
    async fn ended(&mut self) {
        while self.readiness.changed().await.is_ok() {}
    }
}

impl Cluster {
    fn new() -> Cluster {
        let recorder = Arc::new(PrometheusBuilder::new().build_recorder());
        Cluster {
            store: AnyStore::Memory(Memory::start().unwrap()),
            servers: JoinSet::new(),
            stop: CancellationToken::new(),
            metrics: recorder.handle(),
            recorder,
        }
    }

    async fn start(&mut self, id: &str, expect: usize) -> Server {
        self.start_with(id, |config| config.expect_topic_servers = Some(expect))
            .await
    }

    async fn start_with(&mut self, id: &str, change: impl FnOnce(&mut Config)) -> Server {
        let mut config = Config {
            rpc_listen: ([127, 0, 0, 1], 0).into(),
            slots: 16,
            ..Config::new(NodeId::parse(id).unwrap(), self.store.clone())
        };
        change(&mut config);
        let server = TopicServer::build(config, self.recorder.clone()).await.unwrap();
        let readiness = server.readiness();
        let stop = self.stop.child_token();
        let crash = self.servers.spawn(server.run(stop.clone()));
        Server {
            readiness,
            stop,
            crash,
        }
    }

    async fn ready(server: &mut Server) {
        let ready = server.readiness.wait_for(|ready| ready.is_ready());
        tokio::time::timeout(PATIENCE, ready)
            .await
            .expect("ready in time")
            .unwrap();
    }

    async fn table(&self) -> SlotTable {
        SlotTable::from_snapshot(&self.store.load().await.unwrap()).expect("the ring is born")
    }

    /// Ends the node's lease, as a store does that was told that the node is gone.
    async fn evict(&self, id: &str) {
        let change = Change {
            expect: Vec::new(),
            guards: Vec::new(),
            put: Vec::new(),
            delete: vec![Key::Node(NodeId::parse(id).unwrap())],
            op: fresh_op(),
        };
        self.store.compare_and_swap(change).await.unwrap();
    }

    /// The life in which the node is registered.
    async fn life(&self, id: &str) -> Option<Incarnation> {
        let snapshot = self.store.load().await.unwrap();
        let node = snapshot.node(&NodeId::parse(id).unwrap());
        node.map(|record| record.incarnation)
    }

    /// Waits until a later life of the node owns every slot. The store tells it, and not the node's readiness, in which
    /// a loss can be over before anybody looks.
    async fn owned_anew(&self, id: &str, before: Incarnation) {
        loop {
            let snapshot = self.store.load().await.unwrap();
            let alive = |owner: &NodeRef| {
                owner.node.as_str() == id && owner.incarnation > before && snapshot.alive(owner)
            };
            if snapshot.slots().all(|(_, _, record)| alive(&record.owner)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The metric's value summed over all its labels.
    fn metric(&self, name: &str) -> f64 {
        let rendered = self.metrics.render();
        let of_it = rendered
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")));
        of_it
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Asks everyone to end, and how each did.
    async fn end(mut self) {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.servers.join_next().await {
                match ended {
                    Ok(ended) => ended.expect("a server ended with an error"),
                    Err(error) => assert!(error.is_cancelled(), "{error}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_millis(1_500), all)
            .await
            .expect("ended in time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_answered_and_delivered_once_to_a_gateway_with_members() {
    let mut cluster = Cluster::new();
    let mut servers = [cluster.start("ts-1", 2).await, cluster.start("ts-2", 2).await];
    for server in &mut servers {
        Cluster::ready(server).await;
    }
    assert_eq!(cluster.table().await.owners().len(), 2, "both own slots");
    let members = Gateway::start("gw-1", &cluster.store).await;
    let publisher = Gateway::start("gw-2", &cluster.store).await;

    // Numbers belong to a slot, which topics may share.
    for (topic, n) in ["a", "b", "c", "d", "e"].into_iter().zip((1..).step_by(3)) {
        let bound = members.bind(topic, None).await;
        assert_eq!((bound.status(), bound.head), (BindStatus::Ok, 0));
        let committed = publisher
            .publish(
                topic,
                vec![publish(topic, n, "one"), publish(topic, n + 1, "two")],
            )
            .await;
        assert_eq!(committed, [1, 2], "{topic}");
        let again = publisher
            .publish(
                topic,
                vec![publish(topic, n + 1, "two"), publish(topic, n + 2, "three")],
            )
            .await;
        assert_eq!(again, [2, 3], "a number that was used is not appended again");
        assert_eq!(members.receive(topic, 3).await, ["1 one", "2 two", "3 three"]);
    }
    assert_eq!(publisher.received(), 0, "no member, no call");
    assert_eq!(cluster.metric("ringcast_publishes_total"), 15.0);
    assert_eq!(cluster.metric("ringcast_deliver_publications_total"), 15.0);
    assert_eq!(cluster.metric("ringcast_binds_total"), 5.0);
    assert_eq!(cluster.metric("ringcast_members"), 5.0);
    assert_eq!(cluster.metric("ringcast_slots_owned"), 16.0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slots_of_a_server_that_crashed_are_served_by_the_other() {
    let mut cluster = Cluster::new();
    let mut servers = [cluster.start("ts-1", 2).await, cluster.start("ts-2", 2).await];
    for server in &mut servers {
        Cluster::ready(server).await;
    }
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    let table = cluster.table().await;
    let lost = (0..16)
        .map(Slot)
        .find(|slot| table.owner(*slot).unwrap().owner.node.as_str() == "ts-1")
        .unwrap();
    let topic = (0..)
        .map(|n| format!("topic-{n}"))
        .find(|topic| table.slot_of(topic.as_bytes()) == lost)
        .unwrap();
    gateway.bind(&topic, None).await;
    assert_eq!(
        gateway.publish(&topic, vec![publish(&topic, 1, "before")]).await,
        [1]
    );
    assert_eq!(gateway.receive(&topic, 1).await, ["1 before"]);

    servers[0].crash.abort();
    let taken_over = async {
        loop {
            let table = cluster.table().await;
            if table.owners().iter().all(|owner| owner.node.as_str() == "ts-2") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(6), taken_over)
        .await
        .expect("taken over within 6 s");

    let bound = gateway.bind(&topic, Some(1)).await;
    assert_eq!(
        (bound.status(), bound.head),
        (BindStatus::Ok, 0),
        "a new epoch: the history went with its owner"
    );
    assert_eq!(
        gateway.publish(&topic, vec![publish(&topic, 2, "after")]).await,
        [1]
    );
    assert_eq!(gateway.receive(&topic, 2).await, ["1 before", "1 after"]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_lease_and_nothing_else_takes_its_slots_back_with_their_topics() {
    let mut cluster = Cluster::new();
    let mut server = cluster.start("ts-1", 1).await;
    Cluster::ready(&mut server).await;
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    gateway.bind("a", None).await;
    assert_eq!(gateway.publish("a", vec![publish("a", 1, "before")]).await, [1]);

    let before = cluster.life("ts-1").await.expect("registered");
    cluster.evict("ts-1").await;
    tokio::time::timeout(PATIENCE, cluster.owned_anew("ts-1", before))
        .await
        .expect("taken back in time");

    let again = gateway
        .publish("a", vec![publish("a", 1, "before"), publish("a", 2, "after")])
        .await;
    assert_eq!(
        again,
        [1, 2],
        "neither the topic nor the gateway's numbers were forgotten"
    );
    let bound = gateway.bind("a", Some(1)).await;
    assert_eq!((bound.status(), bound.head), (BindStatus::Ok, 2));
    assert_eq!(
        bound.cursor.map(|cursor| cursor.offset),
        Some(1),
        "the same epoch"
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_mean_somebody_else_are_refused() {
    let mut cluster = Cluster::new();
    Cluster::ready(&mut cluster.start("ts-1", 1).await).await;
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    gateway.bind("a", None).await;
    let good = gateway.header("a").await;
    let refused = |header| gateway.call(header, "a", 9_999, vec![publish("a", 1, "x")]);
    for wrong in [
        ringcast_proto::v1::CallHeader {
            birth_digest: 1,
            ..good.clone()
        },
        ringcast_proto::v1::CallHeader {
            to_incarnation: good.to_incarnation + 1,
            ..good.clone()
        },
        ringcast_proto::v1::CallHeader {
            from: "gw-0".into(),
            from_incarnation: 1,
            ..good.clone()
        },
    ] {
        let status = refused(wrong.clone()).await.expect_err("refused");
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{wrong:?}");
    }
    let unheard_of = ringcast_proto::v1::CallHeader {
        from_incarnation: u64::MAX,
        ..good.clone()
    };
    assert_eq!(
        refused(unheard_of).await.expect_err("refused").code(),
        tonic::Code::Unavailable
    );
    let nameless = ringcast_proto::v1::CallHeader {
        from: String::new(),
        ..good.clone()
    };
    assert_eq!(
        refused(nameless).await.expect_err("refused").code(),
        tonic::Code::InvalidArgument
    );
    let answer = refused(good)
        .await
        .expect("a slot that is none is not owned by anyone");
    assert_eq!(answer.slots[0].rest(), SlotStatus::NotOwner);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_members_of_a_gateway_that_is_gone_are_gone() {
    let mut cluster = Cluster::new();
    Cluster::ready(&mut cluster.start("ts-1", 1).await).await;
    let (gone, stays) = (
        Gateway::start("gw-1", &cluster.store).await,
        Gateway::start("gw-2", &cluster.store).await,
    );
    gone.bind("a", None).await;
    stays.bind("a", None).await;
    assert_eq!(stays.members("a").await, ["gw-1", "gw-2"]);
    gone.leave().await;
    let left = async {
        while stays.members("a").await != ["gw-2"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("gone in time");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_address_and_a_taken_id_are_named() {
    let mut cluster = Cluster::new();
    Cluster::ready(&mut cluster.start("ts-1", 1).await).await;
    let address = cluster
        .table()
        .await
        .topic_servers()
        .next()
        .unwrap()
        .1
        .parse()
        .unwrap();
    let id = NodeId::parse("ts-1").unwrap();
    let taken = Config {
        rpc_listen: address,
        ..Config::new(id.clone(), cluster.store.clone())
    };
    let error = TopicServer::build(taken, cluster.recorder.clone())
        .await
        .err()
        .expect("the port is in use");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let (rpc_listen, patience) = (([127, 0, 0, 1], 0).into(), Duration::from_millis(200));
    let same = Config {
        rpc_listen,
        patience,
        ..Config::new(id, cluster.store.clone())
    };
    let server = TopicServer::build(same, cluster.recorder.clone()).await.unwrap();
    let error = server
        .run(cluster.stop.clone())
        .await
        .expect_err("the id is taken");
    assert!(
        error
            .to_string()
            .contains(&format!("ts-1 is taken by the topic server at {address}")),
        "{error}"
    );
    cluster.end().await;
}

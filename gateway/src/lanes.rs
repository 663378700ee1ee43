//! Calls to topic servers: one connection to each, kept while it is registered.
//!
//! Which calls there are, and that a lane has one in flight, the core sees to; here they get a header, a deadline and a
//! task, and their outcome goes back to the hub.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringcast_gateway_core::gateway::{CallFailed, CallId};
use ringcast_proto::grpc::{self, CALL_DEADLINE, Calls, LaneClient, MESSAGE_BYTES_MAX};
use ringcast_proto::v1::topic_server_client::TopicServerClient;
use ringcast_proto::{Incarnation, NodeRef, v1};
use ringcast_ring::SlotTable;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::ring::Cluster;

/// A node that does not answer is greeted again after this, doubled each time.
const GREET_RETRY_MIN: Duration = Duration::from_millis(50);
const GREET_RETRY_MAX: Duration = Duration::from_secs(1);

/// The connections to topic servers.
pub(crate) struct Lanes {
    cluster: Arc<Cluster>,
    hub: Hub,
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Arc<Metrics>,
    /// The life of this gateway that the hub knows of: its publish numbers and binds are that life's.
    life: Incarnation,
    lanes: HashMap<NodeRef, Lane>,
}

/// The calls that are made most, each kind one after another. The core sees to it that one of a kind is in flight, so nobody
/// waits for a lock.
#[derive(Default)]
struct Lines {
    binds: Mutex<Calls<v1::BindCall, v1::BindAnswer>>,
    publishes: Mutex<Calls<v1::PublishCall, v1::PublishAnswer>>,
}

/// What a call to a topic server needs.
struct Ready {
    header: v1::CallHeader,
    client: TopicServerClient<Channel>,
    /// For what goes over `lines` with numbers for topics.
    streams: LaneClient,
    lines: Arc<Lines>,
}

struct Lane {
    address: String,
    client: TopicServerClient<Channel>,
    streams: LaneClient,
    lines: Arc<Lines>,
    /// Ends the greeting with the lane.
    gone: CancellationToken,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

impl Lanes {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        hub: Hub,
        tasks: TaskTracker,
        stop: CancellationToken,
        metrics: Arc<Metrics>,
        life: Incarnation,
    ) -> Lanes {
        Lanes {
            cluster,
            hub,
            tasks,
            stop,
            metrics,
            life,
            lanes: HashMap::new(),
        }
    }

    /// The hub hears that the gateway is registered anew; until it does, no call of the life before may leave.
    pub(crate) fn registered(&mut self, life: Incarnation) {
        self.life = life;
    }

    /// The hub that hears of outcomes.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn store_connected(&self) -> bool {
        self.cluster.store_connected()
    }

    /// Keeps a lane to every topic server that is registered, also to one that owns nothing yet: the first slot that
    /// moves there finds it connected. A node is reached for as long as its lane is there: it is greeted once a lane.
    pub(crate) fn follow(&mut self, table: &SlotTable) {
        self.lanes.retain(|node, lane| {
            let stays = table.address(node) == Some(&lane.address);
            if !stays {
                self.cluster.lane_gone(node);
            }
            stays
        });
        for (server, address) in table.topic_servers() {
            if !self.lanes.contains_key(&server) {
                self.connect(server, address);
            }
        }
    }

    /// Calls `Bind`; the hub gets the outcome.
    pub(crate) fn bind(&self, call: CallId, node: NodeRef, binds: Vec<v1::Bind>) {
        let (hub, metrics, ready) = (self.hub.clone(), self.metrics.clone(), self.ready(&node));
        self.tasks.spawn(async move {
            let outcome = match ready {
                Err(failed) => Err(failed),
                Ok(Ready {
                    header,
                    client,
                    lines,
                    ..
                }) => {
                    let header = Some(header);
                    bind(v1::BindCall { header, binds }, client, &lines).await
                }
            };
            count_failure(&metrics, &outcome);
            hub.bound(call, outcome).await;
        });
    }

    /// Calls `Publish`; the hub gets the outcome.
    pub(crate) fn publish(&self, call: CallId, node: NodeRef, slots: Vec<v1::SlotPublishes>) {
        let (hub, metrics, ready) = (self.hub.clone(), self.metrics.clone(), self.ready(&node));
        self.tasks.spawn(async move {
            let outcome = match ready {
                Err(failed) => Err(failed),
                Ok(Ready {
                    header,
                    streams,
                    lines,
                    ..
                }) => {
                    let header = Some(header);
                    let left_at = tokio::time::Instant::now();
                    let answered = publish(v1::PublishCall { header, slots }, streams, &lines).await;
                    if answered.is_ok() {
                        metrics.published(left_at.elapsed());
                    }
                    answered
                }
            };
            count_failure(&metrics, &outcome);
            hub.published(call, outcome).await;
        });
    }

    /// Calls `Fetch`; the hub gets the outcome.
    pub(crate) fn fetch(&self, call: CallId, node: NodeRef, fetches: Vec<v1::Fetch>) {
        let (hub, metrics, ready) = (self.hub.clone(), self.metrics.clone(), self.ready(&node));
        self.tasks.spawn(async move {
            let outcome = match ready {
                Err(failed) => Err(failed),
                Ok(Ready {
                    header, mut client, ..
                }) => {
                    let request = request(v1::FetchCall {
                        header: Some(header),
                        fetches,
                    });
                    answer(client.fetch(request).await)
                }
            };
            count_failure(&metrics, &outcome);
            hub.fetched(call, outcome).await;
        });
    }

    fn ready(&self, node: &NodeRef) -> Result<Ready, CallFailed> {
        let refused = || CallFailed::Refused(format!("{node} is not registered"));
        let lane = self.lanes.get(node).ok_or_else(refused)?;
        let header = self.cluster.header(node).ok_or_else(refused)?;
        if header.from_incarnation != self.life.0 {
            return Err(CallFailed::Refused(format!("incarnation {} is over", self.life)));
        }
        Ok(Ready {
            header,
            client: lane.client.clone(),
            streams: lane.streams.clone(),
            lines: Arc::clone(&lane.lines),
        })
    }

    fn connect(&mut self, node: NodeRef, address: &str) {
        let channel = match grpc::channel(address) {
            Ok(channel) => channel,
            Err(error) => {
                tracing::error!(%node, %error, "a topic server advertises what is no address");
                return;
            }
        };
        let streams = LaneClient::new(channel.clone());
        let client = TopicServerClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let gone = self.stop.child_token();
        let greeting = greet(Arc::clone(&self.cluster), node.clone(), client.clone());
        let ended = gone.clone();
        self.tasks
            .spawn(async move { ended.run_until_cancelled(greeting).await });
        self.lanes.insert(
            node,
            Lane {
                address: address.to_owned(),
                client,
                streams,
                lines: Arc::default(),
                gone,
            },
        );
    }
}

/// Calls until there is an answer: the lane is then connected, both ends mean the same cluster, and the gateway may say
/// that it is ready.
async fn greet(cluster: Arc<Cluster>, node: NodeRef, client: TopicServerClient<Channel>) {
    let lines = Lines::default();
    let mut retry = GREET_RETRY_MIN;
    loop {
        let Some(header) = cluster.header(&node) else {
            return;
        };
        let call = v1::BindCall {
            header: Some(header),
            binds: Vec::new(),
        };
        match bind(call, client.clone(), &lines).await {
            Ok(_) => {
                tracing::debug!(%node, "topic server reached");
                return cluster.reached(node);
            }
            Err(failed) => tracing::debug!(%node, %failed, "topic server not reached yet"),
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(GREET_RETRY_MAX);
    }
}

async fn bind(
    call: v1::BindCall,
    mut client: TopicServerClient<Channel>,
    lines: &Lines,
) -> Result<v1::BindAnswer, CallFailed> {
    in_time(async {
        lines
            .binds
            .lock()
            .await
            .call(call, |calls| client.bind(calls))
            .await
    })
    .await
}

async fn publish(
    call: v1::PublishCall,
    mut streams: LaneClient,
    lines: &Lines,
) -> Result<v1::PublishAnswer, CallFailed> {
    in_time(async {
        let mut publishes = lines.publishes.lock().await;
        publishes.call(call, |calls| streams.publish(calls)).await
    })
    .await
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, CallFailed> {
    match tokio::time::timeout(CALL_DEADLINE, answer).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(CallFailed::Unknown("no answer in time".to_owned())),
    }
}

/// A request with the deadline of lane calls.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    // Enforced by tonic on this side and sent along, so that the other side drops what came too late.
    request.set_timeout(CALL_DEADLINE);
    request
}

fn answer<T>(result: Result<Response<T>, Status>) -> Result<T, CallFailed> {
    result.map(Response::into_inner).map_err(failed)
}

fn failed(status: Status) -> CallFailed {
    match status.code() {
        Code::FailedPrecondition => CallFailed::Refused(status.message().to_owned()),
        code => CallFailed::Unknown(format!("{code:?}: {}", status.message())),
    }
}

fn count_failure<T>(metrics: &Metrics, outcome: &Result<T, CallFailed>) {
    if let Err(failed) = outcome {
        metrics.call_failed();
        tracing::debug!(%failed, "call to a topic server");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
mod tests {
    use ringcast_proto::record::{Birth, Cause, FORMAT, Key, NodeRecord, Record, Role, SlotRecord};
    use ringcast_proto::{OwnerEpoch, Slot};
    use ringcast_ring::{Change, Op, Revision, Snapshot, Stored};
    use ringcast_ring_store::{
        AnyStore, Membership, Memory, Mirror, NodeInfo, RingStore, Standing, fresh_op,
    };
    use tokio_util::sync::DropGuard;

    use super::*;

    fn node_record(role: Role, incarnation: u64) -> NodeRecord {
        NodeRecord {
            incarnation: Incarnation(incarnation),
            role,
            advertise: "127.0.0.1:9".to_owned(),
            build: String::new(),
            ready: false,
            leaving: false,
            rest: Default::default(),
        }
    }

    fn owner(id: &str) -> NodeRef {
        NodeRef {
            node: id.parse().unwrap(),
            incarnation: Incarnation(5),
        }
    }

    /// One slot, owned by `id`; the registered topic servers.
    fn table(id: &str, registered: &[&str]) -> SlotTable {
        let birth = Birth {
            format: FORMAT,
            cluster_id: "c".to_owned(),
            slots: 1,
            seed: 7,
            rest: Default::default(),
        };
        let slot = SlotRecord {
            owner_epoch: OwnerEpoch(1),
            base: OwnerEpoch(1),
            owner: owner(id),
            replica: None,
            moving: None,
            cause: Cause::Birth,
            rest: Default::default(),
        };
        let nodes = registered.iter().map(|id| {
            let record = Record::Node(node_record(Role::TopicServer, 5));
            (Key::Node(id.parse().unwrap()), record)
        });
        let records = [
            (Key::Birth, Record::Birth(birth)),
            (Key::Slot(Slot(0)), Record::Slot(slot)),
        ];
        let mut snapshot = Snapshot::default();
        for (key, record) in records.into_iter().chain(nodes) {
            let (revision, op) = (Revision(1), Op(String::new()));
            snapshot.records.insert(key, Stored { revision, op, record });
        }
        SlotTable::from_snapshot(&snapshot).unwrap()
    }

    /// A registered gateway that has called nobody yet, and what ends it.
    async fn gateway(store: &AnyStore) -> (Lanes, Arc<Cluster>, Membership, DropGuard) {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let info = NodeInfo {
            id: "gw-1".parse().unwrap(),
            record: node_record(Role::Gateway, 0),
            ttl: Duration::from_secs(30),
        };
        let membership = Membership::join(store.clone(), info, Duration::ZERO)
            .await
            .unwrap();
        let mirror = Mirror::start(store.clone(), &tasks, stop.clone());
        let cluster = Arc::new(Cluster::new(membership.lease(), mirror));
        let (hub, _inbox) = crate::hub::mailbox();
        let metrics = Metrics::register(&metrics::NoopRecorder, &"gw-1".parse().unwrap());
        let life = membership.lease().node().incarnation;
        let lanes = Lanes::new(cluster.clone(), hub, tasks, stop.clone(), metrics, life);
        (lanes, cluster, membership, stop.drop_guard())
    }

    #[tokio::test]
    async fn no_call_of_a_life_that_is_over_leaves_under_the_name_of_the_next() {
        let store = AnyStore::Memory(Memory::start().unwrap());
        let (mut lanes, cluster, membership, _stop) = gateway(&store).await;
        let shown = table("ts-1", &["ts-1"]);
        lanes.follow(&shown);
        cluster.show(Arc::new(shown));
        let first = membership.lease().node().incarnation;
        let Ready { header, .. } = lanes.ready(&owner("ts-1")).unwrap();
        assert_eq!(header.from_incarnation, first.0);

        let evict = Change {
            expect: Vec::new(),
            guards: Vec::new(),
            put: Vec::new(),
            delete: vec![Key::Node("gw-1".parse().unwrap())],
            op: fresh_op(),
        };
        store.compare_and_swap(evict).await.unwrap();
        let mut standing = membership.standing();
        let anew = standing.wait_for(|standing| matches!(standing, Standing::Held(life) if *life != first));
        tokio::time::timeout(Duration::from_secs(10), anew)
            .await
            .expect("registered anew in time")
            .unwrap();
        assert!(
            matches!(lanes.ready(&owner("ts-1")), Err(CallFailed::Refused(_))),
            "the hub's numbers are still the first life's"
        );

        let second = membership.lease().node().incarnation;
        lanes.registered(second);
        let Ready { header, .. } = lanes.ready(&owner("ts-1")).unwrap();
        assert_eq!(header.from_incarnation, second.0);
    }

    #[tokio::test]
    async fn a_topic_server_is_reached_for_as_long_as_its_lane_is_there() {
        let store = AnyStore::Memory(Memory::start().unwrap());
        let (mut lanes, cluster, _membership, _stop) = gateway(&store).await;

        let both = ["ts-1", "ts-2"];
        lanes.follow(&table("ts-1", &both));
        assert_eq!(lanes.lanes.len(), 2, "also to the one that owns nothing yet");
        cluster.reached(owner("ts-1"));
        lanes.follow(&table("ts-2", &both));
        lanes.follow(&table("ts-1", &both));
        assert!(
            cluster.has_reached(&owner("ts-1")),
            "its lane stayed, nobody greets it again"
        );

        lanes.follow(&table("ts-2", &["ts-2"]));
        lanes.follow(&table("ts-1", &both));
        assert!(
            !cluster.has_reached(&owner("ts-1")),
            "a new lane begins with a greeting"
        );
    }
}

//! What a topic server is told when it is built.

use std::net::SocketAddr;
use std::time::Duration;

use ringcast_proto::NodeId;
use ringcast_ring_store::AnyStore;
use ringcast_topic_server_core::Limits;

use crate::leave::DRAIN_DEADLINE;

/// The settings of one topic server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its id, unique in the cluster.
    pub id: NodeId,
    /// Where the cluster's records are.
    pub store: AnyStore,
    /// Where to listen for gateways, other nodes and the CLI; port 0 takes a free one.
    pub rpc_listen: SocketAddr,
    /// `HOST:PORT` under which others reach that listener. The bound address where there is none, which is only right
    /// if the listener is bound to an address that others can reach.
    pub advertise: Option<String>,
    /// The ring is born when so many topic servers have registered; without it, after 2 s without a new one.
    pub expect_topic_servers: Option<usize>,
    /// How many slots a cluster is born with. A cluster that exists has its number already.
    pub slots: u16,
    /// How much of everything there may be.
    pub limits: Limits,
    /// Bytes all histories may take; beyond, the idlest topics lose theirs first. Without it, a quarter of the memory the
    /// process may have.
    pub history_memory: Option<usize>,
    /// How long the store keeps the node without a renewal. 2 s is etcd's floor; more delays failover by as much.
    pub lease_ttl: Duration,
    /// How long to ask for an id that is taken: a crashed process comes back under its own id once its lease is over.
    pub patience: Duration,
    /// How long to wait, when asked to end, for the slots to be moved to other nodes; zero: not at all.
    pub drain: Duration,
}

impl Config {
    /// The defaults of everything that has one.
    #[must_use]
    pub fn new(id: NodeId, store: AnyStore) -> Config {
        Config {
            id,
            store,
            rpc_listen: SocketAddr::from(([127, 0, 0, 1], 7200)),
            advertise: None,
            expect_topic_servers: None,
            slots: 1024,
            limits: Limits::default(),
            history_memory: None,
            lease_ttl: Duration::from_secs(2),
            patience: Duration::from_secs(6),
            drain: DRAIN_DEADLINE,
        }
    }
}

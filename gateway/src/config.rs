//! How a gateway is set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ringcast_gateway_core::limits::Limits;
use ringcast_gateway_core::origin::OriginCheck;
use ringcast_gateway_core::route::Namespace;
use ringcast_proto::NodeId;
use ringcast_ring_store::AnyStore;

use crate::authenticate::{Anonymous, Authenticate};
use crate::hub::Pace;

/// How a gateway is set up. [`Config::new`] has the defaults of every field.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its id, unique in the cluster.
    pub id: NodeId,
    /// Where the ring is kept.
    pub store: AnyStore,
    /// Where clients connect. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Where other nodes connect. Port 0 takes any that is free.
    pub rpc_listen: SocketAddr,
    /// `HOST:PORT` under which other nodes reach `rpc_listen`, where that is not the bound address itself.
    pub advertise: Option<String>,
    /// Which web pages may connect.
    pub origin: OriginCheck,
    /// Declared namespaces; `topics:*` and `room:*` need no declaration.
    pub namespaces: Vec<Namespace>,
    /// What one connection may ask for.
    pub limits: Limits,
    /// Largest message of a client, in bytes; a larger one closes the connection with 1009.
    pub message_bytes_max: usize,
    /// A connection that is silent for so long is closed with 1001.
    pub idle_timeout: Duration,
    /// Most connections at a time; one more is refused with 503.
    pub connections_max: usize,
    /// Parts that the connections are divided into, one at least: each is read by a task of its own, and where there is
    /// more than one also written by one. As usual one for four cores, as the hub, the lanes and the runtime want the others.
    pub shards: usize,
    /// Who may connect, and as whom.
    pub authenticate: Arc<dyn Authenticate>,
    /// When the gateway ends, the clients of a full one are let go over this time, so that they do not come back all at
    /// once; up to 200 go at once in any case. Zero: all do.
    pub drain: Duration,
}

/// What a gateway takes to end beside [`Config::drain`]: closing handshakes, its tasks, its lease.
const END_REST: Duration = Duration::from_millis(1200);

impl Config {
    /// A gateway on free ports of loopback that lets everybody in.
    #[must_use]
    pub fn new(id: NodeId, store: AnyStore) -> Config {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Config {
            id,
            store,
            listen: loopback,
            rpc_listen: loopback,
            advertise: None,
            origin: OriginCheck::default(),
            namespaces: Vec::new(),
            limits: Limits::DEFAULT,
            message_bytes_max: 64 * 1024,
            idle_timeout: Duration::from_secs(60),
            connections_max: 20_000,
            shards: shards_default(),
            authenticate: Arc::new(Anonymous),
            drain: Duration::from_secs(5),
        }
    }

    /// How long the gateway takes to end at most, from the moment it is asked to. Whoever kills what does not end has to
    /// wait longer.
    #[must_use]
    pub fn end_max(&self) -> Duration {
        self.drain
            .max(Pace::new(self.drain, self.connections_max).answers())
            + END_REST
    }
}

fn shards_default() -> usize {
    const CORES_PER_SHARD: usize = 4;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cores.div_ceil(CORES_PER_SHARD)
}

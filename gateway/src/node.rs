//! A gateway from its configuration to its end: build (binds), run (registers, serves), drain, leave.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ringcast_gateway_core::gateway as core;
use ringcast_proto::record::{NodeRecord, Role};
use ringcast_proto::{Incarnation, grpc};
use ringcast_ring_store::{JoinError, Membership, Mirror, NodeInfo};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::config::Config;
use crate::connection::Desk;
use crate::http::{self, Edge};
use crate::hub::{self, Pace, State};
use crate::lanes::Lanes;
use crate::metrics::Metrics;
use crate::poller;
use crate::ring::{self, Cluster, Readiness};
use crate::rpc::Service;
use ringcast_proto::accept::{Acceptor, listen};

/// A gateway's lease: longer than a topic server's, because nothing waits for its end but the lists of members.
const LEASE_TTL: Duration = Duration::from_secs(3);
/// A taken id is asked for so long: a restart after a crash keeps its id.
const ID_PATIENCE: Duration = Duration::from_secs(6);
/// So long clients have to take their close frame and answer it, before the lease is given back.
const CLOSE_MAX: Duration = Duration::from_millis(500);
/// So long what is left has to end after that.
const STOP_MAX: Duration = Duration::from_millis(300);
/// Giving the lease back; the store lets it run out otherwise.
const LEAVE_MAX: Duration = Duration::from_millis(400);

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The clients' address is taken, or not this machine's.
    #[error("listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The nodes' address is taken, or not this machine's.
    #[error("listen for rpc on {address}: {source}")]
    RpcListen {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a gateway ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not become one of the cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The system would not let it wait for sockets.
    #[error("poll clients' sockets: {0}")]
    Poll(io::Error),
    /// The rpc listener ended.
    #[error("rpc listener: {0}")]
    Rpc(#[from] tonic::transport::Error),
    /// A task that never ends did.
    #[error("the gateway's {0} ended")]
    Task(&'static str),
}

/// A gateway whose sockets are bound, and that has not begun.
pub struct Gateway {
    config: Config,
    metrics: Arc<Metrics>,
    listener: TcpListener,
    address: SocketAddr,
    rpc_listener: TcpListener,
    rpc_address: SocketAddr,
    entropy: u64,
    readiness: Readiness,
    draining: CancellationToken,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Binds both sockets, inside a tokio runtime. Nothing is accepted and nothing registered before
    /// [`Gateway::run`].
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(
        config: Config,
        recorder: &(dyn metrics::Recorder + Sync),
    ) -> Result<Gateway, BuildError> {
        let (listener, address) = bind(config.listen).map_err(|source| BuildError::Listen {
            address: config.listen,
            source,
        })?;
        let (rpc_listener, rpc_address) =
            bind(config.rpc_listen).map_err(|source| BuildError::RpcListen {
                address: config.rpc_listen,
                source,
            })?;
        let metrics = Metrics::register(recorder, &config.id);
        let draining = CancellationToken::new();
        Ok(Gateway {
            entropy: getrandom::u64().expect("the operating system has random bytes"),
            readiness: Readiness::new(draining.clone()),
            config,
            metrics,
            listener,
            address,
            rpc_listener,
            rpc_address,
            draining,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where nodes connect.
    #[must_use]
    pub fn rpc_address(&self) -> SocketAddr {
        self.rpc_address
    }

    /// Whether it can do its work, from now on and to the end.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Registers and serves until `stop`, then closes every client with 1012 and leaves, within 1.5 s.
    ///
    /// # Errors
    /// [`RunError`] if it ended for another reason.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let span = tracing::info_span!("gateway", id = %self.config.id);
        self.live(stop).instrument(span).await
    }

    async fn live(self, stop: CancellationToken) -> Result<(), RunError> {
        let joining = Membership::join(self.config.store.clone(), self.info(), ID_PATIENCE);
        let Some(membership) = stop.run_until_cancelled(joining).await else {
            return Ok(());
        };
        let membership = membership?;
        let node = membership.lease().node();
        tracing::info!(%node, listen = %self.address, rpc = %self.rpc_address, "gateway registered");
        let ended = self.serve(&membership, stop).await;
        // Bounded besides by the membership itself; what the store does not hear runs out.
        if tokio::time::timeout(LEAVE_MAX, membership.leave()).await.is_err() {
            tracing::warn!(%node, "lease not given back in time, it runs out by itself");
        }
        tracing::info!(%node, "gateway ended");
        ended
    }

    async fn serve(self, membership: &Membership, stop: CancellationToken) -> Result<(), RunError> {
        let Gateway {
            config,
            metrics,
            listener,
            rpc_listener,
            entropy,
            readiness,
            draining,
            ..
        } = self;
        // What must go on while clients are closed ends by `ended`; what must not begin any more by `draining`.
        let (tasks, clients, ended) = (TaskTracker::new(), TaskTracker::new(), CancellationToken::new());
        let _ended = ended.clone().drop_guard();
        let lease = membership.lease();
        let Incarnation(incarnation) = lease.node().incarnation;
        let mirror = Mirror::start(config.store.clone(), &tasks, ended.clone());
        let cluster = Arc::new(Cluster::new(lease, mirror));
        readiness.joined(Arc::clone(&cluster));

        let (hub, inbox) = hub::mailbox();
        let lanes = Lanes::new(
            Arc::clone(&cluster),
            hub.clone(),
            tasks.clone(),
            ended.clone(),
            metrics.clone(),
            Incarnation(incarnation),
        );
        let core_config = core::Config {
            namespaces: config.namespaces,
            limits: config.limits,
        };
        let pace = Pace::new(config.drain, config.connections_max);
        let (writes, writing) = hub::writes(config.shards);
        let state = State::new(
            core::Gateway::new(core_config, entropy),
            lanes,
            metrics.clone(),
            writes,
            config.idle_timeout,
            pace,
        );
        let let_go = CancellationToken::new();
        let mut hub_task = tasks.spawn(
            state
                .run(inbox, draining.clone(), let_go.clone(), ended.clone())
                .in_current_span(),
        );
        for writing in writing {
            tasks.spawn(writing.run(ended.clone()).in_current_span());
        }
        let follow = ring::follow(Arc::clone(&cluster), hub.clone());
        tasks.spawn(until(ended.clone(), follow).in_current_span());
        tasks.spawn(until(
            ended.clone(),
            ring::stand(membership.standing(), Incarnation(incarnation), hub.clone()),
        ));

        let incoming = Acceptor::new(rpc_listener).into_stream();
        let service = Service::server(Arc::clone(&cluster), hub.clone(), ended.clone());
        let rpc =
            grpc::server().serve_with_incoming_shutdown(service, incoming, ended.clone().cancelled_owned());
        let mut rpc_task = tasks.spawn(rpc.in_current_span());

        let desk = Desk {
            hub: hub.clone(),
            metrics: metrics.clone(),
        };
        let (pollers, polling) = poller::pollers(config.shards, &desk).map_err(RunError::Poll)?;
        for polling in polling {
            tasks.spawn(polling.run(ended.clone()).in_current_span());
        }
        let edge = Edge {
            hub,
            pollers,
            tasks: clients.clone(),
            metrics,
            origin: config.origin,
            authenticate: config.authenticate,
            message_bytes_max: config.message_bytes_max,
            places: Arc::new(Semaphore::new(config.connections_max)),
            next_session: AtomicU64::new(incarnation << 32 | 1),
            draining: draining.clone(),
        };
        let mut clients_task =
            clients.spawn(http::serve(Acceptor::new(listener), Arc::new(edge)).in_current_span());

        let result = tokio::select! {
            biased;
            // Somebody wants it to end.
            () = stop.cancelled() => Ok(()),
            // None of these ever ends by itself: a bug, or for rpc an error of the system.
            _ = &mut hub_task => Err(RunError::Task("hub")),
            _ = &mut clients_task => Err(RunError::Task("listener")),
            rpc = &mut rpc_task => match rpc {
                Ok(Err(error)) => Err(error.into()),
                _ => Err(RunError::Task("rpc listener")),
            },
        };
        draining.cancel();
        let let_go = tokio::time::timeout(config.drain.max(pace.answers()), let_go.cancelled());
        tokio::select! {
            biased;
            // Nobody is left.
            () = all_gone(&clients) => {}
            // Everybody has a close frame, or the hub is late.
            _ = let_go => end("connections", &clients, CLOSE_MAX).await,
        }
        ended.cancel();
        end("tasks", &tasks, STOP_MAX).await;
        result
    }

    fn info(&self) -> NodeInfo {
        let record = NodeRecord {
            incarnation: Incarnation(0),
            role: Role::Gateway,
            advertise: self
                .config
                .advertise
                .clone()
                .unwrap_or_else(|| self.rpc_address.to_string()),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            ready: false,
            leaving: false,
            rest: Default::default(),
        };
        NodeInfo {
            id: self.config.id.clone(),
            record,
            ttl: LEASE_TTL,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = listen(address)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

async fn until(ended: CancellationToken, task: impl Future<Output = ()>) {
    // Either way it is over; who ended it does not matter.
    ended.run_until_cancelled(task).await;
}

async fn all_gone(tasks: &TaskTracker) {
    tasks.close();
    tasks.wait().await;
}

/// Waits for what should end by itself, and names what did not.
async fn end(what: &str, tasks: &TaskTracker, patience: Duration) {
    if tokio::time::timeout(patience, all_gone(tasks)).await.is_err() {
        tracing::warn!(left = tasks.len(), "not all {what} ended in time");
    }
}

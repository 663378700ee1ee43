//! A topic server's life: built (bound, and nothing else), run, ended.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ringcast_proto::Incarnation;
use ringcast_proto::accept::{self, Acceptor};
use ringcast_proto::grpc::{self, MESSAGE_BYTES_MAX};
use ringcast_proto::record::{NodeRecord, Role};
use ringcast_proto::v1::topic_server_server::TopicServerServer;
use ringcast_ring::PlannerConfig;
use ringcast_ring_store::{JoinError, Membership, Mirror, NodeInfo};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::config::Config;
use crate::grpc::Service;
use crate::lanes::Lanes;
use crate::memory::history_memory_default;
use crate::metrics::{Metrics, SharedRecorder};
use crate::moves::Moves;
use crate::readiness::Readiness;
use crate::roles::{Roles, SlotEnded};
use crate::shared::Shared;
use crate::touch::Touches;
use crate::{leave, memory, planner, touch};

/// What calls in flight get to finish when the server ends.
const CALLS_DEADLINE: Duration = Duration::from_millis(300);
const TASKS_DEADLINE: Duration = Duration::from_millis(100);

/// Why there is no topic server.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address cannot be listened on.
    #[error("listen on {address} for gateways: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Why a topic server ended though nobody asked it to. It has given up its lease.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not become one of the cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Its listener failed.
    #[error("serve gateways: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A bug: something that goes on for as long as the server does ended by itself.
    #[error("the task {0} ended by itself")]
    Task(&'static str),
    /// A bug: nobody would serve the slot.
    #[error(transparent)]
    Slot(#[from] SlotEnded),
}

/// A topic server that is bound to its address and not registered yet.
pub struct TopicServer {
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    metrics: Metrics,
    readiness: watch::Sender<Readiness>,
}

impl TopicServer {
    /// Binds the listener. Metrics go to `recorder`.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(config: Config, recorder: SharedRecorder) -> Result<TopicServer, BuildError> {
        let failed = |source| BuildError::Listen {
            address: config.rpc_listen,
            source,
        };
        let listener = accept::listen(config.rpc_listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let metrics = Metrics::new(recorder, config.id.clone());
        Ok(TopicServer {
            config,
            listener,
            address,
            metrics,
            readiness: watch::Sender::default(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn rpc_address(&self) -> SocketAddr {
        self.address
    }

    /// How far it has come, and every change of that.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Registers, takes its place and serves, until `stop` is cancelled; then it serves on until its slots have moved
    /// to other nodes, for [`Config::drain`] at most, and ends within 1.5 s. Dropping the future is a crash: the lease
    /// runs out by itself.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let span = tracing::info_span!("topic-server", id = %self.config.id);
        self.live(stop).instrument(span).await
    }

    async fn live(self, stop: CancellationToken) -> Result<(), RunError> {
        let TopicServer {
            config,
            listener,
            address,
            metrics,
            readiness,
        } = self;
        let advertise = config.advertise.clone().unwrap_or_else(|| address.to_string());
        let join = Membership::join(
            config.store.clone(),
            node_info(&config, advertise.clone()),
            config.patience,
        );
        let Some(joined) = stop.run_until_cancelled(join).await else {
            return Ok(());
        };
        let membership = joined?;
        tracing::info!(node = %membership.lease().node(), rpc = %address, advertise, "topic server registered");
        let shared = Arc::new(Shared {
            lease: membership.lease(),
            store: config.store.clone(),
            limits: config.limits.clone(),
            metrics,
            lanes: Lanes::default(),
            touches: Touches::default(),
            moves: Moves::default(),
            directory: ArcSwapOption::empty(),
            slots: OnceLock::new(),
            topics: AtomicUsize::new(0),
            history_bytes: AtomicUsize::new(0),
            owned: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            taps: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let crash = shared.stop.clone().drop_guard();
        let ended = serve(&config, listener, &shared, &membership, &readiness, &stop).await;
        readiness.send_modify(|ready| ready.stopping = true);
        membership.leave().await;
        drop(crash);
        shared.tasks.close();
        if tokio::time::timeout(TASKS_DEADLINE, shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = shared.tasks.len(), "tasks did not end in time");
        }
        tracing::info!(node = %config.id, "topic server ended");
        ended
    }
}

/// Runs everything until `stop`, or until something ends that must not.
async fn serve(
    config: &Config,
    listener: TcpListener,
    shared: &Arc<Shared>,
    membership: &Membership,
    readiness: &watch::Sender<Readiness>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    let mirror = Mirror::start(config.store.clone(), &shared.tasks, shared.stop.clone());
    let planner_config = PlannerConfig {
        expect_topic_servers: config.expect_topic_servers,
        slots: config.slots,
    };
    let entropy = getrandom::u64().expect("the operating system has random bytes");
    let planner = planner::run(
        shared.clone(),
        config.store.clone(),
        mirror.clone(),
        planner_config,
        entropy,
    );
    let touch = touch::run(shared.clone(), config.store.clone(), mirror.clone());
    let (ended, touches_ended) = (shared.stop.clone(), shared.stop.clone());
    let mut planner_task = shared
        .tasks
        .spawn(async move { ended.run_until_cancelled(planner).await }.in_current_span());
    let mut touch_task = shared
        .tasks
        .spawn(async move { touches_ended.run_until_cancelled(touch).await }.in_current_span());
    let history_memory = config.history_memory.unwrap_or_else(history_memory_default);
    let mut memory = std::pin::pin!(memory::run(shared.clone(), history_memory));
    let roles = Roles {
        shared: shared.clone(),
        mirror: mirror.clone(),
        standing: membership.standing(),
        readiness: readiness.clone(),
        slots: JoinSet::new(),
        told: Vec::new(),
        claimed: None,
        followed: None,
    };
    let service = TopicServerServer::new(Service {
        shared: shared.clone(),
    })
    .max_decoding_message_size(MESSAGE_BYTES_MAX)
    .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let closing = CancellationToken::new();
    // Boxed for tonic, which wants to move the stream.
    let incoming = Box::pin(Acceptor::new(listener).into_stream());
    let server =
        grpc::server().serve_with_incoming_shutdown(service, incoming, closing.clone().cancelled_owned());
    let (mut server, mut roles) = (std::pin::pin!(server), std::pin::pin!(roles.run()));
    let leaving = async {
        stop.cancelled().await;
        tracing::info!("topic server stopping");
        readiness.send_modify(|ready| ready.stopping = true);
        leave::drained(shared, &mirror, config.drain).await;
    };
    tokio::select! {
        biased;
        // Asked to end, and nothing is left to wait for.
        () = leaving => {}
        // A slot ended, or what roles follow: a bug, as it is where the planner or the touches end by themselves.
        ended = &mut roles => return Err(ended.map_or_else(RunError::from, |()| RunError::Task("roles"))),
        _ = &mut planner_task => return Err(RunError::Task("planner")),
        () = &mut memory => return Err(RunError::Task("memory")),
        _ = &mut touch_task => return Err(RunError::Task("touch")),
        // The listener failed.
        ended = &mut server => return ended.map_err(RunError::from),
    }
    closing.cancel();
    // Calls in flight need the slots, which end with `roles`.
    let ended = async {
        tokio::select! {
            biased;
            ended = server => ended.map_err(RunError::from),
            ended = roles => ended.map_err(RunError::from),
        }
    };
    tokio::time::timeout(CALLS_DEADLINE, ended)
        .await
        .unwrap_or(Ok(()))
}

fn node_info(config: &Config, advertise: String) -> NodeInfo {
    let record = NodeRecord {
        // The store gives the real one.
        incarnation: Incarnation(0),
        role: Role::TopicServer,
        advertise,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        ready: false,
        leaving: false,
        rest: Default::default(),
    };
    NodeInfo {
        id: config.id.clone(),
        record,
        ttl: config.lease_ttl,
    }
}

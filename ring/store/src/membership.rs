//! Keeps a node registered, whatever the rest of its process does.
//!
//! Renewing runs on a thread of its own with its own connection, so that a busy data plane does not cost the lease.
//! *Invariant:* [`LeaseView::valid`] is true only while the store cannot have given the lease up: it counts from when the
//! last successful renewal was *sent*, less the clocks' error and a margin.
//! Leaves out: what a node does when its lease is lost (seal, claim), which its roles decide from [`Standing`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringcast_proto::record::NodeRecord;
use ringcast_proto::{Incarnation, Millis, NodeId, NodeRef};
use ringcast_ring::Op;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::store::{Lease, NodeInfo, RegisterRefused, RenewError, RingStore, fresh_op};
use crate::{AnyStore, clock};

/// A quarter of the shortest TTL: three renewals may fail before a lease is in doubt.
const RENEW_INTERVAL: Duration = Duration::from_millis(500);
const RENEW_DEADLINE: Duration = Duration::from_millis(400);
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);
/// What a reply needs from the check of its lease to the socket, and the store's own rounding.
const MARGIN: Duration = Duration::from_millis(150);
const RETRY_MIN: Duration = Duration::from_millis(50);
/// A taken id is asked for this often: its old lease ends within a TTL.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// Whether the node is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In this life, from now on.
    Held(Incarnation),
    /// This life is over for ever; the next one is being asked for.
    Lost(Incarnation),
}

/// Why a node did not become one of the cluster.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum JoinError {
    /// Somebody held the id all the time.
    #[error("node id {id} is taken by the {} at {} (incarnation {}, build {})", role_name(.holder), .holder.advertise, .holder.incarnation, .holder.build)]
    Taken {
        /// The id asked for.
        id: NodeId,
        /// Its holder.
        holder: Box<NodeRecord>,
    },
    /// The store did not answer, or has no room.
    #[error("node {id} could not register in {} ms: {reason}", .patience.as_millis())]
    Refused {
        /// The id asked for.
        id: NodeId,
        /// For how long it was tried.
        patience: Duration,
        /// What the last try got.
        reason: String,
    },
    /// The machine has no thread or timer for it.
    #[error("start the membership thread: {0}")]
    Thread(String),
}

fn role_name(record: &NodeRecord) -> &'static str {
    match record.role {
        ringcast_proto::record::Role::Gateway => "gateway",
        ringcast_proto::record::Role::TopicServer => "topic server",
    }
}

/// The node's lease, as the rest of its process sees it. Cheap to clone and to ask: two atomic loads.
#[derive(Debug, Clone)]
pub struct LeaseView {
    id: NodeId,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    incarnation: AtomicU64,
    valid_until: AtomicU64,
}

impl LeaseView {
    /// The node in its present life, which may be over: see [`LeaseView::valid`].
    #[must_use]
    pub fn node(&self) -> NodeRef {
        let incarnation = Incarnation(self.shared.incarnation.load(Ordering::SeqCst));
        NodeRef {
            node: self.id.clone(),
            incarnation,
        }
    }

    /// Until when the node may act as registered; zero after the lease was lost.
    #[must_use]
    pub fn valid_until(&self) -> Millis {
        Millis(self.shared.valid_until.load(Ordering::SeqCst))
    }

    /// Whether the node may act as registered at `now` (of [`clock::now`]), in whichever life it is.
    #[must_use]
    pub fn valid(&self, now: Millis) -> bool {
        now < self.valid_until()
    }

    /// Whether it may act at `now` in the life `incarnation`: what took a role in one life must not use it in the next.
    #[must_use]
    pub fn valid_for(&self, incarnation: Incarnation, now: Millis) -> bool {
        // In this order: a new life is named before it is valid, so a validity seen here is of this life or earlier.
        let valid = self.valid(now);
        valid && self.shared.incarnation.load(Ordering::SeqCst) == incarnation.0
    }

    fn unregistered(id: NodeId) -> LeaseView {
        let shared = Shared {
            incarnation: AtomicU64::new(0),
            valid_until: AtomicU64::new(0),
        };
        LeaseView {
            id,
            shared: Arc::new(shared),
        }
    }

    fn begin(&self, lease: &Lease, sent: Millis) {
        self.shared.valid_until.store(0, Ordering::SeqCst);
        self.shared
            .incarnation
            .store(lease.node.incarnation.0, Ordering::SeqCst);
        self.renewed(lease, sent);
    }

    fn renewed(&self, lease: &Lease, sent: Millis) {
        self.shared
            .valid_until
            .store((sent + validity(lease.ttl)).0, Ordering::SeqCst);
    }

    fn lost(&self) {
        self.shared.valid_until.store(0, Ordering::SeqCst);
    }
}

/// How long after sending a renewal that succeeded its sender may rely on it: TTL less 1 % for clocks that run apart,
/// less the margin.
fn validity(ttl: Duration) -> Duration {
    (ttl * 99 / 100).saturating_sub(MARGIN)
}

/// A node's registration. Dropped without [`Membership::leave`], the lease is left to run out, as after a crash.
#[derive(Debug)]
pub struct Membership {
    lease: LeaseView,
    standing: watch::Receiver<Standing>,
    leave: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
    _abandon: DropGuard,
}

impl Membership {
    /// Registers `node` and keeps it registered. An id that is taken, and a store that does not answer, are tried again
    /// for `patience`: a node that crashed comes back under its id once its old lease has run out.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(store: AnyStore, node: NodeInfo, patience: Duration) -> Result<Membership, JoinError> {
        let store = store.apart();
        Membership::start(store, node, patience).await
    }

    async fn start(
        store: impl RingStore,
        node: NodeInfo,
        patience: Duration,
    ) -> Result<Membership, JoinError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| JoinError::Thread(error.to_string()))?;
        let lease = LeaseView::unregistered(node.id.clone());
        let (leave, abandon) = (CancellationToken::new(), CancellationToken::new());
        let (joined, outcome) = oneshot::channel();
        let keeper = Keeper {
            store,
            node,
            lease: lease.clone(),
            leave: leave.clone(),
        };
        let abandoned = abandon.clone();
        let thread = std::thread::Builder::new()
            .name("lease".into())
            .spawn(move || {
                runtime.block_on(abandoned.run_until_cancelled(keeper.run(patience, joined)));
            })
            .map_err(|error| JoinError::Thread(error.to_string()))?;
        // Dropping this future here gives the registration up as well.
        let guard = abandon.drop_guard();
        let standing = outcome
            .await
            .map_err(|_| JoinError::Thread("it ended".to_owned()))??;
        Ok(Membership {
            lease,
            standing,
            leave,
            thread: Some(thread),
            _abandon: guard,
        })
    }

    /// The lease, to be asked before every reply that depends on it.
    #[must_use]
    pub fn lease(&self) -> LeaseView {
        self.lease.clone()
    }

    /// How the node stands, and every change of that.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Gives the lease back, so that others need not wait for its end. Takes a second at most.
    pub async fn leave(mut self) {
        self.leave.cancel();
        if let Some(thread) = self.thread.take() {
            // The thread is bounded by LEAVE_DEADLINE; it panicking has nothing to do with who leaves.
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if !matches!(joined.await, Ok(Ok(()))) {
                tracing::error!(node = %self.lease.id, "the membership thread did not end well");
            }
        }
    }
}

type Joined = oneshot::Sender<Result<watch::Receiver<Standing>, JoinError>>;

/// What the thread does.
struct Keeper<S> {
    store: S,
    node: NodeInfo,
    lease: LeaseView,
    leave: CancellationToken,
}

impl<S: RingStore> Keeper<S> {
    async fn run(self, patience: Duration, joined: Joined) {
        let mut lease = match self.register(Some(patience), None).await {
            Ok(lease) => lease,
            Err(error) => {
                // Nobody listens any more if the caller gave up; then nobody needs the answer.
                drop(joined.send(Err(error)));
                return;
            }
        };
        let standing = watch::Sender::new(Standing::Held(lease.node.incarnation));
        if joined.send(Ok(standing.subscribe())).is_err() {
            self.release(&lease).await;
            return;
        }
        tracing::debug!(node = %lease.node, ttl_ms = lease.ttl.as_millis() as u64, "registered");
        // Leaving wins over whatever is under way, and releases what is held by then.
        while self.leave.run_until_cancelled(self.keep(&lease)).await.is_some() {
            self.lease.lost();
            tracing::warn!(node = %lease.node, "lease lost, registering anew");
            standing.send_replace(Standing::Lost(lease.node.incarnation));
            match self
                .leave
                .run_until_cancelled(self.register(None, Some(&lease)))
                .await
            {
                Some(Ok(next)) => lease = next,
                // Without patience to run out of it is never refused; and nothing is held to be released.
                Some(Err(_)) | None => return,
            }
            tracing::info!(node = %lease.node, "registered anew");
            standing.send_replace(Standing::Held(lease.node.incarnation));
        }
        self.lease.lost();
        self.release(&lease).await;
    }

    /// Renews until the lease is lost.
    async fn keep(&self, lease: &Lease) {
        let mut interval = tokio::time::interval(RENEW_INTERVAL.min(lease.ttl / 4));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        interval.tick().await;
        loop {
            interval.tick().await;
            let sent = clock::now();
            match tokio::time::timeout(RENEW_DEADLINE, self.store.renew(lease)).await {
                Ok(Ok(())) => self.lease.renewed(lease, sent),
                Ok(Err(RenewError::Lost)) => return,
                Ok(Err(RenewError::Unknown(reason))) => {
                    tracing::debug!(node = %lease.node, %reason, "lease not renewed");
                }
                Err(_) => tracing::debug!(node = %lease.node, "lease not renewed: no answer in time"),
            }
        }
    }

    /// Registers, for as long as there is patience (`None`: for ever). `before` is the life that was just lost.
    async fn register(&self, patience: Option<Duration>, before: Option<&Lease>) -> Result<Lease, JoinError> {
        let op: Op = fresh_op();
        let deadline = patience.map(|patience| clock::now() + patience);
        let mut retry = RETRY_MIN;
        loop {
            let sent = clock::now();
            let refused = match self.store.register(&self.node, &op).await {
                Ok(lease) => {
                    self.lease.begin(&lease, sent);
                    return Ok(lease);
                }
                Err(refused) => refused,
            };
            if let (RegisterRefused::Taken(holder), Some(before)) = (&refused, before)
                && holder.incarnation == before.node.incarnation
            {
                // A store that called the lease lost still shows it, perhaps out of an older file: end it.
                self.release(before).await;
            }
            let left = deadline.map_or(retry, |deadline| deadline.since(clock::now()));
            if left.is_zero() {
                return Err(self.refused(refused, patience.unwrap_or_default()));
            }
            tracing::debug!(node = %self.node.id, %refused, "not registered yet");
            tokio::time::sleep(retry.min(left)).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    fn refused(&self, refused: RegisterRefused, patience: Duration) -> JoinError {
        let id = self.node.id.clone();
        match refused {
            RegisterRefused::Taken(holder) => JoinError::Taken { id, holder },
            refused => JoinError::Refused {
                id,
                patience,
                reason: refused.to_string(),
            },
        }
    }

    async fn release(&self, lease: &Lease) {
        match tokio::time::timeout(LEAVE_DEADLINE, self.store.release(lease)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(node = %lease.node, %error, "lease not released, it will run out")
            }
            Err(_) => tracing::warn!(node = %lease.node, "lease not released in time, it will run out"),
        }
    }
}

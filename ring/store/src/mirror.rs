//! Every record of the ring store, kept up to date in this process.
//!
//! *Invariant:* what it shows never goes back: a store that has lost revisions is treated as if it did not answer.
//! Leaves out: deciding anything from it. What a node has read may make it give up; only a write that succeeded may make
//! it take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use ringcast_ring::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::store::{RingStore, Watched};

/// A watch that missed something without saying so is put right after this long.
const LOAD_INTERVAL: Duration = Duration::from_secs(30);
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A handle; all clones show the same.
#[derive(Debug, Clone)]
pub struct Mirror {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    connected: Arc<AtomicBool>,
}

impl Mirror {
    /// Starts to follow `store`. Until the first load it shows an empty snapshot at revision 0.
    #[must_use]
    pub fn start(store: impl RingStore, tasks: &TaskTracker, stop: CancellationToken) -> Mirror {
        let (shown, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let connected = Arc::new(AtomicBool::new(false));
        let follower = Follower {
            store,
            shown,
            connected: connected.clone(),
        };
        tasks.spawn(async move { stop.run_until_cancelled(follower.run()).await }.in_current_span());
        Mirror { snapshot, connected }
    }

    /// The records as last seen; the last good ones while the store is away.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Every change of [`Mirror::snapshot`]; a slow reader sees only the latest.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Whether the store is being heard.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

struct Follower<S> {
    store: S,
    shown: watch::Sender<Arc<Snapshot>>,
    connected: Arc<AtomicBool>,
}

impl<S: RingStore> Follower<S> {
    async fn run(self) {
        let mut retry = RETRY_MIN;
        loop {
            if self.load().await {
                let followed = tokio::time::Instant::now();
                let resync = self.follow().await;
                // A watch that held for a while has earned a prompt return.
                if followed.elapsed() > RETRY_MAX {
                    retry = RETRY_MIN;
                }
                self.set_connected(resync);
            } else {
                self.set_connected(false);
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    /// Shows what the store holds; `false` if it does not answer, or answers with less than it once had.
    async fn load(&self) -> bool {
        let loaded = match self.store.load().await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::debug!(%error, "ring store not loaded");
                return false;
            }
        };
        let shown = self.shown.borrow().revision;
        if loaded.revision < shown {
            tracing::error!(
                loaded = loaded.revision.0,
                shown = shown.0,
                "the ring store lost revisions: it counts as away until it is put right"
            );
            return false;
        }
        self.shown.send_if_modified(|snapshot| {
            let differs = **snapshot != loaded;
            if differs && snapshot.revision == loaded.revision {
                tracing::warn!(
                    revision = loaded.revision.0,
                    "the watch had missed something, a load put it right"
                );
            }
            if differs {
                *snapshot = Arc::new(loaded);
            }
            differs
        });
        true
    }

    /// Applies what the watch says until it says nothing more; `true` if it said to load again.
    async fn follow(&self) -> bool {
        let after = self.shown.borrow().revision;
        let mut watch = self.store.watch(after);
        let mut load = tokio::time::interval(LOAD_INTERVAL);
        load.tick().await;
        loop {
            let watched = tokio::select! {
                biased;
                // Every half minute, however busy the watch is.
                _ = load.tick() => {
                    if !self.load().await {
                        return false;
                    }
                    continue;
                }
                // Whatever the store says; nothing: it cannot be heard any more.
                watched = watch.next() => watched,
            };
            match watched {
                Some(Watched::Changed(changed)) => {
                    self.shown.send_if_modified(|snapshot| {
                        let newer = changed.revision > snapshot.revision;
                        if newer {
                            Arc::make_mut(snapshot).apply(&changed);
                        }
                        newer
                    });
                }
                Some(Watched::Progress(_)) => {}
                Some(Watched::Resync) => return true,
                None => return false,
            }
            self.set_connected(true);
        }
    }

    fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::Relaxed) != connected {
            if connected {
                tracing::info!("ring store connected");
            } else {
                tracing::warn!("ring store not connected");
            }
        }
    }
}

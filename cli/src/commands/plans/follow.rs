//! Following the ring's records until something has happened.
//!
//! *Invariant:* nobody waits in silence: a store that is not heard for [`SILENCE_MAX`] is an error that names it, and
//! Ctrl-C ends the waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ringcast_ring::{Revision, Snapshot};
use ringcast_ring_store::Mirror;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::cluster::Cluster;

/// A coordinator that restarts is back in less.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Slots move by the hundred a second; people and scripts read slower.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What did not change is looked at again, to see how long it has not.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);

/// The records, as they change.
pub(crate) struct Follow {
    mirror: Mirror,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    heard: Instant,
    url: String,
    interrupt: CancellationToken,
    /// Ends the mirror with this.
    _mirror: DropGuard,
}

/// What following brought.
pub(crate) enum Next {
    /// The records; perhaps the same as before.
    Seen(Arc<Snapshot>),
    /// Ctrl-C.
    Interrupted,
}

impl Follow {
    /// Starts to follow the store of `cluster`, until `interrupt`.
    pub(crate) fn start(cluster: &Cluster, interrupt: CancellationToken) -> Follow {
        let stop = CancellationToken::new();
        let mirror = Mirror::start(cluster.store().clone(), &TaskTracker::new(), stop.clone());
        Follow {
            snapshots: mirror.subscribe(),
            mirror,
            heard: Instant::now(),
            url: cluster.url().to_owned(),
            interrupt,
            _mirror: stop.drop_guard(),
        }
    }

    /// The records at `since` or later, once more than [`LOOK_INTERVAL`] has passed.
    pub(crate) async fn next(&mut self, since: Revision) -> Result<Next> {
        loop {
            let changed = async {
                tokio::time::sleep(LOOK_INTERVAL).await;
                tokio::time::timeout(IDLE_INTERVAL, self.snapshots.changed()).await
            };
            if self.interrupt.run_until_cancelled(changed).await.is_none() {
                return Ok(Next::Interrupted);
            }
            if self.mirror.connected() {
                self.heard = Instant::now();
            } else if self.heard.elapsed() > SILENCE_MAX {
                bail!(
                    "the store at {} has not been heard for {} s; what was committed goes on when it is back",
                    self.url,
                    SILENCE_MAX.as_secs()
                );
            }
            let snapshot = self.snapshots.borrow_and_update().clone();
            if snapshot.revision >= since && snapshot.revision > Revision(0) {
                return Ok(Next::Seen(snapshot));
            }
        }
    }
}

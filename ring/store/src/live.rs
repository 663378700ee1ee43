//! The store as this process shows it: behind a lock, with watches that wake up and a clock that ends leases.
//!
//! *Invariant:* what is in here may be seen by anyone, so the coordinator puts in only what is on its disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ringcast_proto::{Millis, NodeRef};
use ringcast_ring::{Changed, Revision};
use tokio::sync::watch;

use crate::clock;
use crate::state::Store;
use crate::store::{RenewError, Watch, Watched};

/// A watch says at least this often that it is alive.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How many changes a watch takes at a time.
const WATCH_TAKE_MAX: usize = 64;
/// How often leases are looked at, at least.
const TICK: Duration = Duration::from_millis(250);
/// A tick this late means that the whole process stood still, and that renewals wait unread in its sockets.
const STALLED: Duration = Duration::from_millis(500);

pub(crate) struct Live {
    store: Mutex<Store>,
    revision: watch::Sender<Revision>,
}

impl Live {
    pub(crate) fn new(store: Store) -> Arc<Live> {
        let revision = watch::Sender::new(store.revision());
        Arc::new(Live {
            store: Mutex::new(store),
            revision,
        })
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.lock())
    }

    pub(crate) fn update<T>(&self, update: impl FnOnce(&mut Store, Millis) -> T) -> T {
        let (answer, revision) = {
            let mut store = self.lock();
            // Read under the lock, so that the store never sees time go back.
            let answer = update(&mut store, clock::now());
            (answer, store.revision())
        };
        self.revision.send_if_modified(|shown| {
            let newer = *shown < revision;
            *shown = revision.max(*shown);
            newer
        });
        answer
    }

    pub(crate) fn renew(&self, node: &NodeRef) -> Result<(), RenewError> {
        self.update(|store, now| store.renew(node, now))
    }

    pub(crate) fn watch(self: &Arc<Live>, after: Revision) -> Watch {
        let watcher = Watcher {
            live: self.clone(),
            revision: self.revision.subscribe(),
            after,
            taken: VecDeque::new(),
            spoke: false,
            over: false,
        };
        Box::pin(futures_util::stream::unfold(watcher, Watcher::next))
    }

    /// Starts the thread that hands `end` the lives whose lease ran out, until this store is dropped.
    pub(crate) fn keep_time(
        self: &Arc<Live>,
        end: impl Fn(&Live, Vec<NodeRef>) + Send + 'static,
    ) -> std::io::Result<()> {
        let live = Arc::downgrade(self);
        std::thread::Builder::new()
            .name("lease-expiry".into())
            .spawn(move || keep_time(&live, end))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // A panic inside the state machine would be a bug in one call; the records were not half written by it.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_time(live: &Weak<Live>, end: impl Fn(&Live, Vec<NodeRef>)) {
    let mut planned = clock::now();
    while let Some(live) = live.upgrade() {
        let late = clock::now().since(planned);
        let overdue = live.update(|store, now| {
            if late > STALLED {
                store.resume(now);
            }
            store.overdue(now)
        });
        if late > STALLED {
            tracing::warn!(
                late_ms = late.as_millis() as u64,
                "stood still: every lease goes on for its ttl"
            );
        }
        if !overdue.is_empty() {
            end(&live, overdue);
        }
        let now = clock::now();
        planned = live
            .read(Store::next_expiry)
            .map_or(now + TICK, |at| at.clamp(now, now + TICK));
        drop(live);
        std::thread::park_timeout(planned.since(now));
    }
}

struct Watcher {
    live: Arc<Live>,
    revision: watch::Receiver<Revision>,
    after: Revision,
    taken: VecDeque<Changed>,
    spoke: bool,
    over: bool,
}

impl Watcher {
    /// Waits for a newer revision, but no longer than a watch may be silent; whether there was none.
    async fn quiet(&mut self) -> bool {
        tokio::time::timeout(PROGRESS_INTERVAL, self.revision.changed())
            .await
            .is_err()
    }

    async fn next(mut self) -> Option<(Watched, Watcher)> {
        while !self.over {
            if self.taken.is_empty() {
                self.revision.mark_unchanged();
                match self
                    .live
                    .read(|store| store.changes_after(self.after, WATCH_TAKE_MAX))
                {
                    Some(changes) => self.taken.extend(changes),
                    None => {
                        self.over = true;
                        return Some((Watched::Resync, self));
                    }
                }
            }
            if let Some(changed) = self.taken.pop_front() {
                self.after = changed.revision;
                self.spoke = true;
                return Some((Watched::Changed(changed), self));
            }
            // The first word comes at once, so that a watcher knows that it is heard.
            if !self.spoke || self.quiet().await {
                self.spoke = true;
                return Some((Watched::Progress(self.after), self));
            }
        }
        None
    }
}

//! What others leave for a task: a few lists behind a lock, and word that something is there.
//!
//! Leaves out: what there is, and its bound (`T`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Shared by a task and whoever has something for it.
#[derive(Debug, Default)]
pub(crate) struct Mail<T> {
    waiting: Mutex<T>,
    posted: Notify,
}

impl<T> Mail<T> {
    /// To push to or to empty, and no more: then a panic cannot leave it half done.
    pub(crate) fn waiting(&self) -> MutexGuard<'_, T> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task look, now or as soon as it waits.
    pub(crate) fn post(&self) {
        self.posted.notify_one();
    }

    /// Waits for a [`Mail::post`] since the last time.
    pub(crate) fn posted(&self) -> Notified<'_> {
        self.posted.notified()
    }
}

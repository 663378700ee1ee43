//! File descriptors: clients may not take the last ones.
//!
//! *Invariant:* a gateway that is full of clients can still connect to a topic server, renew its lease and be asked how it
//! is. Clients beyond wait in the kernel until others leave.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Kept for listeners, lanes, the store and the admin endpoint, at least.
const RESERVED_MIN: usize = 64;
/// Kept of a large limit: one in so many.
const RESERVED_PART: usize = 16;

/// What clients may hold.
#[derive(Debug)]
pub(crate) struct Descriptors {
    free: Arc<Semaphore>,
    max: usize,
    exhausted: bool,
}

impl Descriptors {
    /// As many as the process may open, less a reserve.
    pub(crate) fn for_clients() -> Descriptors {
        let max = limit().map_or(Semaphore::MAX_PERMITS, |limit| {
            limit
                .saturating_sub(RESERVED_MIN.max(limit / RESERVED_PART))
                .max(1)
        });
        Descriptors {
            free: Arc::new(Semaphore::new(max)),
            max,
            exhausted: false,
        }
    }

    /// Waits for one. It is given back when the last clone of it is dropped.
    pub(crate) async fn take(&mut self) -> Arc<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            // Only after some room, or it would be said for every client of a full gateway.
            self.exhausted &= self.free.available_permits() < self.max / 8;
            return Arc::new(permit);
        }
        if !std::mem::replace(&mut self.exhausted, true) {
            tracing::error!(
                max = self.max,
                "clients hold every file descriptor they may, others wait: raise the limit of open files"
            );
        }
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Arc::new(permit.expect("this semaphore is never closed"))
    }
}

#[cfg(unix)]
fn limit() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    usize::try_from(limit).ok()
}

#[cfg(not(unix))]
fn limit() -> Option<usize> {
    None
}

//! A ring store inside this process.
//!
//! It forgets everything with its last handle. *Invariant:* behaves as the coordinator does, restarts apart.

use std::sync::Arc;

use ringcast_ring::{Change, Op, Refused, Revision, Snapshot};

use crate::clock;
use crate::live::Live;
use crate::state::{Durable, Store, WINDOW_LEN};
use crate::store::{Lease, NodeInfo, RegisterRefused, RenewError, RingStore, Unavailable, Watch};

/// A handle; all clones are one store.
#[derive(Clone)]
pub struct Memory {
    live: Arc<Live>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("revision", &self.live.read(Store::revision))
            .finish()
    }
}

impl Memory {
    /// An empty store, and the thread that ends its leases.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> std::io::Result<Memory> {
        Memory::with_window(WINDOW_LEN)
    }

    /// As [`Memory::start`], keeping only `window_len` changes for watches.
    ///
    /// # Errors
    /// As [`Memory::start`].
    pub fn with_window(window_len: usize) -> std::io::Result<Memory> {
        let live = Live::new(Store::new(Durable::default(), window_len, clock::now()));
        live.keep_time(|live, _| live.update(Store::expire))?;
        Ok(Memory { live })
    }
}

impl RingStore for Memory {
    async fn load(&self) -> Result<Snapshot, Unavailable> {
        Ok(self.live.read(|store| store.snapshot().clone()))
    }

    async fn compare_and_swap(&self, change: Change) -> Result<Revision, Refused> {
        self.live
            .update(|store, now| store.compare_and_swap(&change, now))
    }

    fn watch(&self, after: Revision) -> Watch {
        self.live.watch(after)
    }

    async fn register(&self, node: &NodeInfo, op: &Op) -> Result<Lease, RegisterRefused> {
        self.live.update(|store, now| store.register(node, op, now))
    }

    async fn renew(&self, lease: &Lease) -> Result<(), RenewError> {
        self.live.renew(&lease.node)
    }

    async fn release(&self, lease: &Lease) -> Result<(), Unavailable> {
        self.live.update(|store, now| store.release(&lease.node, now));
        Ok(())
    }
}

//! What the tasks of one topic server share: handles and snapshots, no state of anyone.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use arc_swap::ArcSwapOption;
use ringcast_proto::Slot;
use ringcast_ring_store::{AnyStore, LeaseView};
use ringcast_topic_server_core::Limits;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::Directory;
use crate::lanes::Lanes;
use crate::metrics::Metrics;
use crate::moves::Moves;
use crate::slot::SlotHandle;
use crate::touch::Touches;

pub(crate) struct Shared {
    pub(crate) lease: LeaseView,
    pub(crate) store: AnyStore,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) lanes: Lanes,
    pub(crate) touches: Touches,
    pub(crate) moves: Moves,
    /// Who is registered, since the ring is born. Published after the lanes to all in it exist.
    pub(crate) directory: ArcSwapOption<Directory>,
    /// One a slot, from the ring's birth on.
    pub(crate) slots: OnceLock<Vec<SlotHandle>>,
    /// Topics of all slots.
    pub(crate) topics: AtomicUsize,
    /// Bytes of the histories of all slots.
    pub(crate) history_bytes: AtomicUsize,
    /// Slots that serve.
    pub(crate) owned: AtomicUsize,
    /// This node is about to end: it begins to copy no slot.
    pub(crate) leaving: AtomicBool,
    /// The last tap's number.
    pub(crate) taps: AtomicU64,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// The slot's mailbox; none for a number that is no slot, and before the ring's birth.
    pub(crate) fn slot(&self, slot: Slot) -> Option<&SlotHandle> {
        self.slots.get()?.get(usize::from(slot.0))
    }

    pub(crate) fn all_slots(&self) -> &[SlotHandle] {
        self.slots.get().map_or(&[], Vec::as_slice)
    }
}

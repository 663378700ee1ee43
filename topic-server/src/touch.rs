//! Finding out whether a slot is still ours when somebody speaks of a higher owner_epoch.
//!
//! *Invariant:* only a write that guards our lease and the record's revision proves it; what is read proves nothing.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringcast_proto::Slot;
use ringcast_proto::record::{Key, Record};
use ringcast_ring::{Change, Expect, Guard, Refused};
use ringcast_ring_store::{AnyStore, Mirror, fresh_op};
use ringcast_topic_server_core::Input;
use tokio::sync::Notify;

use crate::changes::make;
use crate::shared::Shared;

/// No more often than this, whatever others say: they could make us write for ever.
const PACE: Duration = Duration::from_millis(250);

/// The slots in doubt.
#[derive(Default)]
pub(crate) struct Touches {
    slots: Mutex<BTreeSet<Slot>>,
    more: Notify,
}

impl Touches {
    pub(crate) fn ask(&self, slot: Slot) {
        self.slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(slot);
        self.more.notify_one();
    }

    fn take(&self) -> BTreeSet<Slot> {
        std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Settles doubts, until cancelled.
pub(crate) async fn run(shared: Arc<Shared>, store: AnyStore, mirror: Mirror) {
    loop {
        shared.touches.more.notified().await;
        for slot in shared.touches.take() {
            touch(slot, &shared, &store, &mirror).await;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn touch(slot: Slot, shared: &Shared, store: &AnyStore, mirror: &Mirror) {
    let me = shared.lease.node();
    let snapshot = mirror.snapshot();
    let Some((revision, record)) = snapshot.slot(slot).filter(|(_, record)| record.owner == me) else {
        // The record has moved on, and the slot is told so by `roles`.
        return;
    };
    let owner_epoch = record.owner_epoch;
    let change = Change {
        expect: vec![(Key::Slot(slot), Expect::Revision(revision))],
        guards: vec![Guard::Alive(me)],
        put: vec![(Key::Slot(slot), Record::Slot(record.clone()))],
        delete: Vec::new(),
        op: fresh_op(),
    };
    match make(store, change).await {
        Ok(_) => {
            tracing::warn!(%slot, %owner_epoch, "somebody spoke of a higher owner_epoch, and there is none");
            if let Some(handle) = shared.slot(slot) {
                handle.tell(Input::Confirmed(owner_epoch)).await;
            }
        }
        Err(refused @ (Refused::Unavailable(_) | Refused::Unknown(_) | Refused::Full)) => {
            tracing::debug!(%slot, %refused, "slot still in doubt");
            shared.touches.ask(slot);
        }
        // A newer record, or another life: the watch brings it. Should it not be there yet, ask again.
        Err(Refused::Conflict(_) | Refused::Guard(_)) => shared.touches.ask(slot),
    }
}

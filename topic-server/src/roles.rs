//! Follows the records and the node's own lease, and tells the slots, the lanes and the table what they mean.
//!
//! *Invariant:* a lease that is lost reaches every slot before anything of the next life does, and the table names a
//! gateway only after its lane exists.

use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::record::Cause;
use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, Slot};
use ringcast_ring::{Revision, Snapshot, claims};
use ringcast_ring_store::{Mirror, RingStore, Standing, fresh_op};
use ringcast_topic_server_core::Input;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::changes::make;
use crate::directory::Directory;
use crate::entropy::entropy;
use crate::readiness::Readiness;
use crate::shared::Shared;
use crate::slot::slot;

/// A node that loses its lease again and again must not keep its slots from everyone else.
const CLAIM_INTERVAL: Duration = Duration::from_secs(10);
/// Past this somebody else has the slots.
const CLAIM_DEADLINE: Duration = Duration::from_secs(3);
const GAUGES_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Roles {
    pub(crate) shared: Arc<Shared>,
    pub(crate) mirror: Mirror,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) readiness: watch::Sender<Readiness>,
    pub(crate) slots: JoinSet<()>,
    /// What each slot was told last.
    pub(crate) told: Vec<Option<Told>>,
    pub(crate) claimed: Option<Instant>,
    /// The life and the snapshot that were followed last.
    pub(crate) followed: Option<(Incarnation, Arc<Snapshot>)>,
}

/// Which record a slot was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    life: Incarnation,
    revision: Revision,
    owner_epoch: OwnerEpoch,
}

/// A slot's task ended although the server goes on: its topics are lost, and nobody would serve them.
#[derive(Debug, thiserror::Error)]
#[error("a slot's task ended: {0}")]
pub struct SlotEnded(String);

impl Roles {
    /// Follows, until cancelled, or until a slot's task ends by itself.
    pub(crate) async fn run(mut self) -> Result<(), SlotEnded> {
        let mut snapshots = self.mirror.subscribe();
        let mut gauges = tokio::time::interval(GAUGES_INTERVAL);
        gauges.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut life = self.held();
        loop {
            let standing = *self.standing.borrow_and_update();
            match standing {
                Standing::Lost(lost) => {
                    self.lose(lost).await;
                    life = Err(lost);
                }
                Standing::Held(held) => {
                    if let Some(lost) = life.err().or(life.ok().filter(|life| *life != held)) {
                        // The loss may have been too short to be seen.
                        self.lose(lost).await;
                        self.claim(lost, held).await;
                    }
                    life = Ok(held);
                    let snapshot = snapshots.borrow_and_update().clone();
                    self.follow(&snapshot, held).await;
                }
            }
            tokio::select! {
                biased;
                // The lease was lost, or the next one is held. Nobody keeps it any more: the server ends.
                changed = self.standing.changed() => if changed.is_err() { return Ok(()) },
                // A slot ended: it panicked, or the server ends.
                Some(ended) = self.slots.join_next() => {
                    return match ended {
                        Err(error) if error.is_panic() => Err(SlotEnded(error.to_string())),
                        Ok(()) | Err(_) => Ok(()),
                    };
                }
                // The records changed.
                changed = snapshots.changed() => if changed.is_err() { return Ok(()) },
                // Nothing changed for a while, the store's silence apart.
                _ = gauges.tick() => {}
            }
            self.shared.metrics.store_connected(self.mirror.connected());
        }
    }

    fn held(&self) -> Result<Incarnation, Incarnation> {
        match *self.standing.borrow() {
            Standing::Held(life) => Ok(life),
            Standing::Lost(life) => Err(life),
        }
    }

    async fn lose(&mut self, life: Incarnation) {
        if !self.readiness.borrow().registered {
            return;
        }
        tracing::warn!(incarnation = life.0, "lost lease, serving nothing");
        self.readiness
            .send_modify(|ready| (ready.registered, ready.roles_taken) = (false, false));
        for slot in self.shared.all_slots() {
            slot.tell(Input::Fenced).await;
        }
    }

    /// Takes back, by one write, whatever nobody took meanwhile.
    async fn claim(&mut self, lost: Incarnation, held: Incarnation) {
        let node = self.shared.lease.node().node;
        let old = NodeRef {
            node: node.clone(),
            incarnation: lost,
        };
        let me = NodeRef {
            node,
            incarnation: held,
        };
        if self
            .claimed
            .is_some_and(|claimed| claimed.elapsed() < CLAIM_INTERVAL)
        {
            tracing::warn!("lost the lease again within 10 s, slots are left to others");
            return;
        }
        self.claimed = Some(Instant::now());
        let claim = async {
            let snapshot = match self.shared.store.load().await {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    tracing::warn!(%error, "slots not claimed");
                    return;
                }
            };
            let mut slots = 0;
            for change in claims(&snapshot, &old, &me, fresh_op) {
                let records = change.put.len();
                match make(&self.shared.store, change).await {
                    Ok(_) => slots += records,
                    Err(refused) => tracing::debug!(records, %refused, "slots not claimed"),
                }
            }
            tracing::info!(slots, "claimed slots");
        };
        if tokio::time::timeout(CLAIM_DEADLINE, claim).await.is_err() {
            tracing::warn!("slots not claimed in time");
        }
    }

    async fn follow(&mut self, snapshot: &Arc<Snapshot>, life: Incarnation) {
        let followed = self.followed.replace((life, snapshot.clone()));
        if followed.is_some_and(|followed| is_same(&followed, life, snapshot)) {
            return;
        }
        let mut ready = *self.readiness.borrow();
        ready.registered = true;
        if self.meet(snapshot).await {
            let seen = self.tell(snapshot, life).await;
            let ring_born = seen.slots == self.told.len();
            if ring_born && !ready.ring_born {
                tracing::info!(slots = seen.slots, "ring born");
            }
            ready.ring_born |= ring_born;
            if seen.taken > 0 {
                tracing::info!(taken = seen.taken, owned = seen.owned, "roles taken");
            }
            ready.roles_taken = ready.ring_born;
            self.shared.metrics.moves_under_way(seen.coming, seen.going);
        }
        self.readiness.send_if_modified(|shown| {
            let ready = Readiness {
                stopping: shown.stopping,
                ..ready
            };
            std::mem::replace(shown, ready) != ready
        });
    }

    /// Sees to it that there is a lane to every gateway and that everybody can be found. `false` until the ring is born.
    async fn meet(&mut self, snapshot: &Snapshot) -> bool {
        let known = self.shared.directory.load_full();
        if known.is_some_and(|known| known.goes_on(snapshot)) {
            return true;
        }
        let Some(directory) = Directory::from_snapshot(snapshot) else {
            return false;
        };
        self.begin(directory.slots());
        let gone = self.shared.lanes.update(&directory, &self.shared);
        self.shared.directory.store(Some(Arc::new(directory)));
        for gateway in gone {
            tracing::info!(%gateway, "gateway gone");
            for slot in self.shared.all_slots() {
                slot.tell(Input::GatewayGone(gateway.clone())).await;
            }
        }
        true
    }

    /// Makes the slots, once it is known how many there are.
    fn begin(&mut self, slots: u16) {
        if self.shared.slots.get().is_some() {
            return;
        }
        self.told = vec![None; usize::from(slots)];
        let mut handles = Vec::with_capacity(usize::from(slots));
        for number in 0..slots {
            let (handle, task) = slot(Slot(number), &self.shared);
            self.slots.spawn(task);
            handles.push(handle);
        }
        // Nobody else sets it.
        drop(self.shared.slots.set(handles));
    }

    /// Tells each slot its record, if it has not been told in this life. Looks at all of them, whatever changed: 1,024
    /// take some 11 µs.
    async fn tell(&mut self, snapshot: &Snapshot, life: Incarnation) -> Seen {
        let me = NodeRef {
            node: self.shared.lease.node().node,
            incarnation: life,
        };
        let mut seen = Seen::default();
        for (number, revision, record) in snapshot.slots() {
            let Some(told) = self.told.get_mut(usize::from(number.0)) else {
                continue;
            };
            let mine = record.owner == me;
            seen.slots += 1;
            seen.owned += usize::from(mine);
            if let Some(wish) = &record.moving {
                seen.going += usize::from(mine);
                seen.coming += usize::from(wish.target == me);
            }
            let now = Told {
                life,
                revision,
                owner_epoch: record.owner_epoch,
            };
            let Some(slot) = self.shared.slot(number).filter(|_| *told != Some(now)) else {
                continue;
            };
            let before = told.replace(now);
            let anew =
                before.is_none_or(|before| (before.life, before.owner_epoch) != (now.life, now.owner_epoch));
            seen.taken += usize::from(mine && anew && record.cause != Cause::Swap);
            let (record, me) = (record.clone(), me.clone());
            slot.tell(Input::Record {
                revision,
                record,
                me,
                entropy: entropy(),
            })
            .await;
        }
        seen
    }
}

/// What the records of the slots say.
#[derive(Debug, Default)]
struct Seen {
    /// How many slots have a record.
    slots: usize,
    /// Of how many this node is the owner.
    owned: usize,
    /// Of how many of those it was not before; moves apart, which come one by one and are told by themselves.
    taken: usize,
    /// How many are on their way here.
    coming: usize,
    /// How many are on their way to others.
    going: usize,
}

/// Whether there is nothing to follow. Not by revision: a load that puts right what a watch missed is of the revision the
/// watch had come to, and says something else.
fn is_same((life, shown): &(Incarnation, Arc<Snapshot>), now: Incarnation, snapshot: &Arc<Snapshot>) -> bool {
    *life == now && Arc::ptr_eq(shown, snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_put_right_at_the_same_revision_is_followed() {
        let (life, shown) = (Incarnation(3), Arc::new(Snapshot::default()));
        let followed = (life, shown.clone());
        assert!(is_same(&followed, life, &shown));
        assert!(!is_same(&followed, life, &Arc::new(Snapshot::default())));
        assert!(!is_same(&followed, Incarnation(4), &shown));
    }
}

//! One command of one operator that changes the ring: it plans, commits or aborts, and waits for the end.
//!
//! *Invariant:* of two operators at once one wins; the other is told who won, or, where it asked for something that does
//! not depend on what was shown (`ringcast node drain ID`), has it worked out anew.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use ringcast_proto::record::{History, HistoryCause, Plan, PlanId};

use ringcast_ring::{PlanError, Revision, SlotTable, Snapshot, Wish};
use ringcast_ring_store::fresh_op;
use tokio_util::sync::CancellationToken;

use super::outcome::{Outcome, longest_pause};
use super::pins::{Pin, pin};
use super::wait::{Over, until_over};
use super::wish::{Asked, Pinned};
use super::{Follow, fresh, loads, who};
use crate::cluster::Cluster;
use crate::output::printable;

/// Whoever meets this many changes by others in a row had better look at what is going on.
pub(crate) const TRIES_MAX: u32 = 16;

/// See the module.
pub(crate) struct Operator {
    pub(crate) cluster: Cluster,
    who: String,
    no_wait: bool,
    interrupt: CancellationToken,
}

/// A plan that has been stored.
pub(crate) struct Planned {
    pub(crate) id: PlanId,
    pub(crate) plan: Plan,
    pub(crate) pins: Vec<Pin>,
}

/// A plan that has become the ring.
pub(crate) struct Committed {
    id: PlanId,
    aborted: Option<PlanId>,
    /// The records it was decided on.
    before: Snapshot,
    since: Revision,
    began: Instant,
}

impl Operator {
    /// An operator of `cluster`; `no_wait` is for those who do not want to see the end.
    pub(crate) fn new(cluster: Cluster, no_wait: bool, interrupt: CancellationToken) -> Operator {
        Operator {
            cluster,
            who: who(),
            no_wait,
            interrupt,
        }
    }

    /// Works out what `asked` takes, and stores it.
    pub(crate) async fn plan(&mut self, asked: &[Asked]) -> Result<Planned> {
        for _ in 0..TRIES_MAX {
            let snapshot = &self.cluster.snapshot;
            let table = self.cluster.table()?;
            let wishes: Vec<Wish> = asked.iter().map(|asked| asked.wish(&table)).collect();
            // What cannot be done is said at once, not after asking everybody.
            ringcast_ring::plan(snapshot, &wishes, &Default::default())
                .map_err(|error| named(error, asked, &table))?;
            let (loads, silent) = loads(&self.cluster).await?;
            let mut plan = ringcast_ring::plan(snapshot, &wishes, &loads)?;
            plan.warnings.extend(silent);
            for (words, asked) in plan.wish.iter_mut().zip(asked) {
                *words = asked.words(std::mem::take(words));
            }
            let id = fresh(plan.base_version);
            let change = ringcast_ring::save(snapshot, &id, &plan, fresh_op());
            let is_saved = self.cluster.change(change).await?.is_some();
            self.cluster.reload().await?;
            if is_saved {
                let pinned: Vec<Pinned> = asked.iter().filter_map(|asked| asked.pinned(&table)).collect();
                let mut pins = Vec::new();
                for pinned in pinned {
                    pins.push(pin(&self.cluster, pinned).await);
                }
                return Ok(Planned { id, plan, pins });
            }
        }
        bail!("the ring changes faster than a plan can be made: see `ringcast ring history`")
    }

    /// Makes the plan the ring, unless another one is: then it says which. A conflict is decided anew.
    pub(crate) async fn commit(&mut self, id: &PlanId) -> Result<Result<Committed, PlanError>> {
        let began = Instant::now();
        let at = now_unix_ms();
        for _ in 0..TRIES_MAX {
            let change = match ringcast_ring::commit(&self.cluster.snapshot, id, &self.who, at, fresh_op()) {
                Ok(change) => change,
                Err(error) => return Ok(Err(error)),
            };
            let before = self.cluster.snapshot.clone();
            let done = self.cluster.change(change).await;
            let done = done.with_context(|| format!("commit plan {}", id.0))?;
            self.cluster.reload().await?;
            // Of a change whose outcome was unknown the conflict with itself tells nothing, but its record does.
            let is_mine = |history: &&History| {
                history.plan.as_ref() == Some(id) && history.who == self.who && history.at_unix_ms == at
            };
            if done.is_some() || self.cluster.snapshot.history().any(|history| is_mine(&history)) {
                return Ok(Ok(Committed {
                    id: id.clone(),
                    aborted: None,
                    before,
                    since: done.unwrap_or(self.cluster.snapshot.revision),
                    began,
                }));
            }
        }
        bail!(
            "the ring changes faster than plan {} can be committed: see `ringcast ring history`",
            id.0
        )
    }

    /// Takes the running plan back.
    pub(crate) async fn abort(&mut self) -> Result<Committed> {
        let began = Instant::now();
        let at = now_unix_ms();
        for _ in 0..TRIES_MAX {
            let snapshot = &self.cluster.snapshot;
            let undo = fresh(snapshot.ring().map_or(0, |ring| ring.version));
            let (aborted, change) = ringcast_ring::abort(snapshot, &undo, &self.who, at, fresh_op())?;
            let before = self.cluster.snapshot.clone();
            let done = self.cluster.change(change).await;
            let done = done.with_context(|| format!("abort plan {}", aborted.0))?;
            self.cluster.reload().await?;
            let is_mine = |history: &History| history.plan.as_ref() == Some(&undo);
            if done.is_some() || self.cluster.snapshot.history().any(is_mine) {
                return Ok(Committed {
                    id: undo,
                    aborted: Some(aborted),
                    before,
                    since: done.unwrap_or(self.cluster.snapshot.revision),
                    began,
                });
            }
        }
        bail!("the ring changes faster than a plan can be aborted: see `ringcast ring history`")
    }

    /// Waits until the plan `running`, somebody else's, is over. `false`: interrupted.
    pub(crate) async fn wait_for_other(&mut self, running: &PlanId) -> Result<bool> {
        if self.no_wait {
            bail!(
                "plan {} is running: without --no-wait this waits for it",
                running.0
            );
        }
        eprintln!(
            "plan {}, committed{}, is running: waiting for it",
            running.0,
            self.by(running)
        );
        let since = self.cluster.snapshot.revision;
        let mut follow = Follow::start(&self.cluster, self.interrupt.clone());
        let over = until_over(&mut follow, running, &self.cluster.snapshot, since).await?;
        if matches!(over, Over::Interrupted) {
            eprintln!("nothing was committed; plan {} goes on", running.0);
            return Ok(false);
        }
        self.cluster.reload().await?;
        Ok(true)
    }

    /// Waits for the end of what was committed and tells what became of it. `None`: interrupted.
    pub(crate) async fn finish(&mut self, committed: Committed) -> Result<Option<Outcome>> {
        let Committed {
            id,
            aborted,
            before,
            since,
            began,
        } = committed;
        let planned =
            ringcast_ring::progress(&self.cluster.snapshot, &id).map_or(0, |progress| progress.total);
        let mut outcome = Outcome {
            plan: id.clone(),
            aborted,
            moves: planned,
            skipped: 0,
            lost: 0,
            seconds: seconds(began),
            longest_pause_ms: None,
            done: false,
        };
        if self.no_wait {
            return Ok(Some(outcome));
        }
        let mut follow = Follow::start(&self.cluster, self.interrupt.clone());
        let (end, snapshot) = match until_over(&mut follow, &id, &before, since).await? {
            Over::Done(end, snapshot) => (end, snapshot),
            Over::Interrupted => {
                eprintln!(
                    "plan {} goes on: `ringcast ring watch` shows how far it is, `ringcast ring abort` takes it back",
                    id.0
                );
                return Ok(None);
            }
        };
        if let Some(abort) = aborted_by(&snapshot, &id) {
            bail!(
                "plan {} was taken back by {} while it ran (ring {})",
                id.0,
                printable(&abort.who),
                abort.version
            );
        }
        outcome.done = true;
        outcome.seconds = seconds(began);
        outcome.moves = end.moved;
        outcome.skipped = end.skipped;
        outcome.lost = end.lost;
        outcome.longest_pause_ms = match end.moved {
            0 => None,
            moved => longest_pause(&snapshot, &id, &end.targets, moved).await,
        };
        Ok(Some(outcome))
    }

    /// Says at once what no waiting can mend: that there is no such plan, that it was committed before, or that it is
    /// for another version of the ring.
    pub(crate) fn check(&self, id: &PlanId) -> Result<()> {
        let snapshot = &self.cluster.snapshot;
        let (Some(ring), Some(plan)) = (snapshot.ring(), snapshot.plan(id)) else {
            return Ok(()); // the commit says what is wrong
        };
        let is_over = snapshot
            .history()
            .any(|history| history.plan.as_ref() == Some(id));
        if is_over || ring.version != plan.base_version {
            let (plan, base, now) = (id.clone(), plan.base_version, ring.version);
            return Err(self.refused(id, PlanError::Stale { plan, base, now }));
        }
        Ok(())
    }

    /// The error of a plan that cannot be committed, with who was faster.
    pub(crate) fn refused(&self, id: &PlanId, error: PlanError) -> anyhow::Error {
        let snapshot = &self.cluster.snapshot;
        if let Some(before) = snapshot
            .history()
            .find(|history| history.plan.as_ref() == Some(id))
        {
            return anyhow::anyhow!(
                "plan_stale: plan {} was committed already{}, as ring {}: see `ringcast ring history`",
                id.0,
                self.by(id),
                before.version
            );
        }
        let PlanError::Stale { now, .. } = error else {
            return error.into();
        };
        let by = snapshot.history().find(|history| history.version == now);
        let by = by.map_or(String::new(), |history| {
            format!(" (ring {now} was made by {})", printable(&history.who))
        });
        anyhow::anyhow!("plan_stale: {error}{by}")
    }

    /// ` by user@host`, if that is known.
    fn by(&self, id: &PlanId) -> String {
        let mut history = self.cluster.snapshot.history();
        history
            .find(|history| history.plan.as_ref() == Some(id) && !history.who.is_empty())
            .map_or(String::new(), |history| {
                format!(" by {}", printable(&history.who))
            })
    }
}

/// The error, with the topic that was asked for where it tells of its slot.
fn named(error: PlanError, asked: &[Asked], table: &SlotTable) -> anyhow::Error {
    let (PlanError::SlotTwice { slot }
    | PlanError::NotPinned { slot }
    | PlanError::PinToNothing { slot, .. }) = error
    else {
        return error.into();
    };
    let topic = asked.iter().rev().find_map(|asked| {
        asked
            .topic()
            .filter(|topic| table.slot_of(topic.as_bytes()) == slot)
    });
    match topic {
        Some(topic) => anyhow::Error::new(error).context(topic.to_string()),
        None => error.into(),
    }
}

/// The abort that took the plan back, if one did.
fn aborted_by<'a>(snapshot: &'a Snapshot, id: &PlanId) -> Option<&'a History> {
    let mut aborts = snapshot
        .history()
        .filter(|history| history.cause == HistoryCause::Abort);
    aborts.find(|history| {
        let undo = history.plan.as_ref().and_then(|undo| snapshot.plan(undo));
        undo.is_some_and(|undo| undo.undoes.as_ref() == Some(id))
    })
}

/// For people; nobody decides anything by it.
fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// To the millisecond.
fn seconds(began: Instant) -> f64 {
    (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
}

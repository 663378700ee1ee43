//! Waiting until a plan is over.
//!
//! *Invariant:* a plan on which nothing happens is told of, with what it waits for; it is not given up, because it goes
//! on whether anybody watches or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use ringcast_proto::record::{Plan, PlanId};
use ringcast_proto::{NodeId, OwnerEpoch, Slot};

use ringcast_ring::{NodeState, Progress, Revision, Snapshot, Status, progress};

use super::bar::Bar;
use super::{Follow, Next};
use crate::output::count;

/// A move takes well below a second, and a node that is lost is replaced within 6.
const STALL: Duration = Duration::from_secs(15);

/// How waiting ended.
pub(crate) enum Over {
    /// The plan is over; the records that say so.
    Done(End, Arc<Snapshot>),
    /// Ctrl-C.
    Interrupted,
}

/// What became of a plan.
pub(crate) struct End {
    /// Slots that changed hands while it was watched and are where it wants them, with all that was in them.
    pub(crate) moved: u32,
    /// Slots that are where it wants them and began empty there, because their owner died on the way.
    pub(crate) lost: u32,
    /// Slots that are elsewhere.
    pub(crate) skipped: u32,
    /// Who got those that moved.
    pub(crate) targets: BTreeSet<NodeId>,
}

/// Shows how far the plan is until it is over, from the records at `since` on; it was committed to those of `before`.
pub(crate) async fn until_over(
    follow: &mut Follow,
    id: &PlanId,
    before: &Snapshot,
    since: Revision,
) -> Result<Over> {
    let mut bar = Bar::start(id);
    let mut away = Away::default();
    let mut stall = Stall::new();
    loop {
        let snapshot = match follow.next(since).await? {
            Next::Seen(snapshot) => snapshot,
            Next::Interrupted => return Ok(Over::Interrupted),
        };
        let Some(now) = progress(&snapshot, id) else {
            bail!(
                "plan {} is no longer in the store: see `ringcast ring history`",
                id.0
            )
        };
        for owners in [before, &snapshot] {
            away.look(owners, snapshot.plan(id));
        }
        if !now.running {
            let skipped = now.finished.map_or(0, |finished| finished.skipped);
            let end = away.end(&snapshot, snapshot.plan(id), skipped);
            return Ok(Over::Done(end, snapshot));
        }
        bar.set(
            u64::from(now.moved + now.skipped),
            u64::from(now.total),
            now.under_way.len(),
        );
        if stall.is_new(&now) {
            bar.note(&stuck(&snapshot, &now));
        }
    }
}

/// Which slots of a plan were seen where they are not to be, and since which owner_epoch they had been filled: only those
/// can be said to have moved. An abort finds most of its slots at home.
#[derive(Default)]
struct Away(BTreeMap<Slot, OwnerEpoch>);

impl Away {
    fn look(&mut self, owners: &Snapshot, plan: Option<&Plan>) {
        for planned in plan.iter().flat_map(|plan| &plan.moves) {
            match owners.slot(planned.slot) {
                Some((_, record)) if record.owner.node != planned.to => {
                    self.0.entry(planned.slot).or_insert(record.base);
                }
                _ => {}
            }
        }
    }

    fn end(&self, snapshot: &Snapshot, plan: Option<&Plan>, skipped: u32) -> End {
        let (mut moved, mut lost, mut targets) = (0, 0, BTreeSet::new());
        for planned in plan.iter().flat_map(|plan| &plan.moves) {
            let (Some(base), Some((_, record))) = (self.0.get(&planned.slot), snapshot.slot(planned.slot))
            else {
                continue;
            };
            if record.owner.node != planned.to {
                continue;
            }
            if record.base > *base {
                lost += 1;
            } else {
                moved += 1;
                targets.insert(planned.to.clone());
            }
        }
        End {
            moved,
            lost,
            skipped,
            targets,
        }
    }
}

/// When the plan was last seen to get on.
struct Stall {
    at: Instant,
    seen: (u32, u32),
    is_told: bool,
}

impl Stall {
    fn new() -> Stall {
        Stall {
            at: Instant::now(),
            seen: (0, 0),
            is_told: false,
        }
    }

    /// Whether nothing has happened for too long, and nobody has been told yet.
    fn is_new(&mut self, now: &Progress) -> bool {
        let seen = (now.moved, now.skipped);
        if seen != self.seen {
            *self = Stall { seen, ..Stall::new() };
        }
        let is_new = !self.is_told && self.at.elapsed() > STALL;
        self.is_told |= is_new;
        is_new
    }
}

/// What a plan that does not get on may wait for.
fn stuck(snapshot: &Snapshot, now: &Progress) -> String {
    let mut pairs: BTreeMap<(&NodeId, &NodeId), usize> = BTreeMap::new();
    for moving in &now.under_way {
        *pairs.entry((&moving.from, &moving.to)).or_default() += 1;
    }
    let mut reasons: Vec<String> = pairs
        .iter()
        .map(|((from, to), slots)| {
            format!("{} from {from} to {to} under way", count(*slots, "slot", "slots"))
        })
        .collect();
    let status = Status::of(snapshot);
    let down = status.nodes.iter().filter(|node| node.state == NodeState::Down);
    reasons.extend(down.map(|node| format!("{} is down", node.id)));
    if status.planner.is_none() {
        reasons.push("no topic server plans".to_owned());
    }
    if reasons.is_empty() {
        reasons.push("no move is under way".to_owned());
    }
    format!(
        "plan {}: nothing has moved for {} s ({}); it goes on, `ringcast ring abort` takes it back",
        now.plan.0,
        STALL.as_secs(),
        reasons.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::commands::plans::fixture::{HALF_DONE, snapshot};

    fn plan() -> PlanId {
        PlanId("p1-abc".to_owned())
    }

    /// What became of the plan that was half done, when slots 1 and 2 are as said.
    fn end(one: &str, two: &str) -> (u32, u32, Vec<String>) {
        let half_done = snapshot(&HALF_DONE);
        let mut away = Away::default();
        away.look(&half_done, half_done.plan(&plan()));
        let mut later = HALF_DONE.to_vec();
        later.extend([("slot/1", one), ("slot/2", two)]);
        let later = snapshot(&later);
        let end = away.end(&later, later.plan(&plan()), 0);
        let targets = end.targets.iter().map(NodeId::to_string).collect();
        (end.moved, end.lost, targets)
    }

    const AWAY: &str = r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":2},"cause":"birth"}"#;
    const SWAPPED: &str = r#"{"owner_epoch":2,"base":1,"owner":{"node":"ts-2","inc":3},"cause":"swap"}"#;
    const FRESH: &str = r#"{"owner_epoch":2,"base":2,"owner":{"node":"ts-2","inc":3},"cause":"fresh"}"#;

    #[test]
    fn only_slots_that_were_seen_elsewhere_count_as_moved() {
        assert_eq!(end(AWAY, AWAY), (0, 0, vec![]));
        assert_eq!(end(SWAPPED, AWAY), (1, 0, vec!["ts-2".to_owned()]));
    }

    #[test]
    fn a_slot_whose_owner_died_on_the_way_is_lost_and_not_moved() {
        assert_eq!(end(FRESH, AWAY), (0, 1, vec![]));
        assert_eq!(end(FRESH, SWAPPED), (1, 1, vec!["ts-2".to_owned()]));
    }

    #[test]
    fn a_plan_that_does_not_get_on_says_what_it_may_wait_for() {
        let moving = snapshot(&HALF_DONE);
        let now = progress(&moving, &plan()).unwrap();
        expect!["plan p1-abc: nothing has moved for 15 s (1 slot from ts-1 to ts-2 under way); it goes on, `ringcast ring abort` takes it back"].assert_eq(&stuck(&moving, &now));
        let without = |gone: &[&str]| {
            let left = HALF_DONE.into_iter().filter(|(key, _)| !gone.contains(key));
            snapshot(&left.collect::<Vec<_>>())
        };
        let lost = without(&["node/ts-1", "planner", "slot/1"]);
        let now = progress(&lost, &plan()).unwrap();
        expect!["plan p1-abc: nothing has moved for 15 s (ts-1 is down, no topic server plans); it goes on, `ringcast ring abort` takes it back"].assert_eq(&stuck(&lost, &now));
    }

    #[test]
    fn a_stall_is_told_of_once() {
        let now = progress(&snapshot(&HALF_DONE), &plan()).unwrap();
        let mut stall = Stall::new();
        assert!(!stall.is_new(&now), "it has only begun");
        stall.at = Instant::now()
            .checked_sub(STALL * 2)
            .expect("this machine has run for a minute");
        assert!(stall.is_new(&now));
        assert!(!stall.is_new(&now), "it was told");
        let further = Progress { moved: 2, ..now };
        assert!(!stall.is_new(&further), "it gets on");
    }
}

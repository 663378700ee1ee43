//! How far a plan is.

use ringcast_proto::NodeId;
use ringcast_proto::record::{Finished, Plan, PlanId, RingNodeState};

use crate::{MoveStatus, Snapshot};

/// A plan, as of one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which plan.
    pub plan: PlanId,
    /// How many slots it moves.
    pub total: u32,
    /// Those that are where it wants them.
    pub moved: u32,
    /// Those that cannot get there: who was to take them is gone or leaves.
    pub skipped: u32,
    /// What moves for it now, in slot order.
    pub under_way: Vec<MoveStatus>,
    /// Whether it is being carried out.
    pub running: bool,
    /// What became of it, once it is over.
    pub finished: Option<Finished>,
}

/// How far the plan of this id is; none if it is not, or no longer, kept. Once it is over, what is told is how it ended,
/// whatever has become of its slots since.
#[must_use]
pub fn progress(snapshot: &Snapshot, id: &PlanId) -> Option<Progress> {
    let plan = snapshot.plan(id)?;
    let running = snapshot.ring().is_some_and(|ring| ring.plan.as_ref() == Some(id));
    let finished = snapshot
        .history()
        .rev()
        .find(|history| history.plan.as_ref() == Some(id))
        .and_then(|history| history.finished);
    let total = len(plan.moves.len());
    let is_there = |id: &NodeId| can_take(snapshot, id);
    let reached = reached(snapshot, plan);
    let (moved, skipped) = match finished {
        Some(finished) => (finished.moved, finished.skipped),
        None if !running => (0, 0),
        None => {
            let stuck = |(done, to): &(bool, &NodeId)| !done && !is_there(to);
            (
                len(reached.iter().filter(|(done, _)| *done).count()),
                len(reached.iter().filter(|planned| stuck(planned)).count()),
            )
        }
    };
    Some(Progress {
        plan: id.clone(),
        total,
        moved,
        skipped,
        under_way: under_way(snapshot, id),
        running,
        finished,
    })
}

/// What is so of a plan that ends now.
pub(crate) fn outcome(snapshot: &Snapshot, plan: &Plan) -> Finished {
    let moved = reached(snapshot, plan).iter().filter(|(done, _)| *done).count();
    Finished {
        moved: len(moved),
        skipped: len(plan.moves.len() - moved),
    }
}

/// Of each move, whether its slot is where it is to go, and where that is.
fn reached<'a>(snapshot: &Snapshot, plan: &'a Plan) -> Vec<(bool, &'a NodeId)> {
    let reached = |planned: &'a ringcast_proto::record::PlanMove| {
        let owner = snapshot.slot(planned.slot).map(|(_, record)| &record.owner.node);
        (owner == Some(&planned.to), &planned.to)
    };
    plan.moves.iter().map(reached).collect()
}

fn can_take(snapshot: &Snapshot, id: &NodeId) -> bool {
    let is_up = |ring: &ringcast_proto::record::Ring| {
        let mut members = ring.nodes.iter();
        members.any(|member| member.id == *id && member.state == RingNodeState::Up)
    };
    snapshot.ring().is_some_and(is_up) && snapshot.topic_server(id).is_some_and(|record| !record.leaving)
}

fn under_way(snapshot: &Snapshot, id: &PlanId) -> Vec<MoveStatus> {
    let of_this = |name: &str| {
        name.strip_prefix(id.0.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    };
    snapshot
        .slots()
        .filter(|(.., record)| record.moving.as_ref().is_some_and(|moving| of_this(&moving.id)))
        .filter_map(|(slot, _, record)| MoveStatus::of(slot, record))
        .collect()
}

/// A count of slots.
fn len(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

//! Storing a plan, making it the ring, and going back: one change each.
//!
//! *Invariant:* every change of the ring expects the very ring record it was worked out from.

use std::collections::BTreeSet;

use ringcast_proto::record::{
    self, Finished, History, HistoryCause, Key, Membership, Plan, PlanId, Record, Ring, RingNode,
    RingNodeState,
};
use ringcast_proto::{NodeId, NodeRef};

use super::{PlanError, Wish, progress};
use crate::{Change, Expect, Guard, Op, Revision, Snapshot};

/// So many plans that do not run are kept beside the one stored last, so that the store does not fill with them.
const PLANS_KEPT: usize = 16;

/// And only so many moves of theirs, at some 80 bytes each: two plans that move everything in the largest cluster.
const MOVES_KEPT: usize = 8192;

/// So many versions of the ring are told of.
const HISTORY_KEPT: u64 = 100;

/// Most records one change removes: etcd takes 128 operations a transaction.
const DELETES_MAX: usize = 64;

/// Stores a plan under a name nobody has used, and forgets the oldest plans and versions.
#[must_use]
pub fn save(snapshot: &Snapshot, id: &PlanId, plan: &Plan, op: Op) -> Change {
    let ring = snapshot.ring();
    let is_kept_anyway =
        |other: &PlanId| other == id || ring.is_some_and(|ring| ring.plan.as_ref() == Some(other));
    let mut others: Vec<(Revision, &PlanId, usize)> = snapshot
        .plans()
        .filter(|(other, ..)| !is_kept_anyway(other))
        .map(|(other, revision, plan)| (revision, other, plan.moves.len()))
        .collect();
    others.sort_unstable_by(|one, other| other.cmp(one));
    let mut moves = 0;
    let plans = others.into_iter().enumerate().filter_map(|(kept, (_, id, len))| {
        moves += len;
        (kept >= PLANS_KEPT || moves > MOVES_KEPT).then(|| Key::Plan(id.clone()))
    });
    let version = ring.map_or(0, |ring| ring.version);
    let versions = snapshot
        .history()
        .map(|history| history.version)
        .filter(|kept| kept + HISTORY_KEPT <= version);
    Change {
        // The ring as well: another commit may just be starting one of the plans that are forgotten.
        expect: vec![
            expect(snapshot, Key::Ring),
            (Key::Plan(id.clone()), Expect::Absent),
        ],
        guards: Vec::new(),
        put: vec![(Key::Plan(id.clone()), Record::Plan(Box::new(plan.clone())))],
        delete: plans
            .chain(versions.map(Key::History))
            .take(DELETES_MAX)
            .collect(),
        op,
    }
}

/// Makes a stored plan the ring: from then on the planner carries it out.
///
/// # Errors
/// [`PlanError::NotBorn`], [`PlanError::NoSuchPlan`], [`PlanError::Running`], [`PlanError::Stale`] or
/// [`PlanError::NodesChanged`].
pub fn commit(
    snapshot: &Snapshot,
    id: &PlanId,
    who: &str,
    at_unix_ms: u64,
    op: Op,
) -> Result<Change, PlanError> {
    let ring = snapshot.ring().ok_or(PlanError::NotBorn)?;
    let plan = snapshot
        .plan(id)
        .ok_or_else(|| PlanError::NoSuchPlan(id.clone()))?;
    if let Some(running) = &ring.plan {
        return Err(PlanError::Running(running.clone()));
    }
    if ring.version != plan.base_version {
        return Err(PlanError::Stale {
            plan: id.clone(),
            base: plan.base_version,
            now: ring.version,
        });
    }
    let mut guards = Vec::new();
    for node in counted_on(plan) {
        let Some(record) = snapshot.topic_server(node).filter(|record| !record.leaving) else {
            let (plan, node) = (id.clone(), node.clone());
            return Err(PlanError::NodesChanged { plan, node });
        };
        guards.push(Guard::Alive(NodeRef {
            node: node.clone(),
            incarnation: record.incarnation,
        }));
    }
    let after = running(ring, id, &plan.after);
    let history = History {
        version: after.version,
        plan: Some(id.clone()),
        who: who.to_owned(),
        cause: HistoryCause::Commit,
        at_unix_ms,
        finished: None,
        rest: Default::default(),
    };
    let key = Key::History(after.version);
    Ok(Change {
        expect: vec![
            expect(snapshot, Key::Ring),
            expect(snapshot, Key::Plan(id.clone())),
            expect(snapshot, key.clone()),
        ],
        guards,
        put: vec![(Key::Ring, Record::Ring(after)), (key, Record::History(history))],
        delete: Vec::new(),
        op,
    })
}

/// Takes the plan that runs back: the ring as it was before, and a plan by the name of `undo` whose moves take home
/// what has moved, under the same limits. Returns the name of the plan that was aborted.
///
/// # Errors
/// [`PlanError::NotBorn`], [`PlanError::NothingRunning`] or [`PlanError::NoSuchPlan`].
pub fn abort(
    snapshot: &Snapshot,
    undo: &PlanId,
    who: &str,
    at_unix_ms: u64,
    op: Op,
) -> Result<(PlanId, Change), PlanError> {
    let ring = snapshot.ring().ok_or(PlanError::NotBorn)?;
    let id = ring.plan.as_ref().ok_or(PlanError::NothingRunning)?;
    let plan = snapshot
        .plan(id)
        .ok_or_else(|| PlanError::NoSuchPlan(id.clone()))?;
    let back = running(ring, undo, &plan.before);
    let (now, next) = (Key::History(ring.version), Key::History(back.version));
    let mut aborted = history(snapshot, ring.version, id);
    aborted.finished = Some(progress::outcome(snapshot, plan));
    let made = History {
        version: back.version,
        plan: Some(undo.clone()),
        who: who.to_owned(),
        cause: HistoryCause::Abort,
        at_unix_ms,
        finished: None,
        rest: Default::default(),
    };
    let change = Change {
        expect: vec![
            expect(snapshot, Key::Ring),
            expect(snapshot, Key::Plan(id.clone())),
            expect(snapshot, now.clone()),
            expect(snapshot, next.clone()),
            (Key::Plan(undo.clone()), Expect::Absent),
        ],
        guards: Vec::new(),
        put: vec![
            (Key::Ring, Record::Ring(back)),
            (
                Key::Plan(undo.clone()),
                Record::Plan(Box::new(undoing(id, plan, ring.version))),
            ),
            (now, Record::History(aborted)),
            (next, Record::History(made)),
        ],
        delete: Vec::new(),
        op,
    };
    Ok((id.clone(), change))
}

/// The ring once everything a plan wanted is done: no plan, and nobody in it who was to go. The change also writes down
/// what became of the plan.
pub(crate) fn finish(
    snapshot: &Snapshot,
    ring: &Ring,
    id: &PlanId,
    finished: Finished,
    guards: Vec<Guard>,
    op: Op,
) -> Change {
    let nodes = snapshot
        .plan(id)
        .map_or_else(|| ring.nodes.clone(), |plan| plan.after.nodes.clone());
    let done = Ring {
        nodes,
        plan: None,
        ..ring.clone()
    };
    let history = History {
        finished: Some(finished),
        ..history(snapshot, ring.version, id)
    };
    let key = Key::History(ring.version);
    Change {
        expect: vec![expect(snapshot, Key::Ring), expect(snapshot, key.clone())],
        guards,
        put: vec![(Key::Ring, Record::Ring(done)), (key, Record::History(history))],
        delete: Vec::new(),
        op,
    }
}

/// The next version of `ring` while plan `id` leads to `after`: who is to be removed drains first.
fn running(ring: &Ring, id: &PlanId, after: &Membership) -> Ring {
    let stays = |member: &RingNode| after.nodes.iter().any(|other| other.id == member.id);
    let leaves = ring.nodes.iter().filter(|member| !stays(member));
    let mut nodes = after.nodes.clone();
    nodes.extend(leaves.map(|member| RingNode {
        state: RingNodeState::Draining,
        ..member.clone()
    }));
    nodes.sort_by(|one, other| one.id.cmp(&other.id));
    Ring {
        version: ring.version + 1,
        nodes,
        pins: after.pins.clone(),
        plan: Some(id.clone()),
        ..ring.clone()
    }
}

/// The plan that takes `plan` back. Every slot is in it, for a move that is under way now may still happen.
fn undoing(id: &PlanId, plan: &Plan, version: u64) -> Plan {
    let moves = plan.moves.iter().map(|planned| record::PlanMove {
        from: planned.to.clone(),
        to: planned.from.clone(),
        ..planned.clone()
    });
    let shares = plan.shares.iter().map(|share| record::PlanShare {
        id: share.id.clone(),
        slots_before: share.slots_after,
        slots_after: share.slots_before,
        before: share.after,
        after: share.before,
    });
    Plan {
        base_version: version,
        wish: vec![format!("abort {}", id.0)],
        before: plan.after.clone(),
        after: plan.before.clone(),
        moves: moves.collect(),
        shares: shares.collect(),
        warnings: Vec::new(),
        undoes: Some(id.clone()),
        rest: Default::default(),
    }
}

/// Whose lives a plan needs: those that give slots, take some, join, or are to be removed while they are up.
fn counted_on(plan: &Plan) -> BTreeSet<&NodeId> {
    let mut nodes: BTreeSet<&NodeId> = BTreeSet::new();
    nodes.extend(plan.moves.iter().flat_map(|planned| [&planned.from, &planned.to]));
    let is_member = |members: &Membership, id: &NodeId| members.nodes.iter().any(|member| member.id == *id);
    let joins = plan.after.nodes.iter().map(|member| &member.id);
    nodes.extend(joins.filter(|id| !is_member(&plan.before, id)));
    let removed = plan.before.nodes.iter().map(|member| &member.id);
    nodes.extend(removed.filter(|id| {
        let (node, dead) = ((*id).clone(), false);
        !is_member(&plan.after, id) && plan.wish.contains(&Wish::Remove { node, dead }.to_string())
    }));
    nodes
}

/// What is known of a version; begun here where nothing is, in a cluster that began before there was a history.
fn history(snapshot: &Snapshot, version: u64, plan: &PlanId) -> History {
    let found = snapshot
        .history()
        .rev()
        .find(|history| history.version == version);
    found.cloned().unwrap_or_else(|| History {
        version,
        plan: Some(plan.clone()),
        ..History::default()
    })
}

/// Expects `key` to be as `snapshot` shows it.
fn expect(snapshot: &Snapshot, key: Key) -> (Key, Expect) {
    let expect = snapshot
        .records
        .get(&key)
        .map_or(Expect::Absent, |stored| Expect::Revision(stored.revision));
    (key, expect)
}

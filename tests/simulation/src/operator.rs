//! An operator at the command line: plans, commits, aborts, at any moment and not always with good sense.
//!
//! Mirrors `cli/src/commands/ring`: it reads the store, works out a plan, stores it, and commits it a little later.
//! Leaves out: what people are shown.

use std::collections::BTreeMap;

use ringcast_proto::record::{PlanId, Role};
use ringcast_proto::{NodeId, Slot};
use ringcast_ring::{Change, Op, Snapshot, Wish, abort, commit, plan, save};

use crate::random::Random;
use crate::swarm::Deed;

/// What the operator wants written.
pub(crate) struct Written {
    pub(crate) change: Change,
    /// The plan to commit later.
    pub(crate) commit: Option<PlanId>,
}

/// What `deed` comes to, if it makes sense to the command line.
pub(crate) fn decide(
    deed: Deed,
    snapshot: &Snapshot,
    random: &mut Random,
    op: Op,
) -> Result<Written, String> {
    let id = PlanId(format!("p-{}", op.0));
    if deed == Deed::Abort {
        let (_, change) = abort(snapshot, &id, "simulation", 0, op).map_err(|error| error.to_string())?;
        return Ok(Written { change, commit: None });
    }
    let wishes = wishes(deed, snapshot, random).ok_or("nobody to do it to")?;
    let plan = plan(snapshot, &wishes, &BTreeMap::new()).map_err(|error| error.to_string())?;
    let change = save(snapshot, &id, &plan, op);
    Ok(Written {
        change,
        commit: Some(id),
    })
}

/// The change that commits a plan that was stored.
pub(crate) fn committed(id: &PlanId, snapshot: &Snapshot, op: Op) -> Result<Change, String> {
    commit(snapshot, id, "simulation", 0, op).map_err(|error| error.to_string())
}

fn wishes(deed: Deed, snapshot: &Snapshot, random: &mut Random) -> Option<Vec<Wish>> {
    let ring = snapshot.ring()?;
    let members: Vec<NodeId> = ring.nodes.iter().map(|node| node.id.clone()).collect();
    let outside: Vec<NodeId> = snapshot
        .nodes()
        .filter(|(id, record)| record.role == Role::TopicServer && !members.contains(id))
        .map(|(id, _)| id.clone())
        .collect();
    let member = random.pick(&members).cloned()?;
    Some(vec![match deed {
        // A member that drains may be taken back.
        Deed::Add => Wish::Add(random.pick(&outside).cloned().unwrap_or(member)),
        Deed::Drain => Wish::Drain(member),
        Deed::Remove => Wish::Remove {
            dead: snapshot.node(&member).is_none(),
            node: member,
        },
        Deed::Weight => Wish::Weight(member, *random.pick(&[0.0, 0.5, 1.0, 2.0, 4.0])?),
        Deed::Pin => {
            let slots = u64::from(snapshot.birth()?.slots);
            Wish::Pin(Slot(u16::try_from(random.below(slots)).ok()?), member)
        }
        Deed::Rebalance => return Some(Vec::new()),
        Deed::Abort | Deed::RestartServer | Deed::RestartGateway => return None,
    }])
}

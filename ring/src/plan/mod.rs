//! Plans: what an operator wants of the ring, worked out before anything moves.
//!
//! [`plan`] says which slots would move, [`save`] stores that, [`commit`] makes it the ring, [`abort`] goes back, and
//! [`progress`] tells how far it is. It promises that what is committed is what was shown: a plan is for one version of
//! the ring, and its commit is one compare-and-swap on it, so that of two operators at once one wins and the other is
//! told. *Invariant:* a plan changes nobody's slots but those of nodes it names or that the bound on load demands.
//! Leaves out: carrying it out (`planner`), and how it is asked for and printed (the command line).

mod commit;
mod draft;
mod error;
mod forecast;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use ringcast_proto::record::{self, FORMAT};
use ringcast_proto::{NodeId, Slot};

pub(crate) use self::commit::finish;
pub use self::commit::{abort, commit, save};
pub use self::error::PlanError;
pub(crate) use self::progress::outcome;
pub use self::progress::{Progress, progress};
use crate::Snapshot;

/// Something wanted of the ring. Prints as the words that ask for it on the command line.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Take a registered node into the ring with weight 1, or a draining one back with the weight it had.
    Add(NodeId),
    /// Move everything away from a node; it stays in the ring.
    Drain(NodeId),
    /// Move everything away from a node and take it out of the ring.
    Remove {
        /// Which.
        node: NodeId,
        /// It is down, and what it alone holds is given up.
        dead: bool,
    },
    /// Give a node another share. 0 owns nothing.
    Weight(NodeId, f64),
    /// Fix a slot to a node.
    Pin(Slot, NodeId),
    /// Let a slot go where the ring wants it. It stays where it is until something else moves it.
    Unpin(Slot),
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wish::Add(node) => write!(f, "--add {node}"),
            Wish::Drain(node) => write!(f, "--drain {node}"),
            Wish::Remove { node, dead: false } => write!(f, "--remove {node}"),
            Wish::Remove { node, dead: true } => write!(f, "--remove {node} --dead"),
            Wish::Weight(node, weight) => write!(f, "--weight {node}={weight}"),
            Wish::Pin(slot, node) => write!(f, "--pin {slot}={node}"),
            Wish::Unpin(slot) => write!(f, "--unpin {slot}"),
        }
    }
}

/// What a slot holds, as its owner says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotLoad {
    /// Topics in it.
    pub topics: u64,
    /// Members of those topics.
    pub members: u64,
    /// Bytes of their histories.
    pub bytes: u64,
}

/// Works out what it takes to fulfil `wishes`; without any, to bring everything to where the ring is satisfied.
///
/// It starts from who owns what, and while a plan runs from who will once that one is done, so that it can be committed
/// then. `loads` are shown beside the moves; slots without one are moved like any other.
///
/// # Errors
/// [`PlanError`], naming the first wish that cannot be fulfilled.
pub fn plan(
    snapshot: &Snapshot,
    wishes: &[Wish],
    loads: &BTreeMap<Slot, SlotLoad>,
) -> Result<record::Plan, PlanError> {
    let (Some(birth), Some(ring)) = (snapshot.birth(), snapshot.ring()) else {
        return Err(PlanError::NotBorn);
    };
    if birth.format != FORMAT {
        return Err(PlanError::Format(birth.format));
    }
    let draft = draft::Draft::new(snapshot, birth, ring, wishes)?;
    let forecast = forecast::Forecast::new(snapshot, birth, ring, &draft)?;
    if forecast.moves.is_empty() && draft.after == draft.before {
        return Err(PlanError::NothingToDo);
    }
    let warnings = forecast.warnings(&draft, loads);
    let load = |slot: Slot| loads.get(&slot);
    Ok(record::Plan {
        base_version: ring.version,
        wish: wishes.iter().map(Wish::to_string).collect(),
        shares: forecast.shares(),
        moves: forecast
            .moves
            .into_iter()
            .map(|(slot, from, to)| record::PlanMove {
                slot,
                from,
                to,
                topics: load(slot).map(|load| load.topics),
                members: load(slot).map(|load| load.members),
                bytes: load(slot).map(|load| load.bytes),
            })
            .collect(),
        before: draft.before,
        after: draft.after,
        warnings,
        undoes: None,
        rest: Default::default(),
    })
}

//! Why there is no such plan, or why it cannot be carried out.

use ringcast_proto::record::PlanId;
use ringcast_proto::{NodeId, Slot};

use crate::RingError;

/// Most weight a node may have. A weight is a node's strength beside the others', and none is a hundred times another's.
pub(super) const WEIGHT_MAX: f64 = 100.0;

/// What is wrong with a wish or with a plan. In every case nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// There is no ring to change.
    #[error("the ring is not born yet: it waits for its first topic servers")]
    NotBorn,
    /// A format of a later build, which this one must not change.
    #[error("the cluster is of format {0}, which this build does not know: use a newer one")]
    Format(u32),
    /// Neither registered nor in the ring.
    #[error("no topic server {node}{}", did_you_mean(.nearest.as_ref()))]
    UnknownNode {
        /// As it was asked for.
        node: NodeId,
        /// The topic server whose name is most like it.
        nearest: Option<NodeId>,
    },
    /// A gateway owns nothing.
    #[error("{node} is a gateway: only topic servers are in the ring")]
    Gateway {
        /// Which.
        node: NodeId,
    },
    /// It cannot take or give anything now.
    #[error("{node} is in the ring and down: start it first, or remove it with `--dead`")]
    NotRegistered {
        /// Which.
        node: NodeId,
    },
    /// To be removed, and what it holds cannot be moved away first.
    #[error("{node} is down: `--dead` removes it, and what it alone holds is lost")]
    Down {
        /// Which.
        node: NodeId,
    },
    /// It is about to end.
    #[error("{node} is leaving: wait until it is back")]
    Leaving {
        /// Which.
        node: NodeId,
    },
    /// To be added, and in the ring already.
    #[error("{node} is in the ring already: `--weight {node}=W` changes its share")]
    AlreadyIn {
        /// Which.
        node: NodeId,
    },
    /// To be changed, and not in the ring.
    #[error("{node} is not in the ring: `--add {node}` first")]
    NotInRing {
        /// Which.
        node: NodeId,
    },
    /// To be drained, and it is.
    #[error("{node} is draining already: `--add {node}` takes it back")]
    AlreadyDraining {
        /// Which.
        node: NodeId,
    },
    /// Without it nobody would own anything.
    #[error("{node} is the last topic server that is up and has weight: add another first")]
    LastNode {
        /// Which.
        node: NodeId,
    },
    /// No weight.
    #[error("weight {weight} of {node}, must be from 0 to {WEIGHT_MAX}")]
    Weight {
        /// Whose.
        node: NodeId,
        /// What was asked for.
        weight: f64,
    },
    /// One plan says what becomes of a node once.
    #[error("{node} is named twice: one wish a node, or `--add` with `--weight`")]
    Twice {
        /// Which.
        node: NodeId,
    },
    /// One plan says what becomes of a slot once.
    #[error("slot {slot} is pinned or unpinned twice")]
    SlotTwice {
        /// Which.
        slot: Slot,
    },
    /// The cluster was not born with so many slots.
    #[error("slot {slot}, must be below {slots}")]
    NoSuchSlot {
        /// Which.
        slot: Slot,
        /// How many there are.
        slots: u16,
    },
    /// To be pinned to a node that is to own nothing.
    #[error(
        "slot {slot} cannot be pinned to {node}, which is to own nothing: it is draining or has weight 0"
    )]
    PinToNothing {
        /// Which slot.
        slot: Slot,
        /// To whom.
        node: NodeId,
    },
    /// To be unpinned, and it is not pinned.
    #[error("slot {slot} is not pinned")]
    NotPinned {
        /// Which.
        slot: Slot,
    },
    /// The ring is as wished, and everything is where it belongs.
    #[error("nothing to do: the ring is as wished and no slot would move")]
    NothingToDo,
    /// One plan at a time.
    #[error("plan {} is running: wait for it, or abort it", .0.0)]
    Running(PlanId),
    /// The ring was changed since the plan was made.
    #[error("plan {} is for version {base} of the ring, which is at {now}: plan again", .plan.0)]
    Stale {
        /// Which plan.
        plan: PlanId,
        /// The version it was made from.
        base: u64,
        /// The version of the ring.
        now: u64,
    },
    /// A node that the plan counts on is not, or no longer, up.
    #[error("{node} is no longer up, and plan {} counts on it: plan again", .plan.0)]
    NodesChanged {
        /// Which plan.
        plan: PlanId,
        /// Which node.
        node: NodeId,
    },
    /// Never stored, or deleted.
    #[error("no plan {}: only the last few are kept", .0.0)]
    NoSuchPlan(PlanId),
    /// There is no plan to abort.
    #[error("no plan is running")]
    NothingRunning,
    /// The nodes as wished make no ring.
    #[error(transparent)]
    Ring(#[from] RingError),
}

fn did_you_mean(nearest: Option<&NodeId>) -> String {
    nearest.map_or(String::new(), |node| format!(": did you mean {node}?"))
}

/// The candidate that takes the fewest edits to become `name`; of equals the first.
pub(super) fn most_alike<'a>(name: &NodeId, candidates: impl Iterator<Item = &'a NodeId>) -> Option<NodeId> {
    candidates
        .min_by_key(|candidate| edits(name.as_str(), candidate.as_str()))
        .cloned()
}

/// How many bytes must be put in, taken out or exchanged to make one name of the other. Names are ASCII and short.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, byte) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.bytes().enumerate() {
            let exchanged = diagonal + usize::from(byte != other);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

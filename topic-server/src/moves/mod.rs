//! What moving slots needs of other nodes and of the ring store. The slots decide all of it: see the handoff of the core.

mod ended;
mod pace;
mod peers;
mod pull;
mod swap;

use tokio::sync::Semaphore;

pub(crate) use ended::Ended;
pub(crate) use pull::{Haste, pull};
pub(crate) use swap::swap;

use pace::Pace;
use peers::Peers;

/// Calls for pages in flight. Plans let two slots in at a time; more is a node that gets the slots of one that ends.
const PULLS_MAX: usize = 16;

/// What the moves of all slots of a node share.
pub(crate) struct Moves {
    peers: Peers,
    pace: Pace,
    pulls: Semaphore,
    /// Those that are over.
    pub(crate) ended: Ended,
}

impl Default for Moves {
    fn default() -> Moves {
        Moves {
            peers: Peers::default(),
            pace: Pace::default(),
            pulls: Semaphore::new(PULLS_MAX),
            ended: Ended::default(),
        }
    }
}

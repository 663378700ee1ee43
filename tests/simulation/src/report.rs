//! What one asks of a run, and what comes out of it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use crate::check::Violation;
use crate::plant::Plant;
use crate::sim::Sim;
use crate::swarm::Swarm;
use crate::time::Time;
use crate::trace::Verbosity;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// All chance comes from this.
    pub seed: u64,
    /// Virtual time, the last 30 s of it healed.
    pub duration: Duration,
    /// A bug to plant.
    pub plant: Option<Plant>,
}

impl Options {
    /// A minute of this seed.
    #[must_use]
    pub fn of(seed: u64) -> Options {
        Options {
            seed,
            duration: Duration::from_secs(60),
            plant: None,
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the seed drew.
    pub swarm: String,
    /// What was broken, if anything.
    pub violation: Option<Violation>,
    /// Of the trace: equal for equal runs.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Publishes acknowledged to clients.
    pub acknowledged: u64,
    /// Copies clients received.
    pub delivered: u64,
    /// Moves that ended.
    pub moves: u64,
    /// The longest time a slot was sealed in one of them.
    pub longest_pause_ms: u32,
    /// Joins that went on where the client had been.
    pub recovered: u64,
    /// Gaps that clients were told of.
    pub gaps: u64,
    /// Publishes acknowledged as repeats.
    pub dups: u64,
    /// Connections closed because their clients read too slowly.
    pub slow_closed: u64,
    /// The last lines of the trace, if they were kept.
    pub tail: Vec<String>,
}

/// Runs a seed. A core that panics has broken "no input panics".
#[must_use]
pub fn run(options: &Options, verbosity: Verbosity) -> Report {
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| Sim::new(options, verbosity).run()));
    ran.unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Violation {
            at: Time(0),
            of: "P16",
            what: format!("panicked: {}", what.unwrap_or_default()),
        };
        Report {
            swarm: Swarm::draw(options.seed).to_string(),
            violation: Some(violation),
            hash: 0,
            events: 0,
            acknowledged: 0,
            delivered: 0,
            moves: 0,
            longest_pause_ms: 0,
            recovered: 0,
            gaps: 0,
            dups: 0,
            slow_closed: 0,
            tail: Vec::new(),
        }
    })
}

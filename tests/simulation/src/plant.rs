//! Bugs that can be planted, one line each, to prove that the invariants catch them.
//!
//! Leaves out: the lines themselves, which are where the bug would be.

use std::fmt;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plant {
    /// A lease counts from when its renewal was answered, not from when it was sent.
    LeaseFromResponseTime,
}

/// All of them.
pub const ALL: &[Plant] = &[Plant::LeaseFromResponseTime];

impl Plant {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Plant::LeaseFromResponseTime => "bug_lease_from_response_time",
        }
    }

    /// The bug of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Plant> {
        ALL.iter().copied().find(|plant| plant.name() == name)
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

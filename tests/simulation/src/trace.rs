//! What happened, as lines for people and as one number for machines.
//!
//! *Invariant:* the hash covers every event, its time and where it went, whether or not lines are made; equal hashes
//! mean equal runs.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;

use crate::time::Time;

/// Lines kept for the report of a violation.
const TAIL_LEN: usize = 80;

/// How much is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Only the hash: fast.
    Hash,
    /// The last lines, for a report.
    Tail,
    /// Every line goes to standard output.
    All,
}

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    verbosity: Verbosity,
    hash: u64,
    events: u64,
    tail: VecDeque<String>,
}

impl Trace {
    /// An empty one.
    #[must_use]
    pub(crate) fn new(verbosity: Verbosity) -> Trace {
        Trace {
            verbosity,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            tail: VecDeque::new(),
        }
    }

    /// An event is about to be handled.
    pub(crate) fn event(&mut self, now: Time, parts: [u64; 3]) {
        self.events += 1;
        for part in [now.0, parts[0], parts[1], parts[2]] {
            // FNV-1a over words: the trace is long, and nobody forges it.
            self.hash = (self.hash ^ part).wrapping_mul(0x0000_0100_0000_01b3);
            self.hash ^= self.hash >> 29;
        }
    }

    /// A line, made only if somebody reads it.
    pub(crate) fn line(&mut self, now: Time, line: impl FnOnce() -> String) {
        match self.verbosity {
            Verbosity::Hash => {}
            Verbosity::Tail => {
                if self.tail.len() == TAIL_LEN {
                    self.tail.pop_front();
                }
                self.tail.push_back(format!("{now} {}", line()));
            }
            Verbosity::All => {
                // Whoever reads may stop reading.
                writeln!(std::io::stdout().lock(), "{now} {}", line()).ok();
            }
        }
    }

    /// How many events there were.
    #[must_use]
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The number that stands for the run.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    #[must_use]
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

/// Bytes as text, for lines.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}

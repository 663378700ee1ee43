//! How the processes of one run talk: a worker says lines on stdout, and is told lines on stdin, whose end is its own.

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::reasons::Reasons;

/// A line of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// It can be told what to do.
    Ready,
    /// So many have joined.
    Joining(u32),
    /// No more will join, and so many have.
    Joined(u32),
    /// What became of its part of a round.
    Round(RoundPart),
    /// The end, up to which the servers had closed so many.
    Ended {
        /// How many.
        closed: u32,
    },
}

/// A round of a storm, as one worker saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoundPart {
    /// Of every client that joined, when, since the round began.
    pub(crate) join_ns: Vec<u64>,
    /// Tries that failed.
    pub(crate) failures: Reasons,
    /// Connections that the servers closed.
    pub(crate) closed: Reasons,
}

/// What a worker of a storm is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Cut all connections off, and come.
    Come,
    /// Say what became of the round.
    Report,
}

impl Told {
    /// As a line.
    pub(crate) fn line(self) -> &'static str {
        match self {
            Told::Come => "come",
            Told::Report => "report",
        }
    }

    /// Reads a line.
    pub(crate) fn parse(line: &str) -> Option<Told> {
        [Told::Come, Told::Report]
            .into_iter()
            .find(|told| told.line() == line)
    }
}

impl Said {
    /// Reads a line.
    pub(crate) fn parse(line: &str) -> Option<Said> {
        if line == "ready" {
            return Some(Said::Ready);
        }
        let (what, rest) = line.split_once(' ')?;
        if what == "round" {
            return serde_json::from_str(rest).ok().map(Said::Round);
        }
        let count = rest.parse().ok()?;
        match what {
            "joining" => Some(Said::Joining(count)),
            "joined" => Some(Said::Joined(count)),
            "ended" => Some(Said::Ended { closed: count }),
            _ => None,
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Said::Ready => f.write_str("ready"),
            Said::Joining(count) => write!(f, "joining {count}"),
            Said::Joined(count) => write!(f, "joined {count}"),
            Said::Round(part) => {
                let json = serde_json::to_string(part).map_err(|_| std::fmt::Error)?;
                write!(f, "round {json}")
            }
            Said::Ended { closed } => write!(f, "ended {closed}"),
        }
    }
}

/// The lines of stdin, to its end. They are read on a thread of their own, as such a read cannot be cancelled.
pub(crate) fn lines_of_stdin() -> mpsc::Receiver<String> {
    let (lines, listen) = mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_understood() {
        let mut part = RoundPart {
            join_ns: vec![1, u64::MAX],
            ..RoundPart::default()
        };
        part.failures.count("a \"reason\"\nin two lines");
        for said in [
            Said::Ready,
            Said::Joining(1),
            Said::Joined(20),
            Said::Round(part),
            Said::Ended { closed: 3 },
        ] {
            let line = said.to_string();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(Said::parse(&line), Some(said));
        }
        assert_eq!(Said::parse("panicked at 7"), None);
        assert_eq!(Said::parse("joined many"), None);
        assert_eq!(Said::parse("round {}"), None);
    }

    #[test]
    fn what_a_worker_is_told_is_understood() {
        for told in [Told::Come, Told::Report] {
            assert_eq!(Told::parse(told.line()), Some(told));
        }
        assert_eq!(Told::parse("go"), None);
    }
}

//! How far a plan is, on stderr: a bar on a terminal, elsewhere a line now and then.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use ringcast_proto::record::PlanId;

use crate::output::printable;

/// A log wants to know that it goes on, and nothing more.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A bar; it vanishes when it is dropped.
pub(crate) struct Bar {
    bar: ProgressBar,
    name: String,
    is_terminal: bool,
    said: Option<(Instant, u64)>,
}

impl Bar {
    /// A bar for the moves of `plan`.
    pub(crate) fn start(plan: &PlanId) -> Bar {
        let name = printable(&plan.0);
        let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} slots, {elapsed} {msg}")
            .expect("the template is a constant")
            .progress_chars("=> ");
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        Bar {
            bar: bar.with_style(style).with_prefix(name.clone()),
            name,
            is_terminal,
            said: None,
        }
    }

    /// Shows how far it is.
    pub(crate) fn set(&mut self, done: u64, total: u64, under_way: usize) {
        if self.is_terminal {
            self.bar.set_length(total);
            self.bar.set_position(done);
            self.bar.set_message(format!("{under_way} under way"));
            return;
        }
        let is_due = match self.said {
            None => true,
            Some((at, before)) => done != before && at.elapsed() >= LINE_INTERVAL,
        };
        if is_due {
            self.said = Some((Instant::now(), done));
            eprintln!("{}: {done} of {total} slots, {under_way} under way", self.name);
        }
    }

    /// Says something without hurting the bar.
    pub(crate) fn note(&self, text: &str) {
        let text = printable(text);
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

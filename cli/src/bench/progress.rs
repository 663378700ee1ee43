//! How far it is, on stderr, and only where that is a terminal.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Often enough to be seen moving, seldom enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(100);

/// A bar from 0 to a total; it vanishes when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    drawn_at: Cell<Option<Instant>>,
}

impl Progress {
    /// `what` stands before the bar.
    pub(crate) fn start(what: &'static str, total: u64) -> Progress {
        let style = ProgressStyle::with_template("{prefix:>11} [{bar:40}] {pos}/{len} {msg}")
            .expect("the template is a constant")
            .progress_chars("=> ");
        let bar = ProgressBar::new(total).with_style(style).with_prefix(what);
        Progress {
            bar,
            drawn_at: Cell::new(None),
        }
    }

    /// Shows how far it is.
    pub(crate) fn set(&self, position: u64, message: impl FnOnce() -> String) {
        if self.drawn_at.get().is_some_and(|at| at.elapsed() < INTERVAL) || self.bar.is_hidden() {
            return;
        }
        self.drawn_at.set(Some(Instant::now()));
        self.bar.set_message(message());
        self.bar.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

//! How far it is, on stderr: a bar on a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Often enough to be seen moving, seldom enough to cost nothing.
const BAR_EVERY: Duration = Duration::from_millis(200);
/// In a file, each stays.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// From 0 to a total; a bar vanishes when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    /// `None` says nothing.
    bar: Option<ProgressBar>,
    shown_at: Cell<Instant>,
}

impl Progress {
    /// `what` stands before the bar.
    pub(crate) fn start(what: &'static str, total: u64, quiet: bool) -> Progress {
        let style = ProgressStyle::with_template("{prefix:>11} [{bar:30}] {pos}/{len} {msg}")
            .expect("the template is a constant")
            .progress_chars("=> ");
        let bar = || ProgressBar::new(total).with_style(style).with_prefix(what);
        Progress {
            what,
            bar: (!quiet).then(bar),
            shown_at: Cell::new(Instant::now()),
        }
    }

    /// Shows how far it is.
    pub(crate) fn set(&self, position: u64, message: impl FnOnce() -> String) {
        let Some(bar) = &self.bar else {
            return;
        };
        let every = if bar.is_hidden() { LINE_EVERY } else { BAR_EVERY };
        if self.shown_at.get().elapsed() < every {
            return;
        }
        self.shown_at.set(Instant::now());
        if bar.is_hidden() {
            let total = bar.length().unwrap_or(position);
            // Whoever closed stderr does not want to know.
            writeln!(
                std::io::stderr(),
                "{} {position}/{total} {}",
                self.what,
                message()
            )
            .ok();
        } else {
            bar.set_message(message());
            bar.set_position(position);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

//! The latest changes, for watches.
//!
//! *Invariant:* the changes kept follow each other without a hole up to the present revision.

use std::collections::VecDeque;

use ringcast_ring::{Changed, Revision};

/// A bounded run of changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    changes: VecDeque<Changed>,
    len_max: usize,
    /// The revision before the oldest change kept.
    floor: Revision,
    last: Revision,
}

impl Window {
    /// An empty window at `revision`, which will keep the last `len_max` changes.
    #[must_use]
    pub fn new(revision: Revision, len_max: usize) -> Window {
        Window {
            changes: VecDeque::new(),
            len_max,
            floor: revision,
            last: revision,
        }
    }

    /// Adds the next change and forgets the oldest one if there are too many.
    pub fn push(&mut self, changed: Changed) {
        debug_assert_eq!(changed.revision.0, self.last.0 + 1, "revisions follow each other");
        self.last = changed.revision;
        self.changes.push_back(changed);
        while self.changes.len() > self.len_max {
            if let Some(oldest) = self.changes.pop_front() {
                self.floor = oldest.revision;
            }
        }
    }

    /// Up to `len_max` changes after `after`, in order; `None` if some of them are forgotten, or if `after` lies in a
    /// future this store does not know.
    #[must_use]
    pub fn after(&self, after: Revision, len_max: usize) -> Option<Vec<Changed>> {
        if after < self.floor || after > self.last {
            return None;
        }
        let skip = usize::try_from(after.0 - self.floor.0).unwrap_or(usize::MAX);
        Some(self.changes.iter().skip(skip).take(len_max).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(revisions: u64) -> Window {
        let mut window = Window::new(Revision(10), 3);
        for revision in 11..11 + revisions {
            window.push(Changed {
                revision: Revision(revision),
                records: Vec::new(),
            });
        }
        window
    }

    fn after(window: &Window, revision: u64, len_max: usize) -> Option<Vec<u64>> {
        let changes = window.after(Revision(revision), len_max)?;
        Some(changes.iter().map(|changed| changed.revision.0).collect())
    }

    #[test]
    fn a_watch_goes_on_from_any_revision_still_kept() {
        let window = window(5);
        assert_eq!(after(&window, 12, 9), Some(vec![13, 14, 15]));
        assert_eq!(after(&window, 13, 1), Some(vec![14]));
        assert_eq!(after(&window, 15, 9), Some(vec![]));
    }

    #[test]
    fn a_watch_from_a_forgotten_or_future_revision_has_to_load_again() {
        assert_eq!(after(&window(5), 11, 9), None);
        assert_eq!(after(&window(5), 16, 9), None);
        assert_eq!(after(&window(0), 9, 9), None);
        assert_eq!(after(&window(0), 10, 9), Some(vec![]));
    }
}

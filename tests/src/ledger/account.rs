//! What is wrong with a ledger, and how much is not.

use std::fmt;

/// What is wrong, and how much was not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Publishes that must have reached every member.
    pub exact: usize,
    /// Publishes inside a window.
    pub inside: usize,
    /// Of these, deliveries to a member that did not come.
    pub lost_inside: usize,
    /// Of these, deliveries that came more than once.
    pub doubled_inside: Vec<String>,
    /// Of these, deliveries that came after a higher number.
    pub reordered_inside: Vec<String>,
    /// Answered ok, outside, and not seen by this member.
    pub lost: Vec<String>,
    /// Outside, and seen more than once.
    pub doubled: Vec<String>,
    /// Outside, and seen after a higher number.
    pub reordered: Vec<String>,
    /// Outside, and answered with an error.
    pub refused: Vec<String>,
    /// Outside, and not answered at all.
    pub unanswered: Vec<String>,
    /// Seen, though never published or certainly refused.
    pub invented: Vec<String>,
    /// Seen by one member and not by another of the same topic, though nobody knows whether it was committed.
    pub divided: Vec<String>,
}

impl Account {
    /// Nothing is wrong outside the windows.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let wrong = [
            &self.lost,
            &self.doubled,
            &self.reordered,
            &self.refused,
            &self.unanswered,
            &self.invented,
            &self.divided,
        ];
        wrong.iter().all(|list| list.is_empty())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} exact, {} inside a window ({} deliveries lost there)",
            self.exact, self.inside, self.lost_inside
        )?;
        for (what, list) in [
            ("doubled inside", &self.doubled_inside),
            ("reordered inside", &self.reordered_inside),
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("reordered", &self.reordered),
            ("refused", &self.refused),
            ("unanswered", &self.unanswered),
            ("invented", &self.invented),
            ("divided", &self.divided),
        ] {
            if !list.is_empty() {
                writeln!(
                    f,
                    "{} {what}, the first: {}",
                    list.len(),
                    list[..list.len().min(5)].join("; ")
                )?;
            }
        }
        Ok(())
    }
}

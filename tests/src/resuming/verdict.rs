//! What a story comes to.

use std::fmt;

use super::SubscriberNumber;
use crate::ledger::TopicNumber;

/// Something a subscriber was told it will not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Of this topic.
    pub topic: TopicNumber,
    /// Who.
    pub subscriber: SubscriberNumber,
    /// How it was told: the reason of a gap, or `recovered: false`.
    pub reason: String,
    /// Acknowledged publications of its epoch that it does not hold for it.
    pub publications: usize,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missed {
            topic,
            subscriber,
            reason,
            publications,
        } = self;
        write!(
            f,
            "topic {topic} at subscriber {subscriber}: {reason}, {publications} publications"
        )
    }
}

/// What was found; a list names what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Publishes that were answered ok.
    pub acknowledged: usize,
    /// Publications that came, all subscribers together.
    pub deliveries: usize,
    /// Of these, those that followed a join as what it had missed.
    pub replayed: usize,
    /// Answers that said `dup`.
    pub dups: usize,
    /// Joins that named a position and recovered.
    pub recovered: usize,
    /// Connections that were lost.
    pub reconnects: usize,
    /// What subscribers were told they will not get.
    pub missed: Vec<Missed>,
    /// Missing at a subscriber, and nothing explained it before what came next, or at the end.
    pub lost: Vec<String>,
    /// One publish at two offsets of an epoch, or one offset twice at a subscriber.
    pub doubled: Vec<String>,
    /// An offset after a higher one, an epoch after its successor, a publisher's publishes in another order than sent.
    pub reordered: Vec<String>,
    /// Came, though never published, or certainly refused.
    pub invented: Vec<String>,
    /// Two publishes at one place.
    pub divided: Vec<String>,
    /// Answers, joins and gaps that contradict themselves or what was known.
    pub wrong: Vec<String>,
    /// Publishes that were never answered ok.
    pub unanswered: Vec<String>,
}

impl Verdict {
    /// The lists of what must not be, by name.
    #[must_use]
    pub fn faults(&self) -> [(&'static str, &Vec<String>); 7] {
        [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("reordered", &self.reordered),
            ("invented", &self.invented),
            ("divided", &self.divided),
            ("wrong answers, joins and gaps", &self.wrong),
            ("not answered", &self.unanswered),
        ]
    }

    /// Nothing is wrong; something may have been missed and told.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.faults().iter().all(|(_, list)| list.is_empty())
    }

    /// Nothing is wrong and nothing was missed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.is_right() && self.missed.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} acknowledged, {} deliveries ({} replayed), {} dups, {} reconnects, {} recovered, {} missed",
            self.acknowledged,
            self.deliveries,
            self.replayed,
            self.dups,
            self.reconnects,
            self.recovered,
            self.missed.len()
        )?;
        let missed: Vec<String> = self.missed.iter().map(Missed::to_string).collect();
        let faults = self.faults();
        for (what, list) in [("missed", &missed)].iter().chain(&faults) {
            if !list.is_empty() {
                let shown = list[..list.len().min(5)].join("; ");
                writeln!(f, "{} {what}, the first: {shown}", list.len())?;
            }
        }
        Ok(())
    }
}

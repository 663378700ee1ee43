//! How much of everything there may be.

use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::{Pattern, Topic};

/// How much of their history the topics of one family keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRule {
    /// Which topics.
    pub pattern: Pattern,
    /// Publications; 0: none but those gateways may still need.
    pub len_max: usize,
    /// Their bytes.
    pub bytes_max: usize,
    /// How old they get.
    pub age_max: Duration,
}

/// Names a rule among those of [`Limits::history_rules`]; none: the defaults. A million topics hold one each.
pub(crate) type RuleIndex = Option<u16>;

/// What a history keeps, by its topic's rule and by what gateways need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    pub(crate) len_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) age_max: Duration,
    pub(crate) repair_bytes_max: usize,
    pub(crate) repair_age_max: Duration,
}

/// Bounds of a topic server. Every one has an answer or a policy at it; none is a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// What the topics of some families keep. The first that matches a topic holds, else the three numbers that follow.
    pub history_rules: Arc<[HistoryRule]>,
    /// Publications a topic keeps. More lets a gateway be away for longer without a gap.
    pub history_len_max: usize,
    /// Bytes of publications a topic keeps.
    pub history_bytes_max: usize,
    /// How long a publication is kept, and so how long an idle topic lives.
    pub history_age_max: Duration,
    /// Whatever is set for histories, publications younger than this are kept: gateways repair from them what a lost call,
    /// a restart or a move cost them. Shorter, and members miss publications by it.
    pub repair_age_max: Duration,
    /// Bytes of publications a topic keeps for that.
    pub repair_bytes_max: usize,
    /// Ids of clients' publishes a topic remembers; beyond, the oldest are forgotten, and may take effect again.
    pub ids_max: usize,
    /// How long an id is remembered.
    pub ids_age_max: Duration,
    /// Publications one fetch brings. A client that missed more reloads what it derives from the topic.
    pub recovery_len_max: usize,
    /// Bytes of publications one fetch brings.
    pub recovery_bytes_max: usize,
    /// Topics a topic server holds; beyond, `too_many_topics`.
    pub topics_max: usize,
    /// Bytes of one payload; beyond, `too_large`.
    pub payload_bytes_max: usize,
    /// Taps on the topics of one slot; beyond, a tap ends at once.
    pub taps_max: usize,
    /// Publications in one deliver entry.
    pub entry_publications_max: usize,
    /// Bytes in one deliver entry; the first publication goes whatever its size.
    pub entry_bytes_max: usize,
    /// Entries in one Deliver call.
    pub call_entries_max: usize,
    /// Bytes in one Deliver call; the first entry goes whatever its size. Far below the 4 MiB a message may have.
    pub call_bytes_max: usize,
    /// Publications that may be on their way to one gateway in calls it has not answered; beyond, what comes waits for an
    /// answer and leaves together. 1: one call at a time. Half of it at most goes without asking for an answer at once.
    pub lane_credit: usize,
    /// Bytes that wait for one gateway. Beyond, entries are dropped and fetched again from the history.
    pub lane_bytes_max: usize,
    /// What is to go wrong.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::PlantedBug>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            history_rules: Arc::new([]),
            history_len_max: 300,
            history_bytes_max: 1024 * 1024,
            history_age_max: Duration::from_secs(300),
            repair_age_max: Duration::from_secs(2),
            repair_bytes_max: 1024 * 1024,
            ids_max: 10_000,
            ids_age_max: Duration::from_secs(120),
            recovery_len_max: 300,
            recovery_bytes_max: 1024 * 1024,
            topics_max: 1_000_000,
            payload_bytes_max: 64 * 1024,
            taps_max: 16,
            entry_publications_max: 512,
            entry_bytes_max: 256 * 1024,
            call_entries_max: 512,
            call_bytes_max: 256 * 1024,
            lane_credit: 8,
            lane_bytes_max: 16 * 1024 * 1024,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

impl Limits {
    /// Which rule is the topic's.
    pub(crate) fn rule(&self, topic: &Topic) -> RuleIndex {
        let index = self
            .history_rules
            .iter()
            .position(|rule| rule.pattern.matches(topic))?;
        u16::try_from(index).ok()
    }

    /// What the rule comes to.
    pub(crate) fn keep(&self, rule: RuleIndex) -> Keep {
        let rule = rule.and_then(|index| self.history_rules.get(usize::from(index)));
        Keep {
            len_max: rule.map_or(self.history_len_max, |rule| rule.len_max),
            bytes_max: rule.map_or(self.history_bytes_max, |rule| rule.bytes_max),
            age_max: rule.map_or(self.history_age_max, |rule| rule.age_max),
            repair_bytes_max: self.repair_bytes_max,
            repair_age_max: self.repair_age_max,
        }
    }
}

//! How much of everything there may be.

use std::time::Duration;

/// Bounds of a topic server. Every one has an answer or a policy at it; none is a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Publications a topic keeps. More lets a gateway be away for longer without a gap.
    pub history_len_max: usize,
    /// Bytes of publications a topic keeps.
    pub history_bytes_max: usize,
    /// How long a publication is kept, and so how long an idle topic lives.
    pub history_age_max: Duration,
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
    /// Bytes that wait for one gateway. Beyond, entries are dropped and fetched again from the history.
    pub lane_bytes_max: usize,
    /// What is to go wrong.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::PlantedBug>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            history_len_max: 300,
            history_bytes_max: 1024 * 1024,
            history_age_max: Duration::from_secs(300),
            recovery_len_max: 300,
            recovery_bytes_max: 1024 * 1024,
            topics_max: 1_000_000,
            payload_bytes_max: 64 * 1024,
            taps_max: 16,
            entry_publications_max: 512,
            entry_bytes_max: 256 * 1024,
            call_entries_max: 512,
            call_bytes_max: 256 * 1024,
            lane_bytes_max: 16 * 1024 * 1024,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }
}

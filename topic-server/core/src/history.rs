//! The last publications of a topic.

use std::collections::VecDeque;
use std::time::Duration;

use ringcast_proto::v1::Publication;
use ringcast_proto::{Millis, Offset, Topic as TopicName};

use crate::copies::Copies;
use crate::limits::Keep;

/// Room for so many is not worth giving back.
const SMALL_LEN: usize = 64;

/// What a publication weighs besides its bytes, so that a million empty ones are not free.
const OVERHEAD_BYTES: usize = 96;

/// The bytes a publication counts for, in a history, an entry and a lane alike.
pub(crate) fn weight(publication: &Publication) -> usize {
    publication.event.len() + publication.payload.len() + OVERHEAD_BYTES
}

/// *Invariant:* the offsets held are consecutive and end at the topic's head.
#[derive(Debug, Default)]
pub(crate) struct History {
    kept: VecDeque<(Millis, Publication)>,
    bytes: usize,
}

impl History {
    /// Keeps a copy.
    pub(crate) fn push(
        &mut self,
        mut publication: Publication,
        topic: &TopicName,
        copies: &mut Copies,
        now: Millis,
    ) {
        let last = self.kept.back().map(|(_, last)| &last.event);
        match last {
            // Topics repeat their events: share the name, copy only the payload.
            Some(event) if *event == publication.event => {
                publication.event = event.clone();
                publication.payload = copies.copy(topic, &[&publication.payload]);
            }
            _ => {
                let mut copy = copies.copy(topic, &[&publication.event, &publication.payload]);
                publication.event = copy.split_to(publication.event.len());
                publication.payload = copy;
            }
        }
        self.bytes += weight(&publication);
        self.kept.push_back((now, publication));
    }

    /// Drops what is too much or too old.
    pub(crate) fn trim(&mut self, now: Millis, keep: &Keep) {
        while let Some((at, _)) = self.kept.front() {
            let age = now.since(*at);
            let by_rule = !self.is_over(keep) && age < keep.age_max;
            let for_repair = age < keep.repair_age_max && self.bytes <= keep.repair_bytes_max;
            if by_rule || for_repair {
                break;
            }
            self.drop_oldest();
        }
        // The room that a burst took is given back once it is mostly empty.
        if self.kept.capacity() > 4 * self.kept.len().max(SMALL_LEN) {
            self.kept.shrink_to(2 * self.kept.len());
        }
    }

    /// Drops what is older than this, as many as these are.
    pub(crate) fn forget(&mut self, now: Millis, age_max: Duration) -> usize {
        let before = self.kept.len();
        while self.kept.front().is_some_and(|(at, _)| now.since(*at) >= age_max) {
            self.drop_oldest();
        }
        self.kept.shrink_to(2 * self.kept.len());
        before - self.kept.len()
    }

    /// When the oldest publication will have to go.
    pub(crate) fn expires(&self, keep: &Keep) -> Option<Millis> {
        let (at, _) = self.kept.front()?;
        let age_max = if self.is_over(keep) {
            Duration::ZERO
        } else {
            keep.age_max
        };
        Some(*at + age_max.max(keep.repair_age_max))
    }

    /// When the newest came.
    pub(crate) fn newest(&self) -> Option<Millis> {
        self.kept.back().map(|(at, _)| *at)
    }

    fn is_over(&self, keep: &Keep) -> bool {
        self.kept.len() > keep.len_max || self.bytes > keep.bytes_max
    }

    fn drop_oldest(&mut self) {
        if let Some((_, oldest)) = self.kept.pop_front() {
            self.bytes -= weight(&oldest);
        }
    }

    /// The oldest offset it still has.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.kept
            .front()
            .map(|(_, publication)| Offset(publication.offset))
    }

    /// The publications after `offset`; from the oldest where `offset` lies before it.
    pub(crate) fn after(&self, offset: Offset) -> impl DoubleEndedIterator<Item = &Publication> {
        let first = self.first().map_or(1, |first| first.0);
        let skip = offset
            .0
            .saturating_add(1)
            .saturating_sub(first)
            .min(self.kept.len() as u64);
        let skip = usize::try_from(skip).expect("at most the length, which is a usize");
        self.kept.range(skip..).map(|(_, publication)| publication)
    }

    /// Everything kept, with the time it was appended, the oldest first.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &(Millis, Publication)> {
        self.kept.iter()
    }

    /// What was appended last.
    pub(crate) fn last(&self) -> Option<&Publication> {
        self.kept.back().map(|(_, publication)| publication)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn publication(offset: u64, event: &'static str, payload: &'static [u8]) -> Publication {
        let event = Bytes::from_static(event.as_bytes());
        Publication {
            offset,
            event,
            payload: Bytes::from_static(payload),
            ..Publication::default()
        }
    }

    fn keep_one(history: &mut History, publication: Publication, now: Millis) {
        let topic = TopicName::parse(b"t").unwrap();
        history.push(publication, &topic, &mut Copies::default(), now);
    }

    fn offsets(history: &History, after: u64) -> Vec<u64> {
        history
            .after(Offset(after))
            .map(|publication| publication.offset)
            .collect()
    }

    #[test]
    fn it_keeps_no_more_than_its_count_its_bytes_and_its_age() {
        let keep = Keep {
            len_max: 3,
            bytes_max: 3 * OVERHEAD_BYTES + 20,
            age_max: Duration::from_secs(300),
            repair_bytes_max: 0,
            repair_age_max: Duration::ZERO,
        };
        let mut history = History::default();
        for offset in 1..=5 {
            keep_one(&mut history, publication(offset, "e", b"1"), Millis(offset));
        }
        history.trim(Millis(5), &keep);
        assert_eq!(offsets(&history, 0), [3, 4, 5]);
        keep_one(&mut history, publication(6, "e", b"0123456789abcde"), Millis(6));
        history.trim(Millis(6), &keep);
        assert_eq!(offsets(&history, 0), [4, 5, 6], "at the very bound of bytes");
        keep_one(&mut history, publication(7, "e", b"0123456789abcde"), Millis(7));
        history.trim(Millis(7), &keep);
        assert_eq!(offsets(&history, 0), [6, 7], "one byte more than allowed");
        history.trim(Millis(6) + keep.age_max - Duration::from_millis(1), &keep);
        assert_eq!(offsets(&history, 0), [6, 7]);
        history.trim(Millis(6) + keep.age_max, &keep);
        assert_eq!(offsets(&history, 0), [7]);
        history.trim(Millis(7) + keep.age_max, &keep);
        assert_eq!((history.len(), history.bytes()), (0, 0));
    }

    #[test]
    fn what_gateways_may_need_is_kept_whatever_the_rule() {
        let keep = Keep {
            len_max: 0,
            bytes_max: 0,
            age_max: Duration::from_millis(500),
            repair_bytes_max: 3 * (OVERHEAD_BYTES + 2),
            repair_age_max: Duration::from_secs(2),
        };
        let mut history = History::default();
        for offset in 1..=4 {
            keep_one(&mut history, publication(offset, "e", b"1"), Millis(offset));
        }
        history.trim(Millis(4), &keep);
        assert_eq!(offsets(&history, 0), [2, 3, 4], "up to the bound of bytes");
        assert_eq!(history.expires(&keep), Some(Millis(2_002)));
        history.trim(Millis(2_001), &keep);
        assert_eq!(offsets(&history, 0), [2, 3, 4]);
        history.trim(Millis(2_003), &keep);
        assert_eq!(offsets(&history, 0), [4]);
        history.trim(Millis(2_004), &keep);
        assert!(history.is_empty());
        // What a rule allows goes by the rule.
        let keep = Keep {
            len_max: 9,
            bytes_max: 999,
            age_max: Duration::from_secs(5),
            ..keep
        };
        keep_one(&mut history, publication(5, "e", b"1"), Millis(10));
        assert_eq!(history.expires(&keep), Some(Millis(5_010)));
        history.trim(Millis(5_009), &keep);
        assert_eq!(offsets(&history, 0), [5]);
    }

    #[test]
    fn after_gives_what_it_has_and_nothing_else() {
        let mut history = History::default();
        assert!(offsets(&history, u64::MAX - 1).is_empty());
        for offset in 3..=5 {
            keep_one(&mut history, publication(offset, "e", b""), Millis(0));
        }
        assert_eq!(offsets(&history, 0), [3, 4, 5]);
        assert_eq!(offsets(&history, 3), [4, 5]);
        assert!(offsets(&history, 5).is_empty());
        assert!(offsets(&history, 900).is_empty());
    }

    #[test]
    fn it_does_not_pin_the_buffer_a_publication_came_in() {
        let buffer = Bytes::from(vec![b'x'; 4096]);
        let mut history = History::default();
        for offset in 1..=2 {
            let (event, payload) = (buffer.slice(0..5), buffer.slice(5..10));
            keep_one(
                &mut history,
                Publication {
                    offset,
                    event,
                    payload,
                    ..Publication::default()
                },
                Millis(0),
            );
        }
        assert!(
            buffer.is_unique(),
            "the history shares bytes with a receive buffer"
        );
        assert!(
            history
                .after(Offset(0))
                .all(|kept| &kept.event[..] == b"xxxxx" && &kept.payload[..] == b"xxxxx")
        );
    }
}

//! The last publications of a topic.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use ringcast_proto::v1::Publication;
use ringcast_proto::{Millis, Offset};

use crate::Limits;

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
    /// Keeps a copy: the publication's bytes are slices of a receive buffer, and 200 bytes would pin all of it.
    pub(crate) fn push(&mut self, mut publication: Publication, now: Millis) {
        let last = self.kept.back().map(|(_, last)| &last.event);
        match last {
            // Topics repeat their events: share the name, copy only the payload.
            Some(event) if *event == publication.event => {
                publication.event = event.clone();
                publication.payload = Bytes::copy_from_slice(&publication.payload);
            }
            _ => {
                let mut copy = BytesMut::with_capacity(publication.event.len() + publication.payload.len());
                copy.extend_from_slice(&publication.event);
                copy.extend_from_slice(&publication.payload);
                let mut copy = copy.freeze();
                publication.event = copy.split_to(publication.event.len());
                publication.payload = copy;
            }
        }
        self.bytes += weight(&publication);
        self.kept.push_back((now, publication));
    }

    /// Drops what is too much or too old.
    pub(crate) fn trim(&mut self, now: Millis, limits: &Limits) {
        while let Some((at, oldest)) = self.kept.front() {
            let too_much = self.kept.len() > limits.history_len_max || self.bytes > limits.history_bytes_max;
            if !too_much && now.since(*at) < limits.history_age_max {
                return;
            }
            self.bytes -= weight(oldest);
            self.kept.pop_front();
        }
    }

    /// When the oldest publication will be too old.
    pub(crate) fn expires(&self, limits: &Limits) -> Option<Millis> {
        self.kept.front().map(|(at, _)| *at + limits.history_age_max)
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
    use std::time::Duration;

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

    fn offsets(history: &History, after: u64) -> Vec<u64> {
        history
            .after(Offset(after))
            .map(|publication| publication.offset)
            .collect()
    }

    #[test]
    fn it_keeps_no_more_than_its_count_its_bytes_and_its_age() {
        let limits = Limits {
            history_len_max: 3,
            history_bytes_max: 3 * OVERHEAD_BYTES + 20,
            ..Limits::default()
        };
        let mut history = History::default();
        for offset in 1..=5 {
            history.push(publication(offset, "e", b"1"), Millis(offset));
        }
        history.trim(Millis(5), &limits);
        assert_eq!(offsets(&history, 0), [3, 4, 5]);
        history.push(publication(6, "e", b"0123456789abcde"), Millis(6));
        history.trim(Millis(6), &limits);
        assert_eq!(offsets(&history, 0), [4, 5, 6], "at the very bound of bytes");
        history.push(publication(7, "e", b"0123456789abcde"), Millis(7));
        history.trim(Millis(7), &limits);
        assert_eq!(offsets(&history, 0), [6, 7], "one byte more than allowed");
        history.trim(
            Millis(6) + limits.history_age_max - Duration::from_millis(1),
            &limits,
        );
        assert_eq!(offsets(&history, 0), [6, 7]);
        history.trim(Millis(6) + limits.history_age_max, &limits);
        assert_eq!(offsets(&history, 0), [7]);
        history.trim(Millis(7) + limits.history_age_max, &limits);
        assert_eq!((history.len(), history.bytes()), (0, 0));
    }

    #[test]
    fn after_gives_what_it_has_and_nothing_else() {
        let mut history = History::default();
        assert!(offsets(&history, u64::MAX - 1).is_empty());
        for offset in 3..=5 {
            history.push(publication(offset, "e", b""), Millis(0));
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
            history.push(
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

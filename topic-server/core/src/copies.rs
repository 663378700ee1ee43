//! Copies of what publishers send, to be kept: what is sent is a slice of a receive buffer, and 200 bytes would pin all of it.
//!
//! *Invariant:* what shares an allocation is of one topic and one turn, so it is let go of together or nearly so.

use bytes::{Bytes, BytesMut};
use ringcast_proto::Topic as TopicName;

/// What a topic that is published to often in a turn shares at most.
const SHARED_BYTES_MAX: usize = 4 * 1024;

/// Where copies are made.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    last: Option<Last>,
}

/// The topic of the last copy.
#[derive(Debug)]
struct Last {
    topic: TopicName,
    /// How many bytes were copied for it this turn, one after another.
    copied: usize,
    /// For its next copy. It is as large as what was copied before it, so that at most half of what is kept is nothing.
    room: BytesMut,
}

impl Copies {
    /// A copy of `parts`, one behind the other.
    pub(crate) fn copy(&mut self, topic: &TopicName, parts: &[&[u8]]) -> Bytes {
        let len = parts.iter().map(|part| part.len()).sum();
        match &mut self.last {
            Some(last) if last.topic == *topic => {
                if last.room.capacity() < len {
                    let room = last.copied.min(SHARED_BYTES_MAX).max(len);
                    last.room = BytesMut::with_capacity(room);
                }
                last.copied += len;
                parts.iter().for_each(|part| last.room.extend_from_slice(part));
                last.room.split().freeze()
            }
            last => {
                // The first of a turn, which most often is the only one.
                *last = Some(Last {
                    topic: topic.clone(),
                    copied: len,
                    room: BytesMut::new(),
                });
                Bytes::from(parts.concat())
            }
        }
    }

    /// The turn is over.
    pub(crate) fn end(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name.as_bytes()).unwrap()
    }

    /// Whether the second follows the first in one allocation.
    fn adjoin(first: &Bytes, second: &Bytes) -> bool {
        first.as_ptr_range().end == second.as_ptr()
    }

    #[test]
    fn copies_of_one_topic_and_turn_share_and_others_do_not() {
        let (mut copies, a, b) = (Copies::default(), topic("a"), topic("b"));
        let made: Vec<Bytes> = (0..4).map(|_| copies.copy(&a, &[b"event", b"1234"])).collect();
        assert!(made.iter().all(|copy| copy == "event1234"));
        assert!(adjoin(&made[2], &made[3]));
        let other = copies.copy(&b, &[b"2"]);
        let again = copies.copy(&a, &[b"3"]);
        assert_eq!((&other[..], &again[..]), (&b"2"[..], &b"3"[..]));
        assert!(!adjoin(&made[3], &other) && !adjoin(&made[3], &again));
        let second = copies.copy(&a, &[b"4"]);
        copies.end();
        assert!(!adjoin(&second, &copies.copy(&a, &[b"5"])));
    }

    #[test]
    fn at_most_half_of_what_is_kept_is_room_for_what_never_came() {
        for count in 1..200 {
            let (mut copies, a) = (Copies::default(), topic("a"));
            let (mut kept, mut allocated) = (0, 0);
            for _ in 0..count {
                let before = copies.last.as_ref().map_or(0, |last| last.room.capacity());
                kept += copies.copy(&a, &[&[7; 128]]).len();
                let after = copies.last.as_ref().map_or(0, |last| last.room.capacity());
                allocated += if before < 128 { 128 + after } else { 0 };
            }
            assert!(
                allocated <= 2 * kept,
                "{allocated} bytes for {kept} in {count} copies"
            );
        }
    }

    #[test]
    fn what_is_larger_than_the_shared_room_has_its_own() {
        let (mut copies, a) = (Copies::default(), topic("a"));
        let large = vec![7; 3 * SHARED_BYTES_MAX];
        for _ in 0..3 {
            assert_eq!(copies.copy(&a, &[&large]), large);
        }
    }
}

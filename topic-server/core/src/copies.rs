//! Copies of what publishers send, to be kept: what is sent is a slice of a receive buffer, and 200 bytes would pin all of it.
//!
//! *Invariant:* what shares an allocation is of one topic and one turn, so it is let go of together or nearly so.

use bytes::{Bytes, BytesMut};
use ringcast_proto::Topic as TopicName;

/// What a topic that is published to more than once in a turn shares.
const SHARED_BYTES: usize = 4 * 1024;

/// Where copies are made.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// The topic of the last copy, and the room for its next.
    last: Option<(TopicName, BytesMut)>,
}

impl Copies {
    /// A copy of `parts`, one behind the other.
    pub(crate) fn copy(&mut self, topic: &TopicName, parts: &[&[u8]]) -> Bytes {
        let len = parts.iter().map(|part| part.len()).sum();
        match &mut self.last {
            Some((last, room)) if last == topic => {
                if room.capacity() < len {
                    *room = BytesMut::with_capacity(SHARED_BYTES.max(len));
                }
                parts.iter().for_each(|part| room.extend_from_slice(part));
                room.split().freeze()
            }
            last => {
                // The first of a turn, which most often is the only one.
                *last = Some((topic.clone(), BytesMut::new()));
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
        let made: Vec<Bytes> = (0..3).map(|_| copies.copy(&a, &[b"event", b"1234"])).collect();
        assert!(made.iter().all(|copy| copy == "event1234"));
        assert!(adjoin(&made[1], &made[2]));
        let other = copies.copy(&b, &[b"2"]);
        let again = copies.copy(&a, &[b"3"]);
        assert_eq!((&other[..], &again[..]), (&b"2"[..], &b"3"[..]));
        assert!(!adjoin(&made[2], &other) && !adjoin(&made[2], &again));
        let second = copies.copy(&a, &[b"4"]);
        copies.end();
        assert!(!adjoin(&second, &copies.copy(&a, &[b"5"])));
    }

    #[test]
    fn what_is_larger_than_the_shared_room_has_its_own() {
        let (mut copies, a) = (Copies::default(), topic("a"));
        let large = vec![7; 3 * SHARED_BYTES];
        for _ in 0..3 {
            assert_eq!(copies.copy(&a, &[&large]), large);
        }
    }
}

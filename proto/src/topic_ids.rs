//! Numbers for topics on a stream of calls: the first message about a topic has both, later ones have the number alone.
//!
//! A new stream begins without any, so a call that is repeated there says everything again.
//! *Invariant:* what [`TopicIds::resolve`] makes of a stream's calls, in their order, is what they were made of.

use std::collections::HashMap;

use bytes::Bytes;

use crate::v1::{DeliverCall, PublishCall};

/// Numbers of one stream. With more topics they change hands, the oldest first.
const TOPIC_IDS_MAX: usize = 16 * 1024;

/// What has topics in it.
pub trait Topics {
    /// Each with its number, 0 where it has none.
    fn topics(&mut self) -> impl Iterator<Item = (&mut Bytes, &mut u32)>;
}

impl Topics for DeliverCall {
    fn topics(&mut self) -> impl Iterator<Item = (&mut Bytes, &mut u32)> {
        let entries = self.entries.iter_mut();
        entries.map(|entry| (&mut entry.topic, &mut entry.topic_id))
    }
}

impl Topics for PublishCall {
    fn topics(&mut self) -> impl Iterator<Item = (&mut Bytes, &mut u32)> {
        let publishes = self.slots.iter_mut().flat_map(|slot| &mut slot.publishes);
        publishes.map(|publish| (&mut publish.topic, &mut publish.topic_id))
    }
}

/// The calling end of a stream.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    ids: HashMap<Bytes, u32>,
    /// Of number `n` at `n - 1`.
    topics: Vec<Bytes>,
    /// The number that changes hands next, less one.
    oldest: usize,
}

impl Numbers {
    /// The topic's number, and whether the other end knows it. Nothing has no number: the other end will say what it
    /// thinks of that.
    pub(crate) fn of(&mut self, topic: &Bytes) -> (u32, bool) {
        if topic.is_empty() {
            return (0, false);
        }
        if let Some(id) = self.ids.get(topic) {
            return (*id, true);
        }
        // What is kept is a copy: with a slice of a message all of the message would stay.
        let kept = Bytes::copy_from_slice(topic);
        let index = if self.topics.len() < TOPIC_IDS_MAX {
            self.topics.push(kept.clone());
            self.topics.len() - 1
        } else {
            let index = self.oldest;
            self.oldest = (index + 1) % TOPIC_IDS_MAX;
            let before = std::mem::replace(&mut self.topics[index], kept.clone());
            self.ids.remove(&before);
            index
        };
        let id = index as u32 + 1; // there are few
        self.ids.insert(kept, id);
        (id, false)
    }

    /// Puts numbers in the place of topics.
    pub(crate) fn shorten(&mut self, call: &mut impl Topics) {
        for (topic, topic_id) in call.topics() {
            let (id, known) = self.of(topic);
            *topic_id = id;
            if known {
                *topic = Bytes::new();
            }
        }
    }
}

/// A number that the stream has given to no topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("topic_id {0} has no topic on this stream")]
pub struct NoSuchTopicId(u32);

/// The called end of a stream: which topic each number stands for.
#[derive(Debug, Default)]
pub struct TopicIds(Vec<Bytes>);

impl TopicIds {
    /// Gives everything its topic again, and learns those that are new.
    ///
    /// # Errors
    /// [`NoSuchTopicId`]: the caller and this end do not mean the same stream.
    pub fn resolve(&mut self, call: &mut impl Topics) -> Result<(), NoSuchTopicId> {
        let TopicIds(topics) = self;
        for (topic, topic_id) in call.topics() {
            let id = std::mem::take(topic_id);
            if id == 0 {
                continue;
            }
            let index = id as usize - 1;
            if topic.is_empty() {
                *topic = topics.get(index).ok_or(NoSuchTopicId(id))?.clone();
                continue;
            }
            // A copy, as at the other end.
            let kept = Bytes::copy_from_slice(topic);
            match topics.len() {
                len if index < len => topics[index] = kept,
                len if index == len && index < TOPIC_IDS_MAX => topics.push(kept),
                _ => return Err(NoSuchTopicId(id)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
mod tests {
    use super::*;
    use crate::v1::{Publish, SlotPublishes};

    fn call(topics: impl IntoIterator<Item = (String, u32)>) -> PublishCall {
        let publish = |(topic, topic_id): (String, u32)| Publish {
            topic: topic.into(),
            topic_id,
            ..Publish::default()
        };
        let publishes = topics.into_iter().map(publish).collect();
        PublishCall {
            header: None,
            slots: vec![SlotPublishes {
                publishes,
                ..SlotPublishes::default()
            }],
        }
    }

    /// A stream from end to end.
    #[derive(Default)]
    struct Stream {
        numbers: Numbers,
        ids: TopicIds,
    }

    impl Stream {
        /// How many topics were spelled out; what comes out is what was put in.
        fn send(&mut self, numbers: impl Iterator<Item = usize>) -> usize {
            let before = call(numbers.map(|number| (format!("room:{number}"), 0)));
            let mut sent = before.clone();
            self.numbers.shorten(&mut sent);
            let spelled = sent.topics().filter(|(topic, _)| !topic.is_empty()).count();
            self.ids.resolve(&mut sent).unwrap();
            assert!(sent == before);
            spelled
        }
    }

    #[test]
    fn a_topic_is_spelled_out_once() {
        let mut stream = Stream::default();
        assert_eq!(stream.send([1, 2, 1].into_iter()), 2);
        assert_eq!(stream.send([2, 1, 3].into_iter()), 1);
    }

    #[test]
    fn more_topics_than_numbers_take_turns() {
        let mut stream = Stream::default();
        for from in [0, TOPIC_IDS_MAX / 2, TOPIC_IDS_MAX, 10] {
            stream.send((from..from + TOPIC_IDS_MAX).step_by(7));
            stream.send(from..from + TOPIC_IDS_MAX);
        }
        assert_eq!(stream.numbers.topics.len(), TOPIC_IDS_MAX);
        assert_eq!(stream.numbers.ids.len(), TOPIC_IDS_MAX);
        assert_eq!(stream.ids.0.len(), TOPIC_IDS_MAX);
    }

    #[test]
    fn a_number_that_no_topic_has_is_told() {
        let one = |topic: &str, topic_id| call([(topic.to_owned(), topic_id)]);
        let mut ids = TopicIds::default();
        assert_eq!(ids.resolve(&mut one("", 1)), Err(NoSuchTopicId(1)));
        assert_eq!(ids.resolve(&mut one("b", 2)), Err(NoSuchTopicId(2)), "no gaps");
        assert_eq!(ids.resolve(&mut one("a", 1)), Ok(()));
        assert_eq!(ids.resolve(&mut one("", 2)), Err(NoSuchTopicId(2)));
        let max = u32::MAX;
        assert_eq!(ids.resolve(&mut one("z", max)), Err(NoSuchTopicId(max)));
        let mut known = one("", 1);
        ids.resolve(&mut known).unwrap();
        assert!(known == one("a", 0));
    }
}

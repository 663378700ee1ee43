//! Publishes at an even rate, whatever becomes of them: a slow answer never slows what follows (an open loop).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::channel::is_to_others;
use super::crew::{Shape, Shared};
use super::story::Publish;
use crate::ledger::TopicNumber;

/// The pacer's tick: short beside any deadline, long enough to send several publishes in one go.
const TICK: Duration = Duration::from_millis(5);

/// Hands publishes to the sockets until it is told to end, then a last one a topic; gives when each was due.
pub(super) async fn pace(
    shape: Shape,
    queues: Vec<mpsc::Sender<(TopicNumber, u64)>>,
    shared: Arc<Shared>,
) -> BTreeMap<(TopicNumber, u64), Publish> {
    let mut publishes = BTreeMap::new();
    let mut numbers = vec![0_u64; shape.topics];
    let mut ticks = tokio::time::interval(TICK);
    let (mut done, begin) = (0_usize, Instant::now());
    // Gives whether it goes to everybody; `None`: it could not be sent.
    let mut publish = |topic: TopicNumber| {
        let number = numbers[topic] + 1;
        let sent = shared.start.elapsed();
        let mut senders = shape.sendings_of(topic);
        // Full: it is stuck, and the missing answers will show that.
        let send = |socket: usize| {
            let is_sent = queues[socket].try_send((topic, number)).is_ok();
            shared.sent.fetch_add(usize::from(is_sent), Ordering::Relaxed);
            is_sent
        };
        if !senders.next().is_some_and(send) {
            return None;
        }
        senders.for_each(|socket| {
            send(socket);
        });
        numbers[topic] = number;
        let is_to_others = is_to_others(number);
        let publish = Publish {
            sent,
            senders: shape.sendings_of(topic).collect(),
            is_to_others,
            answers: Vec::new(),
        };
        publishes.insert((topic, number), publish);
        Some(!is_to_others)
    };
    while !shared.is_ending.load(Ordering::Relaxed) {
        ticks.tick().await;
        let due = (begin.elapsed().as_secs_f64() * shape.publishes_per_second as f64) as usize;
        while done < due {
            publish(done % shape.topics);
            done += 1;
        }
    }
    for topic in 0..shape.topics {
        // The last one goes to everybody, so that everybody can stand at the head.
        while publish(topic) == Some(false) {}
    }
    publishes
}

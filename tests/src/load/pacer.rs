//! Publishes at an even rate, whatever becomes of them: a slow answer never slows what follows (an open loop).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Shape, Shared};
use crate::ledger::TopicNumber;

/// The pacer's tick: short beside any deadline, long enough to send several publishes in one go.
const TICK: Duration = Duration::from_millis(5);

/// Hands publishes to the sockets at an even rate; gives when each was sent.
pub(super) async fn pace(
    shape: Shape,
    queues: Vec<mpsc::Sender<(TopicNumber, u64)>>,
    shared: Arc<Shared>,
) -> BTreeMap<(TopicNumber, u64), Duration> {
    let mut sent = BTreeMap::new();
    let mut numbers = vec![0_u64; shape.topics];
    let mut ticks = tokio::time::interval(TICK);
    let (mut done, mut next) = (0_usize, 0_usize);
    let begin = Instant::now();
    while !shared.ending.load(Ordering::Relaxed) {
        ticks.tick().await;
        let due = (begin.elapsed().as_secs_f64() * shape.publishes_per_second as f64) as usize;
        while done < due {
            publish(
                next % shape.topics,
                &shape,
                &queues,
                &shared,
                &mut numbers,
                &mut sent,
            );
            next += 1;
            done += 1;
        }
    }
    for topic in 0..shape.topics {
        publish(topic, &shape, &queues, &shared, &mut numbers, &mut sent);
    }
    sent
}

fn publish(
    topic: TopicNumber,
    shape: &Shape,
    queues: &[mpsc::Sender<(TopicNumber, u64)>],
    shared: &Shared,
    numbers: &mut [u64],
    sent: &mut BTreeMap<(TopicNumber, u64), Duration>,
) {
    let Some(publisher) = shape.members_of(topic).next() else {
        return;
    };
    let number = numbers[topic] + 1;
    let at = shared.start.elapsed();
    if shared.ending.load(Ordering::Relaxed) {
        shared.last[topic].store(number, Ordering::Relaxed);
    }
    // Closed: the publisher went with its gateway. Full: it is stuck, which the missing replies will show.
    if queues[publisher].try_send((topic, number)).is_ok() {
        numbers[topic] = number;
        shared.sent.fetch_add(1, Ordering::Relaxed);
        sent.insert((topic, number), at);
    }
}

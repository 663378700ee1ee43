//! A steady load on many topics, with every publish, reply and delivery on record.
//!
//! Each topic has one publisher, one of its members; members are spread over sockets, sockets over gateways.
//! *Invariant:* nothing that was sent or came is missing in the [`Ledger`] at the end.
//! Leaves out: judging it (`ledger`).

mod pacer;
mod socket;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::pacer::pace;
use self::socket::{SocketLog, connect_all, run_socket};
use crate::ledger::{Ledger, Publish, TopicNumber};
use crate::wait;

/// How many publishes may wait for one socket's task.
const QUEUE_LEN: usize = 4096;

/// How much of what.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Topics `topics:load0000` and up.
    pub topics: usize,
    /// Members of each.
    pub members: usize,
    /// Connections, spread evenly over the gateways.
    pub sockets: usize,
    /// Publishes a second, all topics together.
    pub publishes_per_second: usize,
}

/// What the kills are done under.
pub const KILLS: Shape = Shape {
    topics: 200,
    members: 5,
    sockets: 200,
    publishes_per_second: 1000,
};

/// What moves are judged under.
pub const MOVES: Shape = Shape {
    publishes_per_second: 2000,
    ..KILLS
};

/// A load that is running.
#[derive(Debug)]
pub struct Load {
    shape: Shape,
    shared: Arc<Shared>,
    sockets: JoinSet<SocketLog>,
    pacer: JoinSet<BTreeMap<(TopicNumber, u64), Duration>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    gateways: usize,
    /// By topic: when the newest publish that was answered ok had been sent, in ms.
    served_ms: Vec<AtomicU64>,
    sent: AtomicUsize,
    answered: AtomicUsize,
    delivered: AtomicUsize,
    /// By topic: its last number, once the pacer has ended; until then 0.
    last: Vec<AtomicU64>,
    /// Members that got their topic's last number.
    complete: AtomicUsize,
    ending: AtomicBool,
}

/// A topic's name.
#[must_use]
pub fn topic(number: TopicNumber) -> String {
    format!("topics:load{number:04}")
}

/// The number of the topic of this name.
#[must_use]
pub fn number(name: &str) -> Option<TopicNumber> {
    name.strip_prefix("topics:load")?.parse().ok()
}

impl Shape {
    /// The sockets that join a topic; the first publishes.
    fn members_of(&self, topic: TopicNumber) -> impl Iterator<Item = usize> {
        // 41 is odd, so that the members of a topic are on different gateways, and prime to any even count.
        let sockets = self.sockets;
        (0..self.members).map(move |member| (topic + member * 41) % sockets)
    }
}

impl Load {
    /// Connects, joins, and begins to publish.
    ///
    /// # Errors
    /// A connection or a join failed.
    pub async fn start(shape: Shape, gateways: &[SocketAddr]) -> Result<Load> {
        let mut topics_of: Vec<Vec<TopicNumber>> = vec![Vec::new(); shape.sockets];
        for topic in 0..shape.topics {
            for socket in shape.members_of(topic) {
                topics_of[socket].push(topic);
            }
        }
        let clients = connect_all(&topics_of, gateways).await?;
        let shared = Arc::new(Shared {
            start: Instant::now(),
            gateways: gateways.len(),
            served_ms: (0..shape.topics).map(|_| AtomicU64::new(0)).collect(),
            sent: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            delivered: AtomicUsize::new(0),
            last: (0..shape.topics).map(|_| AtomicU64::new(0)).collect(),
            complete: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        });
        let mut sockets = JoinSet::new();
        let mut queues = Vec::new();
        for (socket, client) in clients {
            let (queue, publishes) = mpsc::channel(QUEUE_LEN);
            queues.push(queue);
            sockets.spawn(run_socket(socket, client, publishes, Arc::clone(&shared)));
        }
        let mut pacer = JoinSet::new();
        pacer.spawn(pace(shape, queues, Arc::clone(&shared)));
        Ok(Load {
            shape,
            shared,
            sockets,
            pacer,
        })
    }

    /// The time since the load began: what all times of its ledger count from.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// How many of `topics` were answered ok for something sent at `from` or later.
    #[must_use]
    pub fn served_since(&self, from: Duration, topics: &[TopicNumber]) -> usize {
        let from = from.as_millis() as u64;
        topics
            .iter()
            .filter(|&&topic| self.shared.served_ms[topic].load(Ordering::Relaxed) > from)
            .count()
    }

    /// Waits until everyone of `topics` was answered ok for something sent at `from` or later.
    ///
    /// # Errors
    /// Not in time; says how many were.
    pub async fn served(&self, from: Duration, topics: &[TopicNumber], deadline: Duration) -> Result<()> {
        wait::until("every topic to be served", deadline, async || {
            match self.served_since(from, topics) {
                served if served == topics.len() => Ok(()),
                served => Err(format!("{served} of {}", topics.len())),
            }
        })
        .await?;
        Ok(())
    }

    /// Lets the load run for this long.
    pub async fn run(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// All topics.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicNumber> {
        (0..self.shape.topics).collect()
    }

    /// Ends it: no more publishes, all replies and deliveries that still come, then the ledger. `gone` are gateways
    /// (0 is the first) that were killed meanwhile.
    ///
    /// # Errors
    /// A task of the load itself died.
    pub async fn stop(mut self, gone: &[usize]) -> Result<Ledger> {
        self.shared.ending.store(true, Ordering::Relaxed);
        let sent = self
            .pacer
            .join_next()
            .await
            .context("the pacer is there")?
            .context("pacer")?;
        let living = |socket: usize| !gone.contains(&(socket % self.shared.gateways));
        let expected: usize = (0..self.shape.topics)
            .filter(|&topic| self.shape.members_of(topic).next().is_some_and(living))
            .map(|topic| {
                self.shape
                    .members_of(topic)
                    .filter(|&socket| living(socket))
                    .count()
            })
            .sum();
        // Order is kept, so a member that has its topic's last number has everything it will ever get. One that never
        // gets it is found by the ledger, not here.
        let complete = wait::until(
            "every member to have the last publication",
            wait::SOON,
            async || {
                let complete = self.shared.complete.load(Ordering::Relaxed);
                let answered = self.shared.answered.load(Ordering::Relaxed);
                let sent = self.shared.sent.load(Ordering::Relaxed);
                let done = complete >= expected && (answered >= sent || !gone.is_empty());
                if done {
                    Ok(())
                } else {
                    Err(format!(
                        "{complete} of {expected} members, {answered} of {sent} replies"
                    ))
                }
            },
        );
        if let Err(error) = complete.await {
            eprintln!("{error:#}");
        }
        self.shared
            .last
            .iter()
            .for_each(|last| last.store(u64::MAX, Ordering::Relaxed));
        let mut ledger = Ledger::default();
        for ((topic, number), sent) in sent {
            ledger
                .publishes
                .insert((topic, number), Publish { sent, answered: None });
        }
        for topic in 0..self.shape.topics {
            if self
                .shape
                .members_of(topic)
                .next()
                .is_some_and(|socket| !living(socket))
            {
                ledger.orphaned.insert(topic);
            }
        }
        while let Some(log) = self.sockets.join_next().await {
            enter(log.context("socket task")?, &living, &mut ledger);
        }
        Ok(ledger)
    }

    /// One line about how it goes.
    #[must_use]
    pub fn progress(&self) -> String {
        let [sent, answered, delivered] = [&self.shared.sent, &self.shared.answered, &self.shared.delivered]
            .map(|count| count.load(Ordering::Relaxed));
        format!(
            "{sent} sent, {answered} answered, {delivered} delivered after {:?}",
            self.now()
        )
    }
}

fn enter(log: SocketLog, living: &impl Fn(usize) -> bool, ledger: &mut Ledger) {
    if !living(log.socket) {
        ledger.gone.insert(log.socket);
    } else {
        ledger.disturbances.extend(log.disturbances);
    }
    for (topic, received) in log.received {
        let member = (topic, log.socket);
        let (numbers, times) = received.into_iter().unzip();
        ledger.received.insert(member, numbers);
        ledger.received_at.insert(member, times);
    }
    for (topic, number, at, outcome) in log.answers {
        if let Some(publish) = ledger.publishes.get_mut(&(topic, number)) {
            publish.answered = Some((at, outcome));
        }
    }
}

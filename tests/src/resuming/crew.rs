//! Many clients that resume, under a steady load of their own.
//!
//! Each topic has some of them as subscribers; its first one publishes, or its first two where every publish is sent
//! several times. *Invariant:* nothing that was sent or came is missing in the [`Story`] at the end.
//! Leaves out: judging it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::pacer::pace;
use super::socket::{Orders, Socket};
use super::story::{Position, Publish, Story, SubscriberNumber};
use crate::ledger::TopicNumber;
use crate::wait;

/// How many publishes may wait for one socket's task.
const QUEUE_LEN: usize = 8192;

/// How long all that is under way may take to be answered and delivered at the end: what a node's restart takes, twice.
const SETTLE_WITHIN: Duration = Duration::from_secs(40);

/// How much of what.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Topics `topics:kept0000` and up.
    pub topics: usize,
    /// Subscribers of each.
    pub subscribers: usize,
    /// Connections; an even number, spread evenly over the gateways.
    pub sockets: usize,
    /// Publishes a second, all topics together.
    pub publishes_per_second: usize,
    /// How often each is sent, by two subscribers in turn.
    pub sendings: usize,
}

impl Shape {
    /// The sockets that join a topic.
    pub fn subscribers_of(&self, topic: TopicNumber) -> impl Iterator<Item = SubscriberNumber> + use<> {
        // 41 is odd, so that the subscribers of a topic are on different gateways, and prime to most counts.
        let (sockets, subscribers) = (self.sockets, self.subscribers);
        (0..subscribers).map(move |subscriber| (topic + subscriber * 41) % sockets)
    }

    /// The sockets that send each publish of a topic, in this order.
    pub(super) fn sendings_of(&self, topic: TopicNumber) -> impl Iterator<Item = SubscriberNumber> + use<> {
        let senders: Vec<SubscriberNumber> = self.subscribers_of(topic).take(2).collect();
        (0..self.sendings).filter_map(move |sending| senders.get(sending % senders.len()).copied())
    }
}

/// What all sockets are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Working,
    Over,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) start: Instant,
    pub(super) sent: AtomicUsize,
    pub(super) settled: AtomicUsize,
    pub(super) delivered: AtomicUsize,
    pub(super) is_ending: AtomicBool,
    /// By topic: its highest acknowledged place, and when it was acknowledged.
    heads: Vec<Mutex<Option<(Position, Duration)>>>,
    /// By topic: what everybody is to have in this round.
    wanted: Vec<Mutex<Option<Position>>>,
    /// Rises when the sockets are to look again whether they have everything.
    round: AtomicU64,
    /// By socket: the round in which it had everything; 0: it has not.
    at_head: Vec<AtomicU64>,
}

impl Shared {
    pub(super) fn acknowledged(&self, topic: TopicNumber, position: &Position, now: Duration) {
        let mut head = self.head(topic);
        let is_newer = head
            .as_ref()
            .is_none_or(|(head, _)| head.epoch != position.epoch || head.offset < position.offset);
        if is_newer {
            *head = Some((position.clone(), now));
        }
    }

    /// Whether who stands at `position` has what is wanted in this round, or stands at the head of a newer epoch.
    pub(super) fn has_wanted(&self, topic: TopicNumber, position: Option<&Position>) -> bool {
        let Some(position) = position else { return false };
        let is_reached =
            |wanted: &Position| wanted.epoch == position.epoch && position.offset >= wanted.offset;
        let wanted = self.wanted[topic].lock().unwrap_or_else(PoisonError::into_inner);
        match (&*wanted, &*self.head(topic)) {
            (None, _) => true,
            (Some(wanted), Some((head, _))) if head.epoch != wanted.epoch => is_reached(head),
            (Some(wanted), _) => is_reached(wanted),
        }
    }

    /// Begins a round: everything that is acknowledged is wanted.
    fn want(&self) -> u64 {
        for (topic, wanted) in self.wanted.iter().enumerate() {
            let head = self.head(topic).as_ref().map(|(head, _)| head.clone());
            *wanted.lock().unwrap_or_else(PoisonError::into_inner) = head;
        }
        self.round.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn tell_at_head(&self, socket: usize, is_at_head: impl FnOnce() -> bool) {
        let round = self.round.load(Ordering::SeqCst);
        let told = if is_at_head() { round } else { 0 };
        self.at_head[socket].store(told, Ordering::SeqCst);
    }

    fn head(&self, topic: TopicNumber) -> MutexGuard<'_, Option<(Position, Duration)>> {
        self.heads[topic].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A crew at work.
#[derive(Debug)]
pub struct Crew {
    shape: Shape,
    shared: Arc<Shared>,
    orders: Vec<watch::Sender<Orders>>,
    sockets: JoinSet<Socket>,
    pacer: JoinSet<BTreeMap<(TopicNumber, u64), Publish>>,
}

/// A topic's name.
#[must_use]
pub fn topic(number: TopicNumber) -> String {
    format!("topics:kept{number:04}")
}

/// The number of the topic of this name.
#[must_use]
pub fn number(name: &str) -> Option<TopicNumber> {
    name.strip_prefix("topics:kept")?.parse().ok()
}

impl Crew {
    /// Connects, joins, and begins to publish.
    ///
    /// # Errors
    /// Not everybody is joined in time.
    pub async fn start(shape: Shape, gateways: &[SocketAddr]) -> Result<Crew> {
        ensure!(
            shape.sockets.is_multiple_of(2) && shape.subscribers <= shape.sockets && shape.sendings > 0,
            "{shape:?} cannot be spread"
        );
        let mut topics_of: Vec<Vec<TopicNumber>> = vec![Vec::new(); shape.sockets];
        for topic in 0..shape.topics {
            for socket in shape.subscribers_of(topic) {
                topics_of[socket].push(topic);
            }
        }
        let shared = Arc::new(Shared {
            start: Instant::now(),
            sent: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            delivered: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            heads: (0..shape.topics).map(|_| Mutex::new(None)).collect(),
            wanted: (0..shape.topics).map(|_| Mutex::new(None)).collect(),
            round: AtomicU64::new(1),
            at_head: (0..shape.sockets).map(|_| AtomicU64::new(0)).collect(),
        });
        let (mut sockets, mut queues, mut orders) = (JoinSet::new(), Vec::new(), Vec::new());
        for (number, topics) in topics_of.iter().enumerate() {
            let (queue, publishes) = mpsc::channel(QUEUE_LEN);
            let (order, obeyed) = watch::channel(Orders {
                stage: Stage::Working,
                is_away: false,
            });
            let socket = Socket::new(number, topics, gateways, Arc::clone(&shared));
            sockets.spawn(socket.run(publishes, obeyed));
            queues.push(queue);
            orders.push(order);
        }
        let mut crew = Crew {
            shape,
            shared: Arc::clone(&shared),
            orders,
            sockets,
            pacer: JoinSet::new(),
        };
        crew.all_at_head("everybody to be joined").await?;
        crew.pacer.spawn(pace(shape, queues, shared));
        Ok(crew)
    }

    /// The time since the crew began: what all times of its story count from.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// Lets it work for this long.
    pub async fn run(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Every topic's highest acknowledged place.
    #[must_use]
    pub fn heads(&self) -> Vec<Option<Position>> {
        let heads = 0..self.shape.topics;
        heads
            .map(|topic| Some(self.shared.head(topic).as_ref()?.0.clone()))
            .collect()
    }

    /// Waits until so many more publications are acknowledged in every topic.
    ///
    /// # Errors
    /// Not in time; says where they stand.
    pub async fn moves_on(&self, publications: u64, deadline: Duration) -> Result<()> {
        let before = self.heads();
        wait::until(
            &format!("{publications} publications in every topic"),
            deadline,
            async || {
                let place = |head: &Option<Position>| head.as_ref().map_or(0, |head| head.offset);
                let now = self.heads();
                let behind = before.iter().zip(&now).enumerate().find(|(_, (before, now))| {
                    let is_same = match (before, now) {
                        (Some(before), Some(now)) => before.epoch == now.epoch,
                        _ => true,
                    };
                    let since = if is_same { place(before) } else { 0 };
                    place(now) < since + publications
                });
                match behind {
                    None => Ok(()),
                    Some((topic, heads)) => Err(format!("topic {topic}: {heads:?}")),
                }
            },
        )
        .await?;
        Ok(())
    }

    /// Waits until something of every topic was acknowledged at `from` or later.
    ///
    /// # Errors
    /// Not in time; says which topic was not.
    pub async fn served(&self, from: Duration, deadline: Duration) -> Result<Duration> {
        let ((), took) = wait::until("every topic to be served", deadline, async || {
            let is_served = |topic: &TopicNumber| {
                self.shared
                    .head(*topic)
                    .as_ref()
                    .is_some_and(|(_, at)| *at >= from)
            };
            match (0..self.shape.topics).find(|topic| !is_served(topic)) {
                None => Ok(()),
                Some(topic) => Err(format!("topic {topic} is not")),
            }
        })
        .await?;
        Ok(took)
    }

    /// These sockets lose their connections and stay away.
    pub fn leave(&self, sockets: &[SubscriberNumber]) {
        self.tell(sockets, true);
    }

    /// They come back, with the positions they had.
    pub fn come_back(&self, sockets: &[SubscriberNumber]) {
        self.tell(sockets, false);
    }

    fn tell(&self, sockets: &[SubscriberNumber], is_away: bool) {
        for &socket in sockets {
            self.orders[socket].send_modify(|orders| orders.is_away = is_away);
        }
    }

    /// Waits until everybody who is not away is joined everywhere and has all that was acknowledged before this call.
    ///
    /// # Errors
    /// Not in time; says who has not.
    pub async fn all_at_head(&self, what: &str) -> Result<Duration> {
        let round = self.shared.want();
        let ((), took) = wait::until(what, SETTLE_WITHIN, async || {
            let behind: Vec<usize> = (0..self.shape.sockets)
                .filter(|&socket| !self.orders[socket].borrow().is_away)
                .filter(|&socket| self.shared.at_head[socket].load(Ordering::SeqCst) < round)
                .collect();
            match behind.first() {
                None => Ok(()),
                Some(first) => Err(format!("{} are not, the first socket {first}", behind.len())),
            }
        })
        .await?;
        Ok(took)
    }

    /// Ends it: no more publishes, then all answers and deliveries that are owed, then the story. What did not come in
    /// time is found by the judge, not here.
    ///
    /// # Errors
    /// A task of the crew itself died.
    pub async fn stop(mut self) -> Result<Story> {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        let publishes = self.pacer.join_next().await.context("the pacer is there")?;
        let answered = wait::until("every publish to be answered", SETTLE_WITHIN, async || {
            let (sent, settled) = (&self.shared.sent, &self.shared.settled);
            match (sent.load(Ordering::Relaxed), settled.load(Ordering::Relaxed)) {
                (sent, settled) if settled >= sent => Ok(()),
                (sent, settled) => Err(format!("{settled} of {sent}")),
            }
        });
        let settled = match answered.await {
            Ok(_) => self.all_at_head("everybody to have everything").await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            eprintln!("{error:#}");
        }
        let mut story = Story {
            publishes: publishes.context("pacer")?,
            ..Story::default()
        };
        for (socket, orders) in self.orders.iter().enumerate() {
            if orders.borrow().is_away {
                story.away.insert(socket);
            }
            orders.send_modify(|orders| orders.stage = Stage::Over);
        }
        while let Some(socket) = self.sockets.join_next().await {
            enter(socket.context("socket task")?, &mut story);
        }
        for publish in story.publishes.values_mut() {
            publish.answers.sort_by_key(|(at, _)| *at);
        }
        Ok(story)
    }

    /// One line about how it goes.
    #[must_use]
    pub fn progress(&self) -> String {
        let [sent, settled, delivered] = [&self.shared.sent, &self.shared.settled, &self.shared.delivered]
            .map(|count| count.load(Ordering::Relaxed));
        format!(
            "{sent} sent, {settled} answered, {delivered} delivered after {:.1?}",
            self.now()
        )
    }
}

fn enter(socket: Socket, story: &mut Story) {
    for (topic, channel) in socket.channels {
        story.trails.insert((topic, socket.number), channel.trail);
    }
    for (topic, number, at, answer) in socket.answers {
        if let Some(publish) = story.publishes.get_mut(&(topic, number)) {
            publish.answers.push((at, answer));
        }
    }
    story.disturbances.extend(socket.disturbances);
    story.put_off.extend(socket.put_off);
}

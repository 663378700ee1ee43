//! A steady load on many topics, with every publish, reply and delivery on record.
//!
//! Each topic has one publisher, one of its members; members are spread over sockets, sockets over gateways.
//! *Invariant:* nothing that was sent or came is missing in the [`Ledger`] at the end.
//! Leaves out: judging it (`ledger`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::ledger::{Ledger, Outcome, Publish, TopicNumber};
use crate::{Client, wait};

/// The pacer's tick: short beside any deadline, long enough to send several publishes in one go.
const TICK: Duration = Duration::from_millis(5);

/// How many publishes may wait for one socket's task.
const QUEUE_LEN: usize = 4096;

/// Sockets that connect and join at the same time.
const CONNECTING_MAX: usize = 32;

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

/// One socket's side of the story.
#[derive(Debug, Default)]
struct SocketLog {
    socket: usize,
    received: BTreeMap<TopicNumber, Vec<u64>>,
    answers: Vec<(TopicNumber, u64, Duration, Outcome)>,
    /// When what is not answered yet was sent.
    pending: BTreeMap<(TopicNumber, u64), Duration>,
    disturbances: Vec<String>,
    broken: bool,
}

/// A topic's name.
#[must_use]
pub fn topic(number: TopicNumber) -> String {
    format!("topics:load{number:04}")
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
    for (topic, numbers) in log.received {
        ledger.received.insert((topic, log.socket), numbers);
    }
    for (topic, number, at, outcome) in log.answers {
        if let Some(publish) = ledger.publishes.get_mut(&(topic, number)) {
            publish.answered = Some((at, outcome));
        }
    }
}

async fn connect_all(
    topics_of: &[Vec<TopicNumber>],
    gateways: &[SocketAddr],
) -> Result<BTreeMap<usize, Client>> {
    let mut clients = BTreeMap::new();
    let mut connecting = JoinSet::new();
    for (socket, topics) in topics_of.iter().enumerate() {
        if connecting.len() >= CONNECTING_MAX {
            let (socket, client) = connecting
                .join_next()
                .await
                .context("one connects")?
                .context("connect task")??;
            clients.insert(socket, client);
        }
        let (gateway, topics) = (gateways[socket % gateways.len()], topics.clone());
        connecting.spawn(async move {
            let mut client = Client::connect(gateway).await?;
            for number in topics {
                client.join(&number.to_string(), &topic(number)).await?;
            }
            Ok::<_, anyhow::Error>((socket, client))
        });
    }
    while let Some(connected) = connecting.join_next().await {
        let (socket, client) = connected.context("connect task")??;
        clients.insert(socket, client);
    }
    Ok(clients)
}

/// Hands publishes to the sockets at an even rate; gives when each was sent.
async fn pace(
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

/// Sends what it is told and writes down what comes, until the queue's other end is gone and all has come.
async fn run_socket(
    socket: usize,
    client: Client,
    mut publishes: mpsc::Receiver<(TopicNumber, u64)>,
    shared: Arc<Shared>,
) -> SocketLog {
    let mut log = SocketLog {
        socket,
        ..SocketLog::default()
    };
    let mut stream = client.into_inner();
    let mut ended = tokio::time::interval(Duration::from_millis(50));
    let mut more = true;
    while !log.broken {
        tokio::select! {
            biased;
            // Something came.
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => note(&text, &shared, &mut log),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => {
                    log.disturbances.push(format!("socket {socket} ended at {:?}: {other:?}", shared.start.elapsed()));
                    log.broken = true;
                }
            },
            // Something is to be sent.
            publish = publishes.recv(), if more => match publish {
                Some((number_of_topic, number)) => {
                    log.pending.insert((number_of_topic, number), shared.start.elapsed());
                    let join_ref = number_of_topic.to_string();
                    let payload = json!(["event", { "n": number }]);
                    let frame = json!([join_ref, number.to_string(), topic(number_of_topic), "publish", payload]);
                    if let Err(error) = stream.send(Message::text(frame.to_string())).await {
                        log.disturbances.push(format!("socket {socket} broke: {error}"));
                        log.broken = true;
                    }
                }
                None => more = false,
            },
            // Nothing comes any more that anyone waits for.
            _ = ended.tick() => {
                if !more && shared.last.first().is_some_and(|last| last.load(Ordering::Relaxed) == u64::MAX) {
                    return log;
                }
            }
        }
    }
    log
}

/// Writes down one frame.
fn note(text: &str, shared: &Shared, log: &mut SocketLog) {
    let at = shared.start.elapsed();
    let frame: Value = serde_json::from_str(text).unwrap_or_default();
    let number_of_topic = frame[2]
        .as_str()
        .and_then(|name| name.strip_prefix("topics:load"));
    let Some(number_of_topic) = number_of_topic.and_then(|number| number.parse::<usize>().ok()) else {
        log.disturbances
            .push(format!("socket {} got {text} at {at:?}", log.socket));
        return;
    };
    match (frame[3].as_str(), frame[4]["n"].as_u64()) {
        (Some("event"), Some(number)) => {
            log.received.entry(number_of_topic).or_default().push(number);
            shared.delivered.fetch_add(1, Ordering::Relaxed);
            if shared.last[number_of_topic].load(Ordering::Relaxed) == number {
                shared.complete.fetch_add(1, Ordering::Relaxed);
            }
        }
        (Some("phx_reply"), _) => {
            let number = frame[1]
                .as_str()
                .and_then(|number| number.parse().ok())
                .unwrap_or(0);
            let outcome = match frame[4]["status"].as_str() {
                Some("ok") => Outcome::Ok,
                _ => Outcome::Refused(frame[4]["response"]["reason"].as_str().unwrap_or(text).to_owned()),
            };
            if outcome == Outcome::Ok {
                let sent = log
                    .pending
                    .get(&(number_of_topic, number))
                    .map_or(0, |sent| sent.as_millis() as u64);
                shared.served_ms[number_of_topic].fetch_max(sent, Ordering::Relaxed);
            }
            log.pending.remove(&(number_of_topic, number));
            log.answers.push((number_of_topic, number, at, outcome));
            shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        _ => log
            .disturbances
            .push(format!("socket {} got {text} at {at:?}", log.socket)),
    }
}

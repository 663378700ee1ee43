//! One socket of a crew: it connects, joins, comes back elsewhere when it is lost, and writes down what it is told.
//!
//! *Invariant:* a frame that is read is in a trail, an answer, or a disturbance.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::backoff;
use super::channel::{Channel, News};
use super::crew::{Shared, Stage, number};
use super::story::Answer;
use crate::Client;
use crate::ledger::TopicNumber;

/// How often a socket looks at what is due.
const TICK: Duration = Duration::from_millis(20);

/// As phoenix.js.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(30);

/// What a socket is told to do, beside publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Orders {
    pub(super) stage: Stage,
    /// It is to have no connection.
    pub(super) is_away: bool,
}

/// One socket's side of the story.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) number: usize,
    pub(super) channels: BTreeMap<TopicNumber, Channel>,
    pub(super) answers: Vec<(TopicNumber, u64, Duration, Answer)>,
    pub(super) disturbances: Vec<String>,
    pub(super) put_off: Vec<String>,
    gateways: Vec<SocketAddr>,
    /// Which of them is next.
    gateway: usize,
    references: u64,
    shared: Arc<Shared>,
}

/// Why a connection is no more.
enum End {
    Lost(Option<u16>),
    /// The orders say so.
    Away,
    /// All is over.
    Done,
}

type Frame<'a> = (
    Option<Cow<'a, str>>,
    Option<Cow<'a, str>>,
    Cow<'a, str>,
    Cow<'a, str>,
    &'a RawValue,
);

impl Socket {
    pub(super) fn new(
        number: usize,
        topics: &[TopicNumber],
        gateways: &[SocketAddr],
        shared: Arc<Shared>,
    ) -> Socket {
        Socket {
            number,
            channels: topics.iter().map(|&topic| (topic, Channel::new(topic))).collect(),
            answers: Vec::new(),
            disturbances: Vec::new(),
            put_off: Vec::new(),
            gateways: gateways.to_vec(),
            gateway: number % gateways.len(),
            references: 0,
            shared,
        }
    }

    /// Works until all is over.
    pub(super) async fn run(
        mut self,
        mut publishes: mpsc::Receiver<(TopicNumber, u64)>,
        mut orders: watch::Receiver<Orders>,
    ) -> Socket {
        let mut failures = 0;
        loop {
            let is_over = |orders: &Orders| orders.stage == Stage::Over;
            if orders
                .wait_for(|orders| !orders.is_away || is_over(orders))
                .await
                .is_err()
                || is_over(&orders.borrow())
            {
                return self;
            }
            let gateway = self.gateways[self.gateway % self.gateways.len()];
            let Ok(client) = Client::connect(gateway).await else {
                self.gateway += 1;
                sleep(backoff::connect(failures)).await;
                failures += 1;
                continue;
            };
            failures = 0;
            let end = self.talk(client.into_inner(), &mut publishes, &mut orders).await;
            self.shared.tell_at_head(self.number, || false);
            let code = match end {
                End::Done => return self,
                End::Lost(code) => code,
                End::Away => None,
            };
            let now = self.now();
            self.channels
                .values_mut()
                .for_each(|channel| channel.lost(code, now));
            if !matches!(end, End::Away) {
                self.gateway += 1;
                sleep(backoff::connect(0)).await;
            }
        }
    }

    async fn talk(
        &mut self,
        mut stream: WebSocketStream<TcpStream>,
        publishes: &mut mpsc::Receiver<(TopicNumber, u64)>,
        orders: &mut watch::Receiver<Orders>,
    ) -> End {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeat_at = Instant::now() + HEARTBEAT_EVERY;
        let (mut more, mut last_words) = (true, None);
        loop {
            tokio::select! {
                biased;
                // It is to go, or all is over: then what was sent before the answer to a last heartbeat has come.
                changed = orders.changed() => {
                    let now = *orders.borrow_and_update();
                    if changed.is_err() || now.is_away {
                        return if now.stage == Stage::Over { End::Done } else { End::Away };
                    }
                    if now.stage == Stage::Over {
                        last_words = Some(self.next_reference());
                        if stream.send(heartbeat(self.references)).await.is_err() {
                            return End::Lost(None);
                        }
                    }
                }
                // Something came.
                message = stream.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        let reference = self.read(&text);
                        if reference.is_some() && reference == last_words {
                            return End::Done;
                        }
                        // A join's answer lets its publishes go.
                        if reference.is_some() && self.send_due(&mut stream).await.is_err() {
                            return End::Lost(None);
                        }
                    }
                    Some(Ok(Message::Close(frame))) => return End::Lost(frame.map(|frame| frame.code.into())),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(other)) => self.disturb(format!("{other:?}")),
                    Some(Err(_)) | None => return End::Lost(None),
                },
                // Something is to be published.
                publish = publishes.recv(), if more => match publish {
                    Some((topic, number)) => {
                        if let Some(channel) = self.channels.get_mut(&topic) {
                            channel.publish(number);
                        }
                        while let Ok((topic, number)) = publishes.try_recv() {
                            if let Some(channel) = self.channels.get_mut(&topic) {
                                channel.publish(number);
                            }
                        }
                        if self.send_due(&mut stream).await.is_err() {
                            return End::Lost(None);
                        }
                    }
                    None => more = false,
                },
                // Joins, and publishes that were put off.
                _ = ticks.tick() => {
                    if Instant::now() >= heartbeat_at {
                        heartbeat_at += HEARTBEAT_EVERY;
                        let reference = self.next_reference();
                        if stream.send(heartbeat(reference)).await.is_err() {
                            return End::Lost(None);
                        }
                    }
                    if self.send_due(&mut stream).await.is_err() {
                        return End::Lost(None);
                    }
                    self.shared.tell_at_head(self.number, || self.is_at_head());
                }
            }
        }
    }

    async fn send_due(&mut self, stream: &mut WebSocketStream<TcpStream>) -> Result<(), ()> {
        let (now, mut frames) = (self.now(), Vec::new());
        for channel in self.channels.values_mut() {
            let late = channel.due(now, &mut self.references, &mut frames);
            if let Some(late) = late {
                self.disturbances
                    .push(format!("socket {} {late} at {now:?}", self.number));
            }
        }
        if frames.is_empty() {
            return Ok(());
        }
        for frame in frames {
            stream.feed(Message::text(frame)).await.map_err(drop)?;
        }
        stream.flush().await.map_err(drop)
    }

    /// Writes down one frame; gives the ref of a reply.
    fn read(&mut self, text: &str) -> Option<u64> {
        let now = self.now();
        let Ok((join_ref, reference, topic, event, payload)) = serde_json::from_str::<Frame<'_>>(text) else {
            self.disturb(text.to_owned());
            return None;
        };
        let reply = (event == "phx_reply").then(|| reference.as_deref()?.parse().ok());
        let reply: Option<u64> = reply.flatten();
        if topic == "phoenix" && reply.is_some() {
            return reply;
        }
        let Some(channel) = number(&topic).and_then(|topic| self.channels.get_mut(&topic)) else {
            self.disturb(text.to_owned());
            return reply;
        };
        if !channel.is_mine(join_ref.as_deref()) {
            return reply;
        }
        let topic = channel.number;
        let news = match reply {
            Some(reference) => match serde_json::from_str(payload.get()) {
                Ok(payload) => channel.reply(reference, &payload, now),
                Err(error) => News::Disturbance(error.to_string()),
            },
            None => channel.event(reference.as_deref(), &event, payload.get(), now),
        };
        match news {
            News::Told => {}
            News::Delivered => {
                self.shared.delivered.fetch_add(1, Ordering::Relaxed);
            }
            News::Answered(number, answer) => {
                if let Answer::Committed { position, .. } = &answer {
                    self.shared.acknowledged(topic, position, now);
                }
                self.answers.push((topic, number, now, answer));
                self.shared.settled.fetch_add(1, Ordering::Relaxed);
            }
            News::PutOff(number, answer) => self.answers.push((topic, number, now, answer)),
            News::JoinPutOff(said) => self
                .put_off
                .push(format!("socket {} {said} at {now:?}", self.number)),
            News::Disturbance(said) => self.disturb(said),
        }
        reply
    }

    fn is_at_head(&self) -> bool {
        self.channels.values().all(|channel| {
            channel.is_joined() && self.shared.has_wanted(channel.number, channel.position.as_ref())
        })
    }

    fn disturb(&mut self, said: String) {
        let now = self.now();
        self.disturbances
            .push(format!("socket {} got {said} at {now:?}", self.number));
    }

    fn next_reference(&mut self) -> u64 {
        self.references += 1;
        self.references
    }

    fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }
}

fn heartbeat(reference: u64) -> Message {
    Message::text(format!(r#"[null,"{reference}","phoenix","heartbeat",{{}}]"#))
}

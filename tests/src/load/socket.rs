//! One socket of a load: it connects, joins its topics, sends what it is told, and writes down what comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::{Shared, number as number_of, topic};
use crate::Client;
use crate::ledger::{Outcome, TopicNumber};
use crate::stock::is_stock;

/// Sockets that connect and join at the same time.
const CONNECTING_MAX: usize = 32;

/// One socket's side of the story.
#[derive(Debug, Default)]
pub(super) struct SocketLog {
    pub(super) socket: usize,
    /// By topic: numbers, and when they came.
    pub(super) received: BTreeMap<TopicNumber, Vec<(u64, Duration)>>,
    pub(super) answers: Vec<(TopicNumber, u64, Duration, Outcome)>,
    /// When what is not answered yet was sent.
    pending: BTreeMap<(TopicNumber, u64), Duration>,
    pub(super) disturbances: Vec<String>,
    broken: bool,
}

/// All sockets, each joined to its topics.
pub(super) async fn connect_all(
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

/// Sends what it is told and writes down what comes, until the queue's other end is gone and all has come.
pub(super) async fn run_socket(
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
    // Nobody here asks for positions.
    if let Err(wrong) = is_stock(text) {
        log.disturbances
            .push(format!("socket {} got {wrong} at {at:?}", log.socket));
    }
    let frame: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(number_of_topic) = frame[2].as_str().and_then(number_of) else {
        log.disturbances
            .push(format!("socket {} got {text} at {at:?}", log.socket));
        return;
    };
    match (frame[3].as_str(), frame[4]["n"].as_u64()) {
        (Some("event"), Some(number)) => {
            log.received
                .entry(number_of_topic)
                .or_default()
                .push((number, at));
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

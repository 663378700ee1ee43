//! Connections with a hundred channels each, every channel the only member of its topic.
//!
//! *Invariant:* who is told to grow has joined, and been answered, before it says so; from then on a connection only sends
//! heartbeats, and one that is lost is named in the end.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::client::Client;

/// As many as a connection may have.
const CHANNELS: usize = 100;

/// Connections that join, and talk, at the same time.
const JOINING_MAX: usize = 32;

/// A gateway closes a connection that has been silent for twice as long.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// What each channel publishes after its join.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Talk {
    pub(super) publications: usize,
    pub(super) payload_bytes: usize,
}

/// The connections; they are closed when this is dropped.
pub(super) struct Residents {
    gateways: Vec<SocketAddr>,
    talk: Talk,
    topics: usize,
    joining: JoinSet<Result<Client>>,
    /// Each gives what ended its connection.
    staying: JoinSet<String>,
}

impl Residents {
    /// Nobody yet.
    pub(super) fn new(gateways: Vec<SocketAddr>, talk: Talk) -> Residents {
        Residents {
            gateways,
            talk,
            topics: 0,
            joining: JoinSet::new(),
            staying: JoinSet::new(),
        }
    }

    /// Lets members join until there are so many topics.
    pub(super) async fn grow_to(&mut self, topics: usize) -> Result<()> {
        while self.topics < topics {
            if self.joining.len() >= JOINING_MAX {
                self.joined().await?;
            }
            let first = self.topics;
            self.topics = topics.min(first + CHANNELS);
            let gateway = self.gateways[(first / CHANNELS) % self.gateways.len()];
            let (range, talk) = (first..self.topics, self.talk);
            self.joining.spawn(async move {
                let names: Vec<String> = range.map(|topic| format!("topics:home{topic:08}")).collect();
                let mut client = Client::connect(gateway).await?;
                join(&mut client, &names).await?;
                for _ in 0..talk.publications {
                    publish(&mut client, &names, talk.payload_bytes).await?;
                }
                Ok(client)
            });
        }
        while !self.joining.is_empty() {
            self.joined().await?;
        }
        Ok(())
    }

    async fn joined(&mut self) -> Result<()> {
        let joined = self.joining.join_next().await.context("one is joining")?;
        let client = joined.context("joining task")??;
        self.staying.spawn(stay(client));
        Ok(())
    }

    /// What ended connections so far.
    pub(super) fn lost(&mut self) -> Result<Vec<String>> {
        let mut lost = Vec::new();
        while let Some(ended) = self.staying.try_join_next() {
            lost.push(ended.context("staying task")?);
        }
        Ok(lost)
    }
}

/// Joins all topics at once, and waits for all answers.
async fn join(client: &mut Client, names: &[String]) -> Result<()> {
    for name in names {
        client
            .send(&format!(r#"["1","1","{name}","phx_join",{{}}]"#))
            .await?;
    }
    for _ in names {
        let reply = event(client, "phx_reply").await?;
        ensure!(reply["status"] == "ok", "join: {reply}");
    }
    Ok(())
}

/// Each channel publishes once, and all of them get the answer and, as members, the publication.
async fn publish(client: &mut Client, names: &[String], bytes: usize) -> Result<()> {
    // {"text":"..."} without the dots is 11 bytes.
    let text = "x".repeat(bytes.saturating_sub(11));
    for name in names {
        let publish = format!(r#"["1","2","{name}","publish",["event",{{"text":"{text}"}}]]"#);
        client.send(&publish).await?;
    }
    let (mut answers, mut deliveries) = (0, 0);
    while (answers, deliveries) != (names.len(), names.len()) {
        let frame: Value = serde_json::from_str(&client.text().await?).context("a frame is JSON")?;
        match frame[3].as_str() {
            Some("phx_reply") if frame[4]["status"] == "ok" => answers += 1,
            Some("event") => deliveries += 1,
            _ => bail!("publish: {frame}"),
        }
    }
    Ok(())
}

/// The payload of the next frame, which must be of this event.
async fn event(client: &mut Client, event: &str) -> Result<Value> {
    let mut frame: Value = serde_json::from_str(&client.text().await?).context("a frame is JSON")?;
    ensure!(frame[3] == event, "expected {event}, got {frame}");
    Ok(frame[4].take())
}

/// Sends heartbeats and reads the answers; what ended it.
async fn stay(client: Client) -> String {
    let mut stream = client.into_inner();
    let mut heartbeats = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    loop {
        tokio::select! {
            biased;
            // An answer, or the end.
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) if text.contains("phx_reply") => {}
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return format!("a connection ended with {other:?}"),
            },
            // Silence would be taken for absence.
            _ = heartbeats.tick() => {
                let heartbeat = r#"[null,"1","phoenix","heartbeat",{}]"#;
                if let Err(error) = stream.send(Message::text(heartbeat)).await {
                    return format!("a heartbeat was not sent: {error}");
                }
            }
        }
    }
}

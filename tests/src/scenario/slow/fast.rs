//! A reader that keeps up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::interval;
use tokio_tungstenite::tungstenite::Message;

use super::{HEARTBEAT, HEARTBEAT_EVERY, HEARTBEAT_REPLY, Shared};
use crate::Client;
use crate::resuming::topic;

/// How long a delivery took, of something sent at `sent`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delay {
    pub(super) sent: Duration,
    pub(super) took: Duration,
}

/// Connects and joins with positions.
pub(super) async fn connect(gateway: SocketAddr) -> Result<Client> {
    let mut client = Client::connect(gateway).await?;
    client
        .send(&json!(["1", "1", topic(0), "phx_join", {"resume": true}]).to_string())
        .await?;
    let reply: Value = serde_json::from_str(&client.text().await?).context("a join's reply")?;
    ensure!(
        reply[4]["status"] == "ok" && reply[4]["response"]["epoch"].is_string(),
        "{reply}"
    );
    Ok(client)
}

/// Reads until it has the last publication. Each must follow the one before.
pub(super) async fn read(client: Client, shared: Arc<Shared>) -> Result<Vec<Delay>> {
    let (mut stream, mut delays, mut before) = (client.into_inner(), Vec::new(), 0);
    let mut heartbeats = interval(HEARTBEAT_EVERY);
    loop {
        let message = tokio::select! {
            biased;
            // Something came.
            message = stream.next() => message,
            // It is still there.
            _ = heartbeats.tick() => {
                stream.send(Message::text(HEARTBEAT)).await.context("heartbeat")?;
                continue;
            }
        };
        let Some(Ok(Message::Text(text))) = message else {
            bail!("a fast reader lost its connection: {message:?}")
        };
        if text.starts_with(HEARTBEAT_REPLY) {
            continue;
        }
        let now = shared.start.elapsed();
        let Some(event) = event(&text) else {
            bail!("got {text}")
        };
        ensure!(
            before == 0 || event.offset == before + 1,
            "got {text} after @{before}"
        );
        before = event.offset;
        let sent = Duration::from_micros(event.sent_micros);
        delays.push(Delay {
            sent,
            took: now.saturating_sub(sent),
        });
        if event.number == shared.last.load(Ordering::SeqCst) {
            shared.complete.fetch_add(1, Ordering::SeqCst);
            // Nothing depends on how the gateway takes it.
            drop(stream.close(None).await);
            return Ok(delays);
        }
    }
}

struct Event {
    offset: u64,
    number: u64,
    sent_micros: u64,
}

/// `["1","@44","topics:...","e",{"n":7,"at":123456,"pad":"..."}]`, read without parsing all of it.
fn event(text: &str) -> Option<Event> {
    let digits = |after: &str| -> Option<u64> {
        let rest = &text[text.find(after)? + after.len()..];
        rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
    };
    Some(Event {
        offset: digits(r#""@"#)?,
        number: digits(r#"{"n":"#)?,
        sent_micros: digits(r#","at":"#)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_and_nothing_else_is() {
        let read = event(r#"["1","@44","topics:kept0000","e",{"n":7,"at":123456,"pad":"xx"}]"#).unwrap();
        assert_eq!((read.offset, read.number, read.sent_micros), (44, 7, 123_456));
        assert!(event(r#"["1",null,"topics:kept0000","gap",{"epoch":"a","from":1,"to":2}]"#).is_none());
    }
}

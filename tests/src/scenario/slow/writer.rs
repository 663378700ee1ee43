//! Publishes at an even rate, and writes down what was answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{Scale, Shared, fast};
use crate::ledger::TopicNumber;
use crate::resuming::{Answer, Position, Publish, topic};
use crate::wait::SOON;

/// Publishes until it is told to end, then waits for the answers.
pub(super) async fn write(
    gateway: SocketAddr,
    scale: Scale,
    shared: Arc<Shared>,
) -> Result<BTreeMap<(TopicNumber, u64), Publish>> {
    let mut stream = fast::connect(gateway).await?.into_inner();
    let mut publishes: BTreeMap<(TopicNumber, u64), Publish> = BTreeMap::new();
    let mut ticks = interval(Duration::from_secs(1) / scale.publishes_per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut number, mut answered, pad) = (0, 0, "x".repeat(scale.payload_bytes));
    let mut is_last = false;
    while !is_last || answered < number {
        tokio::select! {
            biased;
            // Its own copies, and answers.
            message = timeout(SOON, stream.next()) => {
                let Ok(Some(Ok(Message::Text(text)))) = message else { bail!("the writer lost its connection: {message:?}") };
                if let Some((number, answer)) = answer(&text) {
                    answered += 1;
                    if let Some(publish) = publishes.get_mut(&(0, number)) {
                        publish.answers.push((shared.start.elapsed(), answer));
                    }
                }
            }
            // The next one is due.
            _ = ticks.tick(), if !is_last => {
                number += 1;
                let sent = shared.start.elapsed();
                is_last = shared.is_ending.load(Ordering::SeqCst);
                if is_last {
                    shared.last.store(number, Ordering::SeqCst);
                }
                let publish = Publish { sent, senders: [usize::MAX].into(), ..Publish::default() };
                publishes.insert((0, number), publish);
                let frame = format!(
                    r#"["1","p{number}","{}","publish",["e",{{"n":{number},"at":{},"pad":"{pad}"}}]]"#,
                    topic(0),
                    sent.as_micros()
                );
                stream.send(Message::text(frame)).await?;
            }
        }
    }
    Ok(publishes)
}

/// The answer to a publish; none where it is a copy.
fn answer(text: &str) -> Option<(u64, Answer)> {
    if !text.contains(r#""phx_reply""#) {
        return None;
    }
    let frame: Value = serde_json::from_str(text).ok()?;
    let number = frame[1].as_str()?.strip_prefix('p')?.parse().ok()?;
    let response = &frame[4]["response"];
    let answer = match (response["epoch"].as_str(), response["offset"].as_u64()) {
        (Some(epoch), Some(offset)) => Answer::Committed {
            position: Position::new(epoch, offset),
            is_dup: false,
        },
        _ => Answer::Refused(response["reason"].as_str().unwrap_or_default().to_owned()),
    };
    Some((number, answer))
}

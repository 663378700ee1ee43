//! `ringcast topic tap TOPIC`: every publication from now on, one line each.

use anyhow::{Result, bail};
use ringcast_proto::Topic;
use ringcast_proto::v1::{TapEvent, TapRequest};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, failed, topic_server};
use crate::output::{Output, line, printable};

#[derive(Serialize)]
struct Tapped {
    topic: String,
    epoch: String,
    offset: u64,
    event: String,
    payload: Box<RawValue>,
    /// The publisher; null for a publish by the server's API.
    session: Option<String>,
}

/// Prints publications of `topic` until the owner ends the tap, or `token` does.
pub(crate) async fn tap(
    cluster: &Cluster,
    topic: &Topic,
    output: Output,
    token: CancellationToken,
) -> Result<()> {
    let owned = cluster.owner(topic)?;
    let mut client = topic_server(&owned.address)?;
    let said = |status: tonic::Status| failed(&owned.owner, &owned.address, &status);
    let tap = TapRequest {
        topic: topic.to_string(),
    };
    // No deadline on purpose: a tap lasts until somebody ends it, and keep-alive finds a dead owner.
    let Some(events) = token.run_until_cancelled(client.tap(tap)).await else {
        return Ok(());
    };
    let mut events = events.map_err(said)?.into_inner();
    tracing::info!(%topic, owner = %owned.owner.node, "tapping");
    while let Some(event) = token.run_until_cancelled(events.message()).await {
        match event.map_err(said)? {
            Some(event) => print(topic, event, output)?,
            None => bail!(
                "{} ended the tap: the slot has left it, or this reader was too slow; tap again",
                owned.owner.node
            ),
        }
    }
    Ok(())
}

fn print(topic: &Topic, event: TapEvent, output: Output) -> Result<()> {
    let payload = String::from_utf8_lossy(&event.payload).into_owned();
    if !output.is_json() {
        return line(&format!(
            "@{} {} {}",
            event.offset,
            printable(&event.event),
            printable(&payload)
        ));
    }
    let tapped = Tapped {
        topic: topic.to_string(),
        epoch: event.epoch,
        offset: event.offset,
        event: event.event,
        // A payload is JSON text, checked at the gateway; anything else is shown as a string.
        payload: RawValue::from_string(payload.clone())
            .or_else(|_| serde_json::value::to_raw_value(&payload))?,
        session: (event.session != 0).then(|| event.session.to_string()),
    };
    output.print(&tapped, |_| String::new())
}

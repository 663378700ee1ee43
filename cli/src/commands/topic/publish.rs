//! `ringcast topic publish TOPIC EVENT JSON`.

use anyhow::{Result, anyhow, bail};
use ringcast_proto::v1::ServerPublishRequest;
use ringcast_proto::{NodeId, Topic};
use serde::Serialize;

use crate::cluster::{Cluster, request};
use crate::output::Output;

#[derive(Serialize)]
struct Published {
    topic: String,
    epoch: String,
    /// None for an event that its family does not keep.
    offset: Option<u64>,
    /// Without an offset: the members it was sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<u32>,
    gateway: NodeId,
}

/// Publishes through the first gateway that can be reached, and prints where it was committed.
pub(crate) async fn publish(
    cluster: &Cluster,
    topic: &Topic,
    event: String,
    payload: String,
    output: Output,
) -> Result<()> {
    let (gateway, mut client) = cluster.gateway().await?;
    let publish = ServerPublishRequest {
        topic: topic.to_string(),
        event,
        payload: payload.into(),
    };
    let reply = client.server_publish(request(publish)).await.map_err(|status| {
        anyhow!(
            "publish through {}: {}; whether it happened is unknown",
            gateway.node,
            status.message()
        )
    })?;
    let reply = reply.into_inner();
    if !reply.error.is_empty() {
        bail!("publish through {}: {}", gateway.node, reply.error);
    }
    let published = Published {
        topic: topic.to_string(),
        epoch: reply.epoch,
        offset: (reply.offset > 0).then_some(reply.offset),
        matched: (reply.offset == 0).then_some(reply.matched),
        gateway: gateway.node,
    };
    output.print(&published, |published| match published.offset {
        Some(offset) => format!("published at offset {offset} of epoch {}", published.epoch),
        None => format!(
            "sent to {} members, without an offset and not kept",
            published.matched.unwrap_or_default()
        ),
    })
}

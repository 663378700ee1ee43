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
    offset: u64,
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
        offset: reply.offset,
        gateway: gateway.node,
    };
    output.print(&published, |published| {
        format!(
            "published at offset {} of epoch {}",
            published.offset, published.epoch
        )
    })
}

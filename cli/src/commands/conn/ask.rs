//! Asking every gateway at once, each at the address it advertises.

use anyhow::{Result, bail};
use futures_util::future::join_all;
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::v1::{ConnectionSummary, ListConnectionsRequest};
use ringcast_proto::{NodeId, grpc};

use super::TopArgs;
use crate::cluster::{Cluster, failed, request};

/// What the gateways said.
#[derive(Debug)]
pub(super) struct Answers {
    /// The first of all, the first first.
    pub(super) connections: Vec<(NodeId, ConnectionSummary)>,
    /// Connections of the gateways that answered.
    pub(super) total: u64,
    /// Gateways that did not, and why.
    pub(super) silent: Vec<(NodeId, String)>,
    /// How many were asked.
    pub(super) asked: usize,
}

/// Asks the gateways of the cluster, or the one that was named.
pub(super) async fn ask(cluster: &Cluster, args: &TopArgs) -> Result<Answers> {
    let table = cluster.table()?;
    let wanted = args.gateway.as_deref();
    let gateways: Vec<_> = table
        .gateways()
        .filter(|(gateway, _)| wanted.is_none_or(|wanted| wanted == gateway.node.as_str()))
        .collect();
    match (wanted, gateways.is_empty()) {
        (_, false) => {}
        (Some(wanted), true) => bail!("no gateway {wanted} is registered: `ringcast node ls` lists them"),
        (None, true) => bail!("no gateway is registered: start one with `ringcast gateway --id ID`"),
    }
    let asked = gateways.len();
    let answers = join_all(gateways.into_iter().map(|(gateway, address)| async move {
        let ask = ListConnectionsRequest {
            order: args.by.order().into(),
            limit: args.limit,
        };
        let answer = async {
            let client = GatewayClient::new(grpc::channel(address)?);
            let mut client = client.max_decoding_message_size(grpc::MESSAGE_BYTES_MAX);
            let reply = client.list_connections(request(ask)).await;
            anyhow::Ok(
                reply
                    .map_err(|status| failed(&gateway, address, &status))?
                    .into_inner(),
            )
        };
        let answer = answer.await;
        (gateway.node, answer)
    }));
    let mut found = Answers {
        connections: Vec::new(),
        total: 0,
        silent: Vec::new(),
        asked,
    };
    for (gateway, answer) in answers.await {
        match answer {
            Ok(reply) => {
                found.total += reply.total;
                let of = reply.connections.into_iter().map(|one| (gateway.clone(), one));
                found.connections.extend(of);
            }
            Err(error) => found.silent.push((gateway, format!("{error:#}"))),
        }
    }
    // Stable: equals stay in the order of their gateways.
    found
        .connections
        .sort_by_key(|(_, connection)| std::cmp::Reverse(args.by.key(connection)));
    found
        .connections
        .truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    Ok(found)
}

//! `ringcast node ls`.

use anyhow::Result;
use ringcast_proto::NodeId;
use ringcast_ring::Status;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::output::{Output, table};

#[derive(Serialize)]
struct Nodes {
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    id: NodeId,
    role: &'static str,
    state: String,
    address: Option<String>,
    build: Option<String>,
    slots_owned: Option<u32>,
}

/// Prints every node: topic servers, then gateways.
pub(crate) fn ls(cluster: &Cluster, output: Output) -> Result<()> {
    let status = Status::of(&cluster.snapshot);
    let topic_servers = status.nodes.into_iter().map(|node| Node {
        id: node.id,
        role: "topic-server",
        state: node.state.to_string(),
        address: node.address,
        build: node.build,
        slots_owned: Some(node.slots_owned),
    });
    let gateways = status.gateways.into_iter().map(|gateway| Node {
        id: gateway.id,
        role: "gateway",
        state: "up".to_owned(), // a gateway that is down is not in the store: nothing waits for it
        address: Some(gateway.address),
        build: Some(gateway.build),
        slots_owned: None,
    });
    output.print(
        &Nodes {
            nodes: topic_servers.chain(gateways).collect(),
        },
        |nodes| {
            let rows = nodes.nodes.iter().map(|node| {
                vec![
                    node.id.to_string(),
                    node.role.to_owned(),
                    node.state.clone(),
                    node.address.clone().unwrap_or_else(|| "-".to_owned()),
                    node.slots_owned
                        .map_or_else(|| "-".to_owned(), |slots| slots.to_string()),
                    node.build.clone().unwrap_or_else(|| "-".to_owned()),
                ]
            });
            match nodes.nodes.is_empty() {
                true => "no node is registered: start one with `ringcast topic-server --id ID`".to_owned(),
                false => table(
                    &["node", "role", "state", "address", "slots", "build"],
                    &[4],
                    rows,
                ),
            }
        },
    )
}

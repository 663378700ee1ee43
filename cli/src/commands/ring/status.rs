//! `ringcast ring status`.

use anyhow::Result;
use ringcast_proto::record::PlanId;
use ringcast_proto::{NodeId, Slot};
use ringcast_ring::Status;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::output::{Output, count, printable, table};

#[derive(Serialize)]
struct RingStatus {
    version: u64,
    slots: u16,
    replicas: u8,
    nodes: Vec<Node>,
    gateways: Vec<Gateway>,
    moves: Vec<Move>,
    planner: Option<NodeId>,
    /// The plan that is being carried out.
    plan: Option<PlanId>,
}

#[derive(Serialize)]
struct Node {
    id: NodeId,
    state: String,
    weight: f64,
    slots_owned: u32,
    slots_replica: u32,
    share: f64,
}

#[derive(Serialize)]
struct Gateway {
    id: NodeId,
    address: String,
    build: String,
}

#[derive(Serialize)]
struct Move {
    slot: Slot,
    from: NodeId,
    to: NodeId,
    phase: String,
}

/// Prints the ring.
pub(crate) fn status(cluster: &Cluster, output: Output) -> Result<()> {
    let status = Status::of(&cluster.snapshot);
    let node = |node: ringcast_ring::NodeStatus| Node {
        id: node.id,
        state: node.state.to_string(),
        weight: node.weight,
        slots_owned: node.slots_owned,
        slots_replica: node.slots_replica,
        share: node.share,
    };
    let gateway = |gateway: ringcast_ring::GatewayStatus| Gateway {
        id: gateway.id,
        address: gateway.address,
        build: gateway.build,
    };
    let moving = |moving: ringcast_ring::MoveStatus| Move {
        slot: moving.slot,
        from: moving.from,
        to: moving.to,
        phase: moving.phase.to_string(),
    };
    let status = RingStatus {
        version: status.version,
        slots: status.slots,
        replicas: status.replicas,
        nodes: status.nodes.into_iter().map(node).collect(),
        gateways: status.gateways.into_iter().map(gateway).collect(),
        moves: status.moves.into_iter().map(moving).collect(),
        planner: status.planner.map(|planner| planner.node),
        plan: cluster.snapshot.ring().and_then(|ring| ring.plan.clone()),
    };
    output.print(&status, people)
}

fn people(status: &RingStatus) -> String {
    let head = match status.version {
        0 => "no ring yet: it is born when the expected topic servers have registered\n".to_owned(),
        version => format!(
            "ring {version}: {} slots, {} of each, {}, {}\n",
            status.slots,
            count(usize::from(status.replicas), "copy", "copies"),
            count(status.nodes.len(), "topic server", "topic servers"),
            count(status.gateways.len(), "gateway", "gateways"),
        ),
    };
    let rows = status.nodes.iter().map(|node| {
        vec![
            node.id.to_string(),
            node.state.clone(),
            format!("{:.2}", node.weight),
            node.slots_owned.to_string(),
            format!("{:.1} %", node.share * 100.0),
        ]
    });
    let nodes = table(&["node", "state", "weight", "slots", "share"], &[2, 3, 4], rows);
    let moves = match status.moves.len() {
        0 => String::new(),
        moves => format!("\n{} under way", count(moves, "move", "moves")),
    };
    let plan = status.plan.as_ref().map_or(String::new(), |plan| {
        format!("\nplan {} is running: `ringcast ring watch`", printable(&plan.0))
    });
    format!("{head}{nodes}{moves}{plan}")
}

//! What people see of the ring: the nodes, what each owns, what is moving.
//!
//! It promises the numbers of one snapshot, all of the same revision. *Invariant:* a slot counts for the node its record
//! names, in whichever of its lives, so that the slots of a node that is down are shown where they are missing.
//! Leaves out: how it is printed (`ringcast ring status`, `ringcast node ls`).

use std::collections::BTreeMap;
use std::fmt;

use ringcast_proto::record::{MoveKind, RingNodeState, Role, SlotRecord};
use ringcast_proto::{NodeId, NodeRef, Slot};

use crate::Snapshot;

/// The ring, as of one snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The ring's version, 0 until it is born.
    pub version: u64,
    /// How many slots the cluster was born with, 0 until then.
    pub slots: u16,
    /// Copies of a slot, 0 until the ring is born.
    pub replicas: u8,
    /// Every topic server that is registered, in the ring, or named by a slot; in id order.
    pub nodes: Vec<NodeStatus>,
    /// Every registered gateway, in id order.
    pub gateways: Vec<GatewayStatus>,
    /// The slots that are changing hands, in slot order.
    pub moves: Vec<MoveStatus>,
    /// Who plans.
    pub planner: Option<NodeRef>,
}

/// A topic server.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStatus {
    /// Which.
    pub id: NodeId,
    /// Whether it serves.
    pub state: NodeState,
    /// Its weight in the ring; 0 while it is not in it.
    pub weight: f64,
    /// Slots whose record names it as the owner.
    pub slots_owned: u32,
    /// Slots whose record names it as the replica.
    pub slots_replica: u32,
    /// `slots_owned` of all slots, 0 to 1.
    pub share: f64,
    /// Where it is reached, while it is registered.
    pub address: Option<String>,
    /// Version of its build, while it is registered.
    pub build: Option<String>,
}

/// What a topic server is to the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// Registered, not in the ring: owns nothing until a plan adds it.
    Joining,
    /// Registered and in the ring.
    Up,
    /// Registered and in the ring, to own nothing.
    Draining,
    /// In the ring or named by a slot, its lease gone.
    Down,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NodeState::Joining => "joining",
            NodeState::Up => "up",
            NodeState::Draining => "draining",
            NodeState::Down => "down",
        })
    }
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Which.
    pub id: NodeId,
    /// Where other nodes reach it.
    pub address: String,
    /// Version of its build.
    pub build: String,
}

/// A slot that is changing hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveStatus {
    /// Which slot.
    pub slot: Slot,
    /// Who gives its place up: the owner, or the replica where that is what changes (the owner, if there is none).
    pub from: NodeId,
    /// Who takes it.
    pub to: NodeId,
    /// How far it is.
    pub phase: MovePhase,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MovePhase {
    /// The target copies while the owner serves.
    Learn,
    /// The target has everything: the owner stops and hands over.
    Seal,
}

impl fmt::Display for MovePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MovePhase::Learn => "learn",
            MovePhase::Seal => "seal",
        })
    }
}

impl Status {
    /// The status of `snapshot`.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Status {
        let slots = snapshot.birth().map_or(0, |birth| birth.slots);
        let mut nodes: BTreeMap<&NodeId, NodeStatus> = BTreeMap::new();
        let mut gateways = Vec::new();
        for (id, record) in snapshot.nodes() {
            let (address, build) = (record.advertise.clone(), record.build.clone());
            match record.role {
                Role::Gateway => gateways.push(GatewayStatus {
                    id: id.clone(),
                    address,
                    build,
                }),
                Role::TopicServer => {
                    let (address, build) = (Some(address), Some(build));
                    nodes.insert(
                        id,
                        NodeStatus {
                            address,
                            build,
                            ..NodeStatus::new(id, NodeState::Joining)
                        },
                    );
                }
            }
        }
        for member in snapshot.ring().into_iter().flat_map(|ring| &ring.nodes) {
            let node = nodes
                .entry(&member.id)
                .or_insert_with(|| NodeStatus::new(&member.id, NodeState::Down));
            node.weight = member.weight;
            node.state = match (node.state, member.state) {
                (NodeState::Down, _) => NodeState::Down,
                (_, RingNodeState::Up) => NodeState::Up,
                (_, RingNodeState::Draining) => NodeState::Draining,
            };
        }
        let mut moves = Vec::new();
        for (slot, _, record) in snapshot.slots() {
            let down = |id| move || NodeStatus::new(id, NodeState::Down);
            let owner = &record.owner.node;
            nodes.entry(owner).or_insert_with(down(owner)).slots_owned += 1;
            if let Some(NodeRef { node: replica, .. }) = &record.replica {
                nodes.entry(replica).or_insert_with(down(replica)).slots_replica += 1;
            }
            moves.extend(MoveStatus::of(slot, record));
        }
        for node in nodes.values_mut() {
            node.share = f64::from(node.slots_owned) / f64::from(slots.max(1));
        }
        Status {
            version: snapshot.ring().map_or(0, |ring| ring.version),
            slots,
            replicas: snapshot.ring().map_or(0, |ring| ring.replicas),
            nodes: nodes.into_values().collect(),
            gateways,
            moves,
            planner: snapshot.planner().map(|(_, planner)| planner.holder.clone()),
        }
    }
}

impl NodeStatus {
    fn new(id: &NodeId, state: NodeState) -> NodeStatus {
        let (weight, share) = (0.0, 0.0);
        NodeStatus {
            id: id.clone(),
            state,
            weight,
            slots_owned: 0,
            slots_replica: 0,
            share,
            address: None,
            build: None,
        }
    }
}

impl MoveStatus {
    fn of(slot: Slot, record: &SlotRecord) -> Option<MoveStatus> {
        let moving = record.moving.as_ref()?;
        let from = match moving.kind {
            MoveKind::Owner => &record.owner,
            MoveKind::Replica => record.replica.as_ref().unwrap_or(&record.owner),
        };
        let learned = record.replica.as_ref() == Some(&moving.target);
        let phase = if learned {
            MovePhase::Seal
        } else {
            MovePhase::Learn
        };
        Some(MoveStatus {
            slot,
            from: from.node.clone(),
            to: moving.target.node.clone(),
            phase,
        })
    }
}

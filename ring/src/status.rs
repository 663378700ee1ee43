//! What people see of the ring: the nodes, what each owns, what is moving.
//!
//! It promises the numbers of one snapshot, all of the same revision. *Invariant:* a slot counts for the node its record
//! names, in whichever of its lives, so that the slots of a node that is down are shown where they are missing.
//! Leaves out: how it is printed (`ringcast ring status`, `ringcast node ls`).

use std::collections::BTreeMap;
use std::fmt;

use ringcast_proto::record::{MoveKind, PlanId, RingNodeState, Role, SlotRecord};
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
    /// The plan that is being carried out; [`crate::progress`] tells how far.
    pub plan: Option<PlanId>,
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
    /// Registered and to own nothing: the ring wants it so, or it is about to end.
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
        let is_leaving = |id: &NodeId| snapshot.node(id).is_some_and(|record| record.leaving);
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
                (_, RingNodeState::Up) if !is_leaving(&member.id) => NodeState::Up,
                (_, RingNodeState::Up | RingNodeState::Draining) => NodeState::Draining,
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
            plan: snapshot.ring().and_then(|ring| ring.plan.clone()),
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
    pub(crate) fn of(slot: Slot, record: &SlotRecord) -> Option<MoveStatus> {
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::snapshot::tests::snapshot;

    fn check(records: &[(&str, &str)], golden: &Expect) {
        let status = Status::of(&snapshot(records));
        let mut text = format!(
            "version {} slots {} replicas {}\n",
            status.version, status.slots, status.replicas
        );
        for node in &status.nodes {
            let NodeStatus {
                id,
                state,
                weight,
                slots_owned,
                slots_replica,
                share,
                address,
                build,
            } = node;
            let at = address.as_deref().zip(build.as_deref());
            let at = at
                .map(|(address, build)| format!(" at {address} build {build}"))
                .unwrap_or_default();
            writeln!(
                text,
                "{id} {state} weight {weight} owns {slots_owned} copies {slots_replica} share {share}{at}"
            )
            .unwrap();
        }
        for gateway in &status.gateways {
            writeln!(
                text,
                "{} gateway at {} build {}",
                gateway.id, gateway.address, gateway.build
            )
            .unwrap();
        }
        for MoveStatus {
            slot,
            from,
            to,
            phase,
        } in &status.moves
        {
            writeln!(text, "slot {slot} {from} to {to} {phase}").unwrap();
        }
        if let Some(planner) = &status.planner {
            writeln!(text, "planner {planner}").unwrap();
        }
        if let Some(plan) = &status.plan {
            writeln!(text, "plan {}", plan.0).unwrap();
        }
        golden.assert_eq(&text);
    }

    #[test]
    fn before_birth_there_are_only_nodes() {
        check(
            &[(
                "node/ts-1",
                r#"{"inc":1,"role":"topic-server","advertise":"a:1","build":"0.1"}"#,
            )],
            &expect![[r#"
                version 0 slots 0 replicas 0
                ts-1 joining weight 0 owns 0 copies 0 share 0 at a:1 build 0.1
            "#]],
        );
    }

    #[test]
    fn every_state_of_a_node_is_told_and_every_slot_counted() {
        check(
            &[
                ("birth", r#"{"format":1,"cluster_id":"c","slots":4,"seed":1}"#),
                (
                    "ring",
                    r#"{"version":3,"replicas":1,"vnodes_per_weight":256,"plan":"p-1","nodes":[
                        {"id":"ts-1","weight":1.0,"state":"up"},{"id":"ts-2","weight":2.5,"state":"draining"},
                        {"id":"ts-3","weight":1.0,"state":"up"},{"id":"ts-4","weight":1.0,"state":"draining"},
                        {"id":"ts-6","weight":1.0,"state":"up"}]}"#,
                ),
                (
                    "node/ts-1",
                    r#"{"inc":9,"role":"topic-server","advertise":"a:1","build":"0.1"}"#,
                ),
                (
                    "node/ts-2",
                    r#"{"inc":2,"role":"topic-server","advertise":"b:1","build":"0.1"}"#,
                ),
                (
                    "node/ts-5",
                    r#"{"inc":3,"role":"topic-server","advertise":"c:1","build":"0.2"}"#,
                ),
                (
                    "node/ts-6",
                    r#"{"inc":5,"role":"topic-server","advertise":"e:1","build":"0.1","leaving":true}"#,
                ),
                (
                    "node/gw-1",
                    r#"{"inc":4,"role":"gateway","advertise":"d:1","build":"0.1"}"#,
                ),
                ("planner", r#"{"holder":{"node":"ts-1","inc":9},"term":5}"#),
                (
                    "slot/0",
                    r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":9},"cause":"birth"}"#,
                ),
                // A life that is over, of a node that is back.
                (
                    "slot/1",
                    r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":1},"cause":"birth"}"#,
                ),
                (
                    "slot/2",
                    r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-2","inc":2},"replica":{"node":"ts-1","inc":9},
                        "cause":"learn","move":{"id":"m","kind":"owner","target":{"node":"ts-1","inc":9}}}"#,
                ),
                // A node that is in nothing else any more.
                (
                    "slot/3",
                    r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-0","inc":7},"cause":"birth",
                        "move":{"id":"n","kind":"replica","target":{"node":"ts-1","inc":9}}}"#,
                ),
            ],
            &expect![[r#"
                version 3 slots 4 replicas 1
                ts-0 down weight 0 owns 1 copies 0 share 0.25
                ts-1 up weight 1 owns 2 copies 1 share 0.5 at a:1 build 0.1
                ts-2 draining weight 2.5 owns 1 copies 0 share 0.25 at b:1 build 0.1
                ts-3 down weight 1 owns 0 copies 0 share 0
                ts-4 down weight 1 owns 0 copies 0 share 0
                ts-5 joining weight 0 owns 0 copies 0 share 0 at c:1 build 0.2
                ts-6 draining weight 1 owns 0 copies 0 share 0 at e:1 build 0.1
                gw-1 gateway at d:1 build 0.1
                slot 2 ts-2 to ts-1 seal
                slot 3 ts-0 to ts-1 learn
                planner ts-1#9
                plan p-1
            "#]],
        );
    }
}

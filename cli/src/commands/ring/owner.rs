//! `ringcast ring owner TOPIC`.

use anyhow::{Context, Result};
use ringcast_proto::{NodeId, OwnerEpoch, Slot, Topic};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::output::{Output, table};

#[derive(Serialize)]
struct Owner {
    topic: String,
    slot: Slot,
    owner: NodeId,
    owner_epoch: OwnerEpoch,
    replica: Option<NodeId>,
}

/// Prints who owns `topic`.
pub(crate) fn owner(cluster: &Cluster, topic: &Topic, output: Output) -> Result<()> {
    let slot = cluster.table()?.slot_of(topic.as_bytes());
    let (_, record) = cluster
        .snapshot
        .slot(slot)
        .with_context(|| format!("slot {slot} has no owner yet: the ring is being born"))?;
    if !cluster.snapshot.alive(&record.owner) {
        eprintln!(
            "warning: {} is down; another node takes slot {slot} within seconds",
            record.owner.node
        );
    }
    let owner = Owner {
        topic: topic.to_string(),
        slot,
        owner: record.owner.node.clone(),
        owner_epoch: record.owner_epoch,
        replica: record.replica.as_ref().map(|replica| replica.node.clone()),
    };
    output.print(&owner, |owner| {
        let row = vec![
            owner.topic.clone(),
            owner.slot.to_string(),
            owner.owner.to_string(),
            owner.owner_epoch.to_string(),
        ];
        table(&["topic", "slot", "owner", "owner epoch"], &[1, 3], [row])
    })
}

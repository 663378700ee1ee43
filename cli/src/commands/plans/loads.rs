//! What the slots hold, as their owners tell it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use ringcast_proto::v1::SlotStatsRequest;
use ringcast_proto::{NodeRef, Slot};
use ringcast_ring::SlotLoad;

use crate::cluster::{Cluster, request_within, topic_server};

/// A plan is about slots; what they hold is good to know, and not worth more than this.
const DEADLINE: Duration = Duration::from_secs(2);

/// The load of every slot whose owner answered, and a warning for each node that did not.
pub(crate) async fn loads(cluster: &Cluster) -> Result<(BTreeMap<Slot, SlotLoad>, Vec<String>)> {
    let table = cluster.table()?;
    let asked = table
        .topic_servers()
        .map(|(node, address)| async move { (ask(address).await, node) });
    let mut loads = BTreeMap::new();
    let mut warnings = Vec::new();
    for (answer, node) in join_all(asked).await {
        match answer {
            Ok(slots) => {
                // A slot that has just moved may be told of twice: its owner knows.
                let is_owner = |slot: Slot| table.owner(slot).is_some_and(|owned| owned.owner == node);
                loads.extend(slots.into_iter().filter(|(slot, _)| is_owner(*slot)));
            }
            Err(reason) => warnings.push(silent(&node, &reason)),
        }
    }
    Ok((loads, warnings))
}

fn silent(node: &NodeRef, reason: &str) -> String {
    format!("{} does not say what its slots hold: {reason}", node.node)
}

async fn ask(address: &str) -> Result<Vec<(Slot, SlotLoad)>, String> {
    let mut client = topic_server(address).map_err(|error| error.to_string())?;
    let call = client.slot_stats(request_within(DEADLINE, SlotStatsRequest {}));
    // The deadline in the request is kept by who answers; this one also by who does not.
    let reply = match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err(status.message().to_owned()),
        Err(_) => return Err(format!("no answer in {} s", DEADLINE.as_secs())),
    };
    let slots = reply.slots.into_iter().filter_map(|stat| {
        let slot = Slot(u16::try_from(stat.slot).ok()?);
        let load = SlotLoad {
            topics: stat.topics,
            members: stat.members,
            bytes: stat.history_bytes,
        };
        Some((slot, load))
    });
    Ok(slots.collect())
}

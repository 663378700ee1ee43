//! The lanes there are: one to each life of a gateway that is registered.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ringcast_proto::{NodeRef, v1};

use crate::directory::Directory;
use crate::lane::{LaneHandle, start};
use crate::shared::Shared;

#[derive(Default)]
pub(crate) struct Lanes {
    lanes: ArcSwap<BTreeMap<NodeRef, LaneHandle>>,
}

impl Lanes {
    /// Puts an entry on the gateway's lane; `false` if it is full, or not there because the gateway is gone.
    pub(crate) fn push(&self, gateway: &NodeRef, entry: v1::DeliverEntry) -> bool {
        match self.lanes.load().get(gateway) {
            Some(lane) => lane.push(entry),
            None => false,
        }
    }

    /// Starts lanes to gateways that are new in `directory` and ends those to gateways that are not in it. These are told.
    /// Only ever called by one task.
    pub(crate) fn update(&self, directory: &Directory, shared: &Arc<Shared>) -> Vec<NodeRef> {
        let before = self.lanes.load_full();
        let mut after = BTreeMap::new();
        for (gateway, address) in directory.gateways() {
            let lane = match before.get(&gateway) {
                Some(lane) => lane.clone(),
                None => match start(&gateway, address, shared) {
                    Ok(lane) => lane,
                    Err(error) => {
                        tracing::error!(%gateway, %error, "gateway cannot be reached");
                        continue;
                    }
                },
            };
            after.insert(gateway, lane);
        }
        let gone: Vec<NodeRef> = before
            .keys()
            .filter(|gateway| !after.contains_key(gateway))
            .cloned()
            .collect();
        if gone.is_empty() && after.len() == before.len() {
            return gone;
        }
        for lane in gone.iter().filter_map(|gateway| before.get(gateway)) {
            lane.end();
        }
        self.lanes.store(Arc::new(after));
        gone
    }
}

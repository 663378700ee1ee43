//! What a cluster is made of, and the command line of each of its processes.
//!
//! *Invariant:* every process has ports of its own, and keeps them when it is started again.

use anyhow::Result;

use super::Cluster;
use crate::ports::Port;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Processes `ts-1`, `ts-2`, ...
    pub topic_servers: usize,
    /// Processes `gw-1`, `gw-2`, ...
    pub gateways: usize,
    /// Slots the ring is born with; `None`: as many as the product thinks right.
    pub slots: Option<u16>,
    /// Further arguments of every gateway.
    pub gateway_arguments: Vec<String>,
    /// Open files every gateway may have.
    pub gateway_descriptors_max: Option<u32>,
    /// `default` or `bench`.
    pub limits_profile: &'static str,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            topic_servers: 3,
            gateways: 2,
            slots: None,
            gateway_arguments: Vec::new(),
            gateway_descriptors_max: None,
            limits_profile: "bench",
        }
    }
}

impl Cluster {
    pub(super) fn start_coordinator(&mut self) -> Result<()> {
        let (listen, admin) = (Port::reserve()?, Port::reserve()?);
        self.store = format!("http://{}", listen.address());
        let data = self.data_dir();
        let arguments = words(&[
            "coordinator",
            "--listen",
            &listen.address().to_string(),
            "--data-dir",
            &data.to_string_lossy(),
            "--admin-listen",
            &admin.address().to_string(),
        ]);
        self.add("coordinator", arguments, listen, admin, None, None)
    }

    /// Starts one more topic server; [`Cluster::ready`] waits for it. After the ring's birth it owns nothing until a
    /// plan adds it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_topic_server(&mut self, id: &str, shape: &Shape) -> Result<()> {
        let (listen, admin) = (Port::reserve()?, Port::reserve()?);
        let mut arguments = words(&[
            "topic-server",
            "--id",
            id,
            "--store",
            &self.store,
            "--rpc-listen",
            &listen.address().to_string(),
            "--admin-listen",
            &admin.address().to_string(),
            "--expect-topic-servers",
            &shape.topic_servers.to_string(),
            "--limits-profile",
            shape.limits_profile,
        ]);
        if let Some(slots) = shape.slots {
            arguments.extend(words(&["--slots", &slots.to_string()]));
        }
        self.add(id, arguments, listen, admin, None, None)
    }

    /// Starts one more gateway; [`Cluster::ready`] waits for it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_gateway(&mut self, id: &str, shape: &Shape) -> Result<()> {
        let (listen, rpc, admin) = (Port::reserve()?, Port::reserve()?, Port::reserve()?);
        let mut arguments = words(&[
            "gateway",
            "--id",
            id,
            "--store",
            &self.store,
            "--listen",
            &listen.address().to_string(),
            "--rpc-listen",
            &rpc.address().to_string(),
            "--admin-listen",
            &admin.address().to_string(),
            "--limits-profile",
            shape.limits_profile,
        ]);
        arguments.extend(shape.gateway_arguments.iter().cloned());
        self.add(
            id,
            arguments,
            listen,
            admin,
            Some(rpc),
            shape.gateway_descriptors_max,
        )
    }
}

/// `dev` counts its gateways' ports up from the first.
pub(super) fn consecutive_ports(count: usize) -> Result<Vec<Port>> {
    let mut run: Vec<Port> = Vec::new();
    // Every port that broke a run is kept until the end, so that it is not tried again.
    let mut broken = Vec::new();
    while run.len() < count {
        let port = Port::reserve()?;
        if run.last().is_some_and(|last| last.number() + 1 != port.number()) {
            broken.append(&mut run);
        }
        run.push(port);
    }
    Ok(run)
}

pub(super) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

//! A cluster of real processes of the binary, on ports of its own, in a folder of its own.
//!
//! *Invariant:* see the crate: one that was not [finished](Cluster::finish) prints its logs, a finished one had no
//! panic and nothing that ended by itself.

mod ask;
mod ring;
mod shape;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use self::shape::{consecutive_ports, words};
use crate::ports::Port;
use crate::process::Process;
use crate::{http, wait};

pub use self::ring::{Done, Listed, Planned, Ring};
pub use self::shape::Shape;

/// How long a cluster may take to be ready, in a debug build on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// How many lines of each log a failed test prints.
const LINES_SHOWN: usize = 120;

/// A process of the cluster and where it listens.
#[derive(Debug)]
struct Node {
    process: Process,
    /// Clients of a gateway, the store of a coordinator, rpc of a topic server.
    listen: Port,
    admin: Port,
    /// Where topic servers reach a gateway.
    rpc: Option<Port>,
    /// Its end was asked for.
    may_be_gone: bool,
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    nodes: BTreeMap<String, Node>,
    /// Gateways beyond the first of a `dev` process, which has one node here.
    dev_gateways: Vec<Port>,
    folder: TempDir,
    store: String,
    finished: bool,
}

impl Cluster {
    /// Starts a coordinator and the nodes of `shape` as processes of their own, and waits until all are ready.
    ///
    /// # Errors
    /// Something did not start or get ready.
    pub async fn start(shape: Shape) -> Result<Cluster> {
        let mut cluster = Cluster::empty()?;
        cluster.start_coordinator()?;
        cluster.ready("coordinator").await?;
        for number in 1..=shape.topic_servers {
            cluster.start_topic_server(&format!("ts-{number}"), &shape)?;
        }
        for number in 1..=shape.gateways {
            cluster.start_gateway(&format!("gw-{number}"), &shape)?;
        }
        cluster.all_ready().await?;
        Ok(cluster)
    }

    /// Starts `ringcast dev`: everything in one process. `gw-1` and so on are its gateways, `dev` is its admin.
    ///
    /// # Errors
    /// It did not start or get ready.
    pub async fn dev(topic_servers: usize, gateways: usize) -> Result<Cluster> {
        let mut cluster = Cluster::empty()?;
        let (store, admin) = (Port::reserve()?, Port::reserve()?);
        cluster.store = format!("http://{}", store.address());
        let listens = consecutive_ports(gateways)?;
        let arguments = words(&[
            "dev",
            "--topic-servers",
            &topic_servers.to_string(),
            "--gateways",
            &gateways.to_string(),
            "--listen",
            &listens[0].address().to_string(),
            "--store-listen",
            &store.address().to_string(),
            "--admin-listen",
            &admin.address().to_string(),
        ]);
        cluster.dev_gateways = listens;
        cluster.add("dev", arguments, store, admin, None, None)?;
        cluster.ready("dev").await?;
        Ok(cluster)
    }

    fn empty() -> Result<Cluster> {
        let folder = tempfile::Builder::new()
            .prefix("ringcast-test-")
            .tempdir()
            .context("create a folder")?;
        Ok(Cluster {
            nodes: BTreeMap::new(),
            dev_gateways: Vec::new(),
            folder,
            store: String::new(),
            finished: false,
        })
    }

    fn add(
        &mut self,
        name: &str,
        arguments: Vec<String>,
        listen: Port,
        admin: Port,
        rpc: Option<Port>,
        descriptors_max: Option<u32>,
    ) -> Result<()> {
        let process = Process::start_limited(name, self.folder.path(), arguments, descriptors_max)?;
        let node = Node {
            process,
            listen,
            admin,
            rpc,
            may_be_gone: false,
        };
        ensure!(
            self.nodes.insert(name.to_owned(), node).is_none(),
            "two nodes {name}"
        );
        Ok(())
    }

    /// Waits until a node's `/readyz` says 200.
    ///
    /// # Errors
    /// It ended or did not get ready in time.
    pub async fn ready(&mut self, name: &str) -> Result<Duration> {
        let admin = self.admin(name)?;
        let process = &mut self.node_mut(name)?.process;
        let what = format!("{name} to be ready");
        let ((), took) = wait::until(&what, READY, async || {
            if let Some(status) = process.exit_status()? {
                bail!("it has ended: {status}");
            }
            let answer = http::get(admin, "/readyz").await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            Ok(())
        })
        .await?;
        Ok(took)
    }

    /// Waits until every node that was not ended is ready.
    ///
    /// # Errors
    /// One of them is not in time.
    pub async fn all_ready(&mut self) -> Result<()> {
        let names = self.running("");
        for name in names {
            self.ready(&name).await?;
        }
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// There is no such node, or it was gone already.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let node = self.node_mut(name)?;
        node.may_be_gone = true;
        node.process.kill()
    }

    /// Starts a killed or ended node again, with the same id, ports and folder.
    ///
    /// # Errors
    /// There is no such node, or it still runs.
    pub fn start_again(&mut self, name: &str) -> Result<()> {
        let node = self.node_mut(name)?;
        node.process.start_again()?;
        node.may_be_gone = false;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn terminate(&mut self, name: &str, deadline: Duration) -> Result<(i32, Duration)> {
        let node = self.node_mut(name)?;
        node.may_be_gone = true;
        let (status, took) = node.process.terminate(deadline).await?;
        Ok((status.code().context("it ended by a signal")?, took))
    }

    /// The nodes whose name begins with `prefix` and whose end was not asked for.
    #[must_use]
    pub fn running(&self, prefix: &str) -> Vec<String> {
        let running = self.nodes.iter().filter(|(_, node)| !node.may_be_gone);
        let names = running.map(|(name, _)| name.clone());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    /// The process behind a node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn process(&self, name: &str) -> Result<&Process> {
        Ok(&self.node(name)?.process)
    }

    /// Where a node listens: clients at a gateway, the store at the coordinator, rpc at a topic server.
    ///
    /// # Errors
    /// There is no such node.
    pub fn listen(&self, name: &str) -> Result<SocketAddr> {
        let number = name
            .strip_prefix("gw-")
            .and_then(|number| number.parse::<usize>().ok());
        if let Some(port) = number.and_then(|number| self.dev_gateways.get(number.checked_sub(1)?)) {
            return Ok(port.address());
        }
        Ok(self.node(name)?.listen.address())
    }

    /// Where a gateway's rpc listens.
    ///
    /// # Errors
    /// There is no such gateway.
    pub fn rpc(&self, name: &str) -> Result<SocketAddr> {
        let rpc = self.node(name)?.rpc.as_ref();
        Ok(rpc.with_context(|| format!("{name} is no gateway"))?.address())
    }

    /// Where a node answers `/readyz` and `/metrics`.
    ///
    /// # Errors
    /// There is no such node.
    pub fn admin(&self, name: &str) -> Result<SocketAddr> {
        Ok(self.node(name)?.admin.address())
    }

    /// The store's URL, as `--store` wants it.
    #[must_use]
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Where the coordinator keeps its file.
    #[must_use]
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for what a test needs besides.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The last word of every test: no process panicked, and none ended that was not asked to.
    ///
    /// # Errors
    /// One did.
    pub fn finish(mut self) -> Result<()> {
        for (name, node) in &mut self.nodes {
            if let (Some(status), false) = (node.process.exit_status()?, node.may_be_gone) {
                bail!("{name} ended by itself: {status}");
            }
            if let Some(line) = node
                .process
                .log()
                .lines()
                .find(|line| line.contains("panicked at"))
            {
                bail!("{name} panicked: {line}");
            }
        }
        self.finished = true;
        Ok(())
    }

    fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .get(name)
            .with_context(|| format!("the cluster has no {name}"))
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes
            .get_mut(name)
            .with_context(|| format!("the cluster has no {name}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        for (name, node) in &self.nodes {
            let log = node.process.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            eprintln!(
                "==== {name}: last {} of {} lines\n{}",
                shown.len(),
                lines.len(),
                shown.join("\n")
            );
        }
    }
}

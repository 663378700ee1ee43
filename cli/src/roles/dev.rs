//! `ringcast dev`: a whole real cluster in one process.
//!
//! It promises the very nodes that run apart in production, over the very sockets, and an end within 2 s.
//! *Invariant:* the store is real: a further `ringcast topic-server --store http://127.0.0.1:7700` joins it.
//! Leaves out: durability. The records live in memory and end with the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ringcast_gateway::{Config as GatewayConfig, Gateway};
use ringcast_proto::NodeId;
use ringcast_ring_store::coordinator::{Coordinator, Error as CoordinatorError};
use ringcast_ring_store::{AnyStore, Memory};
use ringcast_topic_server::{Config as TopicServerConfig, TopicServer, history_memory_default};
use serde::Serialize;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{SLOTS_DEFAULT, gateway, loopback, topic_server};
use crate::admin::{Admin, Reasons};
use crate::args::{LimitsProfile, OutputFormat};
use crate::output::Output;
use crate::settings::{OriginCheck, Settings};
use crate::telemetry::Recorder;
use crate::{listen, shutdown, telemetry};

const GATEWAYS_DEFAULT: u16 = 2;
const TOPIC_SERVERS_DEFAULT: u16 = 3;
/// Every node ends within 1.5 s by itself; whoever does not is named and left.
const END_DEADLINE: Duration = Duration::from_millis(1700);
/// A cluster on one machine is ready in a fraction of this.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);

/// A cluster that is bound and does not run yet.
struct Cluster {
    coordinator: Coordinator,
    topic_servers: Vec<(NodeId, TopicServer)>,
    gateways: Vec<(NodeId, Gateway)>,
}

/// What is printed when it is ready.
#[derive(Serialize)]
struct Ready {
    store: String,
    admin: String,
    gateways: Vec<ReadyGateway>,
    topic_servers: Vec<NodeId>,
    slots: u16,
}

#[derive(Serialize)]
struct ReadyGateway {
    id: NodeId,
    url: String,
    socket: String,
}

/// Runs it until it is told to stop.
pub(crate) async fn run(mut settings: Settings) -> Result<()> {
    settings.limits.profile.get_or_insert(LimitsProfile::Bench);
    if settings.origin.allow.is_empty() {
        settings.origin.check.get_or_insert(OriginCheck::Any);
    }
    let output = Output::new(settings.output.unwrap_or(OutputFormat::Table));
    let (recorder, metrics) = telemetry::recorder();
    let admin = Admin::bind(settings.admin_listen.unwrap_or(loopback(9100))).await?;
    let cluster = Cluster::build(&settings, &recorder).await?;
    let ready = cluster.ready(&settings, admin.address());
    let reasons = cluster.reasons();

    let tasks = TaskTracker::new();
    let token = shutdown::token(&tasks)?;
    let mut nodes = JoinSet::new();
    let served = Arc::clone(&reasons);
    let ended = token.clone();
    nodes.spawn(async move {
        admin.run(metrics, served, ended).await;
        ("admin listener".to_owned(), Ok(()))
    });
    cluster.start(&mut nodes, &token);

    let outcome = tokio::select! {
        biased;
        // Told to stop, or never ready. First, because the nodes end by the same token.
        outcome = live(&reasons, &token, output, &ready) => outcome,
        ended = nodes.join_next() => early(ended),   // a part ended by itself
    };
    token.cancel();
    end(nodes).await;
    outcome
}

impl Cluster {
    async fn build(settings: &Settings, recorder: &Recorder) -> Result<Cluster> {
        let memory = Memory::start().context("start the store")?;
        let store_listen = settings.store_listen.unwrap_or(loopback(7700));
        let coordinator =
            Coordinator::in_memory(store_listen, memory.clone()).map_err(|error| match error {
                CoordinatorError::Listen { address, source } => {
                    listen::explain(source, address, "--store-listen")
                }
                error => error.into(),
            })?;
        let store = AnyStore::Memory(memory);
        let topic_servers = settings.topic_servers.unwrap_or(TOPIC_SERVERS_DEFAULT);
        let mut cluster = Cluster {
            coordinator,
            topic_servers: Vec::new(),
            gateways: Vec::new(),
        };
        for n in 1..=topic_servers {
            let id = named("ts", n);
            let config = topic_server::config(id.clone(), store.clone(), settings);
            let history_memory = config.history_memory.unwrap_or_else(history_memory_default);
            let config = TopicServerConfig {
                // What one process may take, however many share it.
                history_memory: Some(history_memory / usize::from(topic_servers.max(1))),
                rpc_listen: loopback(0),
                expect_topic_servers: Some(usize::from(topic_servers)),
                // All of it ends at once: there is nobody to leave anything to.
                drain: Duration::ZERO,
                ..config
            };
            cluster
                .topic_servers
                .push((id, topic_server::build(config, Arc::clone(recorder)).await?));
        }
        let first = settings.listen.unwrap_or(loopback(4000));
        for n in 1..=settings.gateways.unwrap_or(GATEWAYS_DEFAULT) {
            let id = named("gw", n);
            let config = GatewayConfig {
                listen: nth_address(first, n - 1)?,
                // The clients have nowhere else to go, and the cluster ends within 2 s.
                drain: Duration::ZERO,
                ..gateway::config(id.clone(), store.clone(), settings)?
            };
            cluster
                .gateways
                .push((id, gateway::build(config, recorder).await?));
        }
        Ok(cluster)
    }

    fn ready(&self, settings: &Settings, admin: SocketAddr) -> Ready {
        let gateway = |(id, gateway): &(NodeId, Gateway)| {
            let address = gateway.address();
            ReadyGateway {
                id: id.clone(),
                url: format!("http://{address}"),
                socket: format!("ws://{address}/socket/websocket?vsn=2.0.0"),
            }
        };
        Ready {
            store: format!("http://{}", self.coordinator.local_addr()),
            admin: format!("http://{admin}"),
            gateways: self.gateways.iter().map(gateway).collect(),
            topic_servers: self.topic_servers.iter().map(|(id, _)| id.clone()).collect(),
            slots: settings.slots.unwrap_or(SLOTS_DEFAULT),
        }
    }

    /// Why the cluster is not ready: the reasons of all its nodes, each with the node's name.
    fn reasons(&self) -> Reasons {
        let topic_servers = self
            .topic_servers
            .iter()
            .map(|(id, server)| (id.clone(), topic_server::reasons(server)));
        let gateways = self
            .gateways
            .iter()
            .map(|(id, node)| (id.clone(), gateway::reasons(node)));
        let nodes: Vec<(NodeId, Reasons)> = topic_servers.chain(gateways).collect();
        Arc::new(move || {
            let named = |(id, reasons): &(NodeId, Reasons)| -> Vec<String> {
                reasons()
                    .into_iter()
                    .map(|reason| format!("{id}: {reason}"))
                    .collect()
            };
            nodes.iter().flat_map(named).collect()
        })
    }

    fn start(self, nodes: &mut JoinSet<(String, Result<()>)>, token: &CancellationToken) {
        let ended = token.clone();
        nodes.spawn(async move {
            (
                "store".to_owned(),
                self.coordinator.run(ended).await.map_err(Into::into),
            )
        });
        for (id, server) in self.topic_servers {
            let ended = token.clone();
            nodes.spawn(async move {
                (
                    format!("topic server {id}"),
                    server.run(ended).await.map_err(Into::into),
                )
            });
        }
        for (id, gateway) in self.gateways {
            let ended = token.clone();
            nodes.spawn(async move {
                (
                    format!("gateway {id}"),
                    gateway.run(ended).await.map_err(Into::into),
                )
            });
        }
    }
}

/// Prints the cluster once it is ready, then waits to be told to stop.
async fn live(reasons: &Reasons, token: &CancellationToken, output: Output, ready: &Ready) -> Result<()> {
    let all_ready = async {
        let mut poll = tokio::time::interval(READY_POLL);
        while !reasons().is_empty() {
            poll.tick().await;
        }
    };
    match token
        .run_until_cancelled(tokio::time::timeout(READY_DEADLINE, all_ready))
        .await
    {
        Some(Ok(())) => {
            output.print(ready, people)?;
            token.cancelled().await;
            Ok(())
        }
        Some(Err(_)) => bail!(
            "not ready after {} s: {}",
            READY_DEADLINE.as_secs(),
            reasons().join("; ")
        ),
        None => Ok(()),
    }
}

/// A part that ended though nobody asked it to.
fn early(ended: Option<Result<(String, Result<()>), JoinError>>) -> Result<()> {
    match ended {
        Some(Ok((name, Ok(())))) => bail!("{name} ended by itself"),
        Some(Ok((name, Err(error)))) => Err(error.context(format!("run {name}"))),
        Some(Err(error)) => Err(anyhow!(error).context("run a node")),
        None => Ok(()),
    }
}

async fn end(mut nodes: JoinSet<(String, Result<()>)>) {
    let all = async {
        while let Some(ended) = nodes.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(error))) => tracing::warn!("{name} ended: {error:#}"),
                Err(error) => tracing::error!(%error, "a node panicked"),
            }
        }
    };
    if tokio::time::timeout(END_DEADLINE, all).await.is_err() {
        tracing::warn!(parts = nodes.len(), "did not end in time");
    }
}

fn named(role: &str, n: u16) -> NodeId {
    NodeId::parse(&format!("{role}-{n}")).expect("letters, a dash and digits make a node id")
}

/// The `n`th gateway's address: the ports after the first, or any where that is 0.
fn nth_address(first: SocketAddr, n: u16) -> Result<SocketAddr> {
    let port = match first.port() {
        0 => Some(0),
        port => port.checked_add(n),
    };
    let port = port.with_context(|| {
        format!(
            "no port is left for gateway {}: --listen {first} is too high",
            n + 1
        )
    })?;
    Ok(SocketAddr::new(first.ip(), port))
}

fn people(ready: &Ready) -> String {
    let nodes = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut text = format!(
        "Ringcast runs: {}, {}, {} slots. Ctrl-C ends it.\n\n",
        nodes(ready.gateways.len(), "gateway"),
        nodes(ready.topic_servers.len(), "topic server"),
        ready.slots
    );
    for gateway in &ready.gateways {
        text += &format!("  {:<9} {}\n", gateway.id.to_string(), gateway.url);
    }
    text += &format!(
        "  {:<9} {}\n  {:<9} {}/metrics\n",
        "store", ready.store, "admin", ready.admin
    );
    if let (Some(first), Some(last)) = (ready.gateways.first(), ready.gateways.last()) {
        text += &format!(
            "\nJoin a topic (npm install -g wscat):\n  wscat -c '{}' -x '[\"1\",\"1\",\"topics:matrix\",\"phx_join\",{{}}]' -w 600\n\
             \nPublish to it, from another terminal:\n  curl -d '{{\"event\":\"event\",\"payload\":{{\"message\":\"red pill or blue pill?\"}}}}' {}/api/topics/topics:matrix/publish\n",
            first.socket, last.url
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_take_the_ports_after_the_first() {
        assert_eq!(nth_address(loopback(4000), 1).unwrap(), loopback(4001));
        assert_eq!(nth_address(loopback(0), 3).unwrap(), loopback(0));
        let error = nth_address(loopback(65535), 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "no port is left for gateway 2: --listen 127.0.0.1:65535 is too high"
        );
    }
}

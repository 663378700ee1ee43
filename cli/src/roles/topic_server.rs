//! `ringcast topic-server`: it owns slots, and the topics in them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ringcast_proto::NodeId;
use ringcast_ring_store::AnyStore;
use ringcast_topic_server::{BuildError, Config, DRAIN_DEADLINE, TopicServer};
use tokio_util::task::TaskTracker;

use super::{SLOTS_DEFAULT, advertise, id, loopback, store};
use crate::admin::{Admin, Reasons};
use crate::settings::Settings;
use crate::telemetry::Recorder;
use crate::{listen, shutdown, telemetry};

/// Runs it until it is told to stop.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let id = id(&settings, "ts-1")?;
    let rpc_listen = settings.rpc_listen.unwrap_or(loopback(7200));
    let config = Config {
        rpc_listen,
        advertise: advertise(&settings, rpc_listen)?,
        expect_topic_servers: settings.expect_topic_servers.map(usize::from),
        ..config(id.clone(), store(&settings)?, &settings)
    };
    let (recorder, metrics) = telemetry::recorder();
    let server = build(config, recorder).await?;
    let admin = Admin::bind(settings.admin_listen.unwrap_or(loopback(9200))).await?;
    let tasks = TaskTracker::new();
    let token = shutdown::token(&tasks)?;
    tracing::info!(node = %id, rpc = %server.rpc_address(), admin = %admin.address(), "topic server started");
    let ended = token.child_token();
    let admin = tasks.spawn(admin.run(metrics, reasons(&server), ended.clone()));
    let served = server.run(token).await;
    ended.cancel();
    admin.await.context("serve the admin listener")?;
    served.with_context(|| format!("run topic server {id}"))
}

/// What the settings say of any topic server.
pub(super) fn config(id: NodeId, store: AnyStore, settings: &Settings) -> Config {
    Config {
        slots: settings.slots.unwrap_or(SLOTS_DEFAULT),
        drain: settings
            .drain_deadline
            .map_or(DRAIN_DEADLINE, |seconds| Duration::from_secs(seconds.into())),
        ..Config::new(id, store)
    }
}

/// Binds it; an address that is taken is explained by the flag that chooses another one.
pub(super) async fn build(config: Config, recorder: Recorder) -> Result<TopicServer> {
    let what = format!("start topic server {}", config.id);
    TopicServer::build(config, recorder)
        .await
        .map_err(|BuildError::Listen { address, source }| listen::explain(source, address, "--rpc-listen"))
        .context(what)
}

/// Why it is not ready, whenever asked.
pub(super) fn reasons(server: &TopicServer) -> Reasons {
    let readiness = server.readiness();
    Arc::new(move || readiness.borrow().reasons().map(str::to_owned).collect())
}

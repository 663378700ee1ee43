//! `ringcast coordinator`: the ring store, on one file.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use ringcast_ring_store::coordinator::{Config, Coordinator};
use tokio_util::task::TaskTracker;

use super::loopback;
use crate::admin::Admin;
use crate::settings::Settings;
use crate::{Usage, listen, shutdown, telemetry};

/// Runs it until it is told to stop.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let data_dir: PathBuf = settings.data_dir.clone().ok_or_else(|| {
        Usage("a folder is missing: give it by --data-dir, by RINGCAST_DATA_DIR, or by `data_dir` in the configuration".into())
    })?;
    let config = Config {
        listen: settings.listen.unwrap_or(loopback(7700)),
        data_dir,
    };
    let coordinator = build(config.clone()).await.context("start the coordinator")?;
    let admin = Admin::bind(settings.admin_listen.unwrap_or(loopback(9300))).await?;
    let tasks = TaskTracker::new();
    let token = shutdown::token(&tasks)?;
    let (_recorder, metrics) = telemetry::recorder();
    let admin_ended = token.child_token();
    tracing::info!(
        listen = %coordinator.local_addr(),
        admin = %admin.address(),
        data_dir = %config.data_dir.display(),
        "coordinator ready"
    );
    // It loaded its file before it was built, so from here on it is ready for as long as it runs.
    let admin = tasks.spawn(admin.run(metrics, Arc::new(Vec::new), admin_ended.clone()));
    let served = coordinator.run(token).await;
    admin_ended.cancel();
    admin.await.context("serve the admin listener")?;
    served.context("serve the ring store")?;
    tracing::info!("coordinator ended");
    Ok(())
}

async fn build(config: Config) -> Result<Coordinator> {
    use ringcast_ring_store::coordinator::Error;
    let built = tokio::task::spawn_blocking(move || Coordinator::build(&config))
        .await
        .context("read its folder")?;
    built.map_err(|error| match error {
        Error::Listen { address, source } => listen::explain(source, address, "--listen"),
        error => error.into(),
    })
}

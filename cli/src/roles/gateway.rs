//! `ringcast gateway`: clients connect to it.

use std::sync::Arc;

use anyhow::{Context, Result};
use ringcast_gateway::{
    BuildError, ChannelPatternError, ClientEvents, Config, Gateway, Limits, Namespace, OriginCheck,
    SlowConsumer, Targets, channel_pattern,
};
use ringcast_proto::NodeId;
use ringcast_ring_store::AnyStore;
use tokio_util::task::TaskTracker;

use super::{advertise, id, loopback, store};
use crate::admin::{Admin, Reasons};
use crate::args::LimitsProfile;
use crate::settings::{self, Settings};
use crate::telemetry::Recorder;
use crate::{listen, shutdown, telemetry};

/// Runs it until it is told to stop.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    let id = id(&settings, "gw-1")?;
    let rpc_listen = settings.rpc_listen.unwrap_or(loopback(7100));
    let config = Config {
        listen: settings.listen.unwrap_or(loopback(4000)),
        rpc_listen,
        advertise: advertise(&settings, rpc_listen)?,
        ..config(id, store(&settings)?, &settings)?
    };
    let name = config.id.clone();
    let (recorder, metrics) = telemetry::recorder();
    let gateway = build(config, &recorder).await?;
    let admin = Admin::bind(settings.admin_listen.unwrap_or(loopback(9100))).await?;
    let tasks = TaskTracker::new();
    let token = shutdown::token(&tasks)?;
    tracing::info!(
        node = %name,
        listen = %gateway.address(),
        rpc = %gateway.rpc_address(),
        admin = %admin.address(),
        "gateway started"
    );
    let ended = token.child_token();
    let admin = tasks.spawn(admin.run(metrics, reasons(&gateway), ended.clone()));
    let served = gateway.run(token).await;
    ended.cancel();
    admin.await.context("serve the admin listener")?;
    served.with_context(|| format!("run gateway {name}"))?;
    tracing::info!(node = %name, "gateway ended");
    Ok(())
}

/// Binds it; an address that is taken is explained by the flag that chooses another one.
pub(super) async fn build(config: Config, recorder: &Recorder) -> Result<Gateway> {
    let what = format!("start gateway {}", config.id);
    Gateway::build(config, recorder)
        .await
        .map_err(|error| match error {
            BuildError::Listen { address, source } => listen::explain(source, address, "--listen"),
            BuildError::RpcListen { address, source } => listen::explain(source, address, "--rpc-listen"),
        })
        .context(what)
}

/// Why it is not ready, whenever asked.
pub(super) fn reasons(gateway: &Gateway) -> Reasons {
    let readiness = gateway.readiness();
    Arc::new(move || readiness.reasons())
}

/// What the settings say of any gateway, on free ports.
pub(super) fn config(id: NodeId, store: AnyStore, settings: &Settings) -> Result<Config> {
    Ok(Config {
        origin: origin(&settings.origin)?,
        namespaces: settings.channel.iter().map(namespace).collect::<Result<_, _>>()?,
        limits: match settings.limits.profile {
            Some(LimitsProfile::Bench) => Limits::BENCH,
            Some(LimitsProfile::Default) | None => Limits::DEFAULT,
        },
        ..Config::new(id, store)
    })
}

/// One pattern of `origin.allow`.
pub(crate) fn origin_pattern(pattern: &str) -> Result<OriginCheck, ringcast_gateway::BadPattern> {
    OriginCheck::list(&[pattern])
}

/// A declared namespace.
pub(crate) fn namespace(channel: &settings::Channel) -> Result<Namespace, ChannelPatternError> {
    let client_events = match channel.client_events {
        settings::ClientEvents::All => ClientEvents::All,
        settings::ClientEvents::Others => ClientEvents::Others,
        settings::ClientEvents::Refuse => ClientEvents::Refuse,
    };
    let slow_consumer = match channel.slow_consumer {
        None => SlowConsumer::default(),
        Some(settings::SlowConsumer::Gap) => SlowConsumer::Gap,
        Some(settings::SlowConsumer::Latest) => SlowConsumer::Latest,
        Some(settings::SlowConsumer::Close) => SlowConsumer::Close,
    };
    let open = |target| channel.targets.contains(&target);
    Ok(Namespace {
        pattern: channel_pattern(&channel.pattern)?,
        client_events,
        resume: channel.resume,
        slow_consumer,
        targets: Targets {
            all: open(settings::Target::All),
            others: open(settings::Target::Others),
            one: open(settings::Target::One),
            members: open(settings::Target::Members),
        },
        ephemeral: channel.ephemeral.iter().cloned().collect(),
    })
}

fn origin(origin: &settings::Origin) -> Result<OriginCheck> {
    Ok(match origin.check {
        Some(settings::OriginCheck::Any) => OriginCheck::Any,
        Some(settings::OriginCheck::Conn) => OriginCheck::Conn,
        None if origin.allow.is_empty() => OriginCheck::Conn,
        Some(settings::OriginCheck::Allow) | None => OriginCheck::list(&origin.allow)?,
    })
}

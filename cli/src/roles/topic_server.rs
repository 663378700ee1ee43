//! `ringcast topic-server`: it owns slots, and the topics in them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ringcast_proto::{NodeId, Pattern};
use ringcast_ring_store::AnyStore;
use ringcast_topic_server::{BuildError, Config, DRAIN_DEADLINE, HistoryRule, Limits, TopicServer};
use tokio_util::task::TaskTracker;

use super::{SLOTS_DEFAULT, advertise, id, loopback, store};
use crate::admin::{Admin, Reasons};
use crate::settings::{Channel, Settings};
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
        limits: limits(settings),
        history_memory: settings
            .history_memory
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        ..Config::new(id, store)
    }
}

/// What topics keep.
fn limits(settings: &Settings) -> Limits {
    let history = &settings.history;
    let or = |number: Option<u32>, default| number.map_or(default, |number| number as usize);
    let bytes_or = |bytes: Option<u64>, default| {
        bytes.map_or(default, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    };
    let seconds_or = |seconds: Option<u32>, default| {
        seconds.map_or(default, |seconds| Duration::from_secs(seconds.into()))
    };
    let default = Limits::default();
    let limits = Limits {
        history_len_max: or(history.len, default.history_len_max),
        history_bytes_max: bytes_or(history.bytes, default.history_bytes_max),
        history_age_max: seconds_or(history.age, default.history_age_max),
        ids_max: or(history.ids, default.ids_max),
        ids_age_max: seconds_or(history.ids_age, default.ids_age_max),
        ..default
    };
    // One for each channel, those too that say nothing of history: the first that matches holds, here as at the gateways.
    let rule = |channel: &Channel| {
        Some(HistoryRule {
            pattern: Pattern::parse(&channel.pattern).ok()?,
            len_max: or(channel.history_len, limits.history_len_max),
            bytes_max: bytes_or(channel.history_bytes, limits.history_bytes_max),
            age_max: seconds_or(channel.history_age, limits.history_age_max),
        })
    };
    Limits {
        history_rules: settings.channel.iter().filter_map(rule).collect(),
        ..limits
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

#[cfg(test)]
mod tests {
    use ringcast_proto::Topic;

    use super::*;
    use crate::settings::History;

    #[test]
    fn the_first_channel_that_matches_says_what_is_kept_and_history_what_it_leaves_out() {
        let channel = |pattern: &str, history_len| Channel {
            history_len,
            history_age: Some(7),
            ..Channel::of(pattern)
        };
        let settings = Settings {
            channel: vec![channel("room:kept", None), channel("room:*", Some(0))],
            history: History {
                len: Some(50),
                ids_age: Some(30),
                ..History::default()
            },
            ..Settings::default()
        };
        let limits = limits(&settings);
        assert_eq!(
            (limits.history_len_max, limits.history_age_max.as_secs()),
            (50, 300)
        );
        assert_eq!((limits.ids_max, limits.ids_age_max.as_secs()), (10_000, 30));
        let kept = |topic: &str| {
            let topic = Topic::parse(topic.as_bytes()).unwrap();
            let rule = limits
                .history_rules
                .iter()
                .find(|rule| rule.pattern.matches(&topic));
            rule.map(|rule| (rule.len_max, rule.bytes_max, rule.age_max.as_secs()))
        };
        assert_eq!(kept("room:kept"), Some((50, 1_048_576, 7)));
        assert_eq!(kept("room:7"), Some((0, 1_048_576, 7)));
        assert_eq!(kept("topics:matrix"), None);
    }
}

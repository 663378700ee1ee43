//! Logs to stderr, and the recorder of metrics.

use std::sync::Arc;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::args::LogFormat;
use crate::settings::Settings;

/// Starts writing logs. `usual` holds unless `--log` or `RUST_LOG` says otherwise.
pub(crate) fn start_logs(settings: &Settings, usual: &str) -> Result<()> {
    let filter = match (&settings.log, std::env::var("RUST_LOG")) {
        (Some(filter), _) => EnvFilter::try_new(filter).with_context(|| format!("read --log {filter:?}"))?,
        (None, Ok(filter)) if !filter.is_empty() => {
            EnvFilter::try_new(&filter).with_context(|| format!("read RUST_LOG {filter:?}"))?
        }
        (None, _) => EnvFilter::new(usual),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(SystemTime);
    match settings.log_format.unwrap_or(LogFormat::Text) {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => {
            builder
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_target(false)
                .init();
        }
    }
    Ok(())
}

/// Where nodes record their metrics.
pub(crate) type Recorder = Arc<dyn metrics::Recorder + Send + Sync>;

/// A recorder that the nodes of this process share, and its reader. Nothing is global.
pub(crate) fn recorder() -> (Recorder, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    (Arc::new(recorder), handle)
}

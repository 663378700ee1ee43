//! Logs to stderr, and the recorder of metrics.

use std::sync::Arc;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
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

/// From a queue that is empty to a node that is stuck. A slot's move is promised to pause publishing for less than 0.1 s.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Entries of a batch: 512 is the most there are.
const ENTRIES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// A recorder that the nodes of this process share, and its reader. Nothing is global.
pub(crate) fn recorder() -> (Recorder, PrometheusHandle) {
    let bucketed = |builder: PrometheusBuilder, suffix: &str, buckets| {
        builder
            .set_buckets_for_metric(Matcher::Suffix(suffix.to_owned()), buckets)
            .expect("there are buckets")
    };
    let builder = bucketed(PrometheusBuilder::new(), "_seconds", SECONDS);
    let recorder = bucketed(builder, "_entries", ENTRIES).build_recorder();
    let handle = recorder.handle();
    (Arc::new(recorder), handle)
}

#[cfg(test)]
mod tests {
    use metrics::{Key, Level, Metadata};

    use super::*;

    #[test]
    fn how_long_and_how_many_are_counted_in_buckets_that_can_be_added_up_over_nodes() {
        let (recorder, handle) = recorder();
        let metadata = Metadata::new("test", Level::INFO, None);
        let record = |name: &'static str, value: f64| {
            recorder
                .register_histogram(&Key::from_name(name), &metadata)
                .record(value);
        };
        record("ringcast_move_pause_seconds", 0.004);
        record("ringcast_lane_batch_entries", 3.0);
        let rendered = handle.render();
        for line in [
            r#"ringcast_move_pause_seconds_bucket{le="0.0025"} 0"#,
            r#"ringcast_move_pause_seconds_bucket{le="0.005"} 1"#,
            r#"ringcast_lane_batch_entries_bucket{le="2"} 0"#,
            r#"ringcast_lane_batch_entries_bucket{le="4"} 1"#,
        ] {
            assert!(rendered.contains(line), "{line} is not in\n{rendered}");
        }
    }
}

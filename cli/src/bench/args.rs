//! What a person can ask of `ringcast bench`.
//!
//! *Invariant:* what is accepted here can be measured: no window, rate, size or number is zero or absurd.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::servers::Named;
use super::url::Url;
use super::wire::PAYLOAD_BYTES_MIN;

/// The load generator's scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// One topic with many subscribers
    Fanout(FanoutArgs),
    /// Many topics with a few subscribers each
    Topics(TopicsArgs),
    /// Many connections that join and then stay quiet
    Idle(IdleArgs),
    /// What `idle` starts: a process that holds a part of the connections until its stdin ends
    #[command(hide = true)]
    IdleWorker(WorkerArgs),
}

/// Whom to load, and whom to look at meanwhile.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// A gateway; may be repeated, then clients spread over all
    #[arg(long = "url", value_name = "URL", value_parser = Url::parse, default_value = "ws://127.0.0.1:4000/socket/websocket")]
    pub(crate) urls: Vec<Url>,
    /// A server process whose CPU and memory to report; may be repeated
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = Named::parse)]
    pub(crate) pids: Vec<Named>,
    /// What topics begin with; its channel must pass client events on, as room:* does by default
    #[arg(long, value_name = "TEXT", default_value = "room:bench", value_parser = topic_prefix)]
    pub(crate) topic_prefix: String,
    /// Connections that are being opened at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) concurrency: u32,
}

/// How much is published, and for how long.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = payload_bytes)]
    pub(crate) payload: usize,
    /// How long to measure, e.g. 10s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(crate) duration: Duration,
    /// How long to load before that
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Publish as fast as this many outstanding deliveries allow
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) window: u64,
    /// Publish so many messages a second instead, however slow deliveries are
    #[arg(long, value_name = "N", conflicts_with = "window", value_parser = rate)]
    pub(crate) rate: Option<f64>,
}

/// `bench fanout`
#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Subscribers of the topic
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: u32,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// `bench topics`
#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How many topics
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) topics: u32,
    /// Subscribers of each topic, each with a connection of its own
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) subscribers: u32,
    /// Connections that publish, each to its share of the topics
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) publishers: u32,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// `bench idle`
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How many connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,
    /// Members of a topic; every connection joins one topic
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) members: u32,
    /// How long to hold them before memory is read
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) hold: Duration,
}

/// `bench idle-worker`
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// The number of its first connection
    #[arg(long)]
    pub(crate) first: u32,
    /// How many connections
    #[arg(long)]
    pub(crate) connections: u32,
    /// Members of a topic
    #[arg(long)]
    pub(crate) members: u32,
    /// What tells this run's topics from others
    #[arg(long)]
    pub(crate) run: u32,
}

fn topic_prefix(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 200 || text.contains(|c: char| c.is_control() || c == '"' || c == '\\')
    {
        return Err("must be 1 to 200 bytes without quotes, backslashes and control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn payload_bytes(text: &str) -> Result<usize, String> {
    const MAX: usize = 60_000; // a gateway takes messages of 64 KiB
    match text.parse() {
        Ok(bytes) if (PAYLOAD_BYTES_MIN..=MAX).contains(&bytes) => Ok(bytes),
        _ => Err(format!("must be {PAYLOAD_BYTES_MIN} to {MAX}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("must be 0.1 to 1000000 messages a second".to_owned()),
    }
}

/// `500ms`, `10s`, `2m`; at most a day.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time, as 500ms, 10s or 2m");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    match count.checked_mul(unit_ms) {
        Some(ms) if ms <= 86_400_000 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("{text} is more than a day")),
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| match time.is_zero() {
        true => Err("must be more than nothing".to_owned()),
        false => Ok(time),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "10h",
            "99999999999999999999s",
            "18446744073709551615m",
        ] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert!(some_time("0s").is_err());
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for text in ["0", "63", "60001", "x", "-1"] {
            assert!(payload_bytes(text).is_err(), "{text:?}");
        }
        for text in ["0", "-1", "NaN", "inf", "x"] {
            assert!(rate(text).is_err(), "{text:?}");
        }
        for text in ["", "a\"b", "a\\b", "a\nb"] {
            assert!(topic_prefix(text).is_err(), "{text:?}");
        }
    }
}

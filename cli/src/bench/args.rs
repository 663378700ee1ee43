//! What a person can ask of `ringcast bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::servers::Named;
use super::url::Url;
use super::values::{duration, payload_bytes, rate, some_time, topic_prefix};

/// The load generator's scenarios.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// One topic with many subscribers
    Fanout(FanoutArgs),
    /// Many topics with a few subscribers each
    Topics(TopicsArgs),
    /// Many connections that join and then stay quiet
    Idle(IdleArgs),
    /// Many clients that connect and join at once, and come back at once when all are cut off
    Storm(StormArgs),
    /// Many clients that are cut off, miss something, and come back at once with their positions
    Resume(ResumeArgs),
    /// What `idle` starts: a process that holds a part of the connections until its stdin ends
    #[command(hide = true)]
    IdleWorker(IdleWorkerArgs),
    /// What `--floor` starts: a bare server
    #[command(hide = true)]
    FloorServer(FloorServerArgs),
    /// What `storm` starts: a process that is a part of the clients
    #[command(hide = true)]
    StormWorker(StormWorkerArgs),
}

/// Whom to load, and whom to look at meanwhile.
#[derive(Debug, Clone, Args)]
pub(crate) struct TargetArgs {
    /// A gateway; may be repeated, then clients spread over all in turn
    #[arg(long = "url", value_name = "URL", value_parser = Url::parse, default_value = "ws://127.0.0.1:4000/socket/websocket")]
    pub(crate) urls: Vec<Url>,
    /// A server process whose CPU and memory to report; may be repeated
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = Named::parse)]
    pub(crate) pids: Vec<Named>,
    /// What topics begin with; its channel must pass client events on, as room:* does by default
    #[arg(long, value_name = "TEXT", default_value = "room:bench", value_parser = topic_prefix)]
    pub(crate) topic_prefix: String,
    /// Say nothing on stderr while it runs
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// What else is made of the report.
#[derive(Debug, Clone, Args)]
pub(crate) struct PageArgs {
    /// Write the report as a page too, with plots; it needs nothing else and can be sent to anybody
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// How connections are opened.
#[derive(Debug, Clone, Args)]
pub(crate) struct OpenArgs {
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
    /// How long to measure: 30 or 30s, 500ms, 2m
    #[arg(long, value_name = "SECONDS", default_value = "10s", value_parser = some_time)]
    pub(crate) duration: Duration,
    /// How long to load before that
    #[arg(long, value_name = "SECONDS", default_value = "1s", value_parser = duration)]
    pub(crate) warmup: Duration,
    /// Publish as fast as this many outstanding deliveries allow (closed loop)
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) window: u64,
    /// Publish so many messages a second instead, however slow the cluster is; every latency counts from the moment a
    /// message was due (open loop)
    #[arg(long, value_name = "N", conflicts_with = "window", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Clients whose connection ends come back as phoenix.js does; what is published while one is away is counted as
    /// missed_while_away and not as lost
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Put the same load on a bare server first, which writes up to so many frames to a socket at once, and report what it
    /// costs there and the ratio
    #[arg(long, value_name = "FRAMES", num_args = 0..=1, default_missing_value = "8", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) floor: Option<u32>,
}

/// `bench fanout`
#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
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
    #[command(flatten)]
    pub(crate) page: PageArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
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
#[derive(Debug, Clone, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// How many connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,
    /// Members of a topic; every connection joins one topic
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) members: u32,
    /// How long to hold them before memory is read
    #[arg(long, value_name = "SECONDS", default_value = "5s", value_parser = duration)]
    pub(crate) hold: Duration,
    /// Open the same connections to a bare server first, and report what they cost there and the ratio
    #[arg(long)]
    pub(crate) floor: bool,
}

/// `bench storm`
#[derive(Debug, Clone, Args)]
pub(crate) struct StormArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// How many clients connect and join at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) clients: u32,
    /// Members of a topic; every client joins one topic
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) members: u32,
    /// How often all come at once; before every round but the first all are cut off
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: u32,
    /// How long to hold the connections after each round
    #[arg(long, value_name = "SECONDS", default_value = "1s", value_parser = duration)]
    pub(crate) hold: Duration,
    /// For all to be joined; a round without that ends here, as a failure
    #[arg(long, value_name = "SECONDS", default_value = "60s", value_parser = some_time)]
    pub(crate) deadline: Duration,
    /// Let the same storm break over a bare server first, and report what it costs there and the ratio
    #[arg(long)]
    pub(crate) floor: bool,
}

/// `bench resume`
#[derive(Debug, Clone, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// How many clients are cut off and come back
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) clients: u32,
    /// How many topics they are spread over; every client joins one
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) topics: u32,
    /// Messages published to each topic while all are away
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) missed: u64,
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = payload_bytes)]
    pub(crate) payload: usize,
    /// For all to be back with all they missed; whoever is not then is a failure
    #[arg(long, value_name = "SECONDS", default_value = "60s", value_parser = some_time)]
    pub(crate) deadline: Duration,
}

/// The part of the clients that one process is.
#[derive(Debug, Clone, Args)]
pub(crate) struct PartArgs {
    /// The number of its first client
    #[arg(long)]
    pub(crate) first: u32,
    /// How many clients
    #[arg(long)]
    pub(crate) count: u32,
    /// Members of a topic
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) members: u32,
    /// What tells this run's topics from others
    #[arg(long)]
    pub(crate) run: u32,
}

/// `bench idle-worker`
#[derive(Debug, Args)]
pub(crate) struct IdleWorkerArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) part: PartArgs,
}

/// `bench storm-worker`
#[derive(Debug, Args)]
pub(crate) struct StormWorkerArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) part: PartArgs,
    /// How long a round may take
    #[arg(long)]
    pub(crate) deadline_ms: u64,
}

/// `bench floor-server`
#[derive(Debug, Args)]
pub(crate) struct FloorServerArgs {
    /// Frames written to a socket at once, at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) frames: u32,
}

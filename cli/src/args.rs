//! The command line: what a person can type.
//!
//! It promises that every flag of a role is a setting of the same name (`--rpc-listen` is `rpc_listen`), so that flag,
//! environment variable and configuration file can never drift apart. *Invariant:* nothing has a default here; the
//! defaults are in [`crate::settings`], where flag, variable and file have met.
//! Leaves out: doing anything.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use ringcast_proto::{NodeId, Topic};
use serde::{Deserialize, Serialize};

use crate::bench::BenchCommand;
use crate::commands::conn::ConnCommand;
use crate::commands::node::NodeCommand;
use crate::commands::ring::RingCommand;
use crate::settings::ENV_PREFIX;

/// A realtime pub/sub cluster that speaks the Phoenix Channels protocol.
#[derive(Debug, Parser)]
#[command(
    name = "ringcast",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the help of every command lists the flags that all have, apart from its own.
const EVERYWHERE: &str = "Options of every command";

/// Flags that stand before or after the subcommand.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Global {
    /// The ring store: http://HOST:PORT is a coordinator [default: http://127.0.0.1:7700]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// A TOML file with settings; environment variables and flags win over it
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// What to print: tables for people, or one JSON value [default: table]
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
    /// Which logs to write, as RUST_LOG has it, e.g. info or ringcast_gateway=debug [default: info for roles, else warn]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How to write logs; they go to stderr [default: text]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// What stdout gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutputFormat {
    /// Tables and sentences for people.
    Table,
    /// One JSON value.
    Json,
}

/// What stderr gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Which set of limits holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitsProfile {
    /// Rates for people at keyboards.
    Default,
    /// Every rate lifted, every size and bound kept.
    Bench,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole real cluster in one process, with its store in memory
    Dev(DevArgs),
    /// Run the ring store: records, leases and a watch, kept in one file
    Coordinator(CoordinatorArgs),
    /// Run a topic server: it owns slots, and the topics in them
    TopicServer(TopicServerArgs),
    /// Run a gateway: clients connect to it
    Gateway(GatewayArgs),
    /// Who owns what, and how that is changed: plan, commit, watch, abort
    #[command(subcommand)]
    Ring(RingCommand),
    /// Look at the nodes; add, drain, remove, weigh a topic server
    #[command(subcommand)]
    Node(NodeCommand),
    /// Look at topics, listen in, publish
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Look at the clients' connections: who is slow, who is busy
    #[command(subcommand)]
    Conn(ConnCommand),
    /// Exit 0 if the node whose admin listener is at URL is ready, else 1 (for health checks)
    Health(HealthArgs),
    /// Load running gateways, and account for every message
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Look at a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// Flags of every role.
#[derive(Debug, Args, Serialize)]
pub(crate) struct RoleArgs {
    /// Where /healthz, /readyz and /metrics are served
    /// [default: coordinator 127.0.0.1:9300, topic-server 127.0.0.1:9200, gateway and dev 127.0.0.1:9100]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Which limits hold [default: default; dev: bench]
    #[arg(long, value_name = "PROFILE")]
    limits_profile: Option<LimitsProfile>,
    /// Threads that do the work, besides the few that mostly wait [default: one less than the cores]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct DevArgs {
    /// How many gateways [default: 2]
    #[arg(long, value_name = "N")]
    gateways: Option<u16>,
    /// How many topic servers [default: 3]
    #[arg(long, value_name = "N")]
    topic_servers: Option<u16>,
    /// Where the first gateway listens; the next ones take the next ports, port 0 takes any [default: 127.0.0.1:4000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the store listens [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    store_listen: Option<SocketAddr>,
    /// How many slots [default: 1024]
    #[arg(long, value_name = "N")]
    slots: Option<u16>,
    /// Copies of a slot; only 1 is possible yet [default: 1]
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    #[command(flatten)]
    #[serde(flatten)]
    role: RoleArgs,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct CoordinatorArgs {
    /// Where nodes reach the store [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The folder of its file; made if it is missing
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    role: RoleArgs,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct TopicServerArgs {
    /// Its name, unique in the cluster
    #[arg(long, value_name = "ID")]
    id: Option<NodeId>,
    /// Where gateways reach it [default: 127.0.0.1:7200]
    #[arg(long, value_name = "ADDRESS")]
    rpc_listen: Option<SocketAddr>,
    /// HOST:PORT under which gateways reach it [default: the address it listens on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The ring is born when so many topic servers have registered [default: after 2 s without a new one]
    #[arg(long, value_name = "N")]
    expect_topic_servers: Option<u16>,
    /// How many slots, fixed for ever when the ring is born [default: 1024]
    #[arg(long, value_name = "N")]
    slots: Option<u16>,
    /// Copies of a slot; only 1 is possible yet [default: 1]
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    /// How long to wait, when told to end, for the slots to be moved to other nodes; 0: not at all [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain_deadline: Option<u16>,
    #[command(flatten)]
    #[serde(flatten)]
    role: RoleArgs,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct GatewayArgs {
    /// Its name, unique in the cluster
    #[arg(long, value_name = "ID")]
    id: Option<NodeId>,
    /// Where clients connect [default: 127.0.0.1:4000]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where topic servers reach it [default: 127.0.0.1:7100]
    #[arg(long, value_name = "ADDRESS")]
    rpc_listen: Option<SocketAddr>,
    /// HOST:PORT under which topic servers reach it [default: the address it listens on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    role: RoleArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Topics that live
    Ls {
        /// Only topics that begin so
        #[arg(long, default_value = "")]
        prefix: String,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
    },
    /// Owner, epoch, offset, history, members by gateway
    Show {
        /// The topic
        #[arg(value_parser = topic)]
        topic: Topic,
    },
    /// Who is joined
    Members {
        /// The topic
        #[arg(value_parser = topic)]
        topic: Topic,
    },
    /// Print every publication from now on, until Ctrl-C
    Tap {
        /// The topic
        #[arg(value_parser = topic)]
        topic: Topic,
    },
    /// Publish through a gateway
    Publish {
        /// The topic
        #[arg(value_parser = topic)]
        topic: Topic,
        /// The event's name, 1 to 255 bytes
        #[arg(value_parser = event)]
        event: String,
        /// The payload, a JSON object
        #[arg(value_name = "JSON", value_parser = payload)]
        payload: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// http://HOST:PORT of an admin listener
    #[arg(value_parser = crate::commands::health::Target::parse)]
    pub(crate) url: crate::commands::health::Target,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print what the file sets, or everything that is wrong with it and where
    Check {
        /// The file
        file: PathBuf,
    },
}

pub(crate) fn topic(name: &str) -> Result<Topic, ringcast_proto::IdError> {
    Topic::parse(name.as_bytes())
}

fn event(name: &str) -> Result<String, String> {
    match name.len() {
        1..=255 => Ok(name.to_owned()),
        len => Err(format!("event of {len} bytes, must be 1 to 255")),
    }
}

fn payload(json: &str) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_str(json).map_err(|error| format!("no JSON: {error}"))?;
    if value.is_object() {
        Ok(json.to_owned())
    } else {
        Err("a payload is a JSON object, as {\"text\":\"hi\"}".to_owned())
    }
}

/// The command with every setting's environment variable in its help; most flags of commands are no settings. clap's own
/// `env` is not used, because a wrong value there would be reported as if it had been typed.
pub(crate) fn command() -> clap::Command {
    with_variables(Cli::command())
}

fn with_variables(command: clap::Command) -> clap::Command {
    let has_settings = matches!(
        command.get_name(),
        "ringcast" | "dev" | "coordinator" | "topic-server" | "gateway"
    );
    let command = command.mut_args(|arg| match arg.get_long() {
        Some(long) if has_settings && !matches!(long, "help" | "version") => {
            let variable = format!("{ENV_PREFIX}{}", long.replace('-', "_").to_uppercase());
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            arg.help(format!("{help} [env: {variable}]"))
        }
        _ => arg,
    });
    command.mut_subcommands(with_variables)
}

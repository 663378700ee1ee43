//! The binary `ringcast`: every role of a cluster, the whole cluster in one process, and the admin commands.
//!
//! It promises one answer on stdout, logs and progress on stderr, and exit codes: 0 done, 1 failed, 2 wrong usage.
//! *Invariant:* nothing about topics, slots or clients is decided here; this crate reads settings, binds what they
//! name, and prints what others answer.
//! Leaves out: everything else.

mod admin;
mod args;
mod bench;
mod cluster;
mod commands;
mod listen;
mod output;
mod roles;
mod settings;
mod shutdown;
mod telemetry;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::FromArgMatches;
use tokio_util::task::TaskTracker;

use args::{Cli, Command, ConfigCommand, OutputFormat, TopicCommand};
use bench::BenchCommand;
use cluster::Cluster;
use commands::conn::ConnCommand;
use commands::node::{Change, NodeCommand};
use commands::plans::Operator;
use commands::ring::RingCommand;
use output::Output;
use settings::{Environment, Flags, Settings};

/// What is still running this long after a role has ended is left behind; the process's end takes it.
const RUNTIME_DEADLINE: Duration = Duration::from_millis(200);
const STORE_DEFAULT: &str = "http://127.0.0.1:7700";

/// Many small things are made by one thread and let go of by another, which costs a fifth of all work with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
const LOGS_OF_ROLES: &str = "info";
const LOGS_OF_COMMANDS: &str = "warn";

/// The command line lacks something, or says what cannot be: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&args::command().get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// Does what was asked; `false` is an answer that is no success, as of `health`.
fn run(cli: Cli) -> Result<bool> {
    let environment = Environment::of_process();
    let flags = Flags::none().and(&cli.global);
    let config: Option<PathBuf> = cli
        .global
        .config
        .clone()
        .or_else(|| environment.config().map(PathBuf::from));
    let slips = environment.slips();
    let load = |flags| {
        settings::load(config.as_deref(), environment, flags).map_err(|errors| match errors.is_usage() {
            true => Usage(errors.to_string()).into(),
            false => anyhow::Error::new(errors).context("read the configuration"),
        })
    };
    match cli.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut args::command(), "ringcast", &mut std::io::stdout());
            Ok(true)
        }
        Command::Config(ConfigCommand::Check { file }) => commands::config::check(
            &file,
            Output::new(cli.global.output.unwrap_or(OutputFormat::Table)),
        ),
        Command::Dev(args) => role(load(flags.and(&args))?, &slips, roles::dev::run),
        Command::Coordinator(args) => role(load(flags.and(&args))?, &slips, roles::coordinator::run),
        Command::TopicServer(args) => role(load(flags.and(&args))?, &slips, roles::topic_server::run),
        Command::Gateway(args) => role(load(flags.and(&args))?, &slips, roles::gateway::run),
        Command::Bench(command) => bench(&command, &load(flags)?),
        command => admin(command, &load(flags)?),
    }
}

/// A thread a core but one. The kernel's part of every message, the lease and what else runs on the machine want a core
/// as well, and a thread more than there is work for takes work, and its caches, away from the others: on two cores a
/// second thread costs a quarter more CPU time a delivery while there is little to do.
fn threads_default() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

/// Runs a role until it ends or is told to.
fn role<F>(settings: Settings, slips: &[(String, String)], run: impl FnOnce(Settings) -> F) -> Result<bool>
where
    F: Future<Output = Result<()>>,
{
    telemetry::start_logs(&settings, LOGS_OF_ROLES)?;
    for (variable, meant) in slips {
        tracing::warn!(variable, "no such setting; did you mean {meant}?");
    }
    roles::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads.map_or_else(threads_default, usize::from))
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(run(settings));
    runtime.shutdown_timeout(RUNTIME_DEADLINE);
    ended.map(|()| true)
}

fn bench(command: &BenchCommand, settings: &Settings) -> Result<bool> {
    telemetry::start_logs(settings, LOGS_OF_COMMANDS)?;
    bench::run(
        command,
        Output::new(settings.output.unwrap_or(OutputFormat::Table)),
    )
}

fn admin(command: Command, settings: &Settings) -> Result<bool> {
    telemetry::start_logs(settings, LOGS_OF_COMMANDS)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let answer = runtime.block_on(ask(command, settings));
    runtime.shutdown_timeout(RUNTIME_DEADLINE);
    answer
}

async fn ask(command: Command, settings: &Settings) -> Result<bool> {
    let output = Output::new(settings.output.unwrap_or(OutputFormat::Table));
    if let Command::Health(args) = command {
        return commands::health::run(&args.url, output).await;
    }
    let cluster = Cluster::load(settings.store.as_deref().unwrap_or(STORE_DEFAULT)).await?;
    match command {
        Command::Ring(command) => return ring(cluster, command, output).await,
        Command::Node(command) => return node(cluster, command, output).await,
        Command::Topic(command) => match command {
            TopicCommand::Ls { prefix, limit } => {
                commands::topic::list(&cluster, &prefix, limit, output).await?
            }
            TopicCommand::Show { topic } => commands::topic::show(&cluster, &topic, output).await?,
            TopicCommand::Members { topic } => commands::topic::members(&cluster, &topic, output).await?,
            TopicCommand::Tap { topic } => {
                let token = shutdown::token(&TaskTracker::new())?;
                commands::topic::tap(&cluster, &topic, output, token).await?;
            }
            TopicCommand::Publish {
                topic,
                event,
                payload,
            } => {
                commands::topic::publish(&cluster, &topic, event, payload, output).await?;
            }
        },
        Command::Conn(ConnCommand::Top(args)) => {
            let interrupt = shutdown::token(&TaskTracker::new())?;
            return commands::conn::top(cluster, &args, output, interrupt).await;
        }
        Command::Health(_) | Command::Bench(_) | Command::Config(_) | Command::Completions { .. } => {
            unreachable!("answered before")
        }
        Command::Dev(_) | Command::Coordinator(_) | Command::TopicServer(_) | Command::Gateway(_) => {
            unreachable!("roles run in `role`")
        }
    }
    Ok(true)
}

async fn ring(cluster: Cluster, command: RingCommand, output: Output) -> Result<bool> {
    let interrupt = || shutdown::token(&TaskTracker::new());
    match command {
        RingCommand::Status => commands::ring::status(&cluster, output)?,
        RingCommand::Owner { topic } => commands::ring::owner(&cluster, &topic, output)?,
        RingCommand::Plan(args) => commands::ring::plan(cluster, &args, output, interrupt()?).await?,
        RingCommand::Commit { plan, no_wait } => {
            let operator = Operator::new(cluster, no_wait, interrupt()?);
            return commands::ring::commit(operator, plan, output).await;
        }
        RingCommand::Abort { no_wait } => {
            let operator = Operator::new(cluster, no_wait, interrupt()?);
            return commands::ring::abort(operator, output).await;
        }
        RingCommand::Watch { follow } => {
            commands::ring::watch(&cluster, follow, output, interrupt()?).await?;
        }
        RingCommand::History => commands::ring::history(&cluster, output)?,
    }
    Ok(true)
}

async fn node(cluster: Cluster, command: NodeCommand, output: Output) -> Result<bool> {
    let (change, no_wait) = match command {
        NodeCommand::Ls => return commands::node::ls(&cluster, output).map(|()| true),
        NodeCommand::Add { id, weight, no_wait } => (Change::Add { id, weight }, no_wait),
        NodeCommand::Drain { id, no_wait } => (Change::Drain { id }, no_wait),
        NodeCommand::Remove {
            id,
            dead,
            yes,
            no_wait,
        } => (Change::Remove { id, dead, yes }, no_wait),
        NodeCommand::Weight { id, weight, no_wait } => (Change::Weight { id, weight }, no_wait),
    };
    let operator = Operator::new(cluster, no_wait, shutdown::token(&TaskTracker::new())?);
    commands::node::change(operator, &change, output).await
}

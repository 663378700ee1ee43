//! `bench idle`: what a connection costs that has joined a topic and is quiet.
//!
//! The connections are held by other processes of this binary (`worker`), as many as the limit of open files asks for.
//! *Invariant:* what the servers had before the first connection is not counted.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::args::{IdleArgs, TargetArgs};
use super::progress::Progress;
use super::report::IdleReport;
use super::servers::{self, Named};
use super::worker::Said;
use super::{client, crowd, run_id};

/// For a worker to end once it is told to.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// A worker that connects says how far it is more often than this.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A process that holds connections. It ends when its stdin does, and with this process at the latest.
struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    process: Named,
    joined: u32,
}

/// Runs it.
pub(crate) async fn run(args: &IdleArgs) -> Result<IdleReport> {
    let target = &args.target;
    for url in &target.urls {
        client::connect(url).await?; // a wrong --url is told once, and not by every worker
    }
    let before = servers::sample(&target.pids)?;
    let started = Instant::now();
    let mut workers = start(args)?;
    let clients: Vec<Named> = workers.iter().map(|worker| worker.process.clone()).collect();
    join(&mut workers, args.connections).await?;
    let joining = started.elapsed();
    let joined = servers::sample(&target.pids)?;
    hold(args.hold).await;
    let held = servers::sample(&target.pids)?;
    let none = vec![None; clients.len()];
    let now = servers::sample(&clients)?;
    let mut client = servers::costs(&clients, &none, &now)?;
    for (cost, now) in client.iter_mut().zip(now) {
        cost.cpu_us = now.map(|sample| sample.cpu_us); // of its whole life
    }
    let mut closed = 0;
    for worker in workers {
        closed += worker.end().await?;
    }
    Ok(IdleReport::new(
        args,
        joining,
        servers::costs(&target.pids, &before, &joined)?,
        servers::costs(&target.pids, &before, &held)?,
        servers::costs(&target.pids, &joined, &held)?,
        client,
        closed,
    ))
}

fn start(args: &IdleArgs) -> Result<Vec<Worker>> {
    let count = args.connections.div_ceil(crowd::connections_max());
    let run = run_id();
    let mut first = 0;
    let mut workers = Vec::new();
    for index in 0..count {
        // As even as it goes: the first ones have one more.
        let connections = args.connections / count + u32::from(index < args.connections % count);
        let command = command(&args.target, first, connections, args.members, run)?;
        workers.push(Worker::start(index, command)?);
        first += connections;
    }
    Ok(workers)
}

fn command(target: &TargetArgs, first: u32, connections: u32, members: u32, run: u32) -> Result<Command> {
    let binary = std::env::current_exe().context("find the binary of this process")?;
    let mut command = Command::new(binary);
    command.args(["bench", "idle-worker", "--topic-prefix", &target.topic_prefix]);
    for url in &target.urls {
        command.args(["--url", &url.to_string()]);
    }
    for (flag, value) in [
        ("--concurrency", target.concurrency),
        ("--first", first),
        ("--connections", connections),
        ("--members", members),
        ("--run", run),
    ] {
        command.args([flag, &value.to_string()]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// Waits until every worker has joined all of its connections.
async fn join(workers: &mut [Worker], connections: u32) -> Result<()> {
    let progress = Progress::start("joining", connections.into());
    // One after another is soon enough: they join at the same time, and what a worker says waits in its pipe.
    let mut before = 0;
    for worker in workers {
        while !worker.listen().await? {
            progress.set(u64::from(before + worker.joined), String::new);
        }
        before += worker.joined;
    }
    Ok(())
}

async fn hold(time: Duration) {
    let progress = Progress::start("holding", time.as_secs());
    let started = Instant::now();
    while let Some(left) = time.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
        progress.set(started.elapsed().as_secs(), || "s".to_owned());
        tokio::time::sleep(left.min(Duration::from_millis(200))).await;
    }
}

impl Worker {
    fn start(index: u32, mut command: Command) -> Result<Worker> {
        let mut child = command.spawn().context("start a process for connections")?;
        let pid = child
            .id()
            .ok_or_else(|| anyhow!("a process for connections ended at once"))?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| anyhow!("a process for connections has no stdout"))?;
        Ok(Worker {
            child,
            lines: BufReader::new(stdout).lines(),
            process: Named {
                name: format!("client-{}", index + 1),
                pid,
            },
            joined: 0,
        })
    }

    /// Hears what it says next; `true` once all of its connections have joined.
    async fn listen(&mut self) -> Result<bool> {
        match self.said().await? {
            Said::Joining(joined) => {
                self.joined = joined;
                Ok(false)
            }
            Said::Joined(joined) => {
                self.joined = joined;
                Ok(true)
            }
            Said::Ended { .. } => bail!("a process for connections ended before it was told to"),
        }
    }

    /// Ends it; how many of its connections the servers had closed.
    async fn end(mut self) -> Result<u32> {
        drop(self.child.stdin.take());
        let closed = tokio::time::timeout(END_DEADLINE, async {
            loop {
                if let Said::Ended { closed } = self.said().await? {
                    return Ok(closed);
                }
            }
        });
        closed
            .await
            .map_err(|_| {
                anyhow!(
                    "a process for connections did not end in {} s",
                    END_DEADLINE.as_secs()
                )
            })
            .flatten()
    }

    async fn said(&mut self) -> Result<Said> {
        match tokio::time::timeout(SILENCE_MAX, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => {
                Said::parse(&line).ok_or_else(|| anyhow!("a process for connections said {line:?}"))
            }
            // It has said on stderr, which is also ours, why it ended.
            Ok(Ok(None)) => bail!("a process for connections failed"),
            Ok(Err(error)) => Err(error).context("listen to a process for connections"),
            Err(_) => bail!("no connection could be opened for {} s", SILENCE_MAX.as_secs()),
        }
    }
}

//! Other processes of this binary that hold connections, as many as the limit of open files asks for.
//!
//! *Invariant:* none outlives this process, and none is waited for without a deadline.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::args::TargetArgs;
use super::said::{RoundPart, Said, Told};
use super::servers::Named;
use super::{crowd, run_id};

/// For a worker to end, or to take what it is told.
const WORD_DEADLINE: Duration = Duration::from_secs(10);
/// A worker that connects says how far it is more often than this.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A process that holds connections. It ends when its stdin does, and with this process at the latest.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) process: Named,
    /// Of its connections.
    pub(crate) joined: u32,
}

/// Starts as many as `connections` need: `command`, with the flags of a target and of a part besides `flags`.
pub(crate) fn start(
    command: &str,
    target: &TargetArgs,
    connections: u32,
    members: u32,
    flags: &[(&str, String)],
) -> Result<Vec<Worker>> {
    let binary = std::env::current_exe().context("find the binary of this process")?;
    let count = connections.div_ceil(crowd::connections_max());
    let run = run_id();
    let mut first = 0;
    let mut workers = Vec::new();
    for index in 0..count {
        // As even as it goes: the first ones have one more.
        let share = connections / count + u32::from(index < connections % count);
        let mut process = Command::new(&binary);
        process.args(["bench", command, "--topic-prefix", &target.topic_prefix]);
        for url in &target.urls {
            process.args(["--url", &url.to_string()]);
        }
        for (flag, value) in [
            ("--first", first),
            ("--count", share),
            ("--members", members),
            ("--run", run),
        ] {
            process.args([flag, &value.to_string()]);
        }
        for (flag, value) in flags {
            process.args([flag, value.as_str()]);
        }
        workers.push(Worker::start(index, process)?);
        first += share;
    }
    Ok(workers)
}

impl Worker {
    fn start(index: u32, mut command: Command) -> Result<Worker> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start a process for connections")?;
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

    /// Waits until it can be told something.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        match self.said().await? {
            Said::Ready => Ok(()),
            said => Err(out_of_turn(&said)),
        }
    }

    /// Tells it something.
    pub(crate) async fn tell(&mut self, told: Told) -> Result<()> {
        let Some(stdin) = &mut self.child.stdin else {
            bail!("a process for connections has no stdin");
        };
        let line = format!("{}\n", told.line());
        match tokio::time::timeout(WORD_DEADLINE, stdin.write_all(line.as_bytes())).await {
            Ok(written) => written.context("tell a process for connections what to do"),
            Err(_) => bail!(
                "a process for connections did not listen for {} s",
                WORD_DEADLINE.as_secs()
            ),
        }
    }

    /// Hears how many have joined; `true` once no more will.
    pub(crate) async fn listen(&mut self) -> Result<bool> {
        match self.said().await? {
            Said::Joining(joined) => {
                self.joined = joined;
                Ok(false)
            }
            Said::Joined(joined) => {
                self.joined = joined;
                Ok(true)
            }
            said => Err(out_of_turn(&said)),
        }
    }

    /// Hears what became of its part of a round.
    pub(crate) async fn round(&mut self) -> Result<RoundPart> {
        self.tell(Told::Report).await?;
        match self.said().await? {
            Said::Round(part) => Ok(part),
            said => Err(out_of_turn(&said)),
        }
    }

    /// Ends it; how many of its connections the servers had closed.
    pub(crate) async fn end(mut self) -> Result<u32> {
        drop(self.child.stdin.take());
        let closed = tokio::time::timeout(WORD_DEADLINE, async {
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
                    WORD_DEADLINE.as_secs()
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

fn out_of_turn(said: &Said) -> anyhow::Error {
    match said {
        Said::Ended { .. } => anyhow!("a process for connections ended before it was told to"),
        _ => anyhow!("a process for connections spoke out of turn"),
    }
}

//! One process of the binary under test: started, signalled, watched, and always buried.
//!
//! *Invariant:* a process ends with the value that owns it, by SIGKILL if nothing gentler was asked for.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::wait;

/// The binary under test: `RINGCAST_BIN`, or the one cargo built beside this test.
///
/// # Errors
/// There is none; says how to build it.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("RINGCAST_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("RINGCAST_BIN is {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let test = std::env::current_exe().context("find the test's own executable")?;
    // target/PROFILE/deps/TEST-HASH
    let profile = test
        .parent()
        .and_then(Path::parent)
        .context("a test executable lies in target/PROFILE/deps")?;
    let path = profile.join(format!("ringcast{}", std::env::consts::EXE_SUFFIX));
    if !path.is_file() {
        bail!(
            "{} is missing: run `cargo build -p ringcast-cli` first, or set RINGCAST_BIN",
            path.display()
        );
    }
    Ok(path)
}

/// The binary with these arguments and nothing of the test run's own `RINGCAST_*` variables.
///
/// # Errors
/// There is no binary.
pub fn command<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGCAST_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// A running process and its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    arguments: Vec<String>,
    descriptors_max: Option<u32>,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts the binary; what it prints is appended to `folder/NAME.log`.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(name: &str, folder: &Path, arguments: Vec<String>) -> Result<Process> {
        Process::start_limited(name, folder, arguments, None)
    }

    /// As [`Process::start`], with at most so many open files.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start_limited(
        name: &str,
        folder: &Path,
        arguments: Vec<String>,
        descriptors_max: Option<u32>,
    ) -> Result<Process> {
        let log = folder.join(format!("{name}.log"));
        let child = spawn(&log, &arguments, descriptors_max).with_context(|| format!("start {name}"))?;
        Ok(Process {
            name: name.to_owned(),
            arguments,
            descriptors_max,
            child,
            log,
            ended: None,
        })
    }

    /// Starts it again with the same arguments; it must have ended.
    ///
    /// # Errors
    /// It still runs, or could not be started.
    pub fn start_again(&mut self) -> Result<()> {
        if self.exit_status()?.is_none() {
            bail!("{} still runs", self.name);
        }
        self.child = spawn(&self.log, &self.arguments, self.descriptors_max)
            .with_context(|| format!("start {} again", self.name))?;
        self.ended = None;
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SIGKILL, and waits until it is gone: nothing is flushed, no lease is released.
    ///
    /// # Errors
    /// It had ended before.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(status) = self.exit_status()? {
            bail!("{} had ended before it was killed: {status}", self.name);
        }
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.ended = Some(self.child.wait().with_context(|| format!("bury {}", self.name))?);
        Ok(())
    }

    /// SIGTERM, and waits at most `deadline` for its end.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<(ExitStatus, Duration)> {
        self.signal(Signal::TERM)?;
        self.wait_for_exit(deadline).await
    }

    /// Waits at most `deadline` for its end.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn wait_for_exit(&mut self, deadline: Duration) -> Result<(ExitStatus, Duration)> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, deadline, async || {
            self.exit_status()?.context("it still runs")
        })
        .await
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Stops it as it stands: sockets open, nothing answered.
    ///
    /// # Errors
    /// It is gone.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It is gone.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not know it.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self
                .child
                .try_wait()
                .with_context(|| format!("look after {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// How much of its memory is resident, in bytes. Linux only.
    ///
    /// # Errors
    /// It is gone, or the system does not tell.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = self.told("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(1024 * kib.with_context(|| format!("no VmRSS of {} in {status}", self.name))?)
    }

    /// How long it has been on a processor, all its threads together, in steps of 10 ms. Linux only.
    ///
    /// # Errors
    /// It is gone, or the system does not tell.
    pub fn cpu_time(&self) -> Result<Duration> {
        /// Linux counts in hundredths of a second towards programs, whatever it does within.
        const TICK: Duration = Duration::from_millis(10);
        let stat = self.told("stat")?;
        // The name, in brackets, may hold anything; after it come the state, and as 12th and 13th the two times.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: Option<u32> = times.map(|ticks| ticks.parse::<u32>().ok()).sum();
        Ok(TICK * ticks.with_context(|| format!("no times of {} in {stat}", self.name))?)
    }

    fn told(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("read {path} of {}", self.name))
    }

    /// Everything it has printed in all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself in this moment, which is what is wanted.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn spawn(log: &Path, arguments: &[String], descriptors_max: Option<u32>) -> Result<Child> {
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .context("open its log")?;
    let mut command = command(arguments)?;
    if let Some(limit) = descriptors_max {
        let mut limited = Command::new("sh");
        let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        limited
            .args(["-c", &script])
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if value.is_none() {
                limited.env_remove(name);
            }
        }
        command = limited;
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share its log")?)
        .stderr(log);
    command.spawn().context("spawn")
}

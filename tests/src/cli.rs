//! The command line as a script sees it: exit code, stdout, stderr.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

/// How long a command may take that waits for nothing.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// 0 done, 1 failed, 2 usage.
    pub code: i32,
    /// One JSON value with `-o json`.
    pub stdout: String,
    /// Progress, logs, errors.
    pub stderr: String,
}

impl Output {
    /// Its stdout, which must be exactly one JSON value of a command that succeeded.
    ///
    /// # Errors
    /// The command failed or printed something else.
    pub fn json(&self) -> Result<Value> {
        if self.code != 0 {
            bail!("exit code {}: {}", self.code, self.stderr);
        }
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("stdout is no JSON value: {:?}", self.stdout))
    }
}

/// Runs `ringcast ARGUMENTS...` to its end.
///
/// # Errors
/// It could not be run or did not end.
pub async fn run<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Result<Output> {
    run_within(arguments, DEADLINE).await
}

/// The same for a command that has this long.
///
/// # Errors
/// It could not be run or did not end.
pub async fn run_within<S: AsRef<std::ffi::OsStr>>(arguments: &[S], deadline: Duration) -> Result<Output> {
    let names: Vec<_> = arguments
        .iter()
        .map(|argument| argument.as_ref().to_string_lossy())
        .collect();
    let named = format!("ringcast {}", names.join(" "));
    let mut command = tokio::process::Command::from(process::command(arguments)?);
    let run = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(deadline, run).await;
    let output = output
        .with_context(|| format!("{named}: no end in {deadline:?}"))?
        .context(named.clone())?;
    Ok(Output {
        code: output
            .status
            .code()
            .with_context(|| format!("{named}: ended by a signal"))?,
        stdout: String::from_utf8(output.stdout).with_context(|| format!("{named}: stdout is no UTF-8"))?,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

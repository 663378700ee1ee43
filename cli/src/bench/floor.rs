//! The floor: what the same work costs a bare server that does nothing but the work, measured in the same run.
//!
//! It promises that the floor is loaded by the same generator, with the same window or rate, just before the cluster is, so
//! that their ratio says more than a figure of one machine at one time can.
//! Leaves out: everything a cluster is for. The floor has one thread, no bounds, no history and no second node.

mod server;

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) use server::run;

use super::args::TargetArgs;
use super::servers::Named;
use super::url::Url;

/// Frames a write, where nothing is published.
pub(crate) const PLAIN: u32 = 1;

/// For the process to listen.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// A floor server, which ends with this process at the latest.
#[derive(Debug)]
pub(crate) struct Floor {
    /// Its stdin keeps it alive.
    _child: Child,
    url: Url,
    process: Named,
}

impl Floor {
    /// Starts one.
    pub(crate) async fn start(frames_per_write: u32) -> Result<Floor> {
        let binary = std::env::current_exe().context("find the binary of this process")?;
        let mut child = Command::new(binary)
            .args(["bench", "floor-server", "--frames", &frames_per_write.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the floor server")?;
        let pid = child.id().context("the floor server ended at once")?;
        let stdout = child.stdout.take().context("the floor server has no stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let port = tokio::time::timeout(START_DEADLINE, lines.next_line())
            .await
            .context("the floor server does not say where it listens")??;
        let Some(url) = port.and_then(|port| Url::parse(&format!("ws://127.0.0.1:{port}")).ok()) else {
            bail!("the floor server ended before it listened");
        };
        let process = Named {
            name: "floor".to_owned(),
            pid,
        };
        Ok(Floor {
            _child: child,
            url,
            process,
        })
    }

    /// The same load, on this.
    pub(crate) fn target(&self, target: &TargetArgs) -> TargetArgs {
        TargetArgs {
            urls: vec![self.url.clone()],
            pids: vec![self.process.clone()],
            ..target.clone()
        }
    }
}

/// What the cluster costs, over what the floor costs; `None` if either is not known, or the floor is nothing.
pub(crate) fn ratio(cluster: Option<f64>, floor: Option<f64>) -> Option<f64> {
    cluster
        .zip(floor)
        .filter(|(_, floor)| *floor > 0.0)
        .map(|(cluster, floor)| cluster / floor)
}

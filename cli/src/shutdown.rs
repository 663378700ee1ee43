//! Ctrl-C and SIGTERM.

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A token that the first Ctrl-C or SIGTERM cancels. The second one ends the process at once.
pub(crate) fn token(tasks: &TaskTracker) -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut signals = Signals::new()?;
    let cancelled = token.clone();
    tasks.spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        cancelled.cancel();
        signals.next().await;
        std::process::exit(130); // a person who asks twice does not want to wait
    });
    Ok(token)
}

struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",  // a supervisor ends the process
            _ = self.interrupt.recv() => "SIGINT",   // Ctrl-C
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {})
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await; // no signals here: the process ends when its parent ends it
        }
        "Ctrl-C"
    }
}

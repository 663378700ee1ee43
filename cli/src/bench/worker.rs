//! `bench idle-worker`: one process that holds a part of the connections of `bench idle`.
//!
//! It speaks a line at a time on stdout ([`Said`]) and ends when its stdin does, so that none is left behind.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::args::WorkerArgs;
use super::wire::Plan;
use super::{client, crowd};
use crate::output;

/// How often a worker that connects says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// A line of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// So many have joined.
    Joining(u32),
    /// All have, and are so many.
    Joined(u32),
    /// The end, up to which the servers had closed so many.
    Ended {
        /// How many.
        closed: u32,
    },
}

impl Said {
    /// Reads a line.
    pub(crate) fn parse(line: &str) -> Option<Said> {
        let (what, count) = line.split_once(' ')?;
        let count = count.parse().ok()?;
        match what {
            "joining" => Some(Said::Joining(count)),
            "joined" => Some(Said::Joined(count)),
            "ended" => Some(Said::Ended { closed: count }),
            _ => None,
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Said::Joining(count) => write!(f, "joining {count}"),
            Said::Joined(count) => write!(f, "joined {count}"),
            Said::Ended { closed } => write!(f, "ended {closed}"),
        }
    }
}

/// Connects, joins, holds.
pub(crate) async fn run(args: &WorkerArgs) -> Result<()> {
    let plan = Plan {
        run: args.run,
        prefix: args.target.topic_prefix.clone(),
        payload_bytes: 0,
    };
    let urls = args.target.urls.clone();
    let (first, members) = (args.first, args.members.max(1));
    let open = async move |index: u32| {
        let connection = first + index;
        let (mut receiver, mut sender) = client::connect(&urls[connection as usize % urls.len()]).await?;
        client::join(&mut receiver, &mut sender, &plan.topic(connection / members)).await?;
        Ok((receiver, sender))
    };
    let said_at = Cell::new(Instant::now());
    let opened = crowd::make(args.connections, args.target.concurrency, open, move |joined| {
        if said_at.get().elapsed() >= SAY_EVERY {
            said_at.set(Instant::now());
            // Nobody listens any more: then stdin has ended too, and so will this process.
            output::line(&Said::Joining(joined).to_string()).ok();
        }
    })
    .await?;
    let closed = Rc::new(Cell::new(0));
    let mut tasks = JoinSet::new();
    let mut senders = Vec::with_capacity(opened.len());
    for (mut receiver, sender) in opened {
        senders.push(Rc::new(sender));
        let closed = Rc::clone(&closed);
        tasks.spawn_local(async move {
            while receiver.receive(|_| {}).await.is_ok() {}
            closed.set(closed.get() + 1);
        });
    }
    tasks.spawn_local(async move { match crowd::keep_alive(senders).await {} });
    output::line(&Said::Joined(args.connections).to_string())?;
    stdin_ended().await;
    output::line(&Said::Ended { closed: closed.get() }.to_string())
}

/// Waits on a thread of its own, as a read of stdin cannot be cancelled.
async fn stdin_ended() {
    let (ended, wait) = oneshot::channel();
    std::thread::spawn(move || {
        std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).ok();
        ended.send(()).ok();
    });
    wait.await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_understood() {
        for said in [Said::Joining(1), Said::Joined(20), Said::Ended { closed: 3 }] {
            assert_eq!(Said::parse(&said.to_string()), Some(said));
        }
        assert_eq!(Said::parse("panicked at 7"), None);
        assert_eq!(Said::parse("joined many"), None);
    }
}

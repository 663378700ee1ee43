//! `bench idle-worker`: one process that holds a part of the connections of `bench idle`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::args::IdleWorkerArgs;
use super::crowd::{self, Senders};
use super::entry::Entry;
use super::frames::Frame;
use super::said::{Said, lines_of_stdin};
use super::url::Url;
use super::wire::{self, Plan};
use crate::output;

/// How often a worker that connects says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// Connects, joins, holds, until its stdin ends.
pub(crate) async fn run(args: &IdleWorkerArgs) -> Result<()> {
    let plan = Plan::of_joins(args.part.run, &args.target.topic_prefix);
    let urls: Rc<[Url]> = args.target.urls.clone().into();
    let (first, members, count) = (args.part.first, args.part.members, args.part.count);
    let open = async move |index: u32| {
        let connection = first + index;
        let topic = plan.topic(connection / members);
        let entry = Entry::new(Rc::clone(&urls), connection, vec![topic]);
        entry
            .once()
            .await
            .with_context(|| format!("join at {}", entry.url()))
    };
    let said_at = Cell::new(Instant::now());
    let opened = crowd::make(count, args.open.concurrency, open, move |joined| {
        if said_at.get().elapsed() >= SAY_EVERY {
            said_at.set(Instant::now());
            // Nobody listens any more: then stdin has ended too, and so will this process.
            output::line(&Said::Joining(joined).to_string()).ok();
        }
    })
    .await?;
    let closed = Rc::new(Cell::new(0));
    let mut tasks = JoinSet::new();
    let senders = Senders::new(count);
    for (index, (mut receiver, sender)) in (0..).zip(opened) {
        senders.set(index, sender);
        let (senders, closed) = (senders.clone(), Rc::clone(&closed));
        tasks.spawn_local(async move {
            let mut ended = false;
            let mut stands = true;
            while stands && !ended {
                let received = receiver.receive(|frame| match frame {
                    Frame::Message(message) => ended |= wire::channel_end(message).is_some(),
                    Frame::Ping(payload) => senders.pong(index, payload),
                    Frame::Pong | Frame::Close(..) => {}
                });
                stands = received.await.is_ok();
            }
            closed.set(closed.get() + 1);
        });
    }
    tasks.spawn_local(async move { match crowd::keep_alive(senders).await {} });
    output::line(&Said::Joined(count).to_string())?;
    let mut lines = lines_of_stdin();
    while lines.recv().await.is_some() {}
    output::line(&Said::Ended { closed: closed.get() }.to_string())
}

//! `bench storm-worker`: one process that is a part of the clients of `bench storm`.
//!
//! *Invariant:* each client of a round is counted once when it first joins, and every end and failure each time.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::args::StormWorkerArgs;
use super::client::{Error, Receiver};
use super::crowd::{self, Senders};
use super::entry::Entry;
use super::frames::Frame;
use super::said::{RoundPart, Said, Told, lines_of_stdin};
use super::url::Url;
use super::wire::{self, Plan};
use crate::output;

/// How often a worker says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// What all clients of this process share.
#[derive(Debug)]
struct Storm {
    count: u32,
    started: Cell<Instant>,
    /// The round takes no more joins.
    over: Cell<bool>,
    joined: Cell<u32>,
    all_joined: Notify,
    part: RefCell<RoundPart>,
}

/// Comes whenever it is told to, until its stdin ends.
pub(crate) async fn run(args: &StormWorkerArgs) -> Result<()> {
    let plan = Plan::of_joins(args.part.run, &args.target.topic_prefix);
    let urls: Rc<[Url]> = args.target.urls.clone().into();
    let storm = Rc::new(Storm {
        count: args.part.count,
        started: Cell::new(Instant::now()),
        over: Cell::new(true),
        joined: Cell::new(0),
        all_joined: Notify::new(),
        part: RefCell::default(),
    });
    let senders = Senders::new(args.part.count);
    let (come, round) = watch::channel(0_u32);
    let mut tasks = JoinSet::new();
    for index in 0..args.part.count {
        let number = args.part.first + index;
        let client = Client {
            index,
            entry: Entry::new(
                Rc::clone(&urls),
                number,
                vec![plan.topic(number / args.part.members)],
            ),
            storm: Rc::clone(&storm),
            senders: senders.clone(),
        };
        tasks.spawn_local(client.run(round.clone()));
    }
    drop(round);
    tasks.spawn_local(async move { match crowd::keep_alive(senders).await {} });
    let mut lines = lines_of_stdin();
    output::line(&Said::Ready.to_string())?;
    while let Some(line) = lines.recv().await {
        match Told::parse(&line) {
            Some(Told::Come) => {
                storm.begin();
                come.send_modify(|round| *round += 1);
                let joined = tokio::select! {
                    biased;
                    joined = storm.joined(Duration::from_millis(args.deadline_ms)) => joined?, // all, or it is too late
                    _ = lines.recv() => break, // the process that started this one has ended
                };
                output::line(&Said::Joined(joined).to_string())?;
            }
            Some(Told::Report) => {
                let part = storm.part.take();
                output::line(&Said::Round(part).to_string())?;
            }
            None => bail!("told {line:?}, which means nothing"),
        }
    }
    output::line(&Said::Ended { closed: 0 }.to_string())
}

impl Storm {
    fn begin(&self) {
        self.part.take();
        self.joined.set(0);
        self.over.set(false);
        self.started.set(Instant::now());
    }

    /// Waits until all have joined, and says meanwhile how many have; how many these are in the end.
    async fn joined(&self, deadline: Duration) -> Result<u32> {
        while self.joined.get() < self.count && self.started.get().elapsed() < deadline {
            let left = deadline.saturating_sub(self.started.get().elapsed());
            let waited = tokio::time::timeout(left.min(SAY_EVERY), self.all_joined.notified()).await;
            if waited.is_err() {
                output::line(&Said::Joining(self.joined.get()).to_string())?;
            }
        }
        self.over.set(true);
        Ok(self.joined.get())
    }

    fn join(&self, first: bool) {
        self.joined.set(self.joined.get() + 1);
        if first && !self.over.get() {
            let ns = u64::try_from(self.started.get().elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.part.borrow_mut().join_ns.push(ns);
        }
        if self.joined.get() == self.count {
            self.all_joined.notify_one();
        }
    }

    fn close(&self, error: &Error) {
        self.joined.set(self.joined.get().saturating_sub(1));
        self.part.borrow_mut().closed.count(&error.to_string());
    }
}

/// One client.
#[derive(Debug)]
struct Client {
    index: u32,
    entry: Entry,
    storm: Rc<Storm>,
    senders: Senders,
}

impl Client {
    /// Comes in every round, and comes back when the server closes.
    async fn run(self, mut round: watch::Receiver<u32>) {
        let mut was_in = false;
        if round.changed().await.is_err() {
            return;
        }
        loop {
            let changed = tokio::select! {
                biased;
                changed = round.changed() => changed,     // the next round, or none any more
                never = self.come(was_in) => match never {},
            };
            self.senders.cut(self.index);
            if changed.is_err() {
                return;
            }
            was_in = true;
        }
    }

    async fn come(&self, mut was_in: bool) -> Infallible {
        let mut first = true;
        loop {
            let failed = |error: &Error| {
                let reason = error.to_string();
                self.storm.part.borrow_mut().failures.count(&reason);
            };
            let (mut receiver, sender) = self.entry.insist(was_in, failed, |_| {}).await;
            receiver.end_abruptly();
            self.senders.set(self.index, sender);
            self.storm.join(first);
            let error = self.hold(&mut receiver).await;
            self.senders.clear(self.index);
            self.storm.close(&error);
            (first, was_in) = (false, true);
        }
    }

    async fn hold(&self, receiver: &mut Receiver) -> Error {
        let mut ended = None;
        loop {
            let received = receiver
                .receive(|frame| match frame {
                    Frame::Message(message) => ended = ended.or(wire::channel_end(message)),
                    Frame::Ping(payload) => self.senders.pong(self.index, payload),
                    Frame::Pong | Frame::Close(..) => {}
                })
                .await;
            match (received, ended) {
                (Err(error), _) => return error,
                (Ok(()), Some(end)) => return Error::ChannelEnded(end),
                (Ok(()), None) => {}
            }
        }
    }
}

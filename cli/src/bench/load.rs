//! `bench fanout` and `bench topics`: subscribers that account for every message, and publishers that keep them busy.
//!
//! *Invariant:* rates, latencies and costs are those of the measured time, from its first to its last moment; the
//! accounting is that of the whole run, from the first publish until nothing more comes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::args::{LoadArgs, TargetArgs};
use super::client::{self, MASK, Receiver};
use super::frames::{self, Frame};
use super::progress::Progress;
use super::publisher::{self, Outgoing, Publishers};
use super::report::LoadReport;
use super::servers::{self, Named};
use super::tally::Tally;
use super::wire::{self, Expected, Plan};
use super::{crowd, run_id};
use crate::Usage;

/// A gateway lets a connection join so many.
const TOPICS_PER_PUBLISHER_MAX: u32 = 100;

/// After the last publish, deliveries are waited for until none came for so long.
const DRAIN: Duration = Duration::from_secs(2);
/// And no longer than this.
const DRAIN_MAX: Duration = Duration::from_secs(30);
const DRAIN_STEP: Duration = Duration::from_millis(20);

/// Who there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) scenario: &'static str,
    pub(crate) topics: u32,
    /// Of each topic.
    pub(crate) subscribers: u32,
    pub(crate) publishers: u32,
}

/// What all tasks of a run share; all are on one thread.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) tally: RefCell<Tally>,
    /// The window may have room again.
    pub(crate) room: Notify,
    /// It has when no more than this is outstanding.
    pub(crate) wake_below: Cell<u64>,
    start: Instant,
}

impl State {
    /// Since the start.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Runs it.
pub(crate) async fn run(shape: Shape, target: &TargetArgs, load: &LoadArgs) -> Result<LoadReport> {
    check(shape)?;
    servers::sample(&target.pids)?; // a wrong --pid is told before the work
    let plan = Plan {
        run: run_id(),
        prefix: target.topic_prefix.clone(),
        payload_bytes: load.payload,
    };
    let state = Rc::new(State {
        plan,
        tally: RefCell::new(Tally::new(shape.topics, shape.subscribers)),
        room: Notify::new(),
        wake_below: Cell::new(0),
        start: Instant::now(),
    });
    let mut tasks = JoinSet::new();
    let alive = subscribe(shape, target, &state, &mut tasks).await?;
    tasks.spawn_local(async move { match crowd::keep_alive(alive).await {} });
    let connections = open_publishers(shape, target, &state, &mut tasks).await?;
    let publishers = Publishers::new(Rc::clone(&state), connections, shape.topics);
    let measured = async {
        tokio::select! {
            biased;
            measured = measure(target, load, &state) => measured, // the time is over
            never = async {
                match load.rate {
                    Some(rate) => publishers.open_loop(rate).await,
                    None => publishers.closed_loop(load.window, shape.subscribers.into()).await,
                }
            } => match never {},
        }
    };
    let measured = measured.await?;
    drain(&state).await;
    Ok(LoadReport::new(
        shape,
        target,
        load,
        &state.tally.borrow(),
        measured,
    ))
}

fn check(shape: Shape) -> Result<()> {
    let connections = u64::from(shape.topics) * u64::from(shape.subscribers) + u64::from(shape.publishers);
    let max = crowd::connections_max();
    if connections > u64::from(max) {
        return Err(Usage(format!(
            "{connections} connections are more than the {max} this process may have, and deliveries are counted by one"
        ))
        .into());
    }
    let each = shape.topics.div_ceil(shape.publishers);
    if each > TOPICS_PER_PUBLISHER_MAX {
        return Err(Usage(format!(
            "{} topics over {} publishers are {each} a connection, which may join {TOPICS_PER_PUBLISHER_MAX}: give at \
             least --publishers {}",
            shape.topics,
            shape.publishers,
            shape.topics.div_ceil(TOPICS_PER_PUBLISHER_MAX)
        ))
        .into());
    }
    Ok(())
}

/// What was measured between two moments.
pub(crate) struct Measured {
    pub(crate) elapsed: Duration,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) latency_ns: super::histogram::Histogram,
    pub(crate) servers: Vec<servers::Cost>,
    pub(crate) client: Vec<servers::Cost>,
}

async fn measure(target: &TargetArgs, load: &LoadArgs, state: &State) -> Result<Measured> {
    let myself = [Named::myself()];
    tokio::time::sleep(load.warmup).await;
    let (servers_before, client_before) = (servers::sample(&target.pids)?, servers::sample(&myself)?);
    let started = Instant::now();
    let (published, delivered) = {
        let mut tally = state.tally.borrow_mut();
        tally.start_latencies();
        (tally.published(), tally.delivered())
    };
    let progress = Progress::start("measuring", load.duration.as_secs());
    while let Some(left) = load
        .duration
        .checked_sub(started.elapsed())
        .filter(|left| !left.is_zero())
    {
        progress.set(started.elapsed().as_secs(), || {
            let now = state.tally.borrow().delivered() - delivered;
            format!(
                "s, {:.0} deliveries/s",
                now as f64 / started.elapsed().as_secs_f64()
            )
        });
        tokio::time::sleep(left.min(Duration::from_millis(200))).await;
    }
    let elapsed = started.elapsed();
    let mut tally = state.tally.borrow_mut();
    let (servers_after, client_after) = (
        servers::sample(&target.pids).context("at the end of the measurement")?,
        servers::sample(&myself)?,
    );
    Ok(Measured {
        elapsed,
        published: tally.published() - published,
        delivered: tally.delivered() - delivered,
        latency_ns: tally.take_latencies(),
        servers: servers::costs(&target.pids, &servers_before, &servers_after)?,
        client: servers::costs(&myself, &client_before, &client_after)?,
    })
}

/// Waits for what is still to come.
async fn drain(state: &State) {
    let (mut delivered, mut since) = (state.tally.borrow().delivered(), Instant::now());
    let started = Instant::now();
    // What was given up may still come, so this asks for more than `outstanding`: a last look after a quiet step.
    while started.elapsed() < DRAIN_MAX && since.elapsed() < DRAIN {
        tokio::time::sleep(DRAIN_STEP).await;
        let tally = state.tally.borrow();
        if tally.delivered() != delivered {
            (delivered, since) = (tally.delivered(), Instant::now());
        } else if tally.outstanding() == 0 {
            return;
        }
    }
}

async fn subscribe(
    shape: Shape,
    target: &TargetArgs,
    state: &Rc<State>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<Rc<OwnedWriteHalf>>> {
    let count = shape.topics * shape.subscribers;
    let progress = Progress::start("subscribers", count.into());
    let (urls, plan) = (target.urls.clone(), state.plan.clone());
    let open = async move |index: u32| {
        let (mut receiver, mut sender) = client::connect(&urls[index as usize % urls.len()]).await?;
        client::join(&mut receiver, &mut sender, &plan.topic(index / shape.subscribers)).await?;
        Ok((receiver, sender))
    };
    let opened = crowd::make(count, target.concurrency, open, move |done| {
        progress.set(done.into(), String::new);
    })
    .await?;
    let mut senders = Vec::with_capacity(opened.len());
    for (index, (receiver, sender)) in (0_u32..).zip(opened) {
        let sender = Rc::new(sender);
        senders.push(Rc::clone(&sender));
        let expected = state.plan.expected(index / shape.subscribers);
        let state = Rc::clone(state);
        tasks.spawn_local(async move {
            let error = receive(receiver, &sender, index, &expected, &state).await;
            state.tally.borrow_mut().close(format!("{error:#}"));
        });
    }
    Ok(senders)
}

/// Counts what a subscriber receives, to the end of its connection.
async fn receive(
    mut receiver: Receiver,
    sender: &OwnedWriteHalf,
    index: u32,
    expected: &Expected,
    state: &State,
) -> anyhow::Error {
    loop {
        let mut now_ns = None;
        let received = receiver
            .receive(|frame| match frame {
                Frame::Message(message) => {
                    let now_ns = *now_ns.get_or_insert_with(|| state.now_ns());
                    let mut tally = state.tally.borrow_mut();
                    match expected.read(message) {
                        Some(delivery) => tally.receive(index, delivery, now_ns),
                        None if wire::is_heartbeat_reply(message) => {}
                        None => tally.misroute(),
                    }
                }
                Frame::Ping(payload) => {
                    let mut out = Vec::new();
                    frames::pong(payload, MASK, &mut out);
                    sender.try_write(&out).ok(); // a pong may be left out when the next one is on its way
                }
                Frame::Pong | Frame::Close(..) => {}
            })
            .await;
        if state.tally.borrow().outstanding() <= state.wake_below.get() {
            state.room.notify_one();
        }
        if let Err(error) = received {
            return error;
        }
    }
}

async fn open_publishers(
    shape: Shape,
    target: &TargetArgs,
    state: &Rc<State>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<Rc<Outgoing>>> {
    let (urls, plan) = (target.urls.clone(), state.plan.clone());
    let open = async move |index: u32| {
        let (mut receiver, mut sender) = client::connect(&urls[index as usize % urls.len()]).await?;
        for topic in (index..shape.topics).step_by(shape.publishers as usize) {
            client::join(&mut receiver, &mut sender, &plan.topic(topic)).await?;
        }
        Ok((receiver, sender))
    };
    let opened = crowd::make(shape.publishers, target.concurrency, open, |_| {}).await?;
    let mut connections = Vec::with_capacity(opened.len());
    for (receiver, sender) in opened {
        let outgoing = Rc::new(Outgoing::default());
        connections.push(Rc::clone(&outgoing));
        let state = Rc::clone(state);
        tasks.spawn_local(async move {
            let ended = tokio::select! {
                biased;
                ended = publisher::read(receiver, Rc::clone(&state)) => ended, // the server closed
                ended = publisher::write(sender, outgoing) => ended,           // the connection broke
            };
            match ended {
                Ok(never) => match never {},
                Err(error) => state.tally.borrow_mut().close(format!("a publisher: {error:#}")),
            }
        });
    }
    Ok(connections)
}

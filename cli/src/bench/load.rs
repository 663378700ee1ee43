//! `bench fanout` and `bench topics`: subscribers that account for every message, and publishers that keep them busy.
//!
//! *Invariant:* rates and costs are those of the measured time, from its first to its last moment, and latencies those
//! of what was due in it; the accounting is that of the whole run, from the first publish until nothing more comes.

use std::rc::Rc;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::args::{LoadArgs, OpenArgs, TargetArgs};
use super::crowd::{self, Senders};
use super::entry::Entry;
use super::floor::Floor;
use super::measure;
use super::progress::Progress;
use super::publisher::{Outgoing, Publisher};
use super::publishing::Publishing;
use super::report::LoadReport;
use super::state::State;
use super::subscriber::Subscriber;
use super::tally::Tally;
use super::wire::Plan;
use super::{run_id, servers, url::Url};
use crate::Usage;

/// A gateway lets a connection join so many.
const TOPICS_PER_PUBLISHER_MAX: u32 = 100;

/// Who there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) scenario: &'static str,
    pub(crate) topics: u32,
    /// Of each topic.
    pub(crate) subscribers: u32,
    pub(crate) publishers: u32,
}

/// Runs it, on the floor first if that is asked for.
pub(crate) async fn run(
    shape: Shape,
    target: &TargetArgs,
    open: &OpenArgs,
    load: &LoadArgs,
) -> Result<LoadReport> {
    check(shape)?;
    servers::sample(&target.pids)?; // a wrong --pid is told before the work
    let Some(frames_per_write) = load.floor else {
        return on(shape, target, open, load).await;
    };
    let floor = Floor::start(frames_per_write).await?;
    let below = on(shape, &floor.target(target), open, load)
        .await
        .context("load the floor server")?;
    drop(floor);
    let above = on(shape, target, open, load).await?;
    Ok(above.with_floor(frames_per_write, below))
}

async fn on(shape: Shape, target: &TargetArgs, open: &OpenArgs, load: &LoadArgs) -> Result<LoadReport> {
    let plan = Plan {
        run: run_id(),
        prefix: target.topic_prefix.clone(),
        payload_bytes: load.payload,
    };
    let tally = Tally::new(shape.topics, shape.subscribers);
    let state = Rc::new(State::new(plan, tally, load.reconnect));
    let mut tasks = JoinSet::new();
    subscribe(shape, target, open, &state, &mut tasks).await?;
    let connections = open_publishers(shape, target, open, &state, &mut tasks).await?;
    let publishing = Publishing::new(Rc::clone(&state), connections, shape.topics);
    let measured = async {
        tokio::select! {
            biased;
            measured = measure::measure(target, load, &state) => measured, // the time is over
            never = async {
                match load.rate {
                    Some(rate) => publishing.open_loop(rate).await,
                    None => publishing.closed_loop(load.window, shape.subscribers.into()).await,
                }
            } => match never {},
        }
    };
    let measured = measured.await?;
    measure::drain(&state, target.quiet).await;
    let mut tally = state.tally.borrow_mut();
    Ok(LoadReport::new(
        shape,
        target,
        load,
        &state.plan,
        &mut tally,
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

async fn subscribe(
    shape: Shape,
    target: &TargetArgs,
    open: &OpenArgs,
    state: &Rc<State>,
    tasks: &mut JoinSet<()>,
) -> Result<()> {
    let count = shape.topics * shape.subscribers;
    let progress = Progress::start("subscribers", count.into(), target.quiet);
    let urls: Rc<[Url]> = target.urls.clone().into();
    let plan = state.plan.clone();
    let one = async move |index: u32| {
        let topic = plan.topic(index / shape.subscribers);
        let entry = Entry::new(Rc::clone(&urls), index, vec![topic]);
        let connection = entry
            .once()
            .await
            .with_context(|| format!("subscribe at {}", entry.url()))?;
        Ok((entry, connection))
    };
    let opened = crowd::make(count, open.concurrency, one, move |done| {
        progress.set(done.into(), String::new);
    })
    .await?;
    let senders = Senders::new(count);
    for (index, (entry, (receiver, sender))) in (0_u32..).zip(opened) {
        senders.set(index, sender);
        let subscriber = Subscriber {
            index,
            entry,
            expected: state.plan.expected(index / shape.subscribers),
            state: Rc::clone(state),
            senders: senders.clone(),
        };
        tasks.spawn_local(subscriber.run(receiver));
    }
    tasks.spawn_local(async move { match crowd::keep_alive(senders).await {} });
    Ok(())
}

async fn open_publishers(
    shape: Shape,
    target: &TargetArgs,
    open: &OpenArgs,
    state: &Rc<State>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<Rc<Outgoing>>> {
    let urls: Rc<[Url]> = target.urls.clone().into();
    let plan = state.plan.clone();
    let one = async move |index: u32| {
        let topics: Vec<u32> = (index..shape.topics).step_by(shape.publishers as usize).collect();
        let names = topics.iter().map(|&topic| plan.topic(topic)).collect();
        let entry = Entry::new(Rc::clone(&urls), index, names);
        let connection = entry
            .once()
            .await
            .with_context(|| format!("join as a publisher at {}", entry.url()))?;
        Ok((entry, topics, connection))
    };
    let opened = crowd::make(shape.publishers, open.concurrency, one, |_| {}).await?;
    let mut connections = Vec::with_capacity(opened.len());
    for (entry, topics, (receiver, sender)) in opened {
        let outgoing = Rc::new(Outgoing::default());
        connections.push(Rc::clone(&outgoing));
        let publisher = Publisher {
            entry,
            topics,
            outgoing,
            state: Rc::clone(state),
        };
        tasks.spawn_local(publisher.run(receiver, sender));
    }
    Ok(connections)
}

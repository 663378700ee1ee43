//! `bench resume`: all clients are cut off, miss something, and come back at once, each with its position.
//!
//! *Invariant:* every publication that a client missed is at the end exactly one of received, told to be missed, and lost; and
//! a client is back when nothing is left that it may still hope for.
//! Leaves out: who publishes meanwhile (`publisher`), what one client is owed (`account`), how it comes back (`client`).

mod account;
mod client;
mod publisher;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;

use account::Account;
pub(crate) use account::Sums;
use client::{Client, Connection, Storm};
use publisher::Publishers;

use super::args::ResumeArgs;
use super::histogram::Histogram;
use super::progress::Progress;
use super::reasons::Reasons;
use super::report::ResumeReport;
use super::servers::{self, Cost, Named};
use super::url::Url;
use super::wire::Plan;
use super::{crowd, run_id};
use crate::Usage;

/// For what comes once too often, after everything has come.
const HOLD: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A resume begins behind this.
const FIRST: u64 = 1;

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Until the last one was back, or the deadline.
    pub(crate) seconds: f64,
    pub(crate) back: u32,
    pub(crate) sums: Sums,
    /// From all wanting back to the answer of the join, and to having all.
    pub(crate) joined_ns: Histogram,
    pub(crate) back_ns: Histogram,
    pub(crate) failures: Reasons,
    pub(crate) closed: Reasons,
    pub(crate) published: u64,
    pub(crate) refused: Reasons,
    pub(crate) servers: Vec<Cost>,
    pub(crate) client: Vec<Cost>,
}

/// Runs it.
pub(crate) async fn run(args: &ResumeArgs) -> Result<ResumeReport> {
    let target = &args.target;
    check(args)?;
    servers::sample(&target.pids)?; // a wrong --pid is told before the work
    let plan = Plan {
        run: run_id(),
        prefix: target.topic_prefix.clone(),
        payload_bytes: args.payload,
    };
    let urls: Rc<[Url]> = target.urls.clone().into();
    let mut publishers = Publishers::open(&plan, &urls, args.topics).await?;
    let last = FIRST + args.missed;
    let storm = Rc::new(Storm::new(last));
    let connections = subscribe(args, &plan, &urls, &storm).await?;
    publishers.publish(FIRST..=FIRST, args.deadline).await?;
    let accounts = first(connections, args.deadline).await?;
    let progress = Progress::start("publishing", args.missed, target.quiet);
    for number in FIRST + 1..=last {
        publishers.publish(number..=number, args.deadline).await?;
        progress.set(number - FIRST, String::new);
    }
    drop(progress);

    let myself = [Named::myself()];
    let (servers_before, client_before) = (servers::sample(&target.pids)?, servers::sample(&myself)?);
    let (end, ended) = watch::channel(());
    let mut tasks = JoinSet::new();
    storm.begin();
    let clients = accounts
        .iter()
        .zip(0..)
        .map(|(account, index)| client_of(args, &plan, &urls, index, Rc::clone(account), Rc::clone(&storm)));
    for client in clients {
        tasks.spawn_local(client.come_back(ended.clone()));
    }
    let progress = Progress::start("resuming", args.clients.into(), target.quiet);
    let waited = wait(&storm, args, &progress).await;
    drop(progress);
    let servers_after = servers::sample_again(&target.pids, &servers_before);
    let client_after = servers::sample_again(&myself, &client_before);
    tokio::time::sleep(HOLD).await;
    end.send_replace(());
    while let Some(task) = tasks.join_next().await {
        task.context("bring a client back")?;
    }
    let mut sums = Sums::default();
    for account in &accounts {
        account.borrow().add_to(&mut sums, FIRST, last);
    }
    let part = storm.take();
    let found = Found {
        seconds: match part.back == args.clients {
            true => part.back_ns.max() as f64 / 1e9,
            false => waited.as_secs_f64(),
        },
        back: part.back,
        sums,
        joined_ns: part.joined_ns,
        back_ns: part.back_ns,
        failures: part.failures,
        closed: part.closed,
        published: publishers.published(),
        refused: publishers.refused(),
        servers: servers::costs(&target.pids, &servers_before, &servers_after),
        client: servers::costs(&myself, &client_before, &client_after),
    };
    Ok(ResumeReport::new(args, found))
}

fn check(args: &ResumeArgs) -> Result<()> {
    if args.topics > args.clients {
        return Err(Usage(format!(
            "{} topics for {} clients, each of which joins one",
            args.topics, args.clients
        ))
        .into());
    }
    let connections = args.clients.saturating_add(publisher::connections(args.topics));
    let max = crowd::connections_max();
    if connections > max {
        return Err(Usage(format!(
            "{connections} connections are more than the {max} this process may have, and what they get is counted by one"
        ))
        .into());
    }
    Ok(())
}

fn client_of(
    args: &ResumeArgs,
    plan: &Plan,
    urls: &Rc<[Url]>,
    index: u32,
    account: Rc<RefCell<Account>>,
    storm: Rc<Storm>,
) -> Client {
    let topic = index % args.topics;
    Client {
        index,
        urls: Rc::clone(urls),
        topic: plan.topic(topic),
        expected: plan.expected(topic),
        account,
        storm,
    }
}

/// Brings all in for the first time.
async fn subscribe(
    args: &ResumeArgs,
    plan: &Plan,
    urls: &Rc<[Url]>,
    storm: &Rc<Storm>,
) -> Result<Vec<(Client, Connection)>> {
    let progress = Progress::start("subscribers", args.clients.into(), args.target.quiet);
    let (args, plan, urls, storm) = (args.clone(), plan.clone(), Rc::clone(urls), Rc::clone(storm));
    let (count, concurrency) = (args.clients, args.open.concurrency);
    let one = async move |index: u32| {
        let account = Rc::new(RefCell::new(Account::new(FIRST + args.missed)));
        let client = client_of(&args, &plan, &urls, index, account, Rc::clone(&storm));
        let connection = client.enter(0).await;
        let connection = connection.with_context(|| format!("join with resume at {}", client.url(0)))?;
        if client.account.borrow().has_no_position() {
            bail!("the channel of {} keeps no positions", client.topic);
        }
        Ok((client, connection))
    };
    crowd::make(count, concurrency, one, move |done| {
        progress.set(done.into(), String::new);
    })
    .await
}

/// Waits until all have got the first publication, and cuts them off.
async fn first(
    connections: Vec<(Client, Connection)>,
    deadline: Duration,
) -> Result<Vec<Rc<RefCell<Account>>>> {
    let accounts = connections
        .iter()
        .map(|(client, _)| Rc::clone(&client.account))
        .collect();
    let mut tasks = JoinSet::new();
    for (client, mut connection) in connections {
        tasks.spawn_local(async move {
            let got = client.catch_up(&mut connection, FIRST).await;
            got.map(|()| connection) // held until all have it
        });
    }
    let all = async {
        let mut held = Vec::new();
        while let Some(task) = tasks.join_next().await {
            let connection = task.context("wait for the first publication")?;
            held.push(connection.context("wait for the first publication")?);
        }
        anyhow::Ok(held)
    };
    let held = tokio::time::timeout(deadline, all).await.map_err(|_| {
        anyhow!(
            "not all clients had the first publication after {} s",
            deadline.as_secs_f64()
        )
    })??;
    held.into_iter().for_each(Connection::cut);
    Ok(accounts)
}

/// Until all are back, or the deadline; how long that was.
async fn wait(storm: &Storm, args: &ResumeArgs, progress: &Progress) -> Duration {
    loop {
        let elapsed = storm.elapsed();
        if storm.back() >= args.clients || elapsed >= args.deadline {
            return elapsed;
        }
        progress.set(storm.back().into(), String::new);
        let until = Instant::now() + LOOK_EVERY.min(args.deadline - elapsed);
        // Whoever is last says so, and the wait is over at once.
        tokio::time::timeout_at(until.into(), storm.one_more(args.clients))
            .await
            .ok();
    }
}

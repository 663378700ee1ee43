//! One reader at a kilobyte a second among many fast ones: they do not notice, and it is told what it misses.
//!
//! *Invariant:* everybody's offsets rise, and whatever the slow one does not get is announced to it before what follows.
//! Leaves out: clients without positions, which are closed at the bound (the gateway's own tests).

mod fast;
mod reader;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;

use self::fast::Delay;
use self::reader::SlowReader;
use super::{Report, end};
use crate::Cluster;
use crate::cluster::Shape;
use crate::resuming::{Story, Waits, topic};
use crate::wait::{self, SOON};

/// Fast readers that connect at the same time.
const CONNECTING_MAX: usize = 32;

/// How often the gateway's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A slow reader's outbox holds 1 MiB, besides replays of 3; the rest is what the allocator and a busy minute take.
const MEMORY_MAX: u64 = 24 * 1024 * 1024;

/// How long it goes on being slow once it is named: it is closed after 30 s.
const STILL_SLOW: Duration = Duration::from_secs(10);

/// Who says nothing for a minute is closed.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);

const HEARTBEAT: &str = r#"[null,"h","phoenix","heartbeat",{}]"#;

/// How the answer to it begins.
const HEARTBEAT_REPLY: &str = r#"[null,"h","phoenix","phx_reply""#;

/// How much of what, and what is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Fast readers, on two gateways.
    pub readers: usize,
    /// Of the one topic.
    pub publishes_per_second: u32,
    /// Each, at least.
    pub payload_bytes: usize,
    /// What the slow reader takes.
    pub slow_bytes_per_second: usize,
    /// How long it is published without the slow one.
    pub before: Duration,
    /// And at most how long with it until it is named; it goes on being slow for a while.
    pub until_named: Duration,
    /// How many times the delay of the run without it may be the delay with it, 99 of 100 deliveries.
    pub factor: f64,
    /// A delay that is none: below it nothing is compared.
    pub unnoticed: Duration,
}

/// What all parts share.
#[derive(Debug)]
struct Shared {
    start: Instant,
    /// The last number, once nothing more is published; until then 0.
    last: AtomicU64,
    /// Fast readers that have it.
    complete: AtomicUsize,
    is_ending: AtomicBool,
    /// The slow one reads as fast as it can from now on.
    is_awake: AtomicBool,
}

/// Publishes to everybody, first without the slow one, then with it.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn run(scale: Scale) -> Result<Report> {
    let shape = Shape {
        slots: Some(64),
        ..Shape::default()
    };
    let cluster = Cluster::start(shape).await?;
    let gateways = [cluster.listen("gw-1")?, cluster.listen("gw-2")?];
    let shared = Arc::new(Shared {
        start: Instant::now(),
        last: AtomicU64::new(0),
        complete: AtomicUsize::new(0),
        is_ending: AtomicBool::new(false),
        is_awake: AtomicBool::new(false),
    });
    let mut readers = connect(scale.readers, &gateways, &shared).await?;
    let mut writer = JoinSet::new();
    writer.spawn(writer::write(gateways[1], scale, Arc::clone(&shared)));
    // A second for everything to be warm.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let from = shared.start.elapsed();
    tokio::time::sleep(scale.before).await;
    let process = cluster.process("gw-1")?;
    let memory_before = process.resident_bytes()?;

    let slow = SlowReader::connect(gateways[0], scale.slow_bytes_per_second, Arc::clone(&shared)).await?;
    let address = slow.address();
    let joined = shared.start.elapsed();
    let mut task = JoinSet::new();
    task.spawn(slow.run());
    let mut memory_most = 0;
    let ((), until_named) = wait::until("the slow one to be named", scale.until_named, async || {
        memory_most = memory_most.max(process.resident_bytes()?);
        tokio::time::sleep(LOOK_EVERY).await;
        let named = named(&cluster, address).await?;
        ensure!(named["slow"] == true, "{named}");
        anyhow::Ok(())
    })
    .await?;
    let named = named(&cluster, address).await?;
    let log = cluster.log("gw-1")?;
    let is_logged = log
        .lines()
        .any(|line| line.contains("WARN") && line.contains(&address.to_string()) && line.contains(&topic(0)));
    let still = Instant::now();
    while still.elapsed() < scale.before.min(STILL_SLOW) {
        memory_most = memory_most.max(process.resident_bytes()?);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let to = shared.start.elapsed();

    // It reads again, to the head or to its close.
    shared.is_awake.store(true, Ordering::SeqCst);
    shared.is_ending.store(true, Ordering::SeqCst);
    let publishes = writer
        .join_next()
        .await
        .context("writer")?
        .context("writer task")??;
    wait::until(
        "every fast reader to have everything",
        SOON * 3,
        async || match shared.complete.load(Ordering::SeqCst) {
            complete if complete == scale.readers => Ok(()),
            complete => Err(format!("{complete} of {}", scale.readers)),
        },
    )
    .await?;
    let (trail, code) = task
        .join_next()
        .await
        .context("slow reader")?
        .context("slow task")??;
    let mut story = Story {
        publishes,
        ..Story::default()
    };
    let is_closed = code.is_some();
    story.trails.insert((0, 0), trail);
    if is_closed {
        story.away.insert(0);
    }
    let verdict = story.judge();
    let (mut delays, mut wrong) = (Vec::new(), Vec::new());
    while let Some(reader) = readers.join_next().await {
        match reader.context("reader task")? {
            Ok(of_reader) => delays.extend(of_reader),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }

    let mut report = Report::new(format!(
        "A reader of {} B/s among {} fast ones: {} publishes/s of {} bytes on one topic",
        scale.slow_bytes_per_second, scale.readers, scale.publishes_per_second, scale.payload_bytes
    ));
    let of = |from: Duration, to: Duration| {
        let within = delays
            .iter()
            .filter(|delay: &&Delay| (from..to).contains(&delay.sent));
        Waits::new(within.map(|delay| delay.took).collect())
    };
    let (without, with) = (of(from, joined), of(joined, to));
    report.tell("deliveries to fast readers without it", &without);
    report.tell("deliveries to fast readers with it", &with);
    let bar = without.within(0.99).mul_f64(scale.factor).max(scale.unnoticed);
    report.below("their p99 with it", with.within(0.99), bar);
    report.none("fast readers that were told anything else", &wrong);
    report.tell("named by `conn top` after", format!("{until_named:.1?}: {named}"));
    report.none(
        "not named in the log",
        &(if is_logged {
            vec![]
        } else {
            vec![address.to_string()]
        }),
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    report.tell(
        "memory of its gateway before it, MiB",
        format!("{:.1}", mib(memory_before)),
    );
    report.below(
        "more memory with it, MiB",
        mib(memory_most.saturating_sub(memory_before)),
        mib(MEMORY_MAX),
    );
    let missed: usize = verdict.missed.iter().map(|missed| missed.publications).sum();
    report.tell("publications the slow one got", verdict.deliveries);
    report.tell(
        "gaps it was told, and publications in them",
        format!("{}, {missed}", verdict.missed.len()),
    );
    report.at_least("gaps", verdict.missed.len(), 1);
    let otherwise: Vec<String> = verdict
        .missed
        .iter()
        .filter(|missed| missed.reason != "slow_consumer")
        .map(ToString::to_string)
        .collect();
    report.none("gaps for another reason", &otherwise);
    report.tell(
        "how it ended",
        match code {
            Some(code) => format!("closed {code:?}"),
            None => "at the head".to_owned(),
        },
    );
    for (what, list) in verdict.faults() {
        report.none(what, list);
    }
    end(cluster, report)
}

/// What `conn top` says of the connection from this address.
async fn named(cluster: &Cluster, address: SocketAddr) -> Result<Value> {
    let top = cluster.json(&["conn", "top", "--limit", "5"]).await?;
    let connections = top["connections"].as_array().context("connections")?;
    let named = connections
        .iter()
        .find(|connection| connection["remote"] == address.to_string());
    named
        .cloned()
        .with_context(|| format!("{address} is not among the first: {top}"))
}

async fn connect(
    count: usize,
    gateways: &[SocketAddr],
    shared: &Arc<Shared>,
) -> Result<JoinSet<Result<Vec<Delay>>>> {
    let (mut connecting, mut readers) = (JoinSet::new(), JoinSet::new());
    for number in 0..count {
        if connecting.len() >= CONNECTING_MAX {
            let client = connecting
                .join_next()
                .await
                .context("one connects")?
                .context("connect")??;
            readers.spawn(fast::read(client, Arc::clone(shared)));
        }
        connecting.spawn(fast::connect(gateways[number % gateways.len()]));
    }
    while let Some(client) = connecting.join_next().await {
        readers.spawn(fast::read(client.context("connect")??, Arc::clone(shared)));
    }
    Ok(readers)
}

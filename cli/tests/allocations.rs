//! What a publish costs in allocations, in a process that is a whole cluster: a gateway, a topic server and their store.
//! Its clients are another process, so nothing of theirs is counted.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, and not in what they share"
)]

use std::alloc::System;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use ringcast_gateway::{Config as GatewayConfig, Gateway, Limits, OriginCheck};
use ringcast_ring_store::{AnyStore, Memory};
use ringcast_topic_server::{Config as TopicServerConfig, TopicServer};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Long enough for any machine to start a cluster and clients.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is counted lasts so long.
const COUNTED: Duration = Duration::from_secs(2);

/// A running cluster.
struct Cluster {
    url: String,
    metrics: PrometheusHandle,
    _runtime: tokio::runtime::Runtime,
    _stop: DropGuard,
}

/// What had happened by some moment.
#[derive(Debug, Clone, Copy)]
struct Seen {
    allocations: f64,
    publishes: f64,
    deliveries: f64,
    batches: f64,
}

impl Cluster {
    fn start() -> Cluster {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let url = runtime.block_on(async {
            let store = AnyStore::Memory(Memory::start().unwrap());
            let server = TopicServerConfig {
                rpc_listen: ([127, 0, 0, 1], 0).into(),
                expect_topic_servers: Some(1),
                drain: Duration::ZERO,
                ..TopicServerConfig::new("ts-1".parse().unwrap(), store.clone())
            };
            let gateway = GatewayConfig {
                limits: Limits::BENCH,
                origin: OriginCheck::Any,
                ..GatewayConfig::new("gw-1".parse().unwrap(), store)
            };
            let gateway = Gateway::build(gateway, &recorder).await.unwrap();
            let recorder = std::sync::Arc::new(recorder);
            let server = TopicServer::build(server, recorder).await.unwrap();
            let url = format!("ws://{}/socket/websocket", gateway.address());
            let readiness = gateway.readiness();
            tasks.spawn(server.run(stop.clone()));
            tasks.spawn(gateway.run(stop.clone()));
            let ready = async {
                while !readiness.reasons().is_empty() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, ready)
                .await
                .expect("ready in time");
            url
        });
        Cluster {
            url,
            metrics,
            _runtime: runtime,
            _stop: stop.drop_guard(),
        }
    }

    fn seen(&self) -> Seen {
        let rendered = self.metrics.render();
        let sum = |name: &str| -> f64 {
            let of = |line: &&str| line.starts_with(name);
            let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            rendered.lines().filter(of).map(value).sum()
        };
        let stats = ALLOCATOR.stats();
        Seen {
            allocations: (stats.allocations + stats.reallocations) as f64,
            publishes: sum("ringcast_client_publishes_total"),
            deliveries: sum("ringcast_deliveries_total"),
            batches: sum("ringcast_lane_batch_entries_count{node=\"gw-1\",call=\"publish\""),
        }
    }

    /// What happens in a while in the middle of a run of `ringcast bench`.
    fn during(&self, bench: &[&str]) -> Seen {
        let mut clients = Clients::start(&self.url, bench);
        let begun = Instant::now();
        let before = self.seen();
        // Joins are over once something is delivered; then everything gets the room that it keeps.
        while self.seen().deliveries < before.deliveries + 20_000.0 {
            assert!(begun.elapsed() < PATIENCE, "{:?}", clients.0.try_wait());
            std::thread::sleep(Duration::from_millis(10));
        }
        let before = self.seen();
        std::thread::sleep(COUNTED);
        let after = self.seen();
        assert!(clients.0.try_wait().unwrap().is_none(), "the clients went on");
        Seen {
            allocations: after.allocations - before.allocations,
            publishes: after.publishes - before.publishes,
            deliveries: after.deliveries - before.deliveries,
            batches: after.batches - before.batches,
        }
    }
}

struct Clients(Child);

impl Clients {
    fn start(url: &str, bench: &[&str]) -> Clients {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringcast"));
        command
            .arg("bench")
            .args(bench)
            .args(["--url", url, "--duration", "60s", "--quiet"]);
        Clients(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // It may have ended by itself, which `during` has told.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What a publish may cost: measured, and a third more.
fn assert_at_most(most: f64, seen: Seen, what: &str) {
    let each = seen.allocations / seen.publishes;
    let batch = seen.publishes / seen.batches;
    eprintln!("{what}: {each:.2} allocations a publish, {batch:.0} publishes a call");
    assert!(each <= most, "{what}: {each:.2} allocations a publish, {seen:?}");
}

#[test]
fn a_publish_costs_four_allocations_at_most_in_large_batches_and_a_delivery_none() {
    let cluster = Cluster::start();
    let seen = cluster.during(&["fanout", "--subscribers", "1", "--window", "2048"]);
    assert!(
        seen.publishes / seen.batches >= 64.0,
        "batches too small: {seen:?}"
    );
    assert_at_most(4.0, seen, "one topic");

    // One a delivery would be a hundred more.
    let seen = cluster.during(&["fanout", "--subscribers", "100", "--window", "8192"]);
    assert!(seen.deliveries / seen.publishes >= 100.0, "{seen:?}");
    assert_at_most(8.0, seen, "a hundred subscribers");

    let topics = ["--topics", "512", "--subscribers", "1", "--publishers", "16"];
    let seen = cluster.during(&[&["topics"], &topics[..], &["--window", "2048"]].concat());
    assert_at_most(16.0, seen, "a topic each");
}

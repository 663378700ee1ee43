//! A coordinator in a process of its own, killed in the middle of its writes.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ringcast_proto::record::{Key, Plan, PlanId, Record};
use ringcast_ring::{Change, Revision};
use ringcast_ring_store::coordinator::Config;
use ringcast_ring_store::{AnyStore, Coordinator, RingStore, fresh_op};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Where the child keeps its records; only set for the child.
const DATA_DIR: &str = "RINGCAST_TEST_DATA_DIR";

/// The child: serves until it is killed. Without its variable there is nothing to check here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_when_told_to_by_the_test_below() {
    let Some(data_dir) = std::env::var_os(DATA_DIR) else {
        return;
    };
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data_dir.into(),
    };
    let coordinator = Coordinator::build(&config).unwrap();
    println!("\nlistening on {}", coordinator.local_addr());
    coordinator.run(CancellationToken::new()).await.unwrap();
}

fn spawn(data_dir: &Path) -> (Child, AnyStore) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serve_when_told_to_by_the_test_below", "--nocapture"])
        .env(DATA_DIR, data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listening = lines.map(Result::unwrap).find_map(|line| {
        line.strip_prefix("listening on ")
            .map(|address| AnyStore::open(&format!("http://{address}")).unwrap())
    });
    (child, listening.expect("the child says where it listens"))
}

fn count(writer: u32, number: u64) -> Change {
    let put = vec![(
        Key::Plan(PlanId(writer.to_string())),
        Record::Plan(Box::new(Plan {
            base_version: number,
            ..Plan::default()
        })),
    )];
    Change {
        expect: Vec::new(),
        guards: Vec::new(),
        put,
        delete: Vec::new(),
        op: fresh_op(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_killed_in_the_middle_of_its_writes_keeps_every_answered_change() {
    const WRITERS: u32 = 8;
    let folder = tempfile::tempdir().unwrap();
    let mut answered = vec![0_u64; WRITERS as usize];
    let mut newest = Revision(0);
    for round in 0..6_u32 {
        let (mut child, store) = spawn(folder.path());
        let loaded = store.load().await.unwrap();
        assert!(loaded.revision >= newest, "{} after {newest}", loaded.revision);
        for (writer, answered) in answered.iter().enumerate().filter(|(_, answered)| **answered > 0) {
            let key = Key::Plan(PlanId(writer.to_string()));
            let Record::Plan(plan) = &loaded.records[&key].record else {
                panic!("a plan")
            };
            let stored = plan.base_version;
            // One more than was answered: stored, and killed before the answer.
            assert!(
                stored == *answered || stored == answered + 1,
                "{stored} stored, {answered} answered"
            );
        }

        let mut writers = JoinSet::new();
        for (writer, from) in (0..WRITERS).zip(answered.clone()) {
            let store = store.clone();
            writers.spawn(async move {
                let (mut number, mut revision) = (from, Revision(0));
                while let Ok(at) = store.compare_and_swap(count(writer, number + 1)).await {
                    (number, revision) = (number + 1, at);
                }
                (writer, number, revision)
            });
        }
        // At another moment of the writes each time.
        let until = loaded.revision.0 + 50 + u64::from(round) * 37;
        while store.load().await.unwrap().revision.0 < until {}
        child.kill().unwrap();
        child.wait().unwrap();
        for (writer, number, revision) in writers.join_all().await {
            assert!(
                number > answered[writer as usize],
                "writer {writer} got nothing done in round {round}"
            );
            answered[writer as usize] = number;
            newest = newest.max(revision);
        }
    }
}

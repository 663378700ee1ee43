//! `bench resume`: everybody comes back with a position, and what became of what they missed.

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Dev, Run, Running, assert_fields, number};

fn figures(run: &Run, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| number(&run.report[name])).collect()
}

/// What was owed has one end each.
fn assert_owed(run: &Run) {
    let parts = figures(run, &["delivered", "told_missed", "lost"]);
    assert_eq!(
        number(&run.report["owed"]),
        parts.iter().sum::<u64>(),
        "{}",
        run.report
    );
}

const FAULTS: [&str; 5] = ["lost", "doubled", "reordered", "misrouted", "refused"];

#[test]
fn clients_that_were_cut_off_get_all_they_missed_once() {
    let dev = Dev::start();
    let resume = ["resume", "--clients", "120", "--topics", "30", "--missed", "40"];
    let run = dev.bench(&resume);
    assert_eq!(run.code, Some(0), "{} {}", run.said, run.report);
    assert_fields(
        &run.report,
        "scenario urls clients topics missed_per_topic payload_bytes published refused refused_because seconds back \
         not_back joined_us back_us recovered not_recovered gaps owed delivered told_missed lost doubled reordered \
         misrouted failures failures_because closed closed_because server_cpu_us_per_client servers \
         client_cpu_us_per_client client clean problems",
    );
    assert_owed(&run);
    assert_eq!(figures(&run, &FAULTS), [0; 5], "{}", run.report);
    assert_eq!(
        figures(&run, &["back", "recovered", "not_recovered", "gaps"]),
        [120, 120, 0, 0]
    );
    assert_eq!(figures(&run, &["delivered", "published"]), [120 * 40, 30 * 41]);
    let last = run.report["back_us"]["max"].as_f64().unwrap() / 1e6;
    assert!(
        (last - run.report["seconds"].as_f64().unwrap()).abs() < 1e-3,
        "{}",
        run.report
    );
}

#[test]
fn what_is_more_than_a_join_recovers_is_told_and_is_not_lost() {
    let dev = Dev::start();
    // A history has 300 publications.
    let resume = ["resume", "--clients", "10", "--topics", "2", "--missed", "310"];
    let run = dev.bench(&resume);
    assert_eq!(run.code, Some(0), "{} {}", run.said, run.report);
    assert_owed(&run);
    assert_eq!(figures(&run, &FAULTS), [0; 5], "{}", run.report);
    assert_eq!(
        figures(&run, &["recovered", "not_recovered", "told_missed", "delivered"]),
        [0, 10, 3100, 0],
        "{}",
        run.report
    );
}

#[test]
fn a_cluster_that_dies_while_all_are_away_ends_the_run() {
    let dev = Dev::start();
    let resume = [
        "resume",
        "--clients",
        "20",
        "--topics",
        "10",
        "--missed",
        "2000",
        "--deadline",
        "2",
    ];
    let mut running = Running::start(&[&resume[..], &["--url", &dev.url]].concat());
    running.hear("publishing ");
    dev.process.signal(Signal::KILL);
    let run = running.end();
    assert_eq!((run.code, &run.report), (Some(1), &Value::Null), "{}", run.said);
    assert!(run.said.contains("error: "), "it cannot publish: {}", run.said);
}

#[test]
fn more_clients_than_can_be_counted_are_refused() {
    for (clients, topics) in [("100000", "10"), ("10", "11")] {
        let dev = Dev::start();
        let run = dev.bench(&["resume", "--clients", clients, "--topics", topics]);
        assert_eq!((run.code, &run.report), (Some(2), &Value::Null), "{}", run.said);
    }
}

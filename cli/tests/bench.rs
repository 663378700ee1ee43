//! `ringcast bench` against real clusters: what it reports is what happened, and nothing passes in silence.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, and not in what they share"
)]

#[path = "bench/floor.rs"]
mod floor;
#[path = "bench/harness.rs"]
mod harness;
#[path = "bench/page.rs"]
mod page;
#[path = "bench/resume.rs"]
mod resume;

use std::net::TcpListener;
use std::time::Duration;

use harness::{Dev, Running, assert_clean, assert_fields, assert_sums, number};
use rustix::process::Signal;
use serde_json::Value;

const BRIEF: [&str; 4] = ["--warmup", "100ms", "--duration", "500ms"];

#[test]
fn every_message_of_a_fan_out_is_accounted_for() {
    let dev = Dev::start();
    let closed = dev.bench(&[&["fanout", "--subscribers", "20", "--window", "100"], &BRIEF[..]].concat());
    assert_clean(&closed);
    let report = &closed.report;
    assert!(number(&report["deliveries"]) > 100, "{report}");
    // 100 outstanding deliveries are 5 publishes, so by Little's law rate x latency cannot be more.
    let outstanding =
        report["deliveries_per_s"].as_f64().unwrap() * report["latency_us"]["p50"].as_f64().unwrap() / 1e6;
    assert!(outstanding < 300.0, "{report}");

    let open = dev.bench(&[&["fanout", "--subscribers", "5", "--rate", "100"], &BRIEF[..]].concat());
    assert_clean(&open);
    let report = &open.report;
    let rate = report["publishes_per_s"].as_f64().unwrap();
    assert!((50.0..200.0).contains(&rate), "{report}");
    let count = |what: &str| number(&report[what]["count"]);
    assert_eq!(count("latency_us"), 5 * count("publish_us"), "{report}");
    if cfg!(target_os = "linux") {
        assert!(
            number(&report["servers"][0]["rss_after_bytes"]) > 1_000_000,
            "{report}"
        );
        assert!(
            number(&report["client"][0]["rss_after_bytes"]) > 1_000_000,
            "{report}"
        );
    }
}

#[test]
fn fields_of_reports_stay_as_scripts_know_them() {
    let dev = Dev::start();
    let topics = [
        "topics",
        "--topics",
        "30",
        "--subscribers",
        "3",
        "--publishers",
        "4",
        "--rate",
        "300",
    ];
    let topics = dev.bench(&[&topics, &BRIEF[..]].concat());
    assert_clean(&topics);
    let report = &topics.report;
    assert_fields(
        report,
        "scenario urls topics subscribers_per_topic publishers payload_bytes window rate reconnect seconds publishes \
         publishes_per_s deliveries deliveries_per_s latency_us publish_us longest_publish longest_gap expected_gap_us \
         lost doubled reordered misrouted missed_while_away refused refused_because unanswered interrupted \
         answered_after_10_s closed closed_because reconnects reconnect_us reconnect_failures away_at_end accounting \
         server_cpu_us_per_delivery servers client_cpu_us_per_delivery client_busy client clean problems",
    );
    assert_fields(&report["latency_us"], "count p50 p99 p99_9 max");
    assert_fields(&report["longest_publish"], "us topic at_s");
    assert_fields(
        &report["servers"][0],
        "name pid cpu_us rss_before_bytes rss_after_bytes ended",
    );

    let idle = dev.bench(&["idle", "--connections", "100", "--hold", "200ms"]);
    assert_eq!(
        (idle.code, &idle.report["closed"]),
        (Some(0), &Value::from(0)),
        "{}",
        idle.said
    );
    assert_eq!(idle.report["client"].as_array().unwrap().len(), 1);
    assert_fields(
        &idle.report,
        "scenario urls connections members_per_topic join_seconds joins_per_s hold_seconds closed \
         server_cpu_us_per_join server_bytes_per_connection server_idle_cpu_us_per_s servers client clean problems",
    );

    let storm = dev.bench(&["storm", "--clients", "200", "--rounds", "3", "--hold", "100ms"]);
    let report = &storm.report;
    assert_eq!(
        (storm.code, &report["clean"]),
        (Some(0), &Value::from(true)),
        "{}",
        storm.said
    );
    assert_fields(
        report,
        "scenario urls clients members_per_topic rounds join_us joins not_joined failures failures_because closed \
         closed_because server_cpu_us_per_join servers client_cpu_us_per_join client clean problems",
    );
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 3);
    for round in rounds {
        assert_fields(
            round,
            "seconds joins not_joined joins_per_s join_us failures failures_because closed closed_because \
             server_cpu_us_per_join server_rss_bytes",
        );
        assert_eq!(
            (number(&round["joins"]), number(&round["not_joined"])),
            (200, 0),
            "{round}"
        );
        assert_eq!(number(&round["join_us"]["count"]), 200);
        let (last_us, seconds) = (&round["join_us"]["max"], round["seconds"].as_f64().unwrap());
        assert!(
            (last_us.as_f64().unwrap() / 1e6 - seconds).abs() < 1e-3,
            "{round}"
        );
    }
    assert_eq!(number(&report["joins"]), 600);
}

#[test]
fn an_address_where_nobody_listens_is_told_in_one_line() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{free}");
    for scenario in ["fanout", "topics", "idle", "storm", "resume"] {
        let run = Running::start(&[scenario, "--url", &url]).end();
        assert_eq!((run.code, &run.report), (Some(1), &Value::Null));
        let expected = format!("error: connect to {url}: Connection refused");
        assert!(run.said.starts_with(&expected), "{}", run.said);
        assert_eq!(run.said.lines().count(), 1, "{}", run.said);
    }
}

#[test]
fn a_cluster_that_dies_under_load_is_never_a_clean_run() {
    let dev = Dev::start();
    let pid = format!("dev={}", dev.process.0.id());
    let args = [
        "topics",
        "--topics",
        "10",
        "--subscribers",
        "2",
        "--publishers",
        "2",
    ];
    let load = [
        "--rate",
        "200",
        "--duration",
        "3",
        "--url",
        &dev.url,
        "--pid",
        &pid,
    ];
    let mut running = Running::start(&[&args[..], &load].concat());
    running.hear("measuring 1/3 s:");
    dev.process.signal(Signal::KILL);
    let run = running.end();
    assert_eq!(run.code, Some(1), "{}", run.said);
    assert_sums(&run);
    assert_eq!(number(&run.report["closed"]), 22, "{}", run.report);
    assert_eq!(
        number(&run.report["lost"]),
        0,
        "what a dead cluster owes is no loss it hid"
    );
    let sums = &run.report["accounting"];
    assert!(number(&sums["owed"]) > number(&sums["delivered"]), "{sums}");
    assert!(
        run.said.contains("22 connections closed by the servers"),
        "{}",
        run.said
    );
    if cfg!(target_os = "linux") {
        assert_eq!(run.report["servers"][0]["ended"], true);
    }
}

#[test]
fn connections_that_were_held_and_are_closed_fail_the_run() {
    for (scenario, clients) in [("idle", "--connections"), ("storm", "--clients")] {
        let dev = Dev::start();
        let mut running = Running::start(&[scenario, clients, "50", "--hold", "2", "--url", &dev.url]);
        running.hear("holding 1/2 s");
        dev.process.signal(Signal::KILL);
        let run = running.end();
        assert_eq!(
            (run.code, &run.report["clean"]),
            (Some(1), &Value::from(false)),
            "{}",
            run.said
        );
        assert_eq!(number(&run.report["closed"]), 50, "{}", run.report);
        let told = "not clean: 50 connections closed by the servers";
        assert!(run.said.contains(told), "{}", run.said);
        if scenario == "storm" {
            assert_eq!(
                number(&run.report["not_joined"]),
                0,
                "all had, before: {}",
                run.report
            );
            let because = run.report["failures_because"].as_object().unwrap();
            assert!(because.keys().any(|why| why.contains("refused")), "{because:?}");
        }
    }
}

#[test]
fn a_storm_that_nobody_answers_ends_at_its_deadline() {
    let dev = Dev::start();
    let storm = [
        "storm",
        "--clients",
        "20",
        "--rounds",
        "2",
        "--hold",
        "2",
        "--deadline",
        "300ms",
    ];
    let mut running = Running::start(&[&storm[..], &["--url", &dev.url]].concat());
    running.hear("holding 1/2 s");
    dev.process.signal(Signal::STOP); // as it ends with the test, it need not go on
    let run = running.end();
    assert_eq!(run.code, Some(1), "{}", run.said);
    let rounds = run.report["rounds"].as_array().unwrap();
    let of = |round: usize| {
        (
            number(&rounds[round]["joins"]),
            number(&rounds[round]["not_joined"]),
        )
    };
    assert_eq!((of(0), of(1)), ((20, 0), (0, 20)), "{}", run.report);
    let told = "not clean: 20 clients had not joined after 0.3 s";
    assert!(run.said.contains(told), "{}", run.said);
}

#[test]
fn clients_of_a_gateway_that_dies_come_back_at_another_one_if_they_may() {
    let dev = Dev::start();
    let (gateway, url) = dev.gateway();
    let args = [
        "topics",
        "--topics",
        "10",
        "--subscribers",
        "4",
        "--publishers",
        "2",
    ];
    let load = [
        "--rate",
        "200",
        "--duration",
        "3",
        "--url",
        &dev.url,
        "--url",
        &url,
    ];
    let mut running = Running::start(&[&args[..], &load, &["--reconnect"]].concat());
    running.hear("measuring 1/3 s:");
    gateway.signal(Signal::KILL);
    let run = running.end();
    assert_eq!(run.code, Some(0), "{} {}", run.said, run.report);
    assert_sums(&run);
    for (what, expected) in [
        ("closed", 21),
        ("reconnects", 21),
        ("away_at_end", 0),
        ("lost", 0),
        ("doubled", 0),
        ("reordered", 0),
    ] {
        assert_eq!(number(&run.report[what]), expected, "{what}: {}", run.report);
    }
    assert_eq!(number(&run.report["reconnect_us"]["count"]), 21);
}

#[test]
fn a_cluster_that_stands_still_is_slow_for_every_message_that_was_due() {
    const STILL: Duration = Duration::from_millis(500);
    let dev = Dev::start();
    let load = ["--rate", "200", "--duration", "2", "--url", &dev.url];
    let mut running = Running::start(&[&["fanout", "--subscribers", "2"], &load[..]].concat());
    running.hear("measuring 1/2 s:");
    dev.process.signal(Signal::STOP);
    std::thread::sleep(STILL); // the fault itself
    dev.process.signal(Signal::CONT);
    let run = running.end();
    assert_clean(&run);
    let us = |what: &str, which: &str| run.report[what][which].as_f64().unwrap();
    // Of 2 s a quarter stood still: were only the messages in flight late, the 99th percentile would not show it.
    for what in ["latency_us", "publish_us"] {
        assert!(us(what, "p99") > 300_000.0, "{}", run.report[what]);
        assert!(us(what, "max") > 450_000.0, "{}", run.report[what]);
        assert!(us(what, "p50") < 250_000.0, "{}", run.report[what]);
    }
    assert!(us("longest_publish", "us") > 450_000.0);
    assert!(us("longest_gap", "us") > 450_000.0);
}

#[test]
fn what_a_gateway_refuses_is_counted_by_its_reason_and_is_not_lost() {
    let dev = Dev::with_limits("default");
    let run = dev.bench(&[&["fanout", "--subscribers", "2", "--rate", "1000"], &BRIEF[..]].concat());
    assert_eq!(run.code, Some(1), "{}", run.report);
    assert_sums(&run);
    assert!(
        number(&run.report["refused_because"]["rate_limited"]) > 0,
        "{}",
        run.report
    );
    assert_eq!(number(&run.report["lost"]), 0, "{}", run.report);
    assert!(run.said.contains("publishes refused ("), "{}", run.said);
}

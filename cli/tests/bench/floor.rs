//! `--floor`: the same load on a bare server, in the same run.

use serde_json::Value;

use super::BRIEF;
use super::harness::{Dev, Run, assert_clean, assert_fields, number};

const LINUX: bool = cfg!(target_os = "linux");

/// The floor of a run that was clean.
fn floor(run: &Run) -> &Value {
    assert_eq!(run.code, Some(0), "{} {}", run.said, run.report);
    assert_eq!(run.report["clean"], true, "{}", run.report);
    &run.report["floor"]
}

/// Elsewhere than on Linux nobody knows what a process costs; and there it is known in steps of 10 ms.
fn assert_ratio(ratio: &Value, above: &Value, below: &Value) {
    match (above.as_f64(), below.as_f64()) {
        (Some(above), Some(below)) if below > 0.0 => {
            let ratio = ratio.as_f64().unwrap_or_else(|| panic!("{ratio} is no ratio"));
            assert!(
                (ratio * below - above).abs() <= 1e-6 * above,
                "{ratio} of {below}"
            );
        }
        (above, below) => assert!(ratio.is_null() && (above.is_some() && below.is_some()) == LINUX),
    }
}

#[test]
fn a_floor_is_loaded_as_the_cluster_is_and_compared_with_it() {
    let dev = Dev::start();
    let fanout = ["fanout", "--subscribers", "50", "--window", "1000", "--floor"];
    let run = dev.bench(&[&fanout, &BRIEF[..]].concat());
    assert_clean(&run);
    let floor = floor(&run);
    assert_fields(
        floor,
        "frames_per_write cpu_us_per_delivery deliveries_per_s latency_us ratio",
    );
    assert_eq!(number(&floor["frames_per_write"]), 8, "the default");
    assert!(number(&floor["latency_us"]["count"]) > 1000, "{floor}");
    // 1,000 outstanding deliveries there too, by Little's law.
    let rate = floor["deliveries_per_s"].as_f64().unwrap();
    let outstanding = rate * floor["latency_us"]["p50"].as_f64().unwrap() / 1e6;
    assert!(outstanding < 3000.0, "{floor}");
    let above = &run.report["server_cpu_us_per_delivery"];
    assert_ratio(&floor["ratio"], above, &floor["cpu_us_per_delivery"]);
    let servers = run.report["servers"].as_array().unwrap();
    assert!(
        servers.iter().all(|server| server["name"] == "dev"),
        "its own process is none of the cluster's: {servers:?}"
    );
}

#[test]
fn a_floor_takes_a_rate_and_many_topics_and_as_many_frames_a_write_as_asked_for() {
    let dev = Dev::start();
    let topics = [
        "topics",
        "--topics",
        "20",
        "--subscribers",
        "3",
        "--publishers",
        "2",
    ];
    let load = ["--rate", "400", "--floor", "1"];
    let run = dev.bench(&[&topics[..], &load, &BRIEF].concat());
    assert_clean(&run);
    let floor = floor(&run);
    assert_eq!(number(&floor["frames_per_write"]), 1);
    let rate = floor["deliveries_per_s"].as_f64().unwrap();
    assert!((600.0..2400.0).contains(&rate), "400 x 3 are due: {floor}");
    let without = dev.bench(&[&["fanout", "--subscribers", "5", "--rate", "100"], &BRIEF[..]].concat());
    assert_eq!(without.report.get("floor"), None, "nobody asked");
}

#[test]
fn a_floor_holds_connections_and_outlives_a_storm() {
    let dev = Dev::start();
    let idle = dev.bench(&["idle", "--connections", "400", "--hold", "100ms", "--floor"]);
    let of_idle = floor(&idle);
    assert_fields(of_idle, "cpu_us_per_join bytes_per_connection ratio");
    let above = &idle.report["server_cpu_us_per_join"];
    assert_ratio(&of_idle["ratio"], above, &of_idle["cpu_us_per_join"]);
    assert_eq!(of_idle["bytes_per_connection"].is_null(), !LINUX, "{of_idle}");

    let storm = ["storm", "--clients", "300", "--rounds", "2", "--hold", "100ms"];
    let storm = dev.bench(&[&storm[..], &["--floor"]].concat());
    let of_storm = floor(&storm);
    assert_fields(of_storm, "seconds join_us cpu_us_per_join ratio");
    assert_eq!(of_storm["seconds"].as_array().unwrap().len(), 2, "{of_storm}");
    assert_eq!(
        number(&of_storm["join_us"]["count"]),
        600,
        "all joined in both rounds: {of_storm}"
    );
    let above = &storm.report["server_cpu_us_per_join"];
    assert_ratio(&of_storm["ratio"], above, &of_storm["cpu_us_per_join"]);
}

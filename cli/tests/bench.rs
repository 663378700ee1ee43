//! `ringcast bench` against a real cluster in one process: what it reports is what happened.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, and not in what they share"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A cluster on free ports, killed when dropped.
struct Dev {
    child: Child,
    url: String,
}

impl Dev {
    fn start() -> Dev {
        let anywhere =
            ["--listen", "--store-listen", "--admin-listen"].map(|flag| format!("{flag}=127.0.0.1:0"));
        let mut child = ringcast()
            .args([
                "dev",
                "-o",
                "json",
                "--gateways",
                "1",
                "--topic-servers",
                "1",
                "--slots",
                "16",
            ])
            .args(anywhere)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let url = ready["gateways"][0]["socket"].as_str().unwrap().to_owned();
        Dev { child, url }
    }

    /// The exit code and the report.
    fn bench(&self, args: &[&str]) -> (Option<i32>, Value) {
        let pid = format!("dev={}", self.child.id());
        let output = ringcast()
            .args(["bench", "-o", "json"])
            .args(args)
            .args(["--url", &self.url, "--pid", &pid])
            .output()
            .unwrap();
        let report = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code(), report)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn ringcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringcast"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn assert_exact(report: &Value) {
    for fault in ["lost", "doubled", "reordered", "misrouted", "refused", "closed"] {
        assert_eq!(report[fault], 0, "{report}");
    }
}

#[test]
fn bench_accounts_for_every_message() {
    let dev = Dev::start();
    let brief = ["--warmup", "100ms", "--duration", "500ms"];

    let (code, closed) =
        dev.bench(&[&["fanout", "--subscribers", "20", "--window", "100"], &brief[..]].concat());
    assert_exact(&closed);
    assert_eq!(code, Some(0));
    let deliveries = closed["deliveries"].as_u64().unwrap();
    assert!(deliveries > 100, "{closed}");
    assert_eq!(closed["latency_us"]["count"], deliveries);
    // 100 outstanding deliveries are 5 publishes, so by Little's law rate x latency cannot be more.
    let outstanding =
        closed["deliveries_per_s"].as_f64().unwrap() * closed["latency_us"]["p50"].as_f64().unwrap() / 1e6;
    assert!(outstanding < 300.0, "{closed}");

    let (code, open) = dev.bench(&[&["fanout", "--subscribers", "5", "--rate", "100"], &brief[..]].concat());
    assert_exact(&open);
    assert_eq!(code, Some(0));
    let rate = open["publishes_per_s"].as_f64().unwrap();
    assert!((50.0..200.0).contains(&rate), "{open}");

    let many = [
        "topics",
        "--topics",
        "30",
        "--subscribers",
        "3",
        "--publishers",
        "4",
    ];
    let (code, topics) = dev.bench(&[&many, &brief[..]].concat());
    assert_exact(&topics);
    assert_eq!(code, Some(0));

    let (code, idle) = dev.bench(&["idle", "--connections", "100", "--hold", "200ms"]);
    assert_eq!((code, &idle["closed"]), (Some(0), &Value::from(0)), "{idle}");
    assert_eq!(idle["client"].as_array().unwrap().len(), 1);
    if cfg!(target_os = "linux") {
        assert!(
            idle["servers"][0]["rss_after_bytes"].as_u64().unwrap() > 1_000_000,
            "{idle}"
        );
    }
}

//! Clusters to load, runs of `ringcast bench`, and what must hold of every report.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// For a node to be ready, on a machine that is busy.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A process, killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A cluster on free ports.
pub(crate) struct Dev {
    pub(crate) process: Process,
    pub(crate) url: String,
    store: String,
}

impl Dev {
    pub(crate) fn start() -> Dev {
        Dev::with_limits("bench")
    }

    pub(crate) fn with_limits(profile: &str) -> Dev {
        let anywhere =
            ["--listen", "--store-listen", "--admin-listen"].map(|flag| format!("{flag}=127.0.0.1:0"));
        let mut child = ringcast()
            .args(["dev", "-o", "json", "--gateways", "1", "--topic-servers", "1"])
            .args(["--slots", "16", "--limits-profile", profile])
            .args(anywhere)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Dev {
            process: Process(child),
            url: text(&ready["gateways"][0]["socket"]),
            store: text(&ready["store"]),
        }
    }

    /// A gateway of its own process, and its address. It is there when it listens; a client waits for the rest.
    pub(crate) fn gateway(&self) -> (Process, String) {
        let mut child = ringcast()
            .args([
                "gateway",
                "--id",
                "gw-extra",
                "--store",
                &self.store,
                "--log-format",
                "json",
            ])
            .args(["--listen", "127.0.0.1:0", "--rpc-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--limits-profile", "bench"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let process = Process(child);
        let mut lines = BufReader::new(stderr).lines().map(|line| line.unwrap());
        let started: Value = lines
            .find(|line| line.contains("gateway started"))
            .map(|line| serde_json::from_str(&line).unwrap())
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop)); // else it waits for someone to read its log
        let listen = started["listen"].as_str().unwrap();
        wait_ready(started["admin"].as_str().unwrap());
        (process, format!("ws://{listen}"))
    }

    /// The report of a run, its exit code and what it said on stderr.
    pub(crate) fn bench(&self, args: &[&str]) -> Run {
        let pid = format!("dev={}", self.process.0.id());
        let on_me = ["--url", &self.url, "--pid", &pid];
        Running::start(&[args, &on_me[..]].concat()).end()
    }
}

/// `ringcast bench`, while it runs.
pub(crate) struct Running {
    process: Process,
    stderr: BufReader<std::process::ChildStderr>,
    said: String,
}

pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) report: Value,
    pub(crate) said: String,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Running {
        let mut child = ringcast()
            .args(["bench", "-o", "json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Running {
            process: Process(child),
            stderr,
            said: String::new(),
        }
    }

    /// Waits for a line on stderr that begins so.
    pub(crate) fn hear(&mut self, beginning: &str) {
        loop {
            let mut line = String::new();
            let len = self.stderr.read_line(&mut line).unwrap();
            assert!(len > 0, "{beginning:?} was not said, but {}", self.said);
            self.said.push_str(&line);
            if line.starts_with(beginning) {
                return;
            }
        }
    }

    pub(crate) fn end(mut self) -> Run {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let mut answer = String::new();
        let mut stdout = self.process.0.stdout.take().unwrap();
        stdout.read_to_string(&mut answer).unwrap();
        Run {
            code: self.process.0.wait().unwrap().code(),
            report: serde_json::from_str(&answer).unwrap_or(Value::Null),
            said: self.said,
        }
    }
}

/// A gateway that has not read the ring yet refuses joins.
fn wait_ready(admin: &str) {
    let deadline = Instant::now() + READY_DEADLINE;
    let ready = || {
        ringcast()
            .args(["health", admin])
            .output()
            .unwrap()
            .status
            .success()
    };
    while !ready() {
        assert!(Instant::now() < deadline, "{admin} is not ready");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn ringcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringcast"));
    command.env_clear().stdin(Stdio::null());
    command
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Every publish has one end, and every delivery too.
pub(crate) fn assert_sums(run: &Run) {
    let sums = &run.report["accounting"];
    let sum = |parts: &[&str]| parts.iter().map(|part| number(&sums[part])).sum::<u64>();
    assert_eq!(
        number(&sums["published"]),
        sum(&["accepted", "refused", "interrupted", "unanswered"]),
        "{sums}"
    );
    let parts = [
        "delivered",
        "lost",
        "missed_while_away",
        "undelivered_refused",
        "undelivered_unanswered",
    ];
    assert_eq!(number(&sums["owed"]), sum(&parts), "{sums}");
    for (name, counts) in [("refused", "refused_because"), ("closed", "closed_because")] {
        let counts = run.report[counts].as_object().unwrap();
        assert_eq!(
            number(&run.report[name]),
            counts.values().map(number).sum::<u64>(),
            "{counts:?}"
        );
    }
    assert_eq!(run.report["clean"], run.code == Some(0), "{}", run.said);
    assert_eq!(
        run.said.contains("not clean: "),
        run.code != Some(0),
        "{}",
        run.said
    );
}

pub(crate) fn assert_clean(run: &Run) {
    assert_eq!(run.code, Some(0), "{} {}", run.said, run.report);
    assert_sums(run);
    for fault in [
        "lost",
        "doubled",
        "reordered",
        "misrouted",
        "refused",
        "unanswered",
        "interrupted",
        "closed",
        "missed_while_away",
    ] {
        assert_eq!(run.report[fault], 0, "{fault}: {}", run.report);
    }
}

/// It has these fields and no others.
pub(crate) fn assert_fields(value: &Value, names: &str) {
    let mut expected: Vec<&str> = names.split(' ').collect();
    expected.sort_unstable();
    let mut found: Vec<&String> = value.as_object().unwrap().keys().collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

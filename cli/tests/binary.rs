//! The binary as a person or a script meets it: exit codes, what goes to stdout, and how a cluster in one process lives
//! and ends. What commands say of a running cluster is tested in `ringcast-tests`.

#![allow(
    clippy::unwrap_used,
    reason = "clippy allows it in test functions, and not in what they share"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const DEV_ANYWHERE: [&str; 9] = [
    "dev",
    "-o",
    "json",
    "--listen",
    "127.0.0.1:0",
    "--store-listen",
    "127.0.0.1:0",
    "--admin-listen",
    "127.0.0.1:0",
];

fn ringcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringcast"));
    command.env_clear().stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    ringcast().args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A cluster in one process on free ports, killed when dropped.
struct Dev {
    child: Child,
    ready: Value,
}

impl Dev {
    fn start(more: &[&str]) -> Dev {
        let mut child = ringcast()
            .args(DEV_ANYWHERE)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        Dev {
            child,
            ready: serde_json::from_str(&line).unwrap(),
        }
    }

    fn url(&self, part: &str) -> String {
        self.ready[part].as_str().unwrap().to_owned()
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn wrong_usage_is_2_and_failure_is_1() {
    for usage in [
        &[] as &[&str],
        &["nonsense"],
        &["ring"],
        &["gateway", "--listen", "4000"],
        &["gateway"],
        &["topic-server", "--store", "http://127.0.0.1:1"],
        &["coordinator"],
        &["dev", "--replicas", "2"],
        &["topic-server", "--id", "ts-1", "--rpc-listen", "0.0.0.0:0"],
        &["topic", "publish", "room:a", "say", "[1]"],
        &["topic", "publish", "room:a", "", "{}"],
        &["topic", "show", ""],
        &["topic", "ls", "--limit", "0"],
        &["health", "https://127.0.0.1:1"],
        &["ring", "commit"],
        &["ring", "plan", "ts-1"],
        &["ring", "plan", "--dead"],
        &["ring", "abort", "p1-abc"],
        &["node", "drain"],
        &["node", "weight", "ts-1"],
        &["node", "remove", "ts-1", "--yes"],
    ] {
        let output = run(usage);
        assert_eq!(code(&output), 2, "{usage:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{usage:?}");
        assert!(!output.stderr.is_empty(), "{usage:?}");
    }
    for failure in [
        &["ring", "status", "--store", "http://127.0.0.1:1"] as &[&str],
        &["--store", "etcd://127.0.0.1:1", "ring", "status"],
        &["health", "http://127.0.0.1:1"],
        &["config", "check", "/nonexistent.toml"],
        &["gateway", "--config", "/nonexistent.toml"],
    ] {
        let output = run(failure);
        assert_eq!(code(&output), 1, "{failure:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{failure:?}");
        assert!(!output.stderr.is_empty(), "{failure:?}");
    }
}

#[test]
fn every_command_of_the_ring_says_that_the_store_is_away() {
    for command in [
        &["ring", "plan", "--drain", "ts-1"] as &[&str],
        &["ring", "commit", "p1-abc"],
        &["ring", "abort"],
        &["ring", "watch"],
        &["ring", "history"],
        &["node", "add", "ts-1"],
        &["node", "drain", "ts-1"],
        &["node", "remove", "ts-1"],
        &["node", "weight", "ts-1", "2"],
    ] {
        let output = ringcast()
            .args(command)
            .args(["-o", "json", "--store", "http://127.0.0.1:1"])
            .output()
            .unwrap();
        assert_eq!(code(&output), 1, "{command:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{command:?}");
        assert!(
            stderr(&output).contains("http://127.0.0.1:1"),
            "{command:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn only_flags_that_are_settings_name_a_variable() {
    for command in [
        &["ring", "plan", "--help"] as &[&str],
        &["ring", "commit", "--help"],
        &["node", "remove", "--help"],
    ] {
        let output = run(command);
        let help = String::from_utf8_lossy(&output.stdout);
        for line in help.lines().filter(|line| line.contains("[env:")) {
            let setting = [
                "RINGCAST_STORE",
                "RINGCAST_OUTPUT",
                "RINGCAST_LOG",
                "RINGCAST_CONFIG",
            ];
            assert!(
                setting.iter().any(|name| line.contains(name)),
                "{command:?}: {line}"
            );
        }
        assert!(help.contains("RINGCAST_STORE"), "{command:?}: {help}");
    }
}

#[test]
fn a_store_that_is_away_is_named_and_what_to_do_is_said() {
    let output = run(&["ring", "status", "--store", "http://127.0.0.1:1"]);
    for said in [
        "http://127.0.0.1:1",
        "ringcast dev",
        "ringcast coordinator",
        "--store",
    ] {
        assert!(stderr(&output).contains(said), "{said} in {}", stderr(&output));
    }
}

#[test]
fn a_second_copy_is_refused_until_replicas_exist() {
    let typed = run(&["topic-server", "--id", "ts-1", "--replicas", "2"]);
    assert!(
        stderr(&typed).contains("--replicas: 2 copies of a slot are not possible yet"),
        "{}",
        stderr(&typed)
    );
    let set = ringcast()
        .args(["topic-server", "--id", "ts-1"])
        .env("RINGCAST_REPLICAS", "2")
        .output()
        .unwrap();
    assert_eq!(code(&set), 1);
    assert!(
        stderr(&set).contains("RINGCAST_REPLICAS: 2 copies"),
        "{}",
        stderr(&set)
    );
}

#[test]
fn help_names_the_variable_of_a_flag_and_never_its_value() {
    let output = ringcast()
        .args(["gateway", "--help"])
        .env("RINGCAST_STORE", "http://secret:1")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for variable in [
        "RINGCAST_STORE",
        "RINGCAST_RPC_LISTEN",
        "RINGCAST_LIMITS_PROFILE",
        "RINGCAST_CONFIG",
    ] {
        assert!(
            help.contains(&format!("[env: {variable}]")),
            "{variable} in {help}"
        );
    }
    assert!(!help.contains("secret"));
}

#[test]
fn a_completion_script_is_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]);
        assert!(
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("topic-server"),
            "{shell}"
        );
    }
}

#[test]
fn config_check_tells_what_a_file_sets_or_everything_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ringcast.toml");
    let file = path.to_str().unwrap();

    std::fs::write(&path, "id = \"gw-1\"\n[[channel]]\npattern = \"chat:*\"\n").unwrap();
    let fine = run(&["config", "check", file, "-o", "json"]);
    assert_eq!(code(&fine), 0);
    let fine: Value = serde_json::from_slice(&fine.stdout).unwrap();
    assert_eq!(fine["ok"], true);
    assert_eq!(fine["settings"]["id"], "gw-1");
    assert_eq!(fine["settings"]["channel"][0]["client_events"], "all");
    let people = run(&["config", "check", file]);
    assert!(String::from_utf8_lossy(&people.stdout).contains("id = \"gw-1\""));

    std::fs::write(&path, "listn = \"127.0.0.1:1\"\n\nstroe = \"x\"\n").unwrap();
    let wrong = run(&["-o", "json", "config", "check", file]);
    assert_eq!(code(&wrong), 1);
    let wrong: Value = serde_json::from_slice(&wrong.stdout).unwrap();
    assert_eq!(wrong["ok"], false);
    assert_eq!(wrong["errors"][0]["key"], "listn");
    assert_eq!(wrong["errors"][0]["line"], 1);
    assert_eq!(wrong["errors"][0]["nearest"], "listen");
    assert_eq!(wrong["errors"][1]["line"], 3);
    assert_eq!(wrong["errors"][1]["nearest"], "store");
    let people = run(&["config", "check", file]);
    assert_eq!(code(&people), 1);
    assert!(stderr(&people).contains("ringcast.toml:3: stroe: no such setting; did you mean store?"));
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_chooses_another_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let any = "127.0.0.1:0";
    for (flag, args) in [
        (
            "--listen",
            &["dev", "--store-listen", any, "--admin-listen", any] as &[&str],
        ),
        ("--store-listen", &["dev", "--listen", any, "--admin-listen", any]),
        ("--admin-listen", &["dev", "--listen", any, "--store-listen", any]),
        (
            "--listen",
            &["coordinator", "--data-dir", data_dir, "--admin-listen", any],
        ),
        (
            "--admin-listen",
            &["coordinator", "--data-dir", data_dir, "--listen", any],
        ),
        (
            "--rpc-listen",
            &["topic-server", "--id", "ts-1", "--admin-listen", any],
        ),
        (
            "--listen",
            &[
                "gateway",
                "--id",
                "gw-1",
                "--rpc-listen",
                any,
                "--admin-listen",
                any,
            ],
        ),
        (
            "--rpc-listen",
            &["gateway", "--id", "gw-1", "--listen", any, "--admin-listen", any],
        ),
    ] {
        let output = ringcast().args(args).args([flag, &address]).output().unwrap();
        assert_eq!(code(&output), 1, "{args:?} {flag}: {}", stderr(&output));
        let port = format!(
            "port {} is in use; choose another one with {flag}",
            taken.local_addr().unwrap().port()
        );
        assert!(
            stderr(&output).contains(&port),
            "{args:?} {flag}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn dev_is_a_cluster_that_commands_see_and_ends_within_2_s() {
    for signal in ["-TERM", "-INT"] {
        let mut dev = Dev::start(&[]);
        assert_eq!(dev.ready["gateways"].as_array().unwrap().len(), 2);
        assert_eq!(dev.ready["topic_servers"].as_array().unwrap().len(), 3);
        let store = dev.url("store");

        let health = run(&["health", &dev.url("admin"), "-o", "json"]);
        assert_eq!(code(&health), 0, "{}", stderr(&health));
        assert_eq!(
            String::from_utf8_lossy(&health.stdout),
            "{\"ready\":true,\"reasons\":[]}\n"
        );

        let status = run(&["ring", "status", "-o", "json", "--store", &store]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(
            (&status["slots"], &status["replicas"]),
            (&Value::from(1024), &Value::from(1))
        );
        let owned: u64 = status["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["slots_owned"].as_u64().unwrap())
            .sum();
        assert_eq!(owned, 1024);

        let published = run(&[
            "topic",
            "publish",
            "room:a",
            "say",
            "{\"n\": 1}",
            "-o",
            "json",
            "--store",
            &store,
        ]);
        assert_eq!(code(&published), 0, "{}", stderr(&published));
        let published: Value = serde_json::from_slice(&published.stdout).unwrap();
        assert_eq!(published["offset"], 1);
        let listed = run(&[
            "--store", &store, "topic", "ls", "-o", "json", "--prefix", "room:",
        ]);
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        assert_eq!(listed["topics"][0]["topic"], "room:a");

        let asked = Instant::now();
        dev.signal(signal);
        let status = dev.child.wait().unwrap();
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "took {:?} after {signal}",
            asked.elapsed()
        );
        assert_eq!(status.code(), Some(0));
        let mut rest = String::new();
        dev.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        assert_eq!(rest, "", "stdout holds one JSON value");
    }
}

#[test]
fn every_metric_names_its_node() {
    let dev = Dev::start(&["--gateways", "1", "--topic-servers", "1", "--slots", "16"]);
    let admin = dev.url("admin");
    let address = admin.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let metrics: Vec<&str> = answer
        .lines()
        .filter(|line| line.starts_with("ringcast_"))
        .collect();
    assert!(metrics.len() > 10, "{answer}");
    for metric in metrics {
        assert!(
            metric.contains("node=\"gw-1\"") || metric.contains("node=\"ts-1\""),
            "{metric}"
        );
    }
}

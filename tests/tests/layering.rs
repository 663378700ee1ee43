//! Who may know whom: the crates' direct dependencies as an allow-list, so that a new edge is a change of this file
//! and has a reviewer.
//!
//! *Invariant:* the two servers never know each other or each other's core; a pure crate never sees a runtime, a
//! socket, a clock, a random source, a log or a metric, neither directly nor through another crate.
//! Leaves out: clocks and unordered maps of `std`, which each pure crate's `clippy.toml` forbids.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a crate may depend on directly.
struct Allowed {
    name: &'static str,
    normal: &'static [&'static str],
    dev: &'static [&'static str],
    build: &'static [&'static str],
}

const ALLOWED: &[Allowed] = &[
    Allowed {
        name: "ringcast-proto",
        normal: &[
            "bytes",
            "futures-util",
            "prost",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tonic",
            "tonic-prost",
            "tracing",
        ],
        dev: &["proptest"],
        build: &["protox", "tonic-prost-build"],
    },
    Allowed {
        name: "ringcast-ring",
        normal: &["hashring", "ringcast-proto", "thiserror", "xxhash-rust"],
        dev: &["expect-test", "proptest", "serde_json"],
        build: &[],
    },
    Allowed {
        name: "ringcast-ring-store",
        normal: &[
            "futures-util",
            "getrandom",
            "ringcast-proto",
            "ringcast-ring",
            "rustix",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tokio-util",
            "tonic",
            "tracing",
            "xxhash-rust",
        ],
        dev: &["proptest", "tempfile"],
        build: &[],
    },
    Allowed {
        name: "ringcast-topic-server-core",
        normal: &["bytes", "ringcast-proto", "ringcast-ring", "thiserror"],
        dev: &["expect-test", "proptest", "serde_json"],
        build: &[],
    },
    Allowed {
        name: "ringcast-topic-server",
        normal: &[
            "arc-swap",
            "bytes",
            "futures-util",
            "getrandom",
            "metrics",
            "ringcast-proto",
            "ringcast-ring",
            "ringcast-ring-store",
            "ringcast-topic-server-core",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tokio-util",
            "tonic",
            "tracing",
        ],
        dev: &["metrics-exporter-prometheus"],
        build: &[],
    },
    Allowed {
        name: "ringcast-gateway-core",
        normal: &[
            "bytes",
            "ringcast-proto",
            "ringcast-ring",
            "serde",
            "serde_json",
            "thiserror",
        ],
        dev: &["expect-test", "proptest", "tokio-tungstenite"],
        build: &[],
    },
    Allowed {
        name: "ringcast-gateway",
        normal: &[
            "arc-swap",
            "axum",
            "base64",
            "bytes",
            "futures-util",
            "getrandom",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "metrics",
            "mio",
            "ringcast-gateway-core",
            "ringcast-proto",
            "ringcast-ring",
            "ringcast-ring-store",
            "rustix",
            "serde",
            "serde_json",
            "sha1",
            "thiserror",
            "tokio",
            "tokio-stream",
            "tokio-util",
            "tonic",
            "tower",
            "tracing",
        ],
        dev: &["metrics-exporter-prometheus", "tokio-tungstenite"],
        build: &[],
    },
    Allowed {
        name: "ringcast-cli",
        normal: &[
            "anyhow",
            "axum",
            "clap",
            "clap_complete",
            "comfy-table",
            "figment",
            "futures-util",
            "hyper",
            "hyper-util",
            "indicatif",
            "metrics",
            "metrics-exporter-prometheus",
            "mimalloc",
            "ringcast-gateway",
            "ringcast-proto",
            "ringcast-ring",
            "ringcast-ring-store",
            "ringcast-topic-server",
            "rustix",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-util",
            "toml_edit",
            "tonic",
            "tracing",
            "tracing-subscriber",
        ],
        dev: &["expect-test", "stats_alloc", "tempfile"],
        build: &[],
    },
    Allowed {
        name: "ringcast-tests",
        normal: &[
            "anyhow",
            "futures-util",
            "ringcast-proto",
            "rustix",
            "serde_json",
            "tempfile",
            "tokio",
            "tokio-tungstenite",
        ],
        dev: &[],
        build: &[],
    },
    Allowed {
        name: "ringcast-simulation",
        normal: &[
            "bytes",
            "clap",
            "ringcast-gateway-core",
            "ringcast-proto",
            "ringcast-ring",
            "ringcast-ring-store",
            "ringcast-topic-server-core",
            "serde",
            "serde_json",
        ],
        dev: &[],
        build: &[],
    },
    Allowed {
        name: "ringcast-hotpath",
        normal: &[
            "bytes",
            "clap",
            "ringcast-gateway-core",
            "ringcast-proto",
            "ringcast-ring",
            "ringcast-topic-server-core",
            "serde",
            "serde_json",
            "thiserror",
        ],
        dev: &[],
        build: &[],
    },
];

/// Crates whose behaviour is a function of their inputs.
const PURE: &[&str] = &[
    "ringcast-ring",
    "ringcast-topic-server-core",
    "ringcast-gateway-core",
];

/// What would make a pure crate depend on when, where or how often it runs.
const IMPURE: &[&str] = &[
    "arc-swap",
    "async-trait",
    "axum",
    "crossbeam-channel",
    "etcd-client",
    "fastrand",
    "futures-util",
    "getrandom",
    "h2",
    "hyper",
    "metrics",
    "mio",
    "parking_lot",
    "rand",
    "rand_core",
    "rustix",
    "socket2",
    "tokio",
    "tonic",
    "tower",
    "tracing",
];

#[test]
fn a_crate_depends_on_what_the_architecture_allows_and_on_nothing_else() {
    let found = direct_dependencies();
    let named: BTreeSet<&str> = ALLOWED.iter().map(|allowed| allowed.name).collect();
    let there: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        named, there,
        "a crate beyond those of the architecture must earn its place here first"
    );
    let mut wrong = Vec::new();
    for allowed in ALLOWED {
        let kinds = &found[allowed.name];
        for (kind, may) in [
            ("normal", allowed.normal),
            ("dev", allowed.dev),
            ("build", allowed.build),
        ] {
            for name in kinds.get(kind).into_iter().flatten() {
                if !may.contains(&name.as_str()) {
                    wrong.push(format!("{} has {name} as a {kind} dependency", allowed.name));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "not on the allow-list of this file:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_two_servers_know_neither_each_other_nor_each_others_core() {
    for (server, forbidden) in [
        (
            "ringcast-gateway",
            ["ringcast-topic-server", "ringcast-topic-server-core"],
        ),
        (
            "ringcast-topic-server",
            ["ringcast-gateway", "ringcast-gateway-core"],
        ),
        (
            "ringcast-gateway-core",
            ["ringcast-topic-server", "ringcast-topic-server-core"],
        ),
        (
            "ringcast-topic-server-core",
            ["ringcast-gateway", "ringcast-gateway-core"],
        ),
    ] {
        let reached = tree(server);
        for other in forbidden {
            assert!(!reached.contains(other), "{server} reaches {other}");
        }
    }
}

#[test]
fn a_pure_crate_reaches_no_runtime_socket_clock_random_source_log_or_metric() {
    for pure in PURE {
        // Alone, because Cargo unites features over a workspace: `proto` with `grpc` would hide or invent a use.
        let reached = tree(pure);
        assert!(
            reached.contains("ringcast-proto"),
            "cargo tree -p {pure} said {reached:?}"
        );
        for name in IMPURE {
            assert!(
                !reached.contains(*name),
                "{pure} reaches {name}: cargo tree -p {pure} -e normal -i {name}"
            );
        }
    }
}

#[test]
fn a_pure_crate_forbids_unsafe_code_clocks_and_unordered_maps() {
    for (folder, name) in [
        ("ring", PURE[0]),
        ("topic-server/core", PURE[1]),
        ("gateway/core", PURE[2]),
    ] {
        let root = std::fs::read_to_string(workspace().join(folder).join("src/lib.rs")).expect("read lib.rs");
        assert!(
            root.contains("#![forbid(unsafe_code)]"),
            "{name} does not forbid unsafe code"
        );
        let clippy =
            std::fs::read_to_string(workspace().join(folder).join("clippy.toml")).expect("read clippy.toml");
        for banned in [
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "HashMap",
            "HashSet",
        ] {
            assert!(
                clippy.contains(banned),
                "{name}'s clippy.toml does not ban {banned}"
            );
        }
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(workspace())
        .output()
        .expect("run cargo");
    assert!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// crate -> kind -> names.
fn direct_dependencies() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"]))
        .expect("parse metadata");
    let mut crates = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let kind = dependency["kind"].as_str().unwrap_or("normal").to_owned();
            let name = dependency["name"]
                .as_str()
                .expect("a dependency has a name")
                .to_owned();
            kinds.entry(kind).or_default().insert(name);
        }
        crates.insert(
            package["name"].as_str().expect("a package has a name").to_owned(),
            kinds,
        );
    }
    crates
}

/// Every crate that `name`, built alone, reaches by normal dependencies.
fn tree(name: &str) -> BTreeSet<String> {
    cargo(&[
        "tree", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}",
    ])
    .lines()
    .filter_map(|line| line.split_whitespace().next())
    .map(str::to_owned)
    .collect()
}

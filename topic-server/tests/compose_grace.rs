//! docker-compose.yml must leave a topic server the time it takes to leave well.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_topic_server::DRAIN_DEADLINE;

/// What `TopicServer::run` takes to end once it has drained, and as much again.
const ENDING: Duration = Duration::from_secs(3);

/// A service, or a block that services merge: its direct keys.
#[derive(Debug, Default)]
struct Block {
    merges: Option<String>,
    command: Option<String>,
    grace: Option<Duration>,
}

/// The services and what they merge, by name and by anchor. Reads as much of YAML as the file uses.
fn blocks(yaml: &str) -> BTreeMap<String, Block> {
    let mut blocks: BTreeMap<String, Block> = BTreeMap::new();
    let mut current: Option<(usize, String)> = None;
    for line in yaml.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let Some((key, value)) = text.split_once(':').filter(|_| !text.starts_with('#')) else {
            continue;
        };
        let value = value.trim();
        let begins = (indent == 0 && value.starts_with('&')) || (indent == 2 && value.is_empty());
        if begins && current.as_ref().is_none_or(|(top, _)| indent <= *top) {
            current = Some((indent, value.strip_prefix('&').unwrap_or(key).to_owned()));
        } else if indent == 0 {
            current = None;
        }
        let Some((top, name)) = &current else { continue };
        let block = blocks.entry(name.clone()).or_default();
        match key {
            "<<" if indent == top + 2 => block.merges = value.strip_prefix('*').map(str::to_owned),
            "command" if indent == top + 2 => block.command = Some(value.to_owned()),
            "stop_grace_period" if indent == top + 2 => block.grace = Some(seconds(value)),
            _ => {}
        }
    }
    blocks
}

fn seconds(value: &str) -> Duration {
    let number = value.strip_suffix('s').and_then(|number| number.parse().ok());
    Duration::from_secs(number.unwrap_or_else(|| panic!("{value:?} is no number of seconds")))
}

/// What the service gets before it is killed; Docker gives 10 s to who says nothing.
fn grace(blocks: &BTreeMap<String, Block>, block: &Block) -> Duration {
    let merged = || Some(grace(blocks, blocks.get(block.merges.as_ref()?)?));
    block.grace.or_else(merged).unwrap_or(Duration::from_secs(10))
}

/// The grace of every topic server, by its name.
fn topic_servers(yaml: &str) -> BTreeMap<String, Duration> {
    let blocks = blocks(yaml);
    let is_one = |block: &Block| {
        let command = block.command.as_deref().unwrap_or_default();
        assert!(
            !command.contains("--drain-deadline"),
            "the test has to learn of {command}"
        );
        command.starts_with("topic-server ")
    };
    let found = blocks.iter().filter(|(_, block)| is_one(block));
    found
        .map(|(name, block)| (name.clone(), grace(&blocks, block)))
        .collect()
}

#[test]
fn a_topic_server_is_not_killed_while_its_slots_move_away() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker-compose.yml");
    let found = topic_servers(&std::fs::read_to_string(path).unwrap());
    assert_eq!(found.len(), 3, "{found:?}");
    for (name, grace) in found {
        assert!(
            grace >= DRAIN_DEADLINE + ENDING,
            "{name} is killed after {grace:?}, and may take {DRAIN_DEADLINE:?} to drain"
        );
    }
}

#[test]
fn the_grace_of_a_service_is_its_own_or_that_of_what_it_merges_or_dockers() {
    let yaml = "x-node: &node\n  stop_grace_period: 8s\nx-more: &more\n  <<: *node\nservices:\n  \
                a:\n    <<: *more\n    command: topic-server --id a\n  \
                b:\n    <<: *more\n    stop_grace_period: 9s\n    command: topic-server --id b\n  \
                c:\n    command: topic-server --id c\n    deploy:\n      stop_grace_period: 1s\n  \
                d:\n    command: gateway --id d\n";
    let grace = topic_servers(yaml);
    let seconds: Vec<_> = grace
        .iter()
        .map(|(name, grace)| (name.as_str(), grace.as_secs()))
        .collect();
    assert_eq!(seconds, [("a", 8), ("b", 9), ("c", 10)]);
}

//! What a setting may be beyond its type.

use super::{Channel, OriginCheck, Settings};

/// More gateways or topic servers than this in one process is a slip of the finger.
const DEV_NODES_MAX: u16 = 64;
/// Slots are few on purpose: a slot is a task and a record.
const SLOTS_MAX: u16 = 16_384;

/// A topic is no log: what is longer belongs into one.
const HISTORY_LEN_MAX: u64 = 100_000;
const HISTORY_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// A day, in seconds.
const HISTORY_AGE_MAX: u64 = 24 * 60 * 60;
/// An id takes some 200 bytes in memory, on every topic whose clients give them.
const HISTORY_IDS_MAX: u64 = 1_000_000;
/// Less is a slip: it was meant in another unit.
const HISTORY_MEMORY_MIN: u64 = 1024 * 1024;

/// More than any machine has cores for.
const THREADS_MAX: u16 = 1024;

/// Everything that is wrong, each with the path of its setting.
pub(super) fn check(settings: &Settings) -> Result<(), Vec<(Vec<String>, String)>> {
    let mut problems = Vec::new();
    let mut wrong = |path: &[&str], message: String| {
        problems.push((path.iter().map(|part| (*part).to_owned()).collect(), message));
    };
    match settings.replicas {
        None | Some(1) => {}
        Some(replicas) => wrong(
            &["replicas"],
            format!("{replicas} copies of a slot are not possible yet, only 1: replicas are not built"),
        ),
    }
    if settings
        .slots
        .is_some_and(|slots| slots == 0 || slots > SLOTS_MAX)
    {
        wrong(&["slots"], format!("must be 1 to {SLOTS_MAX}"));
    }
    for (key, nodes) in [
        ("gateways", settings.gateways),
        ("topic_servers", settings.topic_servers),
        ("expect_topic_servers", settings.expect_topic_servers),
    ] {
        let max = if key == "expect_topic_servers" {
            u16::MAX
        } else {
            DEV_NODES_MAX
        };
        if nodes.is_some_and(|nodes| nodes == 0 || nodes > max) {
            wrong(&[key], format!("must be 1 to {max}"));
        }
    }
    if settings
        .threads
        .is_some_and(|threads| threads == 0 || threads > THREADS_MAX)
    {
        wrong(&["threads"], format!("must be 1 to {THREADS_MAX}"));
    }
    if let Some(advertise) = &settings.advertise
        && !is_host_and_port(advertise)
    {
        wrong(&["advertise"], format!("{advertise:?} is no HOST:PORT"));
    }
    if settings.origin.check == Some(OriginCheck::Allow) && settings.origin.allow.is_empty() {
        wrong(
            &["origin", "check"],
            "allow needs at least one origin in origin.allow".to_owned(),
        );
    }
    if matches!(settings.origin.check, Some(OriginCheck::Any | OriginCheck::Conn))
        && !settings.origin.allow.is_empty()
    {
        wrong(
            &["origin", "allow"],
            "has no effect unless origin.check is \"allow\" or left out".to_owned(),
        );
    }
    for (index, origin) in settings.origin.allow.iter().enumerate() {
        if let Err(error) = crate::roles::gateway::origin_pattern(origin) {
            wrong(&["origin", "allow", &index.to_string()], error.to_string());
        }
    }
    let mut at_most = |path: &[&str], number: Option<u64>, max: u64| {
        if number.is_some_and(|number| number > max) {
            wrong(path, format!("must be at most {max}"));
        }
    };
    let history = &settings.history;
    at_most(&["history", "len"], history.len.map(u64::from), HISTORY_LEN_MAX);
    at_most(&["history", "bytes"], history.bytes, HISTORY_BYTES_MAX);
    at_most(&["history", "age"], history.age.map(u64::from), HISTORY_AGE_MAX);
    at_most(&["history", "ids"], history.ids.map(u64::from), HISTORY_IDS_MAX);
    at_most(
        &["history", "ids_age"],
        history.ids_age.map(u64::from),
        HISTORY_AGE_MAX,
    );
    for (index, channel) in settings.channel.iter().enumerate() {
        let index = index.to_string();
        at_most(
            &["channel", &index, "history_len"],
            channel.history_len.map(u64::from),
            HISTORY_LEN_MAX,
        );
        at_most(
            &["channel", &index, "history_bytes"],
            channel.history_bytes,
            HISTORY_BYTES_MAX,
        );
        at_most(
            &["channel", &index, "history_age"],
            channel.history_age.map(u64::from),
            HISTORY_AGE_MAX,
        );
    }
    if settings
        .history_memory
        .is_some_and(|bytes| bytes < HISTORY_MEMORY_MIN)
    {
        wrong(
            &["history_memory"],
            format!("must be at least {HISTORY_MEMORY_MIN} bytes"),
        );
    }
    for (index, channel) in settings.channel.iter().enumerate() {
        if let Err(error) = crate::roles::gateway::namespace(channel) {
            wrong(&["channel", &index.to_string(), "pattern"], error.to_string());
        }
        check_channel(index, channel, &mut wrong);
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

fn check_channel(index: usize, channel: &Channel, wrong: &mut impl FnMut(&[&str], String)) {
    let index = index.to_string();
    if !channel.resume && channel.slow_consumer.is_some() {
        wrong(
            &["channel", &index, "slow_consumer"],
            "has no effect where resume is false: who reads too slowly is closed".to_owned(),
        );
    }
    if channel.targets.is_empty() {
        wrong(
            &["channel", &index, "targets"],
            "must name at least one; client_events = \"refuse\" lets clients publish nothing".to_owned(),
        );
    }
    for event in &channel.ephemeral {
        if let Some(problem) = no_event(event) {
            wrong(&["channel", &index, "ephemeral"], format!("{event:?} {problem}"));
        }
    }
}

/// Why clients cannot publish an event of this name.
fn no_event(event: &str) -> Option<&'static str> {
    let is_reserved = event.starts_with("phx_") || event.starts_with("chan_reply_") || event == "gap";
    match event.len() {
        1..=255 if is_reserved => Some("is a name of the protocol's own, which nobody can publish"),
        1..=255 => None,
        _ => Some("is no event, whose name has 1 to 255 bytes"),
    }
}

fn is_host_and_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

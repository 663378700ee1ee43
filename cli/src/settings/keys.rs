//! The names of all settings, and the nearest one to a name that is none.

/// A setting that is one value, or the table that holds some.
pub(super) const TOP: &[&str] = &[
    "store",
    "output",
    "log",
    "log_format",
    "id",
    "listen",
    "rpc_listen",
    "admin_listen",
    "store_listen",
    "advertise",
    "data_dir",
    "expect_topic_servers",
    "slots",
    "replicas",
    "drain_deadline",
    "history_memory",
    "threads",
    "gateways",
    "topic_servers",
    "limits",
    "history",
    "origin",
    "channel",
];

/// Keys of `[limits]`.
pub(super) const LIMITS: &[&str] = &["profile"];
/// Keys of `[history]`.
pub(super) const HISTORY: &[&str] = &["len", "bytes", "age", "ids", "ids_age"];
/// Keys of `[origin]`.
pub(super) const ORIGIN: &[&str] = &["check", "allow"];
/// Keys of a `[[channel]]`.
pub(super) const CHANNEL: &[&str] = &[
    "pattern",
    "client_events",
    "resume",
    "slow_consumer",
    "targets",
    "ephemeral",
    "history_len",
    "history_bytes",
    "history_age",
];

/// Settings that are numbers: what the environment says in text is read as one.
pub(super) const NUMBERS: &[&str] = &[
    "expect_topic_servers",
    "slots",
    "replicas",
    "drain_deadline",
    "history_memory",
    "threads",
    "gateways",
    "topic_servers",
];

/// The setting a flag or variable of this name stands for, as a path.
pub(super) fn path_of(name: &str) -> Vec<&str> {
    match name {
        "limits_profile" => vec!["limits", "profile"],
        _ => vec![name],
    }
}

/// The known name with the fewest edits, and how many; `None` where all are further than half the name's length.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let normal = name.to_lowercase().replace(['-', '.', ' '], "_");
    known
        .into_iter()
        .map(|candidate| (edits(&normal, candidate), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, candidate)| *edits <= candidate.len().max(normal.len()) / 2)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, in characters.
pub(super) fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

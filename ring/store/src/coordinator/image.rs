//! The coordinator's snapshot file, as bytes.
//!
//! A text file that any pager shows: a header line, a line a record (`[key, revision, op, ttl_ms]`, a tab, the record's
//! JSON), and a last line with the XXH3 of everything before it.
//!
//! *Invariant:* what [`parse`] accepts is, byte for byte, what [`Image::bytes`] wrote: one flipped or missing byte
//! anywhere is found by the hash or by the form of the hash's own line.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::NodeId;
use ringcast_proto::record::{Key, Record};
use ringcast_ring::{Op, Records, Revision, Snapshot, Stored};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::state::{Durable, Step};

/// The format this build writes, and the only one it reads.
pub(super) const FORMAT: u64 = 1;

/// What is wrong with the bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("truncated: no hash in its last line")]
    Truncated,
    #[error("damaged: its hash says {says:016x}, its contents have {has:016x}")]
    Hash { says: u64, has: u64 },
    #[error("unknown format {0}, this build reads format {FORMAT}")]
    Format(u64),
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: String },
}

/// What a file says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Contents {
    /// Random, given at the first start: ties the file to its marker.
    pub(super) store_id: String,
    pub(super) durable: Durable,
}

/// The lines of the next file; only those that changed are written anew.
pub(super) struct Image {
    store_id: String,
    revision: Revision,
    lines: BTreeMap<Key, String>,
}

impl Image {
    pub(super) fn new(store_id: String, durable: &Durable) -> Image {
        let ttls: BTreeMap<_, _> = durable
            .leases()
            .map(|granted| (granted.node.node, granted.ttl))
            .collect();
        let snapshot = durable.snapshot();
        let line = |(key, stored): (&Key, &Stored)| {
            let ttl = if let Key::Node(id) = key {
                ttls.get(id).copied()
            } else {
                None
            };
            (key.clone(), line(key, stored, ttl))
        };
        Image {
            store_id,
            revision: snapshot.revision,
            lines: snapshot.records.iter().map(line).collect(),
        }
    }

    /// Goes on to `step`, which has been applied to `durable`.
    pub(super) fn apply(&mut self, step: &Step, durable: &Durable) {
        self.revision = step.changed.revision;
        for (key, stored) in &step.changed.records {
            let ttl = if let Key::Node(id) = key {
                durable.ttl(id)
            } else {
                None
            };
            match stored {
                Some(stored) => self.lines.insert(key.clone(), line(key, stored, ttl)),
                None => self.lines.remove(key),
            };
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let header = json!({
            "format": FORMAT, "store": self.store_id, "revision": self.revision.0, "records": self.lines.len(),
        });
        let mut text = header.to_string();
        text.push('\n');
        for line in self.lines.values() {
            text.push_str(line);
        }
        let hash = xxh3_64(text.as_bytes());
        text.push_str(&hash_line(hash));
        text.into_bytes()
    }
}

/// The last line of a file whose other bytes have this hash.
pub(super) fn hash_line(hash: u64) -> String {
    format!("xxh3 {hash:016x}\n")
}

fn line(key: &Key, stored: &Stored, ttl: Option<Duration>) -> String {
    let ttl = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    let head = json!([key.to_string(), stored.revision.0, stored.op.0, ttl]);
    let record = stored.record.encode();
    // JSON as serde writes it has neither tabs nor line ends outside of escapes.
    format!("{head}\t{}\n", String::from_utf8_lossy(&record))
}

pub(super) fn parse(bytes: &[u8]) -> Result<Contents, Error> {
    let text = checked(bytes)?;
    let mut lines = text.split_terminator('\n').enumerate();
    let wrong = |line: usize, reason: &str| Error::Line {
        line: line + 1,
        reason: reason.to_owned(),
    };
    let header = lines.next().map_or("", |(_, line)| line);
    let header: Value = serde_json::from_str(header).map_err(|_| wrong(0, "the header is no JSON"))?;
    match header["format"].as_u64() {
        Some(FORMAT) => {}
        Some(format) => return Err(Error::Format(format)),
        None => return Err(wrong(0, "the header has no format")),
    }
    let store_id = header["store"]
        .as_str()
        .ok_or_else(|| wrong(0, "the header has no store"))?
        .to_owned();
    let number = |name: &str| {
        header[name]
            .as_u64()
            .ok_or_else(|| wrong(0, &format!("the header has no {name}")))
    };
    let (revision, count) = (number("revision")?, number("records")?);
    let (mut records, mut ttls) = (Records::default(), BTreeMap::new());
    for (index, text) in lines {
        let (key, stored, ttl) = record(text).map_err(|reason| Error::Line {
            line: index + 1,
            reason,
        })?;
        if let (Key::Node(id), Some(ttl)) = (&key, ttl) {
            ttls.insert(NodeId::clone(id), ttl);
        }
        if stored.revision.0 > revision {
            return Err(wrong(index, "the record is newer than the file"));
        }
        records.insert(key, stored);
    }
    if u64::try_from(records.len()) != Ok(count) {
        return Err(wrong(
            0,
            &format!("{count} records promised, {} found", records.len()),
        ));
    }
    let durable = Durable::new(
        Snapshot {
            revision: Revision(revision),
            records,
        },
        ttls,
    );
    Ok(Contents { store_id, durable })
}

/// The text before the hash's line, if the hash is right.
fn checked(bytes: &[u8]) -> Result<&str, Error> {
    let (text, trailer) = bytes
        .split_at_checked(bytes.len().saturating_sub(hash_line(0).len()))
        .ok_or(Error::Truncated)?;
    let digits = trailer
        .strip_prefix(b"xxh3 ")
        .and_then(|rest| rest.strip_suffix(b"\n"));
    let says = digits.and_then(|digits| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
    let says = says.ok_or(Error::Truncated)?;
    let has = xxh3_64(text);
    // Compared as written too: `ABC`, `+ab` and `abc` are one number, but only one of them is ours.
    if says != has || trailer != hash_line(has).as_bytes() {
        return Err(Error::Hash { says, has });
    }
    std::str::from_utf8(text).map_err(|error| Error::Line {
        line: 1,
        reason: error.to_string(),
    })
}

fn record(line: &str) -> Result<(Key, Stored, Option<Duration>), String> {
    let (head, json) = line.split_once('\t').ok_or("no tab")?;
    let head: Value = serde_json::from_str(head).map_err(|error| error.to_string())?;
    let key: Key = head[0]
        .as_str()
        .ok_or("no key")?
        .parse()
        .map_err(|error| format!("{error}"))?;
    let revision = Revision(head[1].as_u64().ok_or("no revision")?);
    let op = Op(head[2].as_str().ok_or("no op")?.to_owned());
    let ttl = head[3].as_u64().map(Duration::from_millis);
    let record = Record::decode(&key, json.as_bytes()).map_err(|error| error.to_string())?;
    Ok((key, Stored { revision, op, record }, ttl))
}

//! The `CLUSTER` file beside the snapshot: whose it is, and the newest revision ever answered for.
//!
//! It makes an old copy of the snapshot file as plain as a damaged one. Written in place after every generation: two
//! entries in turns, in blocks of their own, so that a write cut short leaves the other one.
//!
//! *Invariant:* the marker is never ahead of a snapshot that was stored.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ringcast_ring::Revision;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::data_dir::write_synced;
use super::image::{FORMAT, hash_line};

/// No disk tears two blocks with one write.
const BLOCK_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) enum Error {
    Damaged {
        path: PathBuf,
    },
    Io {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
}

/// An open marker.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) store_id: String,
    pub(super) revision: Revision,
    path: PathBuf,
    file: File,
    /// Which of the two entries is the newer one.
    newer: usize,
}

impl Marker {
    /// The marker at `path`, if there is one.
    pub(super) fn open(path: &Path) -> Result<Option<Marker>, Error> {
        let fail = |action| {
            move |source| Error::Io {
                path: path.to_owned(),
                action,
                source,
            }
        };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail("read it")(error)),
        };
        let entries = bytes.chunks(BLOCK_BYTES).take(2).map(parse).enumerate();
        let newest = entries
            .filter_map(|(index, entry)| Some((entry?, index)))
            .max_by_key(|(entry, _)| entry.1);
        let Some(((store_id, revision), newer)) = newest else {
            return Err(Error::Damaged {
                path: path.to_owned(),
            });
        };
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(fail("open it for writing"))?;
        Ok(Some(Marker {
            store_id,
            revision,
            path: path.to_owned(),
            file,
            newer,
        }))
    }

    /// Writes a new one; the caller syncs the folder.
    pub(super) fn create(path: &Path, store_id: &str, revision: Revision) -> Result<Marker, Error> {
        let fail = |action| {
            move |source| Error::Io {
                path: path.to_owned(),
                action,
                source,
            }
        };
        let temporary = path.with_extension("tmp");
        let block = block(store_id, revision);
        write_synced(&temporary, &[block.clone(), block].concat()).map_err(fail("write it"))?;
        std::fs::rename(&temporary, path).map_err(fail("put it in place"))?;
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(fail("open it for writing"))?;
        let store_id = store_id.to_owned();
        Ok(Marker {
            store_id,
            revision,
            path: path.to_owned(),
            file,
            newer: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A snapshot of this revision is stored.
    pub(super) fn advance(&mut self, revision: Revision) -> io::Result<()> {
        let older = 1 - self.newer;
        let offset = if older == 0 { 0 } else { BLOCK_BYTES as u64 };
        self.file.write_all_at(&block(&self.store_id, revision), offset)?;
        self.file.sync_data()?;
        self.newer = older;
        self.revision = revision;
        Ok(())
    }
}

/// An entry: a line of JSON, a line with its hash, and blanks up to a line end.
fn block(store_id: &str, revision: Revision) -> Vec<u8> {
    let mut text = json!({ "format": FORMAT, "store": store_id, "revision": revision.0 }).to_string();
    text.push('\n');
    let hash = xxh3_64(text.as_bytes());
    text.push_str(&hash_line(hash));
    let mut block = text.into_bytes();
    block.resize(BLOCK_BYTES - 1, b' ');
    block.push(b'\n');
    block
}

fn parse(found: &[u8]) -> Option<(String, Revision)> {
    let json = found.split(|byte| *byte == b'\n').next()?;
    let entry: Value = serde_json::from_slice(json).ok()?;
    let (store_id, revision) = (entry["store"].as_str()?, Revision(entry["revision"].as_u64()?));
    // What would be written for what was read, byte for byte: hash, format and blanks in one comparison.
    (block(store_id, revision) == found).then(|| (store_id.to_owned(), revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("CLUSTER");
        (folder, path)
    }

    #[test]
    fn a_write_cut_short_leaves_the_entry_before() {
        let (_folder, path) = temporary();
        let mut marker = Marker::create(&path, "s1", Revision(0)).unwrap();
        for revision in 1..=5 {
            let before = std::fs::read(&path).unwrap();
            marker.advance(Revision(revision)).unwrap();
            let after = std::fs::read(&path).unwrap();
            assert_eq!(Marker::open(&path).unwrap().unwrap().revision, Revision(revision));
            for torn in [1, 20, 60, 100, 4000] {
                let mut bytes = before.clone();
                let start = if before[..BLOCK_BYTES] == after[..BLOCK_BYTES] {
                    BLOCK_BYTES
                } else {
                    0
                };
                bytes[start..start + torn].copy_from_slice(&after[start..start + torn]);
                std::fs::write(&path, bytes).unwrap();
                let found = Marker::open(&path).unwrap().unwrap().revision.0;
                assert!(
                    found == revision - 1 || found == revision,
                    "{found} after {revision}, torn at {torn}"
                );
            }
            std::fs::write(&path, after).unwrap();
        }
    }

    #[test]
    fn a_marker_with_no_whole_entry_is_refused() {
        let (_folder, path) = temporary();
        drop(Marker::create(&path, "s1", Revision(7)).unwrap());
        let whole = std::fs::read(&path).unwrap();
        for at in 0..BLOCK_BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(
                Marker::open(&path).unwrap().unwrap().revision,
                Revision(7),
                "byte {at}: the other entry"
            );
            bytes[BLOCK_BYTES + at] ^= 0x20;
            std::fs::write(&path, &bytes).unwrap();
            assert!(
                matches!(Marker::open(&path), Err(Error::Damaged { .. })),
                "byte {at} of both"
            );
        }
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(Marker::open(&path), Err(Error::Damaged { .. })));
    }
}

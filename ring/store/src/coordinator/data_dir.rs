//! The coordinator's folder: one snapshot file, replaced whole, and a marker that knows how new it must be.
//!
//! | file | what |
//! |---|---|
//! | `ring.snapshot` | all records; see `image` |
//! | `ring.snapshot.previous` | the generation before; never read unless a person puts it in place |
//! | `CLUSTER` | the store's id and the newest revision it ever answered for; see `marker` |
//! | `LOCK` | held while a coordinator runs |
//!
//! *Invariant:* when [`DataDir::replace`] has returned, the bytes are on the disk; killed at any moment, the folder holds
//! either the old file or the new one. An error other than "no room" is final: after a failed fsync nobody knows what the
//! disk holds, so nobody may go on as if they did.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ringcast_ring::Revision;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::image::{self, Contents, Image};
use super::marker::{self, Marker};
use crate::state::Durable;
use crate::store::fresh_op;

const SNAPSHOT: &str = "ring.snapshot";
const PREVIOUS: &str = "ring.snapshot.previous";
const TEMPORARY: &str = "ring.snapshot.tmp";
const LOCK: &str = "LOCK";
pub(super) const MARKER: &str = "CLUSTER";

/// Why the coordinator does not start from its folder, or does not go on with it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two coordinators on one folder would undo each other's changes.
    #[error("{path}: another coordinator uses this folder")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The marker says that there was a file.
    #[error(
        "{path}: missing, though {MARKER} beside it says that revision {revision} was stored there; \
         put it back, or move {MARKER} away to begin from nothing"
    )]
    Missing {
        /// The snapshot file.
        path: PathBuf,
        /// The newest revision ever answered for.
        revision: u64,
    },
    /// Its hash, form or format is wrong.
    #[error(
        "{path}: {reason}; a copy of the generation before is {PREVIOUS}: to lose what came after it, put it in place \
         and move {MARKER} away"
    )]
    Damaged {
        /// The snapshot file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The marker itself cannot be believed.
    #[error("{path}: {reason}; move it away if {SNAPSHOT} beside it is known to be the newest")]
    Marker {
        /// The marker.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An old copy was put in place.
    #[error(
        "{path}: an old copy of revision {revision}, though {MARKER} beside it says that {newest} was stored there"
    )]
    Older {
        /// The snapshot file.
        path: PathBuf,
        /// Its revision.
        revision: u64,
        /// The newest revision ever answered for.
        newest: u64,
    },
    /// Another store's file was put in place.
    #[error("{path}: is of store {store_id}, though {MARKER} beside it is of store {expected}")]
    Foreign {
        /// The snapshot file.
        path: PathBuf,
        /// Whose it is.
        store_id: String,
        /// Whose it should be.
        expected: String,
    },
    /// The disk or its permissions.
    #[error("{path}: cannot {action}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a generation was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// Nothing was changed; there may be room later.
    #[error("no room on the disk")]
    Full,
    /// It may or may not be stored. The process must end.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Where generations are stored; in tests, something that fails as told.
pub(super) trait Disk: Send + 'static {
    /// Stores the next generation.
    fn replace(&mut self, image: &[u8], revision: Revision) -> Result<(), WriteError>;
}

/// A locked folder.
#[derive(Debug)]
pub(super) struct DataDir {
    folder: PathBuf,
    marker: Marker,
    /// Held until this is dropped, also by a kill.
    _lock: File,
}

impl DataDir {
    /// Locks the folder, making it if need be, and reads what it holds.
    pub(super) fn open(folder: &Path) -> Result<(DataDir, Contents), Error> {
        fs::create_dir_all(folder).map_err(io_error(folder, "make the folder"))?;
        let lock = lock(&folder.join(LOCK))?;
        let marker_path = folder.join(MARKER);
        let found = Marker::open(&marker_path)?;
        let path = folder.join(SNAPSHOT);
        let contents = match fs::read(&path) {
            Ok(bytes) => Some(parse(&path, &bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(io_error(&path, "read it")(source)),
        };
        match (contents, found) {
            (Some(contents), Some(marker)) => {
                check(&path, &contents, &marker)?;
                Ok((
                    DataDir {
                        folder: folder.to_owned(),
                        marker,
                        _lock: lock,
                    },
                    contents,
                ))
            }
            (None, Some(marker)) => Err(Error::Missing {
                path,
                revision: marker.revision.0,
            }),
            (Some(contents), None) => {
                // A first start that was cut off between the two files, or a person who moved the marker away.
                tracing::warn!(path = %path.display(), "no {MARKER} beside it: taken as it is");
                let revision = contents.durable.snapshot().revision;
                let marker = Marker::create(&marker_path, &contents.store_id, revision)?;
                sync_folder(folder)?;
                Ok((
                    DataDir {
                        folder: folder.to_owned(),
                        marker,
                        _lock: lock,
                    },
                    contents,
                ))
            }
            (None, None) => DataDir::begin(folder, lock),
        }
    }

    fn begin(folder: &Path, lock: File) -> Result<(DataDir, Contents), Error> {
        let contents = Contents {
            store_id: fresh_op().0,
            durable: Durable::default(),
        };
        let image = Image::new(contents.store_id.clone(), &contents.durable).bytes();
        let (path, temporary) = (folder.join(SNAPSHOT), folder.join(TEMPORARY));
        write_synced(&temporary, &image).map_err(io_error(&temporary, "write it"))?;
        fs::rename(&temporary, &path).map_err(io_error(&path, "put it in place"))?;
        sync_folder(folder)?;
        let marker = Marker::create(&folder.join(MARKER), &contents.store_id, Revision(0))?;
        sync_folder(folder)?;
        Ok((
            DataDir {
                folder: folder.to_owned(),
                marker,
                _lock: lock,
            },
            contents,
        ))
    }

    /// Keeps the present generation under its other name.
    fn keep_previous(&self) -> io::Result<()> {
        let (path, previous) = (self.folder.join(SNAPSHOT), self.folder.join(PREVIOUS));
        let temporary = self.folder.join(format!("{PREVIOUS}.tmp"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Some file systems have no hard links; then it costs a second write.
        if fs::hard_link(&path, &temporary).is_err() {
            fs::copy(&path, &temporary)?;
        }
        fs::rename(&temporary, &previous)
    }
}

impl Disk for DataDir {
    fn replace(&mut self, image: &[u8], revision: Revision) -> Result<(), WriteError> {
        let (path, temporary) = (self.folder.join(SNAPSHOT), self.folder.join(TEMPORARY));
        if let Err(error) = write_synced(&temporary, image) {
            // Makes room, if that was what was missing; the next try begins with a new file in any case.
            drop(fs::remove_file(&temporary));
            return Err(full_or(error, &temporary, "write it"));
        }
        self.keep_previous()
            .map_err(|error| full_or(error, &path, "keep it as the generation before"))?;
        fs::rename(&temporary, &path).map_err(|error| full_or(error, &path, "put it in place"))?;
        sync_folder(&self.folder)?;
        // The change is stored by now, whatever becomes of the marker; without room it lags and says a little less.
        match self.marker.advance(revision) {
            Err(error) if is_full(&error) => {
                tracing::warn!(path = %self.marker.path().display(), "no room to say which revision is the newest");
                Ok(())
            }
            outcome => Ok(outcome.map_err(io_error(self.marker.path(), "write it"))?),
        }
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(io_error(path, "open the lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Error::Locked {
            path: path.to_owned(),
        }),
        Err(error) => Err(io_error(path, "lock it")(error.into())),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Contents, Error> {
    image::parse(bytes).map_err(|error| Error::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn check(path: &Path, contents: &Contents, marker: &Marker) -> Result<(), Error> {
    let path = path.to_owned();
    if contents.store_id != marker.store_id {
        let expected = marker.store_id.clone();
        return Err(Error::Foreign {
            path,
            store_id: contents.store_id.clone(),
            expected,
        });
    }
    let revision = contents.durable.snapshot().revision;
    if revision < marker.revision {
        return Err(Error::Older {
            path,
            revision: revision.0,
            newest: marker.revision.0,
        });
    }
    Ok(())
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    let sync = || File::open(folder)?.sync_all();
    sync().map_err(io_error(folder, "sync the folder"))
}

pub(super) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, action, source }
}

fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

fn full_or(error: io::Error, path: &Path, action: &'static str) -> WriteError {
    if is_full(&error) {
        WriteError::Full
    } else {
        WriteError::Failed(io_error(path, action)(error))
    }
}

impl From<marker::Error> for Error {
    fn from(error: marker::Error) -> Error {
        match error {
            marker::Error::Io { path, action, source } => Error::Io { path, action, source },
            marker::Error::Damaged { path } => Error::Marker {
                path,
                reason: "damaged: neither of its two entries is whole".to_owned(),
            },
        }
    }
}

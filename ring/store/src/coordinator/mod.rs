//! The coordinator: the ring store behind gRPC, on one durable file, without a server to install.
//!
//! A single point of failure for *changes* of the ring, and for nothing else: while it is away topics are served as
//! long as leases last. Killed at any moment and started again, it goes on from the last change it answered for, and
//! gives every registered node its TTL and three seconds to find it again.
//!
//! *Invariant:* one folder, one coordinator; a file that is damaged, missing or old is refused, never repaired by guess.

mod client;
mod data_dir;
#[cfg(test)]
mod faults;
mod image;
mod marker;
mod service;
mod wire;
mod writer;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use ringcast_proto::accept::Acceptor;
use ringcast_proto::grpc::{self, MESSAGE_BYTES_MAX};
use ringcast_proto::v1::coordinator_server::CoordinatorServer;
use tokio_util::sync::CancellationToken;

pub use client::Client;
pub use data_dir::Error as DataError;

use crate::memory::Memory;
use crate::store::RingStore;
use service::Service;
use writer::{Ended, FileStore};

/// Calls under way when the coordinator is told to stop get this long.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// The last write gets this long: a disk that needs more has been slow for a while, and an unanswered change is unknown.
const LAST_WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// Where a coordinator listens and keeps its records.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of its gRPC listener.
    pub listen: SocketAddr,
    /// Its folder, made if need be.
    pub data_dir: PathBuf,
}

/// Why a coordinator does not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its folder cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its address cannot be used.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its listener failed.
    #[error("serve: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// The thread that writes the file is gone, or does not end.
    #[error("the writer of the snapshot file {0}")]
    Writer(&'static str),
}

/// A coordinator that is bound and does not run yet.
#[derive(Debug)]
pub struct Coordinator {
    listener: TcpListener,
    address: SocketAddr,
    store: Backing,
}

enum Backing {
    Memory(Memory),
    File(FileStore, Ended),
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Backing::Memory(_) => "Memory",
            Backing::File(..) => "File",
        })
    }
}

impl Coordinator {
    /// Locks the folder, loads what is in it, and binds the address. Reads and writes files: not for an async worker
    /// that others wait for.
    ///
    /// # Errors
    /// [`Error::Data`] or [`Error::Listen`].
    pub fn build(config: &Config) -> Result<Coordinator, Error> {
        let (store, ended) = FileStore::open(&config.data_dir)?;
        Coordinator::bind(config.listen, Backing::File(store, ended))
    }

    /// Serves `memory` to other processes; it ends with this one, and so do its records.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn in_memory(listen: SocketAddr, memory: Memory) -> Result<Coordinator, Error> {
        Coordinator::bind(listen, Backing::Memory(memory))
    }

    fn bind(address: SocketAddr, store: Backing) -> Result<Coordinator, Error> {
        let listen = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Coordinator {
            listener,
            address,
            store,
        })
    }

    /// Where it listens: the port that was given for port 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled.
    ///
    /// # Errors
    /// [`Error::Data`] when the disk failed: the process must end, because nobody knows what the disk holds; the next
    /// start reads it.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Coordinator {
            listener,
            address,
            store,
        } = self;
        let listen = |source| Error::Listen { address, source };
        let listener = tokio::net::TcpListener::from_std(listener).map_err(listen)?;
        match store {
            Backing::Memory(memory) => serve(listener, memory, stop).await,
            Backing::File(store, mut ended) => {
                let served = tokio::select! {
                    biased;
                    // The disk failed: what is under way is not waited for.
                    outcome = &mut ended => return Err(written(outcome).err().unwrap_or(Error::Writer("ended"))),
                    // Told to stop, or the listener failed.
                    served = serve(listener, store, stop) => served,
                };
                let last = tokio::time::timeout(LAST_WRITE_DEADLINE, ended).await;
                last.map_or(Err(Error::Writer("does not end")), written)?;
                served
            }
        }
    }
}

fn written(
    outcome: Result<Result<(), DataError>, tokio::sync::oneshot::error::RecvError>,
) -> Result<(), Error> {
    outcome
        .map_err(|_| Error::Writer("panicked"))?
        .map_err(Error::Data)
}

async fn serve(
    listener: tokio::net::TcpListener,
    store: impl RingStore,
    stop: CancellationToken,
) -> Result<(), Error> {
    // Ends with `stop`, and with this future however that ends: tonic's connections are tasks of their own.
    let over = stop.child_token();
    let _over = over.clone().drop_guard();
    let service = CoordinatorServer::new(Service::new(store, over))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    // Boxed for tonic, which wants to move the stream.
    let incoming = Box::pin(Acceptor::new(listener).into_stream());
    let serving =
        grpc::server().serve_with_incoming_shutdown(service, incoming, stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_DEADLINE).await;
    };
    tokio::select! {
        biased;
        // All calls are answered, or the listener failed.
        served = serving => Ok(served?),
        // Some call is not answered in time: its caller will ask again.
        () = overdue => Ok(()),
    }
}

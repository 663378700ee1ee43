//! The roles a process can have: settings in, a running node out.

pub(crate) mod coordinator;
pub(crate) mod dev;
pub(crate) mod gateway;
pub(crate) mod topic_server;

use std::net::SocketAddr;

use anyhow::Result;
use ringcast_proto::NodeId;
use ringcast_ring_store::AnyStore;

use crate::settings::Settings;
use crate::{STORE_DEFAULT, Usage};

/// Slots of a new ring, unless told otherwise: enough for some 30 topic servers.
const SLOTS_DEFAULT: u16 = 1024;

/// The store a node uses.
fn store(settings: &Settings) -> Result<AnyStore> {
    Ok(AnyStore::open(
        settings.store.as_deref().unwrap_or(STORE_DEFAULT),
    )?)
}

/// A node's name, which has no default: two processes that made one up alike would fight over it.
fn id(settings: &Settings, example: &str) -> Result<NodeId> {
    let missing = || {
        Usage(format!(
            "a name is missing: give it by --id (as --id {example}), by RINGCAST_ID, or by `id` in the configuration"
        ))
    };
    Ok(settings.id.clone().ok_or_else(missing)?)
}

/// What others call. Without `--advertise` it is the address that is listened on, which must then be one.
fn advertise(settings: &Settings, rpc_listen: SocketAddr) -> Result<Option<String>> {
    if settings.advertise.is_none() && rpc_listen.ip().is_unspecified() {
        return Err(Usage(format!("--rpc-listen {rpc_listen} is every address: say by --advertise HOST:PORT which one others shall call")).into());
    }
    Ok(settings.advertise.clone())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Lets this process have as many sockets as it may: a connection is a file descriptor, and the soft limit is often
/// 1,024. That it cannot be raised is no error; the accept loop copes with running out.
pub(crate) fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        /// macOS refuses more than this, whatever the hard limit says.
        const MACOS_MAX: u64 = 10_240;
        let present = getrlimit(Resource::Nofile);
        let most = if cfg!(target_os = "macos") {
            present
                .maximum
                .map_or(Some(MACOS_MAX), |max| Some(max.min(MACOS_MAX)))
        } else {
            present.maximum
        };
        if present.current != most
            && let Err(error) = setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: most,
                    maximum: present.maximum,
                },
            )
        {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}

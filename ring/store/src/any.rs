//! Whichever ring store the configuration names.

use ringcast_ring::{Change, Op, Refused, Revision, Snapshot};

use crate::coordinator::Client;
use crate::memory::Memory;
use crate::store::{Lease, NodeInfo, RegisterRefused, RenewError, RingStore, Unavailable, Watch};

/// One of the stores there are.
#[derive(Debug, Clone)]
pub enum AnyStore {
    /// In this process.
    Memory(Memory),
    /// A coordinator, at its address.
    Coordinator(Client),
}

/// Why a store's URL is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The stores that exist are named by their scheme.
    #[error("store {url:?} has no scheme, expected http://HOST:PORT")]
    NoScheme {
        /// As given.
        url: String,
    },
    /// A later build knows it.
    #[error("store {url:?}: this build has no etcd store yet, use a coordinator: http://HOST:PORT")]
    Etcd {
        /// As given.
        url: String,
    },
    /// Nobody knows it.
    #[error("store {url:?}: unknown scheme {scheme:?}, expected http://HOST:PORT")]
    Scheme {
        /// As given.
        url: String,
        /// Before `://`.
        scheme: String,
    },
    /// What follows the scheme is no address.
    #[error("store {url:?}: {reason}, expected http://HOST:PORT")]
    Address {
        /// As given.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

impl AnyStore {
    /// The store at `url`, connected to when first used.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(url: &str) -> Result<AnyStore, OpenError> {
        let Some((scheme, _)) = url.split_once("://") else {
            return Err(OpenError::NoScheme { url: url.to_owned() });
        };
        match scheme {
            "http" => Client::connect(url).map(AnyStore::Coordinator),
            "etcd" => Err(OpenError::Etcd { url: url.to_owned() }),
            scheme => Err(OpenError::Scheme {
                url: url.to_owned(),
                scheme: scheme.to_owned(),
            }),
        }
    }

    /// The same store over a connection of its own, for another runtime: what blocks one user does not block the other.
    #[must_use]
    pub fn apart(&self) -> AnyStore {
        match self {
            AnyStore::Memory(memory) => AnyStore::Memory(memory.clone()),
            AnyStore::Coordinator(client) => AnyStore::Coordinator(client.apart()),
        }
    }
}

impl RingStore for AnyStore {
    async fn load(&self) -> Result<Snapshot, Unavailable> {
        match self {
            AnyStore::Memory(store) => store.load().await,
            AnyStore::Coordinator(store) => store.load().await,
        }
    }

    async fn compare_and_swap(&self, change: Change) -> Result<Revision, Refused> {
        match self {
            AnyStore::Memory(store) => store.compare_and_swap(change).await,
            AnyStore::Coordinator(store) => store.compare_and_swap(change).await,
        }
    }

    fn watch(&self, after: Revision) -> Watch {
        match self {
            AnyStore::Memory(store) => store.watch(after),
            AnyStore::Coordinator(store) => store.watch(after),
        }
    }

    async fn register(&self, node: &NodeInfo, op: &Op) -> Result<Lease, RegisterRefused> {
        match self {
            AnyStore::Memory(store) => store.register(node, op).await,
            AnyStore::Coordinator(store) => store.register(node, op).await,
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<(), RenewError> {
        match self {
            AnyStore::Memory(store) => store.renew(lease).await,
            AnyStore::Coordinator(store) => store.renew(lease).await,
        }
    }

    async fn release(&self, lease: &Lease) -> Result<(), Unavailable> {
        match self {
            AnyStore::Memory(store) => store.release(lease).await,
            AnyStore::Coordinator(store) => store.release(lease).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        AnyStore::open(url).expect_err(url).to_string()
    }

    #[test]
    fn a_store_url_that_is_none_is_refused_by_name() {
        assert_eq!(
            refused("etcd://a:1,b:2"),
            r#"store "etcd://a:1,b:2": this build has no etcd store yet, use a coordinator: http://HOST:PORT"#
        );
        assert_eq!(
            refused("redis://x:1"),
            r#"store "redis://x:1": unknown scheme "redis", expected http://HOST:PORT"#
        );
        assert_eq!(
            refused("localhost:7700"),
            r#"store "localhost:7700" has no scheme, expected http://HOST:PORT"#
        );
        for url in [
            "http://",
            "http://host",
            "http://host:",
            "http://host:x",
            "http://host:0",
            "http://:7700",
        ] {
            assert!(refused(url).contains("expected http://HOST:PORT"), "{url}");
        }
        for url in [
            "http://host:7700/path",
            "http://host:70000",
            "http://ho st:7700",
            "http://u@host:7700",
        ] {
            assert!(refused(url).contains("expected http://HOST:PORT"), "{url}");
        }
    }

    #[test]
    fn a_coordinator_is_named_by_host_and_port() {
        for url in [
            "http://127.0.0.1:7700",
            "http://coordinator:7700",
            "http://[::1]:7700",
            "http://h:7700/",
        ] {
            assert!(
                matches!(AnyStore::open(url), Ok(AnyStore::Coordinator(_))),
                "{url}"
            );
        }
    }
}

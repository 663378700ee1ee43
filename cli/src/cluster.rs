//! What the admin commands know of a cluster: the ring store's records, and the nodes they name.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use ringcast_proto::v1::gateway_client::GatewayClient;
use ringcast_proto::v1::topic_server_client::TopicServerClient;
use ringcast_proto::{NodeRef, Slot, Topic, grpc};
use ringcast_ring::{Change, Refused, Revision, SlotTable, Snapshot};
use ringcast_ring_store::{AnyStore, RingStore};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Of every admin call to a node.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// How often a change of unknown outcome is repeated; a call takes a second at most.
const CHANGE_TRIES_MAX: u32 = 5;
const CHANGE_RETRY: Duration = Duration::from_millis(200);

/// A cluster, as its store showed it when it was last asked.
pub(crate) struct Cluster {
    pub(crate) snapshot: Snapshot,
    store: AnyStore,
    url: String,
}

/// Who owns a topic.
pub(crate) struct Owned {
    pub(crate) slot: Slot,
    pub(crate) owner: NodeRef,
    pub(crate) address: String,
}

impl Cluster {
    /// Loads every record from the store at `url`.
    pub(crate) async fn load(url: &str) -> Result<Cluster> {
        let mut cluster = Cluster {
            snapshot: Snapshot::default(),
            store: AnyStore::open(url)?,
            url: url.to_owned(),
        };
        cluster.reload().await?;
        Ok(cluster)
    }

    /// Loads every record again.
    pub(crate) async fn reload(&mut self) -> Result<()> {
        let url = &self.url;
        self.snapshot = self.store.load().await.with_context(|| {
            format!(
                "load the ring from {url} (start a cluster with `ringcast dev`, a store with `ringcast coordinator \
                 --data-dir DIR`, or name another one with --store)"
            )
        })?;
        Ok(())
    }

    /// The store.
    pub(crate) fn store(&self) -> &AnyStore {
        &self.store
    }

    /// The store's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What a command needs besides to reach this store: nothing, where it is the usual one.
    pub(crate) fn store_flag(&self) -> String {
        match self.url.as_str() {
            crate::STORE_DEFAULT => String::new(),
            url => format!(" --store {url}"),
        }
    }

    /// Makes a change. `None`: nothing was done, the records are no longer those that it was decided on.
    ///
    /// After an unknown outcome `None` may also mean that it was done and written over since: look for its record.
    pub(crate) async fn change(&self, change: Change) -> Result<Option<Revision>> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.store.compare_and_swap(change.clone()).await {
                Ok(revision) => return Ok(Some(revision)),
                Err(Refused::Conflict(_) | Refused::Guard(_)) => return Ok(None),
                Err(Refused::Unknown(_) | Refused::Unavailable(_)) if tries < CHANGE_TRIES_MAX => {
                    tokio::time::sleep(CHANGE_RETRY).await;
                }
                Err(refused) => {
                    return Err(refused).with_context(|| format!("write to the store at {}", self.url));
                }
            }
        }
    }

    /// Who owns which slot, once there is a ring.
    pub(crate) fn table(&self) -> Result<SlotTable> {
        match SlotTable::from_snapshot(&self.snapshot) {
            Some(table) => Ok(table),
            None => bail!(
                "no ring yet: it is born when the expected topic servers have registered (see `ringcast node ls`)"
            ),
        }
    }

    /// The registered owner of a topic.
    pub(crate) fn owner(&self, topic: &Topic) -> Result<Owned> {
        let table = self.table()?;
        let slot = table.slot_of(topic.as_bytes());
        let Some(owned) = table.owner(slot) else {
            bail!("slot {slot} has no owner yet: the ring is being born")
        };
        let owner = owned.owner.clone();
        match table.address(&owner) {
            Some(address) => Ok(Owned {
                slot,
                address: address.to_owned(),
                owner,
            }),
            None => bail!(
                "slot {slot} belongs to {}, which is down; another node takes it within seconds",
                owner.node
            ),
        }
    }

    /// A gateway that can be reached, and its name.
    pub(crate) async fn gateway(&self) -> Result<(NodeRef, GatewayClient<Channel>)> {
        let table = self.table()?;
        let mut tried = Vec::new();
        for (gateway, address) in table.gateways() {
            // Connecting first: a publish whose call fails may have happened, and must not go to a second gateway.
            match tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok((gateway, GatewayClient::new(grpc::channel(address)?))),
                Ok(Err(error)) => tried.push(format!("{} at {address}: {error}", gateway.node)),
                Err(_) => tried.push(format!("{} at {address}: no answer", gateway.node)),
            }
        }
        if tried.is_empty() {
            bail!("no gateway is registered: start one with `ringcast gateway --id ID`");
        }
        bail!("no gateway can be reached: {}", tried.join(", "))
    }
}

/// The admin calls of the topic server at `address`.
pub(crate) fn topic_server(address: &str) -> Result<TopicServerClient<Channel>> {
    let client = TopicServerClient::new(grpc::channel(address)?);
    Ok(client.max_decoding_message_size(grpc::MESSAGE_BYTES_MAX))
}

/// A request that gives up in time.
pub(crate) fn request<T>(message: T) -> Request<T> {
    request_within(CALL_DEADLINE, message)
}

/// A request that gives up after `deadline`.
pub(crate) fn request_within<T>(deadline: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// A call's error, with whom it was made to.
pub(crate) fn failed(node: &NodeRef, address: &str, status: &Status) -> anyhow::Error {
    anyhow::anyhow!("ask {} at {address}: {}", node.node, status.message())
}

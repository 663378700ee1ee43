//! A coordinator, seen from a node.
//!
//! *Invariant:* every call ends by its deadline, and says "certainly not done" only where nothing was sent or the
//! coordinator itself said so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringcast_proto::grpc::{self, MESSAGE_BYTES_MAX};
use ringcast_proto::v1::coordinator_client::CoordinatorClient;
use ringcast_proto::{Incarnation, NodeRef, v1};
use ringcast_ring::{Change, Op, Refused, Revision, Snapshot};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::wire;
use crate::any::OpenError;
use crate::store::{
    Lease, NodeInfo, OPS_MAX, RegisterRefused, RenewError, RingStore, Unavailable, Watch, Watched,
};

const CALL_DEADLINE: Duration = Duration::from_secs(1);
/// A lease of 2 s is renewed every 0.5 s: the next renewal must not wait for this one.
const RENEW_DEADLINE: Duration = Duration::from_millis(400);
/// The coordinator speaks every second; after this it is not heard any more.
const WATCH_SILENCE: Duration = Duration::from_secs(2);

/// A handle; clones share a connection, which is made when first needed and made anew after any doubt about it.
#[derive(Clone)]
pub struct Client {
    address: Arc<str>,
    channel: Arc<Mutex<Option<Channel>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Why a call has no answer.
enum Failed {
    /// It never left, or the coordinator refused to look at it.
    NotDone(String),
    /// It may have been carried out.
    Unknown(String),
}

impl Client {
    /// The coordinator at `http://HOST:PORT`. Nothing is sent before the first call.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn connect(url: &str) -> Result<Client, OpenError> {
        let wrong = |reason: &str| OpenError::Address {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let address = url
            .strip_prefix("http://")
            .ok_or_else(|| OpenError::NoScheme { url: url.to_owned() })?;
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
        if port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err(wrong("the port is no number from 1 to 65535"));
        }
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let named = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if !named && literal.is_none_or(|literal| literal.parse::<std::net::Ipv6Addr>().is_err()) {
            return Err(wrong("the host is neither a name nor an address"));
        }
        Ok(Client {
            address: Arc::from(address),
            channel: Arc::default(),
        })
    }

    /// The same coordinator over a connection of its own.
    #[must_use]
    pub fn apart(&self) -> Client {
        Client {
            address: self.address.clone(),
            channel: Arc::default(),
        }
    }

    fn channel(&self) -> Result<Channel, Failed> {
        let mut channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = &*channel {
            return Ok(channel.clone());
        }
        let fresh = grpc::channel(&self.address).map_err(|error| Failed::NotDone(error.to_string()))?;
        *channel = Some(fresh.clone());
        Ok(fresh)
    }

    /// The next call makes a new connection.
    fn doubt(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn call<Reply>(
        &self,
        deadline: Duration,
        call: impl AsyncFnOnce(&mut CoordinatorClient<Channel>) -> Result<Response<Reply>, Status>,
    ) -> Result<Reply, Failed> {
        let mut client = CoordinatorClient::new(self.channel()?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        match tokio::time::timeout(deadline, call(&mut client)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => {
                self.doubt();
                Err(Failed::Unknown(format!(
                    "{} did not answer in {} ms",
                    self.address,
                    deadline.as_millis()
                )))
            }
        }
    }

    fn failed(&self, status: &Status) -> Failed {
        let message = format!("{}: {}", self.address, status.message());
        match status.code() {
            // The coordinator's own refusals, given before anything is looked at.
            Code::InvalidArgument
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::FailedPrecondition => Failed::NotDone(message),
            _ => {
                self.doubt();
                if never_sent(status) {
                    Failed::NotDone(message)
                } else {
                    Failed::Unknown(message)
                }
            }
        }
    }

    fn lost_sense(&self, error: &wire::Error) -> String {
        format!("{} answered what cannot be read: {error}", self.address)
    }
}

/// Whether the call failed because no connection could be made for it.
fn never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

impl RingStore for Client {
    async fn load(&self) -> Result<Snapshot, Unavailable> {
        let reply = self
            .call(CALL_DEADLINE, async |client| {
                client.load(v1::LoadRequest {}).await
            })
            .await?;
        wire::snapshot_from(reply).map_err(|error| Unavailable(self.lost_sense(&error)))
    }

    async fn compare_and_swap(&self, change: Change) -> Result<Revision, Refused> {
        debug_assert!(
            change.expect.len() + change.guards.len() <= OPS_MAX,
            "conditions within OPS_MAX"
        );
        debug_assert!(
            change.put.len() + change.delete.len() <= OPS_MAX,
            "operations within OPS_MAX"
        );
        let request = wire::change_to(&change);
        let reply = self
            .call(CALL_DEADLINE, async |client| {
                client.compare_and_swap(request).await
            })
            .await?;
        let Some(outcome) = reply.result else {
            return Err(Refused::Unknown(format!("{} answered nothing", self.address)));
        };
        match wire::outcome_from(outcome, &change.guards) {
            Ok(outcome) => outcome,
            // It answered no revision, so it did nothing; but an answer that cannot be read proves little.
            Err(error) => Err(Refused::Unknown(self.lost_sense(&error))),
        }
    }

    fn watch(&self, after: Revision) -> Watch {
        let client = self.clone();
        Box::pin(futures_util::stream::unfold(
            Watching::Ask(client, after),
            Watching::next,
        ))
    }

    async fn register(&self, node: &NodeInfo, op: &Op) -> Result<Lease, RegisterRefused> {
        let request = wire::register_to(node, op);
        let reply = self
            .call(CALL_DEADLINE, async |client| client.register(request).await)
            .await?;
        match reply.result {
            Some(v1::register_reply::Result::Incarnation(incarnation)) => {
                let node_ref = NodeRef {
                    node: node.id.clone(),
                    incarnation: Incarnation(incarnation),
                };
                Ok(Lease {
                    node: node_ref,
                    ttl: node.ttl,
                })
            }
            Some(v1::register_reply::Result::Taken(json)) => match wire::node_record(&node.id, &json) {
                Ok(holder) => Err(RegisterRefused::Taken(Box::new(holder))),
                Err(error) => Err(RegisterRefused::Unavailable(self.lost_sense(&error))),
            },
            Some(v1::register_reply::Result::Full(_)) => Err(RegisterRefused::Full),
            None => Err(RegisterRefused::Unknown(format!(
                "{} answered nothing",
                self.address
            ))),
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<(), RenewError> {
        let request = v1::RenewRequest {
            node: lease.node.node.to_string(),
            incarnation: lease.node.incarnation.0,
        };
        match self
            .call(RENEW_DEADLINE, async |client| client.renew(request).await)
            .await
        {
            Ok(v1::RenewReply { lost: false }) => Ok(()),
            Ok(v1::RenewReply { lost: true }) => Err(RenewError::Lost),
            Err(Failed::NotDone(reason) | Failed::Unknown(reason)) => Err(RenewError::Unknown(reason)),
        }
    }

    async fn release(&self, lease: &Lease) -> Result<(), Unavailable> {
        let request = v1::ReleaseRequest {
            node: lease.node.node.to_string(),
            incarnation: lease.node.incarnation.0,
        };
        self.call(CALL_DEADLINE, async |client| client.release(request).await)
            .await?;
        Ok(())
    }
}

/// A watch on its way.
enum Watching {
    Ask(Client, Revision),
    Hear(Client, Box<tonic::Streaming<v1::WatchReply>>),
    Over,
}

impl Watching {
    async fn next(self) -> Option<(Watched, Watching)> {
        let (client, mut replies) = match self {
            Watching::Ask(client, Revision(after)) => {
                let request = v1::WatchRequest { after };
                let replies = client
                    .call(CALL_DEADLINE, async |client| client.watch(request).await)
                    .await;
                (client, Box::new(replies.ok()?))
            }
            Watching::Hear(client, replies) => (client, replies),
            Watching::Over => return None,
        };
        match tokio::time::timeout(WATCH_SILENCE, replies.message()).await {
            Ok(Ok(Some(reply))) => match wire::watched_from(reply) {
                Ok(Watched::Resync) => Some((Watched::Resync, Watching::Over)),
                Ok(watched) => Some((watched, Watching::Hear(client, replies))),
                Err(error) => {
                    tracing::warn!(%error, "the ring store's watch cannot be read");
                    None
                }
            },
            Ok(Ok(None)) => None,
            Ok(Err(_)) | Err(_) => {
                client.doubt();
                None
            }
        }
    }
}

impl From<Failed> for Unavailable {
    fn from(failed: Failed) -> Unavailable {
        match failed {
            Failed::NotDone(reason) | Failed::Unknown(reason) => Unavailable(reason),
        }
    }
}

impl From<Failed> for Refused {
    fn from(failed: Failed) -> Refused {
        match failed {
            Failed::NotDone(reason) => Refused::Unavailable(reason),
            Failed::Unknown(reason) => Refused::Unknown(reason),
        }
    }
}

impl From<Failed> for RegisterRefused {
    fn from(failed: Failed) -> RegisterRefused {
        match failed {
            Failed::NotDone(reason) => RegisterRefused::Unavailable(reason),
            Failed::Unknown(reason) => RegisterRefused::Unknown(reason),
        }
    }
}

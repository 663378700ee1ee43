//! The ring store as a gRPC service.
//!
//! *Invariant:* every message is checked before the store sees any of it; a refused one has done nothing.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use ringcast_proto::record::Record;
use ringcast_proto::{NodeRef, v1};
use ringcast_ring::Revision;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::wire;
use crate::store::{Lease, RegisterRefused, RenewError, RingStore, Unavailable};

/// Watches at a time, each a task and its stream: a cluster's nodes and a few people.
const WATCHES_MAX: usize = 1024;

pub(super) struct Service<S> {
    store: S,
    watches: Arc<Semaphore>,
    over: CancellationToken,
}

impl<S: RingStore> Service<S> {
    /// Serves `store` until `over` is cancelled: then watches end and every call is refused. Connections may outlive
    /// whoever serves them, and a store that is over must not renew a lease.
    pub(super) fn new(store: S, over: CancellationToken) -> Service<S> {
        Service {
            store,
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            over,
        }
    }

    fn store(&self) -> Result<&S, Status> {
        if self.over.is_cancelled() {
            return Err(Status::unavailable("the coordinator has ended"));
        }
        Ok(&self.store)
    }
}

fn refuse(error: wire::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn lease(node: &str, incarnation: u64) -> Result<Lease, Status> {
    let node: NodeRef = wire::node_ref(node, incarnation).map_err(refuse)?;
    // Only the life matters to a renewal or a release: the store knows the TTL.
    Ok(Lease {
        node,
        ttl: std::time::Duration::ZERO,
    })
}

#[tonic::async_trait]
impl<S: RingStore> v1::coordinator_server::Coordinator for Service<S> {
    async fn load(&self, _: Request<v1::LoadRequest>) -> Result<Response<v1::LoadReply>, Status> {
        match self.store()?.load().await {
            Ok(snapshot) => Ok(Response::new(wire::snapshot_to(&snapshot))),
            Err(Unavailable(reason)) => Err(Status::unavailable(reason)),
        }
    }

    async fn compare_and_swap(
        &self,
        request: Request<v1::ChangeRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let change = wire::change_from(request.into_inner()).map_err(refuse)?;
        let guards = change.guards.clone();
        let outcome = self.store()?.compare_and_swap(change).await;
        let result = Some(wire::outcome_to(outcome, &guards)?);
        Ok(Response::new(v1::ChangeReply { result }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchReply, Status>> + Send>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let permit = self.watches.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| Status::resource_exhausted(format!("{WATCHES_MAX} watches already")))?;
        let after = Revision(request.into_inner().after);
        let replies = self.store()?.watch(after).map(move |watched| {
            // Held by the stream, given back with it.
            let _held = &permit;
            Ok(wire::watched_to(watched))
        });
        Ok(Response::new(Box::pin(
            replies.take_until(self.over.clone().cancelled_owned()),
        )))
    }

    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let (node, op) = wire::register_from(request.into_inner()).map_err(refuse)?;
        let result = match self.store()?.register(&node, &op).await {
            Ok(lease) => v1::register_reply::Result::Incarnation(lease.node.incarnation.0),
            Err(RegisterRefused::Taken(holder)) => {
                v1::register_reply::Result::Taken(Record::Node(*holder).encode().into())
            }
            Err(RegisterRefused::Full) => v1::register_reply::Result::Full(true),
            Err(RegisterRefused::Unavailable(reason)) => return Err(Status::resource_exhausted(reason)),
            Err(RegisterRefused::Unknown(reason)) => return Err(Status::unavailable(reason)),
        };
        Ok(Response::new(v1::RegisterReply { result: Some(result) }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let request = request.into_inner();
        let lease = lease(&request.node, request.incarnation)?;
        match self.store()?.renew(&lease).await {
            Ok(()) => Ok(Response::new(v1::RenewReply { lost: false })),
            Err(RenewError::Lost) => Ok(Response::new(v1::RenewReply { lost: true })),
            Err(RenewError::Unknown(reason)) => Err(Status::unavailable(reason)),
        }
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseReply>, Status> {
        let request = request.into_inner();
        let lease = lease(&request.node, request.incarnation)?;
        match self.store()?.release(&lease).await {
            Ok(()) => Ok(Response::new(v1::ReleaseReply {})),
            Err(Unavailable(reason)) => Err(Status::unavailable(reason)),
        }
    }
}

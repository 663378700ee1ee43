//! What every call between nodes carries first, and the checks it has to pass before anything is done for it.

use ringcast_proto::{Incarnation, NodeId, NodeRef, v1};
use tonic::Status;

use crate::shared::Shared;

/// The header of a call to this life of a node.
pub(crate) fn to(node: &NodeRef, shared: &Shared) -> v1::CallHeader {
    let me = shared.lease.node();
    let directory = shared.directory.load();
    v1::CallHeader {
        birth_digest: directory.as_ref().map_or(0, |directory| directory.birth_digest()),
        from: me.node.to_string(),
        from_incarnation: me.incarnation.0,
        to_incarnation: node.incarnation.0,
    }
}

/// Who calls. `FailedPrecondition` means that this call will never succeed, `Unavailable` that it may soon.
pub(crate) fn caller(header: Option<&v1::CallHeader>, shared: &Shared) -> Result<NodeRef, Status> {
    let header = header.ok_or_else(|| Status::invalid_argument("the call has no header"))?;
    let directory = shared.directory.load();
    let directory = directory
        .as_ref()
        .ok_or_else(|| Status::unavailable("the ring is not born yet"))?;
    if header.birth_digest != directory.birth_digest() {
        return Err(Status::failed_precondition(
            "birth digests differ: the caller belongs to another cluster",
        ));
    }
    let me = shared.lease.node();
    if header.to_incarnation != me.incarnation.0 {
        let message = format!(
            "this is {me}, the call is for incarnation {}",
            header.to_incarnation
        );
        return Err(Status::failed_precondition(message));
    }
    let node = NodeId::parse(&header.from).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let from = NodeRef {
        node,
        incarnation: Incarnation(header.from_incarnation),
    };
    if directory.address(&from).is_some() {
        return Ok(from);
    }
    // An incarnation is the revision of a registration: one beyond what was read is yet to be heard of.
    if from.incarnation.0 > directory.revision().0 {
        return Err(Status::unavailable(format!("{from} is not known here yet")));
    }
    Err(Status::failed_precondition(format!(
        "{from} is not registered any more"
    )))
}

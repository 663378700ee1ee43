//! The state machine of a gateway: inputs in, effects out.

use std::sync::Arc;

use bytes::Bytes;
use ringcast_proto::v1;
use ringcast_proto::{Epoch, Incarnation, NodeRef, Offset, SessionId, Topic};
use ringcast_ring::SlotTable;

use crate::phoenix::{Frame, Message, Serializer};

/// Names one call to a topic server, or one delivery to be answered, until its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// What happens to a gateway.
#[derive(Debug)]
pub enum Input {
    /// A client's handshake is done.
    Open {
        /// Its id, unique in the cluster.
        session: SessionId,
        /// How it writes.
        serializer: Serializer,
        /// Who it is, empty when anonymous.
        subject: Bytes,
    },
    /// A client sent a message that could be decoded.
    Message {
        /// Which client.
        session: SessionId,
        /// What.
        message: Message,
    },
    /// A client's connection is gone, whoever ended it.
    Closed {
        /// Which client.
        session: SessionId,
    },
    /// The ring store told who owns which slot.
    Table(Arc<SlotTable>),
    /// This gateway's lease was lost and it registered anew: owners have forgotten its members.
    Registered(Incarnation),
    /// The answer to [`Effect::Bind`], or why there is none (then the outcome is unknown).
    Bound(CallId, Result<v1::BindAnswer, CallFailed>),
    /// The answer to [`Effect::Publish`], or why there is none (then the outcome is unknown).
    Published(CallId, Result<v1::PublishAnswer, CallFailed>),
    /// A topic server delivers. Answered by [`Effect::Delivered`].
    Deliver(CallId, Vec<v1::DeliverEntry>),
    /// The HTTP or admin API publishes. Answered by [`Effect::ServerPublished`].
    ServerPublish(CallId, ServerPublish),
    /// A deadline passed.
    Tick,
}

/// A publish by the server's own API.
#[derive(Debug)]
pub struct ServerPublish {
    /// Where to.
    pub topic: Topic,
    /// Under which event name.
    pub event: Bytes,
    /// A JSON object, as text.
    pub payload: Bytes,
}

/// Why a call got no answer. It may have been carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailed {
    /// Timed out, cut off, refused: try the same again later.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The node in question is another incarnation by now, or never heard of us: wait for the table.
    #[error("refused: {0}")]
    Refused(String),
}

/// What a gateway wants done.
#[derive(Debug)]
pub enum Effect {
    /// Write these bytes to the client.
    Write(SessionId, Frame),
    /// Close the connection with this WebSocket code, after what was written before.
    Close(SessionId, u16, &'static str),
    /// Read no more from this client until [`Effect::Resume`].
    Pause(SessionId),
    /// Read from this client again.
    Resume(SessionId),
    /// Call `Bind` on this node; answer by [`Input::Bound`].
    Bind(CallId, NodeRef, Vec<v1::Bind>),
    /// Call `Publish` on this node; answer by [`Input::Published`].
    Publish(CallId, NodeRef, Vec<v1::SlotPublishes>),
    /// The answer to [`Input::Deliver`]; `incarnation` is left to the shell.
    Delivered(CallId, v1::DeliverAnswer),
    /// The answer to [`Input::ServerPublish`]: where it was committed, or the reason it was not.
    ServerPublished(CallId, Result<(Epoch, Offset), &'static str>),
}

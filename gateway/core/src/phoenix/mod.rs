//! The Phoenix Channels protocol: messages and the serializers V1 and V2.

use bytes::Bytes;
use ringcast_proto::Topic;

/// How a connection writes its messages; chosen by `vsn` at the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Serializer {
    /// `~> 1.0.0`: a JSON object.
    V1,
    /// `~> 2.0.0`: a JSON array, and binary.
    V2,
}

/// The text of one JSON value, checked and otherwise left alone.
#[derive(Debug, Clone)]
pub struct Json(pub Bytes);

/// What a message carries.
#[derive(Debug, Clone)]
pub enum Payload {
    /// JSON text.
    Json(Json),
    /// The data of a binary push.
    Binary(Bytes),
    /// JSON nested deeper than [`DEPTH_MAX`]: to be refused.
    TooDeep,
}

/// Deepest nesting of a payload that is taken.
pub const DEPTH_MAX: usize = 128;

/// One message from a client.
#[derive(Debug, Clone)]
pub struct Message {
    /// Which join of the topic the client means; `null` where it gave none.
    pub join_ref: Json,
    /// What the client will recognise the reply by.
    pub reference: Json,
    /// The topic as sent, to be echoed; need not be a string.
    pub topic: Json,
    /// The topic, where it is a string of 1 to 255 bytes.
    pub topic_name: Option<Topic>,
    /// The event, where it is a string.
    pub event: Option<Box<str>>,
    /// The payload.
    pub payload: Payload,
}

/// A message as it goes on a WebSocket: header and text in one piece, the same bytes for every session that gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(pub Bytes);

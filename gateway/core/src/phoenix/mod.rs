//! The Phoenix Channels protocol: messages and the serializers V1 and V2.
//!
//! It promises Phoenix's frames, one for one. *Invariant:* what a client sent is checked once and then passed on as the
//! bytes it was; nothing is ever parsed into a tree and written again.
//! Leaves out: what a message means (`crate::gateway`), and WebSocket frames from clients (`crate::websocket`).

mod binary;
mod compact;
mod decode;
mod depth;
mod encode;
mod json;
mod publication;
mod publish;
mod resume;
#[cfg(test)]
mod tests;
mod text;

use bytes::Bytes;

pub use binary::decode_binary;
pub use compact::compact;
pub use decode::{DecodeError, REF_BYTES_MAX, decode_text, json_payload};
pub use encode::{FieldTooLong, TopicName, binary_broadcast, binary_push, binary_reply, push, reply};
pub use json::{Json, is_object};
pub use publication::publication;
pub use publish::{BadPublish, PublishBody, publish_body};
pub use resume::{BadResume, Resume, resume};
pub use text::Text;

/// How a connection writes its messages; chosen by `vsn` at the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Serializer {
    /// `~> 1.0.0`: a JSON object.
    V1,
    /// `~> 2.0.0`: a JSON array, and binary.
    V2,
}

impl Serializer {
    /// What the query's `vsn` chooses: absent is V1. `None` for a version nobody serves, which refuses the handshake.
    #[must_use]
    pub fn from_vsn(vsn: Option<&str>) -> Option<Serializer> {
        let Some(vsn) = vsn else {
            return Some(Serializer::V1);
        };
        // `~> 1.0.0` means 1.0 and any patch; a pre-release sorts before it and a build is no matter.
        let (numbers, _build) = vsn.split_once('+').unwrap_or((vsn, ""));
        let (minor, patch) = numbers.rsplit_once('.')?;
        let canonical = patch == "0" || !patch.starts_with('0');
        if patch.is_empty() || !canonical || !patch.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        match minor {
            "1.0" => Some(Serializer::V1),
            "2.0" => Some(Serializer::V2),
            _ => None,
        }
    }
}

/// What a message carries.
#[derive(Debug, Clone)]
pub enum Payload {
    /// JSON text.
    Json(Json),
    /// The data of a binary push.
    Binary(Bytes),
    /// JSON nested deeper than [`DEPTH_MAX`]: to be refused.
    TooDeep,
    /// A binary message of kind 3, Supabase's own; only `realtime:*` takes it, others answer `bad_request`.
    UserBroadcast(UserBroadcast),
}

/// The fields of a binary message of kind 3.
#[derive(Debug, Clone)]
pub struct UserBroadcast {
    /// The event the user named; the message's own event is `broadcast`.
    pub event: Text,
    /// A JSON object, or nothing.
    pub metadata: Option<Json>,
    /// What is broadcast.
    pub data: UserData,
}

/// The data of a [`UserBroadcast`], by its encoding.
#[derive(Debug, Clone)]
pub enum UserData {
    /// Encoding 0.
    Binary(Bytes),
    /// Encoding 1.
    Json(Json),
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
    pub topic_name: Option<Text>,
    /// The event, where it is a string.
    pub event: Option<Text>,
    /// The payload.
    pub payload: Payload,
}

/// A message as it goes on a WebSocket: header and text in one piece, the same bytes for every session that gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(pub Bytes);

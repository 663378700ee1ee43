//! Messages to clients, each a complete WebSocket frame in one allocation.

use bytes::{BufMut, BytesMut};
use ringcast_proto::Topic;

use super::json::{string_len, write_string};
use super::{Frame, Json, Serializer};
use crate::websocket::{Opcode, header_len, write_header};

/// The topic of a reply.
#[derive(Debug, Clone, Copy)]
pub enum TopicName<'a> {
    /// Whatever the client sent in its place, which may be no topic.
    AsSent(&'a Json),
    /// A topic.
    Known(&'a Topic),
}

/// A reply to a client's message, in text.
#[must_use]
pub fn reply(
    serializer: Serializer,
    join_ref: &Json,
    reference: &Json,
    topic: TopicName<'_>,
    status: &str,
    response: &[u8],
) -> Frame {
    use Part::{Raw, Text};
    let topic = match topic {
        TopicName::AsSent(topic) => Raw(topic.as_bytes()),
        TopicName::Known(topic) => Text(topic.as_str()),
    };
    match serializer {
        Serializer::V1 => text_frame(&[
            Raw(b"{\"topic\":"),
            topic,
            Raw(b",\"event\":\"phx_reply\",\"payload\":{\"status\":"),
            Text(status),
            Raw(b",\"response\":"),
            Raw(response),
            Raw(b"},\"ref\":"),
            Raw(reference.as_bytes()),
            Raw(b"}"),
        ]),
        Serializer::V2 => text_frame(&[
            Raw(b"["),
            Raw(join_ref.as_bytes()),
            Raw(b","),
            Raw(reference.as_bytes()),
            Raw(b","),
            topic,
            Raw(b",\"phx_reply\",{\"status\":"),
            Text(status),
            Raw(b",\"response\":"),
            Raw(response),
            Raw(b"}]"),
        ]),
    }
}

/// A message of the server's own, in text: to one channel, or with a `join_ref` of `null` a broadcast.
#[must_use]
pub fn push(
    serializer: Serializer,
    join_ref: &Json,
    reference: &Json,
    topic: &Topic,
    event: &str,
    payload: &[u8],
) -> Frame {
    push_into(
        &mut BytesMut::new(),
        serializer,
        join_ref,
        reference,
        topic,
        event,
        payload,
    )
}

/// The same, next to others in one allocation.
pub(super) fn push_into(
    room: &mut BytesMut,
    serializer: Serializer,
    join_ref: &Json,
    reference: &Json,
    topic: &Topic,
    event: &str,
    payload: &[u8],
) -> Frame {
    use Part::{Raw, Text};
    let (topic, event, reference) = (Text(topic.as_str()), Text(event), Raw(reference.as_bytes()));
    let (v1, v2);
    let parts: &[Part<'_>] = match serializer {
        // It has no place for a join_ref.
        Serializer::V1 => {
            v1 = [
                Raw(b"{\"topic\":"),
                topic,
                Raw(b",\"event\":"),
                event,
                Raw(b",\"payload\":"),
                Raw(payload),
                Raw(b",\"ref\":"),
                reference,
                Raw(b"}"),
            ];
            &v1
        }
        Serializer::V2 => {
            v2 = [
                Raw(b"["),
                Raw(join_ref.as_bytes()),
                Raw(b","),
                reference,
                Raw(b","),
                topic,
                Raw(b","),
                event,
                Raw(b","),
                Raw(payload),
                Raw(b"]"),
            ];
            &v2
        }
    };
    let len = parts.iter().map(|part| part.len()).sum();
    room.reserve(header_len(len) + len);
    write_header(room, Opcode::Text, len);
    parts.iter().for_each(|part| part.write(room));
    Frame(room.split().freeze())
}

/// A field of a binary frame is over 255 bytes, which its length cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} of {len} bytes, a binary frame takes 255")]
pub struct FieldTooLong {
    /// Which.
    pub field: &'static str,
    /// How long it is.
    pub len: usize,
}

/// Kind 0: a message of the server's own to one channel.
///
/// # Errors
/// [`FieldTooLong`]
pub fn binary_push(join_ref: &Json, topic: &Topic, event: &str, data: &[u8]) -> Result<Frame, FieldTooLong> {
    let join_ref = plain(join_ref);
    binary_frame(
        0,
        &[
            ("join_ref", &join_ref),
            ("topic", topic.as_bytes()),
            ("event", event.as_bytes()),
        ],
        data,
    )
}

/// Kind 1: a reply.
///
/// # Errors
/// [`FieldTooLong`]
pub fn binary_reply(
    join_ref: &Json,
    reference: &Json,
    topic: &Topic,
    status: &str,
    data: &[u8],
) -> Result<Frame, FieldTooLong> {
    let (join_ref, reference) = (plain(join_ref), plain(reference));
    let fields: [(&str, &[u8]); 4] = [
        ("join_ref", &join_ref),
        ("ref", &reference),
        ("topic", topic.as_bytes()),
        ("status", status.as_bytes()),
    ];
    binary_frame(1, &fields, data)
}

/// Kind 2: a broadcast.
///
/// # Errors
/// [`FieldTooLong`]
pub fn binary_broadcast(topic: &Topic, event: &str, data: &[u8]) -> Result<Frame, FieldTooLong> {
    binary_frame(
        2,
        &[("topic", topic.as_bytes()), ("event", event.as_bytes())],
        data,
    )
}

/// A ref as binary frames hold it: a string bare, `null` as nothing, anything else as its JSON text.
fn plain(reference: &Json) -> Vec<u8> {
    match reference.to_str() {
        Some(text) => text.as_bytes().to_vec(),
        None if reference.is_null() => Vec::new(),
        None => reference.as_bytes().to_vec(),
    }
}

fn binary_frame(kind: u8, fields: &[(&'static str, &[u8])], data: &[u8]) -> Result<Frame, FieldTooLong> {
    let mut lens = Vec::with_capacity(1 + fields.len());
    lens.push(kind);
    for (field, bytes) in fields {
        let len = bytes.len();
        lens.push(u8::try_from(len).map_err(|_| FieldTooLong { field, len })?);
    }
    let body_len = lens.len() + fields.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() + data.len();
    let mut out = framed(Opcode::Binary, body_len);
    out.extend_from_slice(&lens);
    fields.iter().for_each(|(_, bytes)| out.extend_from_slice(bytes));
    out.extend_from_slice(data);
    Ok(Frame(out.into()))
}

/// A piece of a text message.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// Goes as it is.
    Raw(&'a [u8]),
    /// Goes as a JSON string.
    Text(&'a str),
}

impl Part<'_> {
    fn len(self) -> usize {
        match self {
            Part::Raw(bytes) => bytes.len(),
            Part::Text(text) => string_len(text),
        }
    }

    fn write(self, out: &mut impl BufMut) {
        match self {
            Part::Raw(bytes) => out.put_slice(bytes),
            Part::Text(text) => write_string(out, text),
        }
    }
}

/// A text message in a frame of its own.
fn text_frame(parts: &[Part<'_>]) -> Frame {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut out = framed(Opcode::Text, len);
    parts.iter().for_each(|part| part.write(&mut out));
    Frame(out.into())
}

/// A buffer with a frame's header in it and room for exactly its body.
fn framed(opcode: Opcode, body_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(header_len(body_len) + body_len);
    write_header(&mut out, opcode, body_len);
    out
}

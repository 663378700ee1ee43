//! Messages in binary, which only V2 has: kind 0, and Supabase's kind 3.
//!
//! Lengths are u8 byte counts, strings UTF-8, data runs to the end of the message.

use bytes::Bytes;
use ringcast_proto::Topic;
use serde_json::value::RawValue;

use super::decode::{check_ref, json_payload};
use super::{DecodeError, Json, Message, Payload, Serializer, Text, UserBroadcast, UserData, is_object};

const KIND_PUSH: u8 = 0;
const KIND_USER_BROADCAST_PUSH: u8 = 3;

/// Reads a binary message. The data is a slice of `bytes`. An absent ref or join_ref is `""` here, not `null` (F1).
///
/// # Errors
/// [`DecodeError`]: close the connection with 1011.
pub fn decode_binary(serializer: Serializer, bytes: Bytes) -> Result<Message, DecodeError> {
    if serializer == Serializer::V1 {
        return Err(DecodeError::BinaryOnV1);
    }
    let kind = *bytes.first().ok_or(DecodeError::Truncated { need: 1, have: 0 })?;
    match kind {
        KIND_PUSH => push(&bytes),
        KIND_USER_BROADCAST_PUSH => user_broadcast(&bytes),
        _ => Err(DecodeError::Kind(kind)),
    }
}

fn push(bytes: &Bytes) -> Result<Message, DecodeError> {
    let ([join_ref, reference, topic, event], data) = fields(bytes, 5)?;
    let event = Text::slice(bytes, utf8("event", event)?);
    message(
        bytes,
        join_ref,
        reference,
        topic,
        event,
        Payload::Binary(bytes.slice_ref(data)),
    )
}

fn user_broadcast(bytes: &Bytes) -> Result<Message, DecodeError> {
    let ([join_ref, reference, topic, user_event, metadata], data) = fields(bytes, 7)?;
    let metadata = match metadata {
        [] => None,
        text => Some(
            json(bytes, text)
                .filter(is_object)
                .ok_or(DecodeError::Field("metadata"))?,
        ),
    };
    let event = Text::slice(bytes, utf8("user event", user_event)?);
    // `fields` has seen that the header, and so its last byte, is there.
    let data = match bytes[6] {
        0 => UserData::Binary(bytes.slice_ref(data)),
        1 => {
            let text = json(bytes, data).ok_or(DecodeError::Field("data"))?;
            match json_payload(text) {
                Payload::Json(text) => UserData::Json(text),
                refused => return message(bytes, join_ref, reference, topic, "broadcast".into(), refused),
            }
        }
        _ => return Err(DecodeError::Field("encoding")),
    };
    let payload = Payload::UserBroadcast(UserBroadcast {
        event,
        metadata,
        data,
    });
    message(bytes, join_ref, reference, topic, "broadcast".into(), payload)
}

/// The fields whose lengths stand from byte 1 on, behind a header of `header_len` bytes; and what follows them.
fn fields<const N: usize>(bytes: &[u8], header_len: usize) -> Result<([&[u8]; N], &[u8]), DecodeError> {
    let have = bytes.len();
    let truncated = |need| DecodeError::Truncated { need, have };
    let (header, mut rest) = bytes.split_at_checked(header_len).ok_or(truncated(header_len))?;
    let need = header_len + header[1..=N].iter().map(|len| usize::from(*len)).sum::<usize>();
    let mut fields = [&[][..]; N];
    for (field, len) in fields.iter_mut().zip(&header[1..=N]) {
        (*field, rest) = rest.split_at_checked(usize::from(*len)).ok_or(truncated(need))?;
    }
    Ok((fields, rest))
}

fn message(
    whole: &Bytes,
    join_ref: &[u8],
    reference: &[u8],
    topic: &[u8],
    event: Text,
    payload: Payload,
) -> Result<Message, DecodeError> {
    let join_ref = Json::string(utf8("join_ref", join_ref)?);
    let reference = Json::string(utf8("ref", reference)?);
    check_ref(&join_ref)?;
    check_ref(&reference)?;
    Ok(Message {
        join_ref,
        reference,
        topic: Json::string(utf8("topic", topic)?),
        topic_name: Some(Text::slice(whole, utf8("topic", topic)?))
            .filter(|name| Topic::BYTES.contains(&name.len())),
        event: Some(event),
        payload,
    })
}

fn utf8<'a>(field: &'static str, bytes: &'a [u8]) -> Result<&'a str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Field(field))
}

fn json(whole: &Bytes, text: &[u8]) -> Option<Json> {
    let raw: &RawValue = serde_json::from_slice(text).ok()?;
    Some(Json(whole.slice_ref(raw.get().as_bytes())))
}

//! Messages in text: an object (V1) or a list (V2).

use std::fmt;

use bytes::Bytes;
use ringcast_proto::Topic;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::depth::is_deeper_than;
use super::{DEPTH_MAX, Json, Message, Payload, Serializer};

/// Longest text of a ref or join_ref, which Ringcast has to keep and to echo.
pub const REF_BYTES_MAX: usize = 255;

/// Why a message cannot be read. The connection is then closed with 1011, as Phoenix does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not the shape of the serializer.
    #[error("not a message of this serializer: {0}")]
    Shape(String),
    /// A list of fewer than five.
    #[error("message of {0} elements, must be 5")]
    Short(usize),
    /// A V1 object without one of its keys.
    #[error("message without {0:?}")]
    Missing(&'static str),
    /// A ref or join_ref over [`REF_BYTES_MAX`] bytes of JSON text.
    #[error("ref of {0} bytes, must be at most 255")]
    RefTooLong(usize),
    /// A binary message of a kind that clients do not send.
    #[error("binary message of kind {0}, must be 0 or 3")]
    Kind(u8),
    /// A binary message that ends before its fields do.
    #[error("binary message of {have} bytes, its fields need {need}")]
    Truncated {
        /// What the lengths ask for.
        need: usize,
        /// What there is.
        have: usize,
    },
    /// A field of a binary message that is not what it must be.
    #[error("binary message with a bad {0}")]
    Field(&'static str),
    /// A binary message on V1, which has none.
    #[error("binary message on serializer V1")]
    BinaryOnV1,
}

/// Reads a text message. Refs and payload are slices of `text`.
///
/// # Errors
/// [`DecodeError`]: close the connection with 1011.
pub fn decode_text(serializer: Serializer, text: Bytes) -> Result<Message, DecodeError> {
    // Checked here because not every caller's bytes come out of a text frame.
    let utf8 = std::str::from_utf8(&text).map_err(|error| DecodeError::Shape(error.to_string()))?;
    let shape = |error: serde_json::Error| DecodeError::Shape(error.to_string());
    let fields = match serializer {
        Serializer::V1 => serde_json::from_str::<Object<'_>>(utf8)
            .map_err(shape)?
            .fields()?,
        Serializer::V2 => serde_json::from_str::<List<'_>>(utf8).map_err(shape)?.fields()?,
    };
    let slice = |raw: &RawValue| Json(text.slice_ref(raw.get().as_bytes()));
    let [join_ref, reference, topic, event] = fields.head.map(|raw| raw.map_or_else(Json::null, slice));
    check_ref(&join_ref)?;
    check_ref(&reference)?;
    Ok(Message {
        topic_name: topic.text().filter(|name| Topic::BYTES.contains(&name.len())),
        event: event.text(),
        payload: json_payload(slice(fields.payload)),
        join_ref,
        reference,
        topic,
    })
}

/// A payload in JSON, unless it is nested too deep.
#[must_use]
pub fn json_payload(json: Json) -> Payload {
    if is_deeper_than(json.as_bytes(), DEPTH_MAX) {
        Payload::TooDeep
    } else {
        Payload::Json(json)
    }
}

/// Refuses what is too long to be kept and echoed.
pub(super) fn check_ref(reference: &Json) -> Result<(), DecodeError> {
    let len = reference.as_bytes().len();
    if len > REF_BYTES_MAX {
        Err(DecodeError::RefTooLong(len))
    } else {
        Ok(())
    }
}

/// A message's parts in V2's order: join_ref, ref, topic, event, and the payload.
struct Fields<'a> {
    head: [Option<&'a RawValue>; 4],
    payload: &'a RawValue,
}

/// What a V2 message is read as: its first five elements, and how many there were of them.
struct List<'a> {
    elements: [Option<&'a RawValue>; 5],
}

impl<'a> List<'a> {
    fn fields(self) -> Result<Fields<'a>, DecodeError> {
        let [join_ref, reference, topic, event, payload] = self.elements;
        let payload = payload.ok_or_else(|| DecodeError::Short(self.elements.iter().flatten().count()))?;
        Ok(Fields {
            head: [join_ref, reference, topic, event],
            payload,
        })
    }
}

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of five")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut elements = [None; 5];
                for element in &mut elements {
                    *element = seq.next_element::<&RawValue>()?;
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List { elements })
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

/// What a V1 message is read as. Of a key that comes twice the last one counts, as in a map that is filled in order.
#[derive(Default)]
struct Object<'a> {
    join_ref: Option<&'a RawValue>,
    reference: Option<&'a RawValue>,
    topic: Option<&'a RawValue>,
    event: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
}

impl<'a> Object<'a> {
    fn fields(self) -> Result<Fields<'a>, DecodeError> {
        let required = |name, value: Option<&'a RawValue>| value.ok_or(DecodeError::Missing(name));
        let (topic, event) = (required("topic", self.topic)?, required("event", self.event)?);
        let (payload, reference) = (
            required("payload", self.payload)?,
            required("ref", self.reference)?,
        );
        Ok(Fields {
            head: [self.join_ref, Some(reference), Some(topic), Some(event)],
            payload,
        })
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::default();
                while let Some(Key(key)) = map.next_key()? {
                    let place = match key {
                        Some("join_ref") => &mut object.join_ref,
                        Some("ref") => &mut object.reference,
                        Some("topic") => &mut object.topic,
                        Some("event") => &mut object.event,
                        Some("payload") => &mut object.payload,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *place = Some(map.next_value()?);
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A key of a V1 message, if it is one, however it is escaped.
struct Key(Option<&'static str>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key(["join_ref", "ref", "topic", "event", "payload"]
                    .into_iter()
                    .find(|name| *name == key)))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

//! The payload of the event `publish`, in its two forms (X6).

use std::fmt;

use bytes::Bytes;
use ringcast_proto::v1::Target;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Json, is_object};

/// Longest event name a publication may have.
const EVENT_BYTES_MAX: usize = 255;

/// What a client wants published.
#[derive(Debug, Clone)]
pub struct PublishBody {
    /// The event's name: 1 to 255 bytes of UTF-8, nothing escaped.
    pub event: Bytes,
    /// A JSON object, as it came.
    pub payload: Json,
    /// Who is to receive it.
    pub target: Target,
}

/// Why a publish is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPublish {
    /// It is neither `[event, payload]` nor an object of known keys, or one of its parts is wrong.
    #[error("bad_request")]
    BadRequest,
    /// Its target is not open to clients.
    #[error("unauthorized")]
    Unauthorized,
}

/// Reads `[event, payload]` or `{"event","payload","target"?}`. The parts are slices of `payload`.
///
/// # Errors
/// [`BadPublish`]
pub fn publish_body(payload: &Json) -> Result<PublishBody, BadPublish> {
    let body: Body<'_> = serde_json::from_slice(payload.as_bytes()).map_err(|_| BadPublish::BadRequest)?;
    let slice = |raw: &RawValue| Json(payload.0.slice_ref(raw.get().as_bytes()));
    let data = slice(body.payload);
    if !is_object(&data) {
        return Err(BadPublish::BadRequest);
    }
    let event = event(&slice(body.event)).ok_or(BadPublish::BadRequest)?;
    let target = body.target.map_or(Ok(Target::All), |raw| target(&slice(raw)))?;
    Ok(PublishBody {
        event,
        payload: data,
        target,
    })
}

fn event(json: &Json) -> Option<Bytes> {
    let name = match json.to_str()? {
        std::borrow::Cow::Borrowed(name) => json.0.slice_ref(name.as_bytes()),
        std::borrow::Cow::Owned(name) => Bytes::from(name),
    };
    (1..=EVENT_BYTES_MAX).contains(&name.len()).then_some(name)
}

fn target(json: &Json) -> Result<Target, BadPublish> {
    match json.to_str().as_deref() {
        Some("all") => Ok(Target::All),
        Some("others") => Ok(Target::Others),
        Some(_) => Err(BadPublish::Unauthorized),
        None if is_object(json) => Err(BadPublish::Unauthorized),
        None => Err(BadPublish::BadRequest),
    }
}

struct Body<'a> {
    event: &'a RawValue,
    payload: &'a RawValue,
    target: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Body<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Body<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of event and payload, or an object with them")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let event = seq
                    .next_element()?
                    .ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let payload = seq
                    .next_element()?
                    .ok_or_else(|| A::Error::invalid_length(1, &self))?;
                if seq.next_element::<&RawValue>()?.is_some() {
                    return Err(A::Error::invalid_length(3, &self));
                }
                Ok(Body {
                    event,
                    payload,
                    target: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut event, mut payload, mut target) = (None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    let place = match key.as_str() {
                        "event" => &mut event,
                        "payload" => &mut payload,
                        "target" => &mut target,
                        _ => return Err(A::Error::unknown_field(&key, &["event", "payload", "target"])),
                    };
                    // Which of two would count depends on who reads; nobody should have to guess.
                    if place.replace(map.next_value::<&RawValue>()?).is_some() {
                        return Err(A::Error::custom("a key twice"));
                    }
                }
                Ok(Body {
                    event: event.ok_or_else(|| A::Error::missing_field("event"))?,
                    payload: payload.ok_or_else(|| A::Error::missing_field("payload"))?,
                    target,
                })
            }
        }
        deserializer.deserialize_any(Form)
    }
}

//! The payload of the event `publish`, in its two forms (X6).

use std::fmt;

use bytes::Bytes;
use ringcast_proto::v1::Target;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{Json, is_object};

/// Longest event name a publication may have.
const EVENT_BYTES_MAX: usize = 255;
/// Longest id a client may give a publish.
const MSG_ID_BYTES_MAX: usize = 128;
/// Most members a publish may name.
const NAMES_MAX: usize = 100;
/// Longest name of a member.
const NAME_BYTES_MAX: usize = 255;

/// What a client wants published.
#[derive(Debug, Clone)]
pub struct PublishBody {
    /// The event's name: 1 to 255 bytes of UTF-8, nothing escaped.
    pub event: Bytes,
    /// A JSON object, as it came.
    pub payload: Json,
    /// The client's own id of it: 1 to 128 bytes of UTF-8, nothing escaped; empty: none.
    pub msg_id: Bytes,
    /// Who is to receive it.
    pub target: Target,
    /// With [`Target::Members`], and with nothing else: 1 to 100 names of 1 to 255 bytes, nothing escaped.
    pub names: Vec<Bytes>,
}

/// Why a publish is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPublish {
    /// It is neither `[event, payload]` nor an object of known keys, or one of its parts is wrong.
    #[error("bad_request")]
    BadRequest,
    /// Its target is none that is open to anybody.
    #[error("unauthorized")]
    Unauthorized,
}

/// Reads `[event, payload]` or `{"event","payload","msg_id"?,"target"?}`. The parts are slices of `payload` wherever
/// nothing in them is escaped.
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
    let event = string(&slice(body.event), EVENT_BYTES_MAX)?;
    let msg_id = body
        .msg_id
        .map_or(Ok(Bytes::new()), |raw| string(&slice(raw), MSG_ID_BYTES_MAX))?;
    let (target, names) = body
        .target
        .map_or(Ok((Target::All, Vec::new())), |raw| target(&slice(raw)))?;
    Ok(PublishBody {
        event,
        payload: data,
        msg_id,
        target,
        names,
    })
}

/// What a JSON string means, if it is one of 1 to `bytes_max` bytes.
fn string(json: &Json, bytes_max: usize) -> Result<Bytes, BadPublish> {
    let text = match json.to_str().ok_or(BadPublish::BadRequest)? {
        std::borrow::Cow::Borrowed(text) => json.0.slice_ref(text.as_bytes()),
        std::borrow::Cow::Owned(text) => Bytes::from(text),
    };
    if (1..=bytes_max).contains(&text.len()) {
        Ok(text)
    } else {
        Err(BadPublish::BadRequest)
    }
}

fn target(json: &Json) -> Result<(Target, Vec<Bytes>), BadPublish> {
    let target = match json.to_str().as_deref() {
        Some("all") => Target::All,
        Some("others") => Target::Others,
        Some("one") => Target::One,
        Some(_) => return Err(BadPublish::Unauthorized),
        None => return Ok((Target::Members, members(json)?)),
    };
    Ok((target, Vec::new()))
}

/// The names in `{"members":[name, ..]}`.
fn members(json: &Json) -> Result<Vec<Bytes>, BadPublish> {
    let Members(names) = serde_json::from_slice(json.as_bytes()).map_err(|_| BadPublish::BadRequest)?;
    let slice = |raw: &RawValue| Json(json.0.slice_ref(raw.get().as_bytes()));
    let names = names.into_iter().map(|raw| string(&slice(raw), NAME_BYTES_MAX));
    names.collect()
}

struct Body<'a> {
    event: &'a RawValue,
    payload: &'a RawValue,
    msg_id: Option<&'a RawValue>,
    target: Option<&'a RawValue>,
}

/// The keys of the object form.
const KEYS: &[&str] = &["event", "payload", "msg_id", "target"];

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
                    msg_id: None,
                    target: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut event, mut payload, mut msg_id, mut target) = (None, None, None, None);
                while let Some(key) = map.next_key::<String>()? {
                    let place = match key.as_str() {
                        "event" => &mut event,
                        "payload" => &mut payload,
                        "msg_id" => &mut msg_id,
                        "target" => &mut target,
                        _ => return Err(A::Error::unknown_field(&key, KEYS)),
                    };
                    // Which of two would count depends on who reads; nobody should have to guess.
                    if place.replace(map.next_value::<&RawValue>()?).is_some() {
                        return Err(A::Error::custom("a key twice"));
                    }
                }
                Ok(Body {
                    event: event.ok_or_else(|| A::Error::missing_field("event"))?,
                    payload: payload.ok_or_else(|| A::Error::missing_field("payload"))?,
                    msg_id,
                    target,
                })
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// The elements of `{"members":[..]}`, 1 to [`NAMES_MAX`] of them.
struct Members<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with members alone")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (key, Names(names)) = map
                    .next_entry::<String, Names<'_>>()?
                    .ok_or_else(|| A::Error::missing_field("members"))?;
                if key != "members" || map.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom("members alone"));
                }
                Ok(Members(names))
            }
        }
        deserializer.deserialize_map(Form)
    }
}

/// A list with a bound, so that nobody makes a gateway hold a million names before it counts them.
struct Names<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Names<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of 1 to {NAMES_MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    if names.len() == NAMES_MAX {
                        return Err(A::Error::invalid_length(NAMES_MAX + 1, &self));
                    }
                    names.push(name);
                }
                if names.is_empty() {
                    return Err(A::Error::invalid_length(0, &self));
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_seq(Form)
    }
}

//! A publication as members are sent it: encoded once for all that write alike, finished for each join_ref.
//!
//! *Invariant:* without an offset the bytes are Phoenix's own. With one, each publication tells it: in the ref place of an
//! event frame (X3), or in the text frame `phx_offset` behind a binary one, in one write with it (X5).

use bytes::Bytes;
use ringcast_proto::v1::Publication;
use ringcast_proto::{Offset, Topic};

use super::encode::{FieldTooLong, Tail, binary_broadcast, binary_push};
use super::{Frame, Json, Serializer};

/// Follows a binary publication and says its offset.
const MARKER: &str = "phx_offset";
/// Longest event name a binary frame can tell.
const BINARY_EVENT_BYTES_MAX: usize = 255;

/// A publication, encoded for members that write alike.
#[derive(Debug, Clone)]
pub struct Outgoing {
    binary: Option<Binary>,
    /// The event itself; of a binary publication what says its offset.
    text: Option<Tail>,
}

#[derive(Debug, Clone)]
struct Binary {
    topic: Topic,
    event: Box<str>,
    data: Bytes,
}

impl Outgoing {
    /// Encodes what these members get alike. `offset` is for channels that asked for positions, of publications that have
    /// one; all others are told `None`.
    #[must_use]
    pub fn new(
        serializer: Serializer,
        offset: Option<Offset>,
        topic: &Topic,
        publication: &Publication,
    ) -> Outgoing {
        let event = String::from_utf8_lossy(&publication.event);
        let text = |reference: &Json, event: &str, payload: &[u8]| {
            Tail::new(serializer, reference, topic, event, payload)
        };
        if !publication.binary {
            let reference = offset.map_or_else(Json::null, reference);
            return Outgoing {
                binary: None,
                text: Some(text(&reference, &event, &publication.payload)),
            };
        }
        let marker =
            |payload: &str| offset.map(|offset| text(&reference(offset), MARKER, payload.as_bytes()));
        // V1 has no binary frames, and Phoenix's raw bytes in JSON strings nobody can read (F5).
        if serializer == Serializer::V1 || event.len() > BINARY_EVENT_BYTES_MAX {
            return Outgoing {
                binary: None,
                text: marker("{\"skipped\":\"binary\"}"),
            };
        }
        Outgoing {
            binary: Some(Binary {
                topic: topic.clone(),
                event: event.into(),
                data: publication.payload.clone(),
            }),
            text: marker("{}"),
        }
    }

    /// The frame for members whose copies carry this join_ref. `None` where nothing can be told to them (F5).
    #[must_use]
    pub fn frame(&self, join_ref: &Json) -> Option<Frame> {
        let text = self.text.as_ref().map(|tail| tail.frame(join_ref));
        let Some(binary) = &self.binary else {
            return text;
        };
        // What a join_ref of a client could not be put into was not taken from it.
        let first = binary.frame(join_ref).ok()?;
        Some(match text {
            None => first,
            Some(marker) => Frame([first.0, marker.0].concat().into()),
        })
    }
}

impl Binary {
    fn frame(&self, join_ref: &Json) -> Result<Frame, FieldTooLong> {
        if join_ref.is_null() {
            binary_broadcast(&self.topic, &self.event, &self.data)
        } else {
            binary_push(join_ref, &self.topic, &self.event, &self.data)
        }
    }
}

/// `"@N"`.
fn reference(offset: Offset) -> Json {
    Json(format!("\"@{}\"", offset.0).into())
}

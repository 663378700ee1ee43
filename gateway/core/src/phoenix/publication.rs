//! A publication as members are sent it: encoded once for all that write alike.
//!
//! *Invariant:* without an offset the bytes are Phoenix's own. With one, each publication tells it: in the ref place of an
//! event frame (X3), or in the text frame `phx_offset` behind a binary one, in one write with it (X5).

use bytes::BytesMut;
use ringcast_proto::v1::Publication;
use ringcast_proto::{Offset, Topic};

use super::encode::{binary_broadcast, binary_push, push_into};
use super::{Frame, Json, Serializer};

/// Follows a binary publication and says its offset.
const MARKER: &str = "phx_offset";
/// Longest event name a binary frame can tell.
const BINARY_EVENT_BYTES_MAX: usize = 255;

/// The frame of a publication for members whose copies carry this join_ref. `offset` is for channels that asked for
/// positions, of publications that have one; all others are told `None`. No frame where nothing can be told (F5).
/// Frames that are made in one `room` share allocations.
#[must_use]
pub fn publication(
    room: &mut BytesMut,
    serializer: Serializer,
    join_ref: &Json,
    offset: Option<Offset>,
    topic: &Topic,
    publication: &Publication,
) -> Option<Frame> {
    let (event, payload) = (String::from_utf8_lossy(&publication.event), &publication.payload);
    let reference = offset.map_or_else(Json::null, reference);
    let mut text = |event: &str, payload: &[u8]| {
        push_into(room, serializer, join_ref, &reference, topic, event, payload)
    };
    if !publication.binary {
        return Some(text(&event, payload));
    }
    let mut marker = |payload: &str| offset.map(|_| text(MARKER, payload.as_bytes()));
    // V1 has no binary frames, and Phoenix's raw bytes in JSON strings nobody can read (F5).
    if serializer == Serializer::V1 || event.len() > BINARY_EVENT_BYTES_MAX {
        return marker("{\"skipped\":\"binary\"}");
    }
    // What a join_ref of a client could not be put into was not taken from it.
    let first = match join_ref.is_null() {
        true => binary_broadcast(topic, &event, payload),
        false => binary_push(join_ref, topic, &event, payload),
    }
    .ok()?;
    Some(match marker("{}") {
        None => first,
        Some(marker) => Frame([first.0, marker.0].concat().into()),
    })
}

/// `"@N"`.
fn reference(offset: Offset) -> Json {
    Json(format!("\"@{}\"", offset.0).into())
}

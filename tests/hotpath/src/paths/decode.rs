//! From a client's bytes to a message.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use ringcast_gateway_core::phoenix::{DecodeError, Message, Payload, Serializer, decode_text};
use ringcast_gateway_core::websocket::{Decoder, Event, Violation, unmask};
use ringcast_proto::Millis;

use crate::cluster::payload;
use crate::meter::Meter;

const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a client says to publish.
pub(super) fn publish_text(topic: &str, reference: u64) -> Bytes {
    let payload = payload();
    let payload = str::from_utf8(&payload).expect("a JSON object");
    Bytes::from(format!(
        r#"["1","{reference}","{topic}","publish",["event",{payload}]]"#
    ))
}

/// As its frame comes from the socket.
fn masked(text: &[u8]) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("a frame of medium length");
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend(len.to_be_bytes());
    frame.extend(MASK);
    let at = frame.len();
    frame.extend_from_slice(text);
    // A mask is its own inverse.
    unmask(&mut frame[at..], MASK, 0);
    frame
}

type Next = fn(&mut Decoder, &mut &[u8], &mut BytesMut, Millis) -> Result<Option<Event>, Violation>;
type DecodeText = fn(Serializer, Bytes) -> Result<Message, DecodeError>;

pub(super) fn websocket(meter: &mut Meter) {
    let next = black_box(Decoder::next as Next);
    let text = publish_text("topics:matrix", 17);
    let frame = masked(&text);
    let mut decoder = Decoder::new(MESSAGE_BYTES_MAX);
    for _ in meter.rounds() {
        let event =
            meter.measure(|| next(&mut decoder, &mut &frame[..], &mut BytesMut::new(), Millis(1_000)));
        assert_eq!(event, Ok(Some(Event::Text(text.clone()))));
    }
}

pub(super) fn phoenix(meter: &mut Meter) {
    let decode = black_box(decode_text as DecodeText);
    let text = publish_text("topics:matrix", 17);
    for _ in meter.rounds() {
        // A buffer of its own, as every frame has.
        let text = Bytes::from(text.to_vec());
        let message = meter.measure(|| decode(Serializer::V2, text));
        assert!(matches!(
            message,
            Ok(Message {
                topic_name: Some(_),
                payload: Payload::Json(_),
                ..
            })
        ));
    }
}

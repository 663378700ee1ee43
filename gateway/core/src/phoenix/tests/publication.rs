use bytes::BytesMut;
use ringcast_proto::Offset;
use ringcast_proto::v1::Publication;

use super::binary::hex;
use super::*;

fn published(event: &str, payload: &'static [u8], binary: bool) -> Publication {
    Publication {
        offset: 44,
        event: event.to_owned().into(),
        payload: Bytes::from_static(payload),
        binary,
        ..Default::default()
    }
}

fn sent(serializer: Serializer, offset: Option<u64>, of: &Publication, join_ref: &Json) -> Option<Frame> {
    publication(
        &mut BytesMut::new(),
        serializer,
        join_ref,
        offset.map(Offset),
        &topic("room:bin"),
        of,
    )
}

const HI: &[u8] = br#"{"message":"hi"}"#;
const DATA: &[u8] = &[1, 2, 255];
/// Kind 2, `room:bin`, `bcastbin`, 01 02 ff.
const BROADCAST: &str = "82 16 02 08 08 726f6f6d3a62696e 626361737462696e 0102ff";

#[test]
fn x3_the_offset_stands_in_the_place_of_the_ref_and_only_where_it_was_asked_for() {
    let hi = published("event", HI, false);
    let four = json("\"4\"");
    let shown_to = |serializer, offset, join_ref: &Json| {
        shown(&sent(serializer, offset, &hi, join_ref).expect("text is for all"))
    };
    assert_eq!(
        shown_to(Serializer::V2, Some(44), &four),
        r#"["4","@44","room:bin","event",{"message":"hi"}]"#
    );
    assert_eq!(
        shown_to(Serializer::V2, Some(44), &Json::null()),
        r#"[null,"@44","room:bin","event",{"message":"hi"}]"#
    );
    assert_eq!(
        shown_to(Serializer::V1, Some(44), &Json::null()),
        r#"{"topic":"room:bin","event":"event","payload":{"message":"hi"},"ref":"@44"}"#
    );
    assert_eq!(
        shown_to(Serializer::V2, None, &four),
        r#"["4",null,"room:bin","event",{"message":"hi"}]"#
    );
    assert_eq!(
        shown_to(Serializer::V1, None, &Json::null()),
        r#"{"topic":"room:bin","event":"event","payload":{"message":"hi"},"ref":null}"#
    );
}

#[test]
fn x5_a_binary_publication_is_followed_by_its_offset_in_the_same_write() {
    let data = published("bcastbin", DATA, true);
    let stock = sent(Serializer::V2, None, &data, &Json::null()).unwrap();
    assert_eq!(stock.0, hex(BROADCAST));
    let told = sent(Serializer::V2, Some(44), &data, &Json::null()).unwrap();
    let marker = told.0.strip_prefix(&stock.0[..]).expect("the same frame first");
    assert_eq!(
        shown(&Frame(told.0.slice_ref(marker))),
        r#"[null,"@44","room:bin","phx_offset",{}]"#
    );
}

#[test]
fn x5_a_copy_with_a_join_ref_is_of_kind_0_and_its_marker_has_the_same() {
    let data = published("pushedbin", DATA, true);
    let four = json("\"4\"");
    let told = sent(Serializer::V2, Some(44), &data, &four).unwrap();
    let push = binary_push(&four, &topic("room:bin"), "pushedbin", DATA).unwrap();
    let marker = told.0.strip_prefix(&push.0[..]).expect("kind 0 first");
    assert_eq!(
        shown(&Frame(told.0.slice_ref(marker))),
        r#"["4","@44","room:bin","phx_offset",{}]"#
    );
}

#[test]
fn f5_v1_is_told_nothing_of_binary_and_with_positions_that_it_was_skipped() {
    let data = published("bcastbin", DATA, true);
    assert_eq!(sent(Serializer::V1, None, &data, &Json::null()), None);
    let marker = sent(Serializer::V1, Some(44), &data, &Json::null()).unwrap();
    assert_eq!(
        shown(&marker),
        r#"{"topic":"room:bin","event":"phx_offset","payload":{"skipped":"binary"},"ref":"@44"}"#
    );
}

#[test]
fn f3_an_event_no_binary_frame_can_name_is_left_out_and_its_offset_told() {
    let longest = published(&"e".repeat(255), DATA, true);
    assert!(sent(Serializer::V2, None, &longest, &Json::null()).is_some());
    let data = published(&"e".repeat(256), DATA, true);
    assert_eq!(sent(Serializer::V2, None, &data, &Json::null()), None);
    let marker = sent(Serializer::V2, Some(44), &data, &Json::null());
    assert_eq!(
        shown(&marker.unwrap()),
        r#"[null,"@44","room:bin","phx_offset",{"skipped":"binary"}]"#
    );
}

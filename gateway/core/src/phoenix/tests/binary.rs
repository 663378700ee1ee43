use bytes::Bytes;

use super::*;

pub(super) fn hex(digits: &str) -> Bytes {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn binary(digits: &str) -> Result<Message, DecodeError> {
    decode_binary(Serializer::V2, hex(digits))
}

#[test]
fn section_2_golden_kind_0_from_a_client() {
    let message = binary("00 01 01 08 07 31 32 726f6f6d3a62696e 7075736862696e 0102ff").unwrap();
    assert_eq!(
        (message.join_ref.as_bytes(), message.reference.as_bytes()),
        (&b"\"1\""[..], &b"\"2\""[..])
    );
    assert_eq!(
        (message.topic_name.as_deref(), message.event.as_deref()),
        (Some("room:bin"), Some("pushbin"))
    );
    assert!(matches!(message.payload, Payload::Binary(data) if data[..] == [1, 2, 255]));
}

#[test]
fn section_2_golden_kinds_0_1_2_to_a_client() {
    let (one, two, bin) = (json("\"1\""), json("\"2\""), topic("room:bin"));
    let data = [1, 2, 255];
    let push = binary_push(&one, &bin, "pushedbin", &data).unwrap();
    assert_eq!(
        body(&push, 0x82),
        hex("00 01 08 09 31 726f6f6d3a62696e 70757368656462696e 0102ff")
    );
    let broadcast = binary_broadcast(&bin, "bcastbin", &data).unwrap();
    assert_eq!(
        body(&broadcast, 0x82),
        hex("02 08 08 726f6f6d3a62696e 626361737462696e 0102ff")
    );
    let reply = binary_reply(&one, &two, &bin, "ok", &data).unwrap();
    assert_eq!(
        body(&reply, 0x82),
        hex("01 01 01 08 02 31 32 726f6f6d3a62696e 6f6b 0102ff")
    );
    let to_empty_ref = binary_reply(&one, &json("\"\""), &bin, "ok", &[1]).unwrap();
    assert_eq!(
        body(&to_empty_ref, 0x82),
        hex("01 01 00 08 02 31 726f6f6d3a62696e 6f6b 01")
    );
}

#[test]
fn section_2_golden_kind_3_is_read_and_marked() {
    let golden = "03 01 01 0f 05 00 01 36 37 7265616c74696d653a6d6174726978 73686f7574 7b2261223a317d";
    let message = binary(golden).unwrap();
    assert_eq!(
        (message.join_ref, message.reference),
        (json("\"6\""), json("\"7\""))
    );
    assert_eq!(message.topic_name.as_deref(), Some("realtime:matrix"));
    assert_eq!(message.event.as_deref(), Some("broadcast"));
    let Payload::UserBroadcast(user) = message.payload else {
        panic!("{:?}", message.payload)
    };
    assert_eq!((&*user.event, user.metadata), ("shout", None));
    assert!(matches!(user.data, UserData::Json(data) if data.as_bytes() == br#"{"a":1}"#));
    let with_metadata = binary("03 00 00 01 01 02 00 74 65 7b7d ff").unwrap();
    let Payload::UserBroadcast(user) = with_metadata.payload else {
        panic!("{:?}", with_metadata.payload)
    };
    assert_eq!(user.metadata, Some(json("{}")));
    assert!(matches!(user.data, UserData::Binary(data) if data[..] == [255]));
}

#[test]
fn f1_an_absent_ref_in_binary_is_the_empty_string_and_not_null() {
    let message = binary("00 00 00 01 01 74 65").unwrap();
    assert_eq!(
        (message.join_ref, message.reference),
        (json("\"\""), json("\"\""))
    );
    assert!(matches!(message.payload, Payload::Binary(data) if data.is_empty()));
}

#[test]
fn f3_what_a_length_byte_cannot_say_is_refused() {
    let long = "e".repeat(256);
    let refused = FieldTooLong {
        field: "event",
        len: 256,
    };
    assert_eq!(binary_broadcast(&topic("t"), &long, b""), Err(refused));
    assert_eq!(binary_push(&Json::null(), &topic("t"), &long, b""), Err(refused));
    assert!(binary_broadcast(&topic("t"), &long[1..], b"").is_ok());
}

#[test]
fn hostile_48_bad_binary_is_undecodable() {
    let inputs = [
        "",
        "00",
        "00 01",
        "00 ff ff ff ff",
        "00 01 01 01 01 31 32 74",
        "01 00 00 01 01 74 65",
        "02 01 01 74 65",
        "04 01 01 00 00 74 65",
        "09",
        "ff",
        "03",
        "03 00 00 01 01 00",
        "03 00 00 01 01 00 02 74 65",
        "03 00 00 01 01 01 00 74 65 78",
        "03 00 00 01 01 00 01 74 65 7b",
        "00 00 00 01 01 ff 65",
        "00 01 00 01 01 ff 74 65",
        "00 00 00 01 01 74 ff",
    ];
    for input in inputs {
        assert!(binary(input).is_err(), "{input}");
    }
    assert_eq!(
        binary("00 02 01 01 01 31 32 74").unwrap_err(),
        DecodeError::Truncated { need: 10, have: 8 }
    );
    assert_eq!(
        decode_binary(Serializer::V1, hex("00 00 00 01 01 74 65")).unwrap_err(),
        DecodeError::BinaryOnV1
    );
}

mod binary;
mod publication;
mod publish;

use bytes::Bytes;
use proptest::prelude::*;
use ringcast_proto::Topic;

use super::*;

fn json(text: &str) -> Json {
    Json(Bytes::copy_from_slice(text.as_bytes()))
}

fn text(serializer: Serializer, text: &str) -> Result<Message, DecodeError> {
    decode_text(serializer, Bytes::copy_from_slice(text.as_bytes()))
}

fn v2(message: &str) -> Message {
    text(Serializer::V2, message).unwrap()
}

fn topic(name: &str) -> Topic {
    Topic::parse(name.as_bytes()).unwrap()
}

/// What a frame carries, its header checked and taken off.
fn body(frame: &Frame, first: u8) -> Bytes {
    assert_eq!(frame.0[0], first);
    let (header, len) = match frame.0[1] {
        126 => (4, usize::from(u16::from_be_bytes([frame.0[2], frame.0[3]]))),
        short => (2, usize::from(short)),
    };
    assert_eq!(frame.0.len(), header + len);
    frame.0.slice(header..)
}

fn shown(frame: &Frame) -> String {
    String::from_utf8(body(frame, 0x81).to_vec()).unwrap()
}

fn payload(message: &Message) -> &str {
    match &message.payload {
        Payload::Json(json) => std::str::from_utf8(json.as_bytes()).unwrap(),
        other => panic!("{other:?} is no JSON"),
    }
}

#[test]
fn h2_the_vsn_chooses_the_serializer() {
    assert_eq!(Serializer::from_vsn(None), Some(Serializer::V1));
    for (vsn, serializer) in [
        ("1.0.0", Serializer::V1),
        ("1.0.7", Serializer::V1),
        ("2.0.0", Serializer::V2),
    ] {
        assert_eq!(Serializer::from_vsn(Some(vsn)), Some(serializer), "{vsn}");
    }
}

#[test]
fn h2_every_other_vsn_is_refused() {
    for vsn in [
        "2.1.0",
        "1.1.0",
        "3.0.0",
        "2",
        "abc",
        "",
        "9",
        "2.0",
        "2.0.0-rc.1",
        "2.0.00",
        "2.0.",
        " 2.0.0",
        "2.0.0 ",
    ] {
        assert_eq!(Serializer::from_vsn(Some(vsn)), None, "{vsn:?}");
    }
}

#[test]
fn v2_text_is_a_list_of_five_and_more_are_ignored() {
    for message in [
        r#"["1","2","topics:matrix","publish",["event", {"a": 1}]]"#,
        r#" [ "1" , "2" , "topics:matrix" , "publish" , ["event", {"a": 1}] , 6 , [[]] ] "#,
    ] {
        let message = v2(message);
        assert_eq!(
            (message.join_ref.as_bytes(), message.reference.as_bytes()),
            (&b"\"1\""[..], &b"\"2\""[..])
        );
        assert_eq!(message.topic_name.as_deref(), Some("topics:matrix"));
        assert_eq!(message.topic.as_bytes(), b"\"topics:matrix\"");
        assert_eq!(message.event.as_deref(), Some("publish"));
        assert_eq!(payload(&message), r#"["event", {"a": 1}]"#, "as it was written");
    }
}

#[test]
fn v1_text_is_an_object_whose_join_ref_is_optional() {
    let message = r#"{"payload":{"b": 1},"x":[{}],"event":"ping","topic":"room:1","r\u0065f":"1","ref":7}"#;
    let message = text(Serializer::V1, message).unwrap();
    assert!(message.join_ref.is_null());
    assert_eq!(
        message.reference.as_bytes(),
        b"7",
        "of a key given twice the last one counts"
    );
    assert_eq!(
        (message.event.as_deref(), payload(&message)),
        (Some("ping"), r#"{"b": 1}"#)
    );
    let joined = r#"{"join_ref":"3","topic":"t","event":"e","payload":null,"ref":null}"#;
    assert_eq!(text(Serializer::V1, joined).unwrap().join_ref, json("\"3\""));
}

#[test]
fn c1_what_is_no_message_is_undecodable() {
    let v2 = [
        "",
        " ",
        "x",
        "null",
        "17",
        "\"a\"",
        "{}",
        "[]",
        "[1,2,3,4]",
        "[1,2,3,4,5",
        "[1,2,3,4,5]]",
        "[1,2,3,4,]",
        r#"{"topic":"t","event":"e","payload":{},"ref":"1"}"#,
        "[1,2,\"\u{1}\",4,5]",
        "[1,2,\"t\",\"e\",{a:1}]",
        "[01,2,3,4,5]",
    ];
    for message in v2 {
        assert!(text(Serializer::V2, message).is_err(), "{message}");
    }
    assert_eq!(
        text(Serializer::V2, "[1,2,3,4]").unwrap_err(),
        DecodeError::Short(4)
    );
    let v1 = [
        "",
        "[]",
        "null",
        "{}",
        r#"["1","2","t","e",{}]"#,
        r#"{"topic":"t","event":"e","payload":{}}"#,
        r#"{"event":"e","payload":{},"ref":"1"}"#,
        r#"{"topic":"t","payload":{},"ref":"1"}"#,
        r#"{"topic":"t","event":"e","ref":"1"}"#,
    ];
    for message in v1 {
        assert!(text(Serializer::V1, message).is_err(), "{message}");
    }
    assert!(decode_text(Serializer::V2, Bytes::from_static(b"[1,2,\"\xff\",4,5]")).is_err());
}

#[test]
fn c2_c3_odd_topics_events_and_payloads_are_messages_all_the_same() {
    for (odd, echoed) in [
        ("null", "null"),
        ("7", "7"),
        (r#"{"a":1}"#, r#"{"a":1}"#),
        (r#""""#, r#""""#),
    ] {
        let message = v2(&format!(r#"["1","2",{odd},"phx_join",{{}}]"#));
        assert_eq!(
            (message.topic_name.is_none(), message.topic.as_bytes()),
            (true, echoed.as_bytes())
        );
    }
    assert_eq!(v2(r#"["1","2","t",null,{}]"#).event, None);
    for odd in [
        "null",
        "\"text\"",
        "[]",
        "1e400",
        "\"\\ud800\"",
        "\"\\u0000\"",
        r#"{"a":1,"a":2}"#,
    ] {
        assert_eq!(payload(&v2(&format!(r#"["1","2","t","phx_join",{odd}]"#))), odd);
    }
}

#[test]
fn a_topic_is_1_to_255_bytes() {
    let name = |len: usize| v2(&format!(r#"[null,"1","{}","phx_join",{{}}]"#, "a".repeat(len))).topic_name;
    assert!(name(255).is_some());
    assert!(name(256).is_none());
    assert_eq!(
        v2(r#"[null,"1","t\u00f6\n","e",{}]"#).topic_name.as_deref(),
        Some("tö\n")
    );
}

#[test]
fn hostile_39_a_ref_is_any_json_up_to_255_bytes_of_text() {
    let with = |reference: &str| text(Serializer::V2, &format!(r#"["1",{reference},"t","e",{{}}]"#));
    for reference in ["7", "null", "{\"a\": [1]}", "1.50", "\"\\u0031\"", "true"] {
        assert_eq!(
            with(reference).unwrap().reference.as_bytes(),
            reference.as_bytes(),
            "verbatim"
        );
    }
    let of_len = |len: usize| format!("\"{}\"", "r".repeat(len - 2));
    assert!(with(&of_len(255)).is_ok());
    assert_eq!(with(&of_len(256)).unwrap_err(), DecodeError::RefTooLong(256));
    let join_ref = format!(r#"[{},"1","t","e",{{}}]"#, of_len(4096));
    assert_eq!(
        text(Serializer::V2, &join_ref).unwrap_err(),
        DecodeError::RefTooLong(4096)
    );
}

#[test]
fn hostile_37_no_depth_hurts() {
    let nested = |depth: usize| format!(r#"["1","2","t","e",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    assert!(matches!(v2(&nested(DEPTH_MAX)).payload, Payload::Json(_)));
    for depth in [DEPTH_MAX + 1, 10_000, 1_000_000] {
        assert!(matches!(v2(&nested(depth)).payload, Payload::TooDeep), "{depth}");
    }
    for depth in [10_000, 1_000_000] {
        let unclosed = "[".repeat(depth);
        assert!(text(Serializer::V2, &unclosed).is_err());
        assert!(text(Serializer::V1, &format!("{{\"payload\":{unclosed}")).is_err());
        let deep_ref = format!(r#"[{}{},"2","t","e",{{}}]"#, "[".repeat(depth), "]".repeat(depth));
        assert!(text(Serializer::V2, &deep_ref).is_err());
        let ignored = format!(
            r#"["1","2","t","e",{{}},{}{}]"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        assert!(text(Serializer::V2, &ignored).is_ok());
        let deep_topic = format!(r#"["1","2",{}{},"e",{{}}]"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(v2(&deep_topic).topic_name, None);
    }
}

#[test]
fn refs_and_payload_share_the_bytes_that_came() {
    let whole = Bytes::from_static(br#"["1","2","t","e",{"a":1}]"#);
    let message = decode_text(Serializer::V2, whole.clone()).unwrap();
    let Payload::Json(payload) = &message.payload else {
        panic!("{message:?}")
    };
    for part in [&message.join_ref, &message.reference, &message.topic, payload] {
        assert!(whole.as_ptr_range().contains(&part.0.as_ptr()));
    }
}

#[test]
fn s3_replies_are_written_as_phoenix_writes_them() {
    let reply = |serializer, topic: &str| {
        shown(&reply(
            serializer,
            &json("\"1\""),
            &json("7"),
            TopicName::AsSent(&json(topic)),
            "ok",
            b"{}",
        ))
    };
    let v2 = r#"["1",7,"topics:matrix","phx_reply",{"status":"ok","response":{}}]"#;
    assert_eq!(reply(Serializer::V2, "\"topics:matrix\""), v2);
    let v1 =
        r#"{"topic":"topics:matrix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":7}"#;
    assert_eq!(reply(Serializer::V1, "\"topics:matrix\""), v1);
    assert_eq!(
        reply(Serializer::V2, "17"),
        r#"["1",7,17,"phx_reply",{"status":"ok","response":{}}]"#,
        "C2: as sent"
    );
}

#[test]
fn s16_s17_pushes_and_broadcasts_are_written_as_phoenix_writes_them() {
    let push = |serializer, join_ref: &str, reference: &str| {
        shown(&push(
            serializer,
            &json(join_ref),
            &json(reference),
            &topic("room:\"1\""),
            "e\n",
            br#"{"a": 1}"#,
        ))
    };
    assert_eq!(
        push(Serializer::V2, "\"4\"", "null"),
        r#"["4",null,"room:\"1\"","e\n",{"a": 1}]"#
    );
    assert_eq!(
        push(Serializer::V2, "null", "\"@44\""),
        r#"[null,"@44","room:\"1\"","e\n",{"a": 1}]"#
    );
    let v1 = r#"{"topic":"room:\"1\"","event":"e\n","payload":{"a": 1},"ref":null}"#;
    assert_eq!(
        push(Serializer::V1, "\"4\"", "null"),
        v1,
        "V1 has no place for a join_ref"
    );
}

/// JSON texts, as they could come from anyone.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "\\PC{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(", "))),
            prop::collection::vec(inner, 0..4).prop_map(|values| {
                let entries: Vec<_> = values
                    .iter()
                    .enumerate()
                    .map(|(i, value)| format!("\"k{i}\": {value}"))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn decoding_inverts_encoding(join_ref in any_json(), reference in any_json(), name in "\\PC{1,40}", event in any::<String>(), data in any_json()) {
        prop_assume!(join_ref.len() <= REF_BYTES_MAX && reference.len() <= REF_BYTES_MAX);
        for serializer in [Serializer::V1, Serializer::V2] {
            let frame = push(serializer, &json(&join_ref), &json(&reference), &topic(&name), &event, data.as_bytes());
            let message = decode_text(serializer, body(&frame, 0x81)).unwrap();
            prop_assert_eq!(message.reference.as_bytes(), reference.as_bytes());
            prop_assert_eq!(message.topic_name.as_deref(), Some(&*name));
            prop_assert_eq!(message.event.as_deref(), Some(&*event));
            prop_assert_eq!(payload(&message), &data);
            if serializer == Serializer::V2 {
                prop_assert_eq!(message.join_ref.as_bytes(), join_ref.as_bytes());
            }
        }
    }

    #[test]
    fn decoding_is_total(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        for serializer in [Serializer::V1, Serializer::V2] {
            drop(decode_text(serializer, bytes.clone()));
            drop(decode_binary(serializer, bytes.clone()));
        }
        let mut kind_3 = vec![3];
        kind_3.extend_from_slice(&bytes);
        drop(decode_binary(Serializer::V2, kind_3.into()));
        drop(publish_body(&Json(bytes)));
    }

    #[test]
    fn whatever_is_taken_can_be_echoed(text in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,60}") {
        if let Ok(message) = decode_text(Serializer::V2, Bytes::from(format!("[\"1\",\"2\",\"t\",\"e\",{text}]"))) {
            let frame = reply(Serializer::V2, &message.join_ref, &message.reference, TopicName::AsSent(&message.topic), "ok", b"{}");
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&body(&frame, 0x81)).is_ok());
        }
    }
}

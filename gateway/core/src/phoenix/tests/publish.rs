use ringcast_proto::v1::Target;

use super::*;

#[test]
fn x6_both_forms_of_publish_are_read() {
    let body = publish_body(&json(r#"["ev\u0065nt", { "a": [1] }]"#)).unwrap();
    assert_eq!(
        (&body.event[..], body.payload.as_bytes()),
        (&b"event"[..], &br#"{ "a": [1] }"#[..])
    );
    assert_eq!(body.target, Target::All);
    assert!(body.msg_id.is_empty() && body.names.is_empty());
    let body = publish_body(&json(r#"{"target":"others","payload":{},"event":"e"}"#)).unwrap();
    assert_eq!(
        (&body.event[..], body.payload.as_bytes()),
        (&b"e"[..], &b"{}"[..])
    );
    assert_eq!(body.target, Target::Others);
    let longest = format!(r#"["{}",{{}}]"#, "e".repeat(255));
    assert_eq!(publish_body(&json(&longest)).unwrap().event.len(), 255);
}

#[test]
fn b1_what_is_no_publish_is_a_bad_request() {
    let bad = [
        "null",
        "{}",
        "[]",
        "\"e\"",
        "7",
        r#"["e"]"#,
        r#"["e",{},1]"#,
        r#"["e","str"]"#,
        r#"["e",[1]]"#,
        r#"["e",null]"#,
        "[5,{}]",
        r#"["",{}]"#,
        r#"[null,{}]"#,
        r#"["\ud800",{}]"#,
        r#"{"event":"e"}"#,
        r#"{"payload":{}}"#,
        r#"{"event":"e","payload":[]}"#,
        r#"{"event":"e","payload":{},"x":1}"#,
        r#"{"event":"e","payload":{},"msg_id":""}"#,
        r#"{"event":"e","payload":{},"msg_id":7}"#,
        r#"{"event":"e","payload":{},"msg_id":null}"#,
        r#"{"event":"e","payload":{},"msg_id":["m"]}"#,
        r#"{"event":"e","payload":{},"msg_id":"\ud800"}"#,
        r#"{"event":"e","payload":{},"msg_id":"m","msg_id":"m"}"#,
        r#"{"event":"e","event":"f","payload":{}}"#,
        r#"{"event":"e","payload":{},"target":7}"#,
        r#"{"event":"e","payload":{},"target":null}"#,
        r#"{"event":"e","payload":{},"target":["a"]}"#,
        r#"{"event":"e","payload":{},"target":{}}"#,
        r#"{"event":"e","payload":{},"target":{"names":["a"]}}"#,
        r#"{"event":"e","payload":{},"target":{"members":"a"}}"#,
        r#"{"event":"e","payload":{},"target":{"members":[]}}"#,
        r#"{"event":"e","payload":{},"target":{"members":[""]}}"#,
        r#"{"event":"e","payload":{},"target":{"members":["a",7]}}"#,
        r#"{"event":"e","payload":{},"target":{"members":["a"],"x":1}}"#,
        r#"{"event":"e","payload":{},"target":{"members":["a"],"members":["b"]}}"#,
        r#"{"event":"e","payload":{},"target":"all","target":"all"}"#,
    ];
    for payload in bad {
        assert_eq!(
            publish_body(&json(payload)).unwrap_err(),
            BadPublish::BadRequest,
            "{payload}"
        );
    }
    let too_long = format!(r#"["{}",{{}}]"#, "e".repeat(256));
    assert_eq!(
        publish_body(&json(&too_long)).unwrap_err(),
        BadPublish::BadRequest
    );
}

/// `{"event":"e","payload":{}, ..}`.
fn object(rest: &str) -> Result<PublishBody, BadPublish> {
    publish_body(&json(&format!(r#"{{"event":"e","payload":{{}},{rest}}}"#)))
}

#[test]
fn x6_an_id_is_a_string_of_1_to_128_bytes_however_it_is_escaped() {
    assert_eq!(
        object(r#""msg_id":"0197f3a2-9c41""#).unwrap().msg_id,
        "0197f3a2-9c41"
    );
    assert_eq!(object(r#""msg_id":"\u0061\u00e4""#).unwrap().msg_id, "aä");
    let of = |len: usize| object(&format!(r#""msg_id":"{}""#, "m".repeat(len)));
    assert_eq!(of(128).unwrap().msg_id.len(), 128);
    for too_long in [129, 1024] {
        assert_eq!(of(too_long).unwrap_err(), BadPublish::BadRequest);
    }
    // 64 letters of two bytes each fit, 65 do not.
    assert!(object(&format!(r#""msg_id":"{}""#, "ä".repeat(64))).is_ok());
    assert!(object(&format!(r#""msg_id":"{}""#, "ä".repeat(65))).is_err());
}

#[test]
fn x6_every_target_is_read_and_one_nobody_has_is_unauthorized() {
    assert_eq!(object(r#""target":"all""#).unwrap().target, Target::All);
    assert_eq!(object(r#""target":"one""#).unwrap().target, Target::One);
    let members = object(r#""target":{ "members": ["alice", "b\u006fb", "alice"] }"#).unwrap();
    assert_eq!(members.target, Target::Members);
    assert_eq!(members.names, ["alice", "bob", "alice"]);
    assert_eq!(
        object(r#""target":"everyone""#).unwrap_err(),
        BadPublish::Unauthorized
    );
}

#[test]
fn x6_at_most_100_members_of_at_most_255_bytes_are_named() {
    let names = |count: usize, len: usize| {
        let list = vec![format!("\"{}\"", "n".repeat(len)); count].join(",");
        object(&format!(r#""target":{{"members":[{list}]}}"#))
    };
    assert_eq!(names(100, 255).unwrap().names.len(), 100);
    assert_eq!(names(101, 1).unwrap_err(), BadPublish::BadRequest);
    assert_eq!(names(1, 256).unwrap_err(), BadPublish::BadRequest);
    assert_eq!(names(50_000, 1).unwrap_err(), BadPublish::BadRequest);
}

proptest! {
    #[test]
    fn whatever_is_read_as_a_publish_is_within_its_bounds(text in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,80}") {
        if let Ok(body) = publish_body(&json(&text)) {
            prop_assert!((1..=255).contains(&body.event.len()));
            prop_assert!(is_object(&body.payload) && body.msg_id.len() <= 128);
        }
    }
}

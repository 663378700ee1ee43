use super::*;

#[test]
fn x6_both_forms_of_publish_are_read() {
    let body = publish_body(&json(r#"["ev\u0065nt", { "a": [1] }]"#)).unwrap();
    assert_eq!(
        (&body.event[..], body.payload.as_bytes()),
        (&b"event"[..], &br#"{ "a": [1] }"#[..])
    );
    assert_eq!(body.target, ringcast_proto::v1::Target::All);
    let body = publish_body(&json(r#"{"target":"others","payload":{},"event":"e"}"#)).unwrap();
    assert_eq!(
        (&body.event[..], body.payload.as_bytes()),
        (&b"e"[..], &b"{}"[..])
    );
    assert_eq!(body.target, ringcast_proto::v1::Target::Others);
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
        r#"{"event":"e","payload":{},"msg_id":"m"}"#,
        r#"{"event":"e","event":"f","payload":{}}"#,
        r#"{"event":"e","payload":{},"target":7}"#,
        r#"{"event":"e","payload":{},"target":null}"#,
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

#[test]
fn x6_targets_closed_to_clients_are_unauthorized() {
    for target in [r#""one""#, r#"{"members":["a"]}"#, r#""everyone""#] {
        let payload = format!(r#"{{"event":"e","payload":{{}},"target":{target}}}"#);
        assert_eq!(
            publish_body(&json(&payload)).unwrap_err(),
            BadPublish::Unauthorized
        );
    }
}

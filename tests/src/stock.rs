//! What a client that asked for nothing may be sent: Phoenix's frames, and none of Ringcast's additions.
//!
//! Every transcript of the tests is held against this one list (section 10 of the wire), those of the gateway's own tests
//! too, which take in this file. *Invariant:* a frame of a channel that joined without `resume` passes.
//! Leaves out: what the application put into a publication, which may be anything.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Keys that only a channel with positions finds in a reply.
const ADDED: [&str; 10] = [
    "epoch",
    "offset",
    "recovered",
    "dup",
    "durability",
    "matched",
    "code",
    "retryable",
    "retry_after_ms",
    "msg_id",
];

/// Whether a text frame of either serializer is one that a plain Phoenix could have sent.
///
/// # Errors
/// What it holds that it should not.
pub fn is_stock(frame: &str) -> Result<(), String> {
    let (reference, event, payload) = parts(frame).ok_or_else(|| format!("no frame of Phoenix: {frame}"))?;
    if frame.starts_with('{') && object(frame).is_some_and(|keys| keys.len() != 4) {
        return Err(format!("a V1 frame has four keys: {frame}"));
    }
    if serde_json::from_str::<String>(reference).is_ok_and(|reference| reference.starts_with('@')) {
        return Err(format!("an offset in the place of the ref: {frame}"));
    }
    match serde_json::from_str::<String>(event).as_deref() {
        Ok("gap" | "phx_offset") => Err(format!("an event that Phoenix does not have: {frame}")),
        Ok("phx_reply") => {
            let response = object(payload).and_then(|reply| object(reply.get("response")?.get()));
            match response.and_then(|keys| ADDED.iter().find(|added| keys.contains_key(**added))) {
                Some(added) => Err(format!("a reply with {added:?}: {frame}")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Whether a client's message is a join that asks for positions; what is sent after it is no longer held against the list.
pub fn asks_for_positions(message: &str) -> bool {
    let Some((_, event, payload)) = parts(message) else {
        return false;
    };
    let resume = object(payload).and_then(|payload| payload.get("resume").map(|resume| resume.get()));
    event == r#""phx_join""# && resume.is_some_and(|resume| resume == "true" || resume.starts_with('{'))
}

/// The ref, the event and the payload of a frame, as text.
fn parts(frame: &str) -> Option<(&str, &str, &str)> {
    if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(frame) {
        let [_, reference, _, event, payload] = list[..] else {
            return None;
        };
        return Some((reference.get(), event.get(), payload.get()));
    }
    let object = object(frame).filter(|object| object.contains_key("topic"))?;
    let get = |key| object.get(key).map(|value| value.get());
    Some((get("ref")?, get("event")?, get("payload")?))
}

/// Nothing is read but the keys: a number may be one that no parser can hold.
fn object(text: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phoenix_itself_passes_whatever_the_application_says() {
        for frame in [
            r#"["1","1","topics:matrix","phx_reply",{"status":"ok","response":{}}]"#,
            r#"[null,"7","x","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
            r#"["1","7","topics:s","phx_reply",{"status":"error","response":"a name with epoch"}]"#,
            r#"["1",null,"topics:matrix","event",{"epoch":"e","offset":1,"code":4290,"ref":"@1"}]"#,
            r#"[null,null,"room:1","msg",{"big":1e400}]"#,
            r#"["1","1","room:1","phx_close",{}]"#,
            r#"{"topic":"room:1","event":"msg","payload":{"offset":1},"ref":null}"#,
            r#"{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#,
        ] {
            assert_eq!(is_stock(frame), Ok(()), "{frame}");
        }
    }

    #[test]
    fn each_addition_is_found() {
        for key in ADDED {
            let v2 =
                format!(r#"["1","2","t","phx_reply",{{"status":"ok","response":{{"a":{{}},"{key}":1}}}}]"#);
            assert!(is_stock(&v2).is_err(), "{v2}");
            let v1 = format!(
                r#"{{"topic":"t","event":"phx_reply","payload":{{"status":"error","response":{{"{key}":null}}}},"ref":"2"}}"#
            );
            assert!(is_stock(&v1).is_err(), "{v1}");
        }
        for frame in [
            r#"["1","@44","topics:matrix","event",{}]"#,
            r#"{"topic":"t","event":"event","payload":{},"ref":"@1"}"#,
            r#"["1",null,"t","gap",{"epoch":"e","from":1,"to":2,"reason":"overload"}]"#,
            r#"["1",null,"t","phx_offset",{}]"#,
            r#"["1",null,"t","event"]"#,
            r#"{"topic":"t","event":"event","payload":{},"ref":null,"join_ref":"1"}"#,
            "not json",
        ] {
            assert!(is_stock(frame).is_err(), "{frame}");
        }
    }

    #[test]
    fn only_a_join_with_true_or_a_position_asks() {
        let v2 = |event: &str, payload: &str| format!(r#"["1","1","topics:ab","{event}",{payload}]"#);
        for payload in [
            r#"{"resume":true}"#,
            r#"{"a":1, "resume" : {"epoch":"e","offset":0}}"#,
        ] {
            assert!(asks_for_positions(&v2("phx_join", payload)), "{payload}");
            assert!(!asks_for_positions(&v2("publish", payload)), "{payload}");
            let v1 =
                format!(r#"{{"topic":"t","event":"phx_join","payload":{payload},"ref":"1","join_ref":"1"}}"#);
            assert!(asks_for_positions(&v1), "{v1}");
        }
        for payload in [
            "{}",
            "null",
            r#"{"resume":false}"#,
            r#"{"resume":null}"#,
            r#"{"resume":7}"#,
        ] {
            assert!(!asks_for_positions(&v2("phx_join", payload)), "{payload}");
        }
    }
}

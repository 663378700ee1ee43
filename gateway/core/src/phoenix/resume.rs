//! What a join asks for by the key `resume` of its payload (X1).

use std::borrow::Cow;
use std::collections::BTreeMap;

use ringcast_proto::{Epoch, Offset};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Json;

/// Offsets are JSON integers that every client can hold: up to 2^53 - 1.
const OFFSET_MAX: u64 = (1 << 53) - 1;

/// From where a channel with positions is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// From now on.
    Now,
    /// After this publication, which the client has.
    After(Epoch, Offset),
}

/// `resume` is neither a boolean, nor `null`, nor a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("bad_request")]
pub struct BadResume;

/// Reads the payload of a join: none where it asks for nothing.
///
/// # Errors
/// [`BadResume`].
pub fn resume(payload: &Json) -> Result<Option<Resume>, BadResume> {
    // The empty object of most clients.
    if payload.as_bytes() == b"{}" {
        return Ok(None);
    }
    // The rest is the application's: nothing of it is looked into.
    let Ok(keys) = serde_json::from_slice::<BTreeMap<Cow<'_, str>, &RawValue>>(payload.as_bytes()) else {
        return Ok(None);
    };
    let asked = keys.get("resume").map(|raw| serde_json::from_str(raw.get()));
    match asked.transpose().map_err(|_| BadResume)? {
        None | Some(Value::Null | Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(Resume::Now)),
        Some(Value::Object(position)) => {
            let epoch = position.get("epoch").and_then(Value::as_str).ok_or(BadResume)?;
            let epoch = Epoch::parse(epoch.as_bytes()).map_err(|_| BadResume)?;
            // A float is none, however round.
            let offset = position.get("offset").and_then(Value::as_u64).ok_or(BadResume)?;
            if offset > OFFSET_MAX {
                return Err(BadResume);
            }
            Ok(Some(Resume::After(epoch, Offset(offset))))
        }
        Some(_) => Err(BadResume),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Resume>, BadResume> {
        resume(&Json::parse(text.to_owned().into()).unwrap())
    }

    #[test]
    fn x1_absent_false_and_null_ask_for_nothing() {
        for text in [
            "{}",
            "{ }",
            r#"{"resume":false}"#,
            r#"{"resume":null}"#,
            "null",
            "[1]",
            r#""x""#,
            "7",
        ] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn x1_true_is_from_now_and_a_position_is_after_it() {
        for beside in ["1", "1e400", r#""\ud800""#, r#"{"resume":7}"#] {
            let text = format!(r#"{{"x":{beside},"resume":true}}"#);
            assert_eq!(read(&text), Ok(Some(Resume::Now)), "{text}");
        }
        let after = |offset| {
            Ok(Some(Resume::After(
                Epoch::parse(b"k7q2m4td").unwrap(),
                Offset(offset),
            )))
        };
        assert_eq!(read(r#"{"resume":{"epoch":"k7q2m4td","offset":43}}"#), after(43));
        assert_eq!(
            read(r#"{"resume":{"offset":0,"epoch":"k7q2m4td","more":[]}}"#),
            after(0)
        );
        assert_eq!(
            read(r#"{"resume":{"epoch":"k7q2m4td","offset":9007199254740991}}"#),
            after(OFFSET_MAX)
        );
    }

    #[test]
    fn x1_anything_else_is_refused() {
        let long = format!(r#"{{"resume":{{"epoch":"{}","offset":1}}}}"#, "a".repeat(10_240));
        for text in [
            r#"{"resume":1}"#,
            r#"{"resume":1e400}"#,
            r#"{"resume":[],"x":1e400}"#,
            r#"{"resume":"true"}"#,
            r#"{"resume":[]}"#,
            r#"{"resume":{}}"#,
            r#"{"resume":{"epoch":"e"}}"#,
            r#"{"resume":{"offset":1}}"#,
            r#"{"resume":{"epoch":"","offset":1}}"#,
            r#"{"resume":{"epoch":"a b","offset":1}}"#,
            r#"{"resume":{"epoch":1,"offset":1}}"#,
            r#"{"resume":{"epoch":"e","offset":-1}}"#,
            r#"{"resume":{"epoch":"e","offset":1.0}}"#,
            r#"{"resume":{"epoch":"e","offset":1e3}}"#,
            r#"{"resume":{"epoch":"e","offset":"1"}}"#,
            r#"{"resume":{"epoch":"e","offset":null}}"#,
            r#"{"resume":{"epoch":"e","offset":9007199254740992}}"#,
            r#"{"resume":{"epoch":"e","offset":18446744073709551616}}"#,
            long.as_str(),
        ] {
            assert_eq!(read(text), Err(BadResume), "{text}");
        }
    }
}

//! JSON as text that was checked and is otherwise left alone.

use std::borrow::Cow;

use bytes::{BufMut, Bytes};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Text;

/// The text of one JSON value, checked and otherwise left alone. Starts and ends with the value: no spaces around it.
///
/// Two are equal if they mean the same value, however they are written.
#[derive(Debug, Clone)]
pub struct Json(pub Bytes);

impl Json {
    /// `null`.
    #[must_use]
    pub fn null() -> Json {
        Json::from_static("null")
    }

    /// A value known to be JSON when the program was written.
    #[must_use]
    pub fn from_static(text: &'static str) -> Json {
        Json(Bytes::from_static(text.as_bytes()))
    }

    /// The one value of `text`, whatever spaces are around it; `None` if it is not JSON. Shares the bytes.
    #[must_use]
    pub fn parse(text: Bytes) -> Option<Json> {
        let raw: &RawValue = serde_json::from_slice(&text).ok()?;
        Some(Json(text.slice_ref(raw.get().as_bytes())))
    }

    /// The JSON string that means `text`.
    #[must_use]
    pub fn string(text: &str) -> Json {
        let mut out = Vec::with_capacity(string_len(text));
        write_string(&mut out, text);
        Json(out.into())
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the text means, if it is a string: borrowed unless something in it is escaped. `None` also for a lone
    /// surrogate, which is legal JSON text and no string.
    #[must_use]
    pub fn to_str(&self) -> Option<Cow<'_, str>> {
        let inner = self.0.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if inner.contains(&b'\\') {
            serde_json::from_slice::<String>(&self.0).ok().map(Cow::Owned)
        } else {
            std::str::from_utf8(inner).ok().map(Cow::Borrowed)
        }
    }
}

impl Json {
    /// The same, to be kept: a slice unless something in it is escaped.
    #[must_use]
    pub fn text(&self) -> Option<Text> {
        Some(match self.to_str()? {
            Cow::Borrowed(text) => Text::slice(&self.0, text),
            Cow::Owned(text) => text.into(),
        })
    }
}

impl From<&ringcast_proto::Topic> for Json {
    fn from(topic: &ringcast_proto::Topic) -> Json {
        Json::string(topic.as_str())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        if self.0 == other.0 {
            return true;
        }
        // Different text is rarely the same value; only these can be written in two ways.
        let parse = |json: &Json| serde_json::from_slice::<Value>(&json.0).ok();
        match (parse(self), parse(other)) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => false,
        }
    }
}

/// Whether the value is an object.
#[must_use]
pub fn is_object(json: &Json) -> bool {
    json.0.first() == Some(&b'{')
}

/// How many bytes [`write_string`] writes.
pub(super) fn string_len(text: &str) -> usize {
    2 + text.bytes().map(escaped_len).sum::<usize>()
}

/// Writes the JSON string that means `text`, quotes included.
pub(super) fn write_string(out: &mut impl BufMut, text: &str) {
    out.put_u8(b'"');
    if text.bytes().all(|byte| escaped_len(byte) == 1) {
        out.put_slice(text.as_bytes());
    } else {
        text.bytes().for_each(|byte| write_escaped(out, byte));
    }
    out.put_u8(b'"');
}

fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn write_escaped(out: &mut impl BufMut, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.put_slice(&[b'\\', byte]),
        b'\n' => out.put_slice(b"\\n"),
        b'\r' => out.put_slice(b"\\r"),
        b'\t' => out.put_slice(b"\\t"),
        0..0x20 => {
            out.put_slice(b"\\u00");
            out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        _ => out.put_u8(byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Json {
        Json(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn refs_are_compared_by_value() {
        assert_eq!(json("\"1\""), json("\"\\u0031\""));
        assert_eq!(json("{\"a\":1,\"b\":[]}"), json("{ \"b\": [], \"a\": 1 }"));
        assert_eq!(Json::null(), json("null"));
        assert_ne!(json("\"1\""), json("1"), "a string is no number");
        assert_ne!(
            json("1"),
            json("1.0"),
            "Phoenix matches terms, where 1 is not 1.0"
        );
        assert_ne!(json("null"), json("\"\""));
    }

    #[test]
    fn refs_no_parser_can_hold_are_equal_only_as_text() {
        assert_eq!(json("1e400"), json("1e400"));
        assert_ne!(json("1e400"), json("1e401"));
        assert_eq!(json("\"\\ud800\""), json("\"\\ud800\""));
    }

    #[test]
    fn a_lone_surrogate_is_no_string() {
        assert_eq!(json("\"\\ud800\"").to_str(), None);
        assert_eq!(json("\"\\u0000\"").to_str().as_deref(), Some("\0"));
        assert_eq!(json("17").to_str(), None);
        assert_eq!(json("\"").to_str(), None);
    }

    proptest! {
        #[test]
        fn a_written_string_reads_back(text in any::<String>()) {
            let written = Json::string(&text);
            prop_assert_eq!(written.0.len(), string_len(&text));
            prop_assert_eq!(serde_json::from_slice::<String>(&written.0).unwrap(), text.as_str());
            prop_assert_eq!(written.to_str().unwrap(), text.as_str());
        }
    }
}

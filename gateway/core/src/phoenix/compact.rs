//! JSON text without insignificant white space, as every Phoenix serializer writes it.

use bytes::Bytes;

use super::Json;

/// The same value in the bytes Phoenix would send: white space outside strings is left out, nothing else is touched, so
/// key order, escapes and the digits of numbers stay the publisher's. `json` must be valid. Text that is compact already, which is what every known
/// client sends, is passed on without a copy.
#[must_use]
pub fn compact(json: Json) -> Json {
    let text = json.as_bytes();
    let Some(first) = next_space(text, 0) else {
        return json;
    };
    let mut out = Vec::with_capacity(text.len());
    let (mut from, mut space) = (0, first);
    loop {
        out.extend_from_slice(&text[from..space]);
        from = space + 1;
        match next_space(text, from) {
            Some(next) => space = next,
            None => break,
        }
    }
    out.extend_from_slice(&text[from..]);
    Json(Bytes::from(out))
}

/// The first white space outside a string at or after `from`, which must itself lie outside a string.
fn next_space(text: &[u8], from: usize) -> Option<usize> {
    let (mut in_string, mut escaped) = (false, false);
    for (index, byte) in text.iter().enumerate().skip(from) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => return Some(index),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compacted(text: &str) -> String {
        String::from_utf8(compact(Json(Bytes::copy_from_slice(text.as_bytes()))).0.to_vec()).unwrap()
    }

    #[test]
    fn white_space_between_tokens_goes_and_in_strings_stays() {
        assert_eq!(
            compacted(r#"{ "message": "red pill or blue pill?"}"#),
            r#"{"message":"red pill or blue pill?"}"#
        );
        assert_eq!(compacted("[ 1 ,\t2 ,\r\n{ } ] "), "[1,2,{}]");
        assert_eq!(
            compacted(r#"{"a \" b" : "\\" , "c":" \\\" d "}"#),
            r#"{"a \" b":"\\","c":" \\\" d "}"#
        );
    }

    #[test]
    fn compact_text_is_not_copied() {
        let text = Json(Bytes::from_static(br#"{"a":"b c","n":1e400}"#));
        let at = text.as_bytes().as_ptr();
        assert_eq!(compact(text).as_bytes().as_ptr(), at);
    }
}

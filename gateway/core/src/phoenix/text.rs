//! Text out of a message, without a copy.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// UTF-8 text. Shares the bytes of the message it came in, where nothing in it was escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Bytes);

impl Text {
    /// A slice of `whole`.
    ///
    /// # Panics
    /// If `text` is not one.
    pub(super) fn slice(whole: &Bytes, text: &str) -> Text {
        Text(whole.slice_ref(text.as_bytes()))
    }

    /// Its bytes, shared.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(text.into())
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Text {
        Text(Bytes::from_static(text.as_bytes()))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was text when it was made, and bytes do not change")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

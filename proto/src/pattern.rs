//! Families of topics: a prefix, or one name.

use crate::Topic;

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `*` stands at the end or nowhere.
    #[error("pattern {0:?}: '*' may only be its last character")]
    Star(String),
    /// 1 to 255 bytes.
    #[error("pattern of {0} bytes, must be 1 to 255")]
    Length(usize),
}

/// A topic pattern: `room:*` matches the prefix `room:`, anything else matches itself (Phoenix, S7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    prefix: bool,
}

impl Pattern {
    /// Reads a pattern of the configuration.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn parse(pattern: &str) -> Result<Pattern, PatternError> {
        if pattern.is_empty() || pattern.len() > 255 {
            return Err(PatternError::Length(pattern.len()));
        }
        let (text, prefix) = match pattern.strip_suffix('*') {
            Some(text) => (text, true),
            None => (pattern, false),
        };
        if text.contains('*') {
            return Err(PatternError::Star(pattern.to_owned()));
        }
        Ok(Pattern {
            text: text.to_owned(),
            prefix,
        })
    }

    /// Whether the topic is one of the family.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        if self.prefix {
            topic.as_str().starts_with(&self.text)
        } else {
            topic.as_str() == self.text
        }
    }

    /// Whether it matches any topic that begins with `prefix`.
    #[must_use]
    pub fn meets(&self, prefix: &str) -> bool {
        self.text.starts_with(prefix) || (self.prefix && prefix.starts_with(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_at_the_end_or_nowhere() {
        for pattern in ["", "a*b", "**"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern:?}");
        }
        for pattern in ["*", "a*", "a"] {
            assert!(Pattern::parse(pattern).is_ok(), "{pattern:?}");
        }
    }

    #[test]
    fn a_pattern_meets_a_prefix_where_one_of_its_topics_begins_so() {
        let meets = |pattern| Pattern::parse(pattern).unwrap().meets("topics:");
        for pattern in ["topics:*", "topics:a", "*", "t*", "topics:a*"] {
            assert!(meets(pattern), "{pattern:?}");
        }
        for pattern in ["t", "topic", "room:*", "topics"] {
            assert!(!meets(pattern), "{pattern:?}");
        }
    }
}

//! Which channel a topic belongs to.
//!
//! *Invariant:* the first pattern that matches wins (Phoenix, S7); `topics:*` and, unless it is declared otherwise,
//! `room:*` exist without any configuration.
//! Leaves out: who may join (`policy`).

use ringcast_proto::Topic;

/// What a client may cause on a namespace by pushing an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvents {
    /// Every member receives it, the sender too: Phoenix's `broadcast`.
    All,
    /// Every member but the sender receives it: Phoenix's `broadcast_from`.
    Others,
    /// It is refused; only the server publishes.
    Refuse,
}

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `*` stands at the end or nowhere.
    #[error("channel pattern {0:?}: '*' may only be its last character")]
    Star(String),
    /// 1 to 255 bytes.
    #[error("channel pattern of {0} bytes, must be 1 to 255")]
    Length(usize),
    /// `topics:*` has a contract of its own.
    #[error("channel pattern {0:?} would hide the built-in topics:*")]
    BuiltIn(String),
}

/// A topic pattern: `room:*` matches the prefix `room:`, anything else matches itself.
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
        if text.starts_with(TOPICS) || (prefix && TOPICS.starts_with(text)) {
            return Err(PatternError::BuiltIn(pattern.to_owned()));
        }
        Ok(Pattern {
            text: text.to_owned(),
            prefix,
        })
    }

    fn matches(&self, topic: &str) -> bool {
        if self.prefix {
            topic.starts_with(&self.text)
        } else {
            topic == self.text
        }
    }
}

/// A configured family of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Which topics.
    pub pattern: Pattern,
    /// What its members may publish.
    pub client_events: ClientEvents,
}

/// The contract a channel follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// svsool/distributed_pubsub's: only `publish`, the reply before one's own copy, every copy with its own join_ref.
    Topics,
    /// Phoenix's broadcast: any event, the copy before the reply, join_ref null.
    Namespace(ClientEvents),
}

/// The declared namespaces, in order, and the built-in ones.
#[derive(Debug, Clone)]
pub struct Routes {
    namespaces: Vec<Namespace>,
}

const TOPICS: &str = "topics:";

impl Routes {
    /// The declared namespaces first, then `room:*`.
    #[must_use]
    pub fn new(mut namespaces: Vec<Namespace>) -> Routes {
        namespaces.push(Namespace {
            pattern: Pattern {
                text: "room:".to_owned(),
                prefix: true,
            },
            client_events: ClientEvents::All,
        });
        Routes { namespaces }
    }

    /// The contract of this topic, or `None` where no channel is routed.
    #[must_use]
    pub fn find(&self, topic: &Topic) -> Option<Route> {
        if topic.as_str().starts_with(TOPICS) {
            return Some(Route::Topics);
        }
        let declared = self
            .namespaces
            .iter()
            .find(|namespace| namespace.pattern.matches(topic.as_str()))?;
        Some(Route::Namespace(declared.client_events))
    }
}

/// Whether the rest of a `topics:` name is legal: 2 to 64 of `[a-zA-Z0-9]` (DPS3; unlike the seed, no trailing newline, B4).
#[must_use]
pub fn topics_name_is_legal(topic: &Topic) -> bool {
    topic.as_str().strip_prefix(TOPICS).is_some_and(|name| {
        (2..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The seed's refusal of an illegal name: a bare JSON string (DPS3).
pub const TOPICS_NAME_REFUSAL: &[u8] =
    b"\"invalid topic name, must be between 2 and 64 characters long and only contain alphanumeric characters\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn dps3_a_name_has_2_to_64_letters_or_digits() {
        let long = format!("topics:{}", "a".repeat(64));
        for legal in ["topics:matrix", "topics:ab", long.as_str()] {
            assert!(topics_name_is_legal(&topic(legal)), "{legal}");
        }
        let too_long = format!("topics:{}", "a".repeat(65));
        for illegal in [
            "topics:",
            "topics:s",
            "topics:matrix%$#",
            "topics:ab\n",
            "topics:äö",
            too_long.as_str(),
        ] {
            assert!(!topics_name_is_legal(&topic(illegal)), "{illegal:?}");
        }
    }

    #[test]
    fn s7_the_first_declared_pattern_wins_and_an_empty_rest_matches() {
        let declared = |pattern: &str, client_events| Namespace {
            pattern: Pattern::parse(pattern).unwrap(),
            client_events,
        };
        let routes = Routes::new(vec![
            declared("room:quiet", ClientEvents::Refuse),
            declared("room:q*", ClientEvents::Others),
            declared("lobby", ClientEvents::All),
        ]);
        let found = |name: &str| routes.find(&topic(name));
        assert_eq!(found("room:quiet"), Some(Route::Namespace(ClientEvents::Refuse)));
        assert_eq!(found("room:queue"), Some(Route::Namespace(ClientEvents::Others)));
        assert_eq!(found("room:"), Some(Route::Namespace(ClientEvents::All)));
        assert_eq!(found("lobby"), Some(Route::Namespace(ClientEvents::All)));
        assert_eq!(found("lobby:1"), None);
        assert_eq!(found("topics:x"), Some(Route::Topics));
        assert_eq!(found("other:x"), None);
    }

    #[test]
    fn a_pattern_with_an_inner_star_or_over_the_built_in_is_refused() {
        for pattern in ["", "a*b", "**", "topics:*", "topics:a", "*", "t*"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern:?}");
        }
    }
}

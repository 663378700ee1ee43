//! Which channel a topic belongs to.
//!
//! *Invariant:* the first pattern that matches wins (Phoenix, S7); `topics:*` and, unless it is declared otherwise,
//! `room:*` exist without any configuration.
//! Leaves out: who may join (`policy`).

use std::collections::BTreeSet;
use std::sync::Arc;

use ringcast_proto::v1::Target;
use ringcast_proto::{Pattern, PatternError, Topic};

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

/// Why a pattern cannot be a channel's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelPatternError {
    /// It is none.
    #[error("channel {0}")]
    Pattern(#[from] PatternError),
    /// `topics:*` has a contract of its own.
    #[error("channel pattern {0:?} would hide the built-in topics:*")]
    BuiltIn(String),
}

/// Reads the pattern of a declared channel.
///
/// # Errors
/// [`ChannelPatternError`].
pub fn channel_pattern(pattern: &str) -> Result<Pattern, ChannelPatternError> {
    let parsed = Pattern::parse(pattern)?;
    if parsed.meets(TOPICS) {
        return Err(ChannelPatternError::BuiltIn(pattern.to_owned()));
    }
    Ok(parsed)
}

/// What becomes of a client that reads too slowly and joined with `resume`. Any other is closed with 4008.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowConsumer {
    /// It loses the oldest publications that wait for it, and is told which by a gap.
    #[default]
    Gap,
    /// It keeps the newest publication that waits for it, and is told by a gap which went before.
    Latest,
    /// It is closed with 4008 at once.
    Close,
}

/// A configured family of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Which topics.
    pub pattern: Pattern,
    /// What its members may publish.
    pub client_events: ClientEvents,
    /// Whether a join may ask for `resume`; where not, the key is the application's.
    pub resume: bool,
    /// What becomes of members that read too slowly.
    pub slow_consumer: SlowConsumer,
    /// Targets open to clients.
    pub targets: Targets,
    /// Events that take no offset and are not kept.
    pub ephemeral: BTreeSet<String>,
}

impl Namespace {
    /// A family with the defaults of everything.
    #[must_use]
    pub fn new(pattern: Pattern) -> Namespace {
        Namespace {
            pattern,
            client_events: ClientEvents::All,
            resume: true,
            slow_consumer: SlowConsumer::default(),
            targets: Targets::default(),
            ephemeral: BTreeSet::new(),
        }
    }
}

/// Which targets clients may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Targets {
    /// Every member.
    pub all: bool,
    /// Every member but the sender.
    pub others: bool,
    /// Any one member.
    pub one: bool,
    /// Members with certain names.
    pub members: bool,
}

impl Default for Targets {
    fn default() -> Targets {
        Targets {
            all: true,
            others: true,
            one: false,
            members: false,
        }
    }
}

impl Targets {
    /// Whether this one is open.
    #[must_use]
    pub fn allow(self, target: Target) -> bool {
        match target {
            Target::All => self.all,
            Target::Others => self.others,
            Target::One => self.one,
            Target::Members => self.members,
        }
    }
}

/// The contract a channel follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// svsool/distributed_pubsub's: only `publish`, the reply before one's own copy, every copy with its own join_ref.
    Topics,
    /// Phoenix's broadcast: any event, the copy before the reply, join_ref null.
    Namespace(Arc<Namespace>),
}

impl Route {
    /// Whether a join may ask for `resume`.
    #[must_use]
    pub fn resumes(&self) -> bool {
        match self {
            Route::Topics => true,
            Route::Namespace(namespace) => namespace.resume,
        }
    }

    /// What becomes of members that read too slowly.
    #[must_use]
    pub fn slow_consumer(&self) -> SlowConsumer {
        match self {
            Route::Topics => SlowConsumer::default(),
            Route::Namespace(namespace) => namespace.slow_consumer,
        }
    }

    /// Whether clients may name this target.
    #[must_use]
    pub fn allows(&self, target: Target) -> bool {
        match self {
            Route::Topics => Targets::default().allow(target),
            Route::Namespace(namespace) => namespace.targets.allow(target),
        }
    }

    /// Whether this event takes no offset and is not kept.
    #[must_use]
    pub fn is_ephemeral(&self, event: &str) -> bool {
        match self {
            Route::Topics => false,
            Route::Namespace(namespace) => namespace.ephemeral.contains(event),
        }
    }
}

/// The declared namespaces, in order, and the built-in ones.
#[derive(Debug, Clone)]
pub struct Routes {
    namespaces: Vec<Arc<Namespace>>,
}

const TOPICS: &str = "topics:";

impl Routes {
    /// The declared namespaces first, then `room:*`.
    #[must_use]
    pub fn new(mut namespaces: Vec<Namespace>) -> Routes {
        namespaces.push(Namespace::new(
            Pattern::parse("room:*").expect("a prefix and a star are a pattern"),
        ));
        let namespaces = namespaces.into_iter().map(Arc::new).collect();
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
            .find(|namespace| namespace.pattern.matches(topic))?;
        Some(Route::Namespace(Arc::clone(declared)))
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
            client_events,
            ..Namespace::new(Pattern::parse(pattern).unwrap())
        };
        let routes = Routes::new(vec![
            declared("room:quiet", ClientEvents::Refuse),
            declared("room:q*", ClientEvents::Others),
            declared("lobby", ClientEvents::All),
        ]);
        let found = |name: &str| match routes.find(&topic(name)) {
            Some(Route::Namespace(namespace)) => Some(namespace.client_events),
            _ => None,
        };
        assert_eq!(found("room:quiet"), Some(ClientEvents::Refuse));
        assert_eq!(found("room:queue"), Some(ClientEvents::Others));
        assert_eq!(found("room:"), Some(ClientEvents::All));
        assert_eq!(found("lobby"), Some(ClientEvents::All));
        assert_eq!(found("lobby:1"), None);
        assert_eq!(routes.find(&topic("topics:x")), Some(Route::Topics));
        assert_eq!(found("other:x"), None);
    }

    #[test]
    fn a_pattern_with_an_inner_star_or_over_the_built_in_is_refused() {
        for pattern in ["", "a*b", "**", "topics:*", "topics:a", "*", "t*"] {
            assert!(channel_pattern(pattern).is_err(), "{pattern:?}");
        }
    }
}

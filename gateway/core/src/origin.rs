//! Which web pages may connect: the check of the `Origin` header, which browsers send and programs do not.
//!
//! It promises Phoenix's forms of `check_origin`. *Invariant:* what cannot be read as an origin is refused.
//! Leaves out: who the user is. An origin says which page asks, nothing more.

/// Which origins may connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OriginCheck {
    /// Every one.
    Any,
    /// The page must come from where the connection goes: same scheme, host and port.
    #[default]
    Conn,
    /// The page must come from this host, by whatever scheme and port.
    Host(String),
    /// One of the patterns must match.
    List(Vec<Pattern>),
}

/// `scheme://host:port`, `//host` or `//*.host`; a part left out matches anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    scheme: Option<String>,
    host: HostPattern,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Exactly(String),
    /// The host itself and all below it.
    Under(String),
}

/// Scheme, host and port, of a page or of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Lower case.
    pub scheme: String,
    /// Lower case; an IPv6 address in its brackets.
    pub host: String,
    /// The scheme's own where none was given.
    pub port: Option<u16>,
}

/// A pattern that can match nothing as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("origin {0:?} is no scheme://host:port, //host or //*.host")]
pub struct BadPattern(pub String);

impl OriginCheck {
    /// A check against a list of patterns.
    ///
    /// # Errors
    /// [`BadPattern`], the first.
    pub fn list<S: AsRef<str>>(patterns: &[S]) -> Result<OriginCheck, BadPattern> {
        patterns
            .iter()
            .map(|pattern| Pattern::parse(pattern.as_ref()))
            .collect::<Result<_, _>>()
            .map(OriginCheck::List)
    }

    /// Whether a request may go on that has this `Origin` header, if any, and came to `request`, if it said where.
    #[must_use]
    pub fn allows(&self, header: Option<&[u8]>, request: Option<&Origin>) -> bool {
        let Some(header) = header else { return true };
        if *self == OriginCheck::Any {
            return true;
        }
        let Some(origin) = std::str::from_utf8(header).ok().and_then(Origin::parse) else {
            return false;
        };
        match self {
            OriginCheck::Any => true,
            OriginCheck::Conn => request == Some(&origin),
            OriginCheck::Host(host) => origin.host.eq_ignore_ascii_case(host),
            OriginCheck::List(patterns) => patterns.iter().any(|pattern| pattern.matches(&origin)),
        }
    }
}

impl Origin {
    /// Reads `scheme://host:port`. Anything more, a path or a user too, makes it none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Origin> {
        let (scheme, authority) = text.split_once("://")?;
        Origin::of_authority(scheme, authority)
    }

    /// The origin of a request that came by `scheme` and named `authority` in its `Host` header.
    #[must_use]
    pub fn of_authority(scheme: &str, authority: &str) -> Option<Origin> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(legal) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_port(authority)?;
        let port = port.or(match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        });
        Some(Origin { scheme, host, port })
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, BadPattern> {
        let bad = || BadPattern(text.to_owned());
        let (scheme, authority) = text.split_once("//").ok_or_else(bad)?;
        let scheme = match scheme.strip_suffix(':') {
            Some(scheme) if !scheme.is_empty() => Some(scheme.to_ascii_lowercase()),
            None if scheme.is_empty() => None,
            _ => return Err(bad()),
        };
        let (wild, authority) = authority
            .strip_prefix("*.")
            .map_or((false, authority), |rest| (true, rest));
        let (host, port) = split_port(authority).ok_or_else(bad)?;
        let host = if wild {
            HostPattern::Under(host)
        } else {
            HostPattern::Exactly(host)
        };
        Ok(Pattern { scheme, host, port })
    }

    fn matches(&self, origin: &Origin) -> bool {
        let host = match &self.host {
            HostPattern::Exactly(host) => origin.host == *host,
            HostPattern::Under(apex) => origin
                .host
                .strip_suffix(apex)
                .is_some_and(|below| below.is_empty() || below.ends_with('.')),
        };
        host && self.scheme.as_ref().is_none_or(|scheme| *scheme == origin.scheme)
            && self.port.is_none_or(|port| Some(port) == origin.port)
    }
}

/// Host in lower case, and port. `None` if either is not what it must be.
fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    let after_bracket = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let (host, port) = match authority[after_bracket..].find(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(after_bracket + colon);
            let digits = &port[1..];
            let number = if digits.bytes().all(|byte| byte.is_ascii_digit()) {
                digits.parse().ok()?
            } else {
                return None;
            };
            (host, Some(number))
        }
        None => (authority, None),
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let named = |host: &str| !host.is_empty() && host.bytes().all(legal);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => named(host),
    };
    valid.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(check: &OriginCheck, origin: &str) -> bool {
        let request = Origin::of_authority("http", "good.example:4000");
        check.allows(Some(origin.as_bytes()), request.as_ref())
    }

    fn all(check: &OriginCheck, expected: bool, origins: &[&str]) {
        for origin in origins {
            assert_eq!(allows(check, origin), expected, "{origin}");
        }
    }

    const HOSTILE: &[&str] = &[
        "https://good.example.evil.com",
        "https://evilgood.example",
        "null",
        "",
        "good.example",
        "//good.example",
        "https://good.example@evil.com",
        "https://user:pass@good.example",
        "https://good.example/",
        "https://good.example?x",
        "https://good.example:port",
        "https://good.example:+443",
        "https://good.example:99999",
        "https://[::1",
        "https://good.example\u{0}",
        "https://good.example https://evil.com",
        "://good.example",
    ];

    #[test]
    fn h6_programs_send_no_origin_and_are_let_in() {
        let list = OriginCheck::list(&["https://good.example"]).unwrap();
        for check in [
            OriginCheck::Any,
            OriginCheck::Conn,
            OriginCheck::Host("good.example".into()),
            list,
        ] {
            assert!(check.allows(None, None), "{check:?}");
        }
    }

    #[test]
    fn h6_conn_is_the_default_and_compares_scheme_host_and_port() {
        let check = OriginCheck::default();
        all(
            &check,
            true,
            &["http://good.example:4000", "HTTP://GOOD.example:4000"],
        );
        all(
            &check,
            false,
            &[
                "https://good.example:4000",
                "http://good.example",
                "http://good.example:4001",
            ],
        );
        all(&check, false, HOSTILE);
        assert!(
            !check.allows(Some(b"http://good.example:4000"), None),
            "a request that does not say where it goes"
        );
        let request = Origin::of_authority("http", "good.example");
        assert!(
            check.allows(Some(b"http://good.example:80"), request.as_ref()),
            "80 is http's own port"
        );
    }

    #[test]
    fn h6_true_compares_the_host() {
        let check = OriginCheck::Host("good.example".into());
        all(
            &check,
            true,
            &[
                "https://good.example",
                "http://good.example:4000",
                "https://GOOD.EXAMPLE",
            ],
        );
        all(&check, false, HOSTILE);
    }

    #[test]
    fn h6_false_lets_every_page_in() {
        all(&OriginCheck::Any, true, &["https://evil.com", "null"]);
    }

    #[test]
    fn hostile_5_a_list_lets_in_what_it_names() {
        let check =
            OriginCheck::list(&["https://good.example", "//plain.example:8080", "//*.wild.example"]).unwrap();
        all(
            &check,
            true,
            &[
                "https://good.example",
                "https://good.example:8443",
                "http://plain.example:8080",
            ],
        );
        all(
            &check,
            true,
            &[
                "http://wild.example",
                "https://a.wild.example:1",
                "https://a.b.wild.example",
            ],
        );
        all(
            &check,
            false,
            &[
                "http://good.example",
                "http://plain.example",
                "https://evilwild.example",
            ],
        );
        all(&check, false, HOSTILE);
        let exact = OriginCheck::list(&["https://good.example:443"]).unwrap();
        all(
            &exact,
            true,
            &["https://good.example", "https://good.example:443"],
        );
        all(&exact, false, &["https://good.example:8443"]);
    }

    #[test]
    fn an_ipv6_address_is_a_host() {
        let check = OriginCheck::list(&["http://[::1]:4000"]).unwrap();
        all(&check, true, &["http://[::1]:4000"]);
        all(
            &check,
            false,
            &[
                "http://[::1]:4001",
                "http://[::2]:4000",
                "http://::1:4000",
                "http://[x]:4000",
            ],
        );
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_an_error() {
        for pattern in [
            "good.example",
            "",
            "https:good.example",
            "://good.example",
            "https://good.example/path",
            "//*",
            "//",
        ] {
            assert_eq!(OriginCheck::list(&[pattern]), Err(BadPattern(pattern.to_owned())));
        }
    }
}

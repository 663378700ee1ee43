//! Why something is refused: the word every client reads, and what it means to a program (section 11 of the wire).
//!
//! *Invariant:* without positions a refusal is `{"reason":R}` and nothing else; the reason is the same with and without.
//! Leaves out: the terms of application channels, and the name error of `topics:*`, which pass as they are.

use std::time::Duration;

use crate::phoenix::Json;

pub(crate) const BAD_REQUEST: &str = "bad_request";
pub(crate) const TOKEN_EXPIRED: &str = "token_expired";
pub(crate) const UNAUTHORIZED: &str = "unauthorized";
pub(crate) const UNMATCHED_TOPIC: &str = "unmatched topic";
pub(crate) const TOO_LARGE: &str = "too_large";
pub(crate) const OVERLOADED: &str = "overloaded";
pub(crate) const RATE_LIMITED: &str = "rate_limited";
pub(crate) const TOO_MANY_TOPICS: &str = "too_many_topics";
pub(crate) const TOO_MANY_CHANNELS: &str = "too many channels joined";
pub(crate) const JOIN_CRASHED: &str = "join crashed";
pub(crate) const SHUTTING_DOWN: &str = "shutting_down";
pub(crate) const OWNER_LEASE_LOST: &str = "owner_lease_lost";
pub(crate) const REPLICA_UNAVAILABLE: &str = "replica_unavailable";
pub(crate) const TOPIC_UNAVAILABLE: &str = "topic unavailable";
pub(crate) const TIMEOUT: &str = "timeout";

/// How long a client should wait after `overloaded`: long enough for a queue to empty, short enough not to be noticed.
const OVERLOADED_WAIT: Duration = Duration::from_millis(250);

/// What a reason means to a program: its code, and whether the same request may succeed later.
fn meaning(why: &str) -> Option<(u16, bool)> {
    Some(match why {
        BAD_REQUEST => (4000, false),
        TOKEN_EXPIRED => (4011, false),
        UNAUTHORIZED => (4030, false),
        UNMATCHED_TOPIC => (4040, false),
        TOO_LARGE => (4130, false),
        OVERLOADED => (4290, true),
        RATE_LIMITED => (4291, true),
        TOO_MANY_TOPICS | TOO_MANY_CHANNELS => (4292, false),
        JOIN_CRASHED => (5000, true),
        SHUTTING_DOWN => (5030, true),
        OWNER_LEASE_LOST => (5031, true),
        REPLICA_UNAVAILABLE => (5032, true),
        TOPIC_UNAVAILABLE => (5033, true),
        TIMEOUT => (5040, true),
        _ => return None,
    })
}

/// The response of a refusal; `detail` where the channel, or the join that is refused, asked for positions.
pub(crate) fn body(why: &'static str, detail: bool) -> Vec<u8> {
    Refusal::from(why).body(detail)
}

/// A refusal, with what only this one knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal<'a> {
    why: &'static str,
    wait: Option<Duration>,
    msg_id: &'a [u8],
}

impl From<&'static str> for Refusal<'_> {
    fn from(why: &'static str) -> Self {
        Refusal {
            why,
            wait: (why == OVERLOADED).then_some(OVERLOADED_WAIT),
            msg_id: b"",
        }
    }
}

impl<'a> Refusal<'a> {
    /// The same request may succeed after this long.
    pub(crate) fn after(self, wait: Duration) -> Refusal<'a> {
        Refusal {
            wait: Some(wait),
            ..self
        }
    }

    /// The publish had this id; empty: none.
    pub(crate) fn of(self, msg_id: &'a [u8]) -> Refusal<'a> {
        Refusal { msg_id, ..self }
    }

    /// The response of the error reply. The reasons are ours and need no escaping.
    pub(crate) fn body(self, detail: bool) -> Vec<u8> {
        let mut body = format!("{{\"reason\":\"{}\"", self.why);
        if let Some((code, retryable)) = meaning(self.why).filter(|_| detail) {
            body.push_str(&format!(",\"code\":{code},\"retryable\":{retryable}"));
            if let Some(wait) = self.wait {
                // Rounded up: who comes back a part of a millisecond early is refused again.
                let wait_ms = wait.as_nanos().div_ceil(1_000_000);
                body.push_str(&format!(",\"retry_after_ms\":{wait_ms}"));
            }
            // Where the outcome is unknown, the id is what makes trying again safe.
            if self.why == TIMEOUT && !self.msg_id.is_empty() {
                let msg_id = Json::string(&String::from_utf8_lossy(self.msg_id));
                body.push_str(&format!(
                    ",\"msg_id\":{}",
                    String::from_utf8_lossy(msg_id.as_bytes())
                ));
            }
        }
        body.push('}');
        body.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn section_11_without_positions_a_refusal_is_its_reason_alone() {
        let refusal = Refusal::from(TIMEOUT).after(Duration::from_secs(1)).of(b"id");
        assert_eq!(text(refusal.body(false)), r#"{"reason":"timeout"}"#);
        assert_eq!(text(body(OVERLOADED, false)), r#"{"reason":"overloaded"}"#);
    }

    #[test]
    fn section_11_every_reason_has_its_code_and_says_whether_trying_again_helps() {
        let table = [
            ("bad_request", 4000, false),
            ("token_expired", 4011, false),
            ("unauthorized", 4030, false),
            ("unmatched topic", 4040, false),
            ("too_large", 4130, false),
            ("too_many_topics", 4292, false),
            ("too many channels joined", 4292, false),
            ("join crashed", 5000, true),
            ("shutting_down", 5030, true),
            ("owner_lease_lost", 5031, true),
            ("replica_unavailable", 5032, true),
            ("topic unavailable", 5033, true),
            ("timeout", 5040, true),
        ];
        for (why, code, retryable) in table {
            let expected = format!(r#"{{"reason":"{why}","code":{code},"retryable":{retryable}}}"#);
            assert_eq!(text(body(why, true)), expected);
        }
        assert_eq!(
            text(body(OVERLOADED, true)),
            r#"{"reason":"overloaded","code":4290,"retryable":true,"retry_after_ms":250}"#
        );
        assert_eq!(
            text(
                Refusal::from(RATE_LIMITED)
                    .after(Duration::from_micros(19_001))
                    .body(true)
            ),
            r#"{"reason":"rate_limited","code":4291,"retryable":true,"retry_after_ms":20}"#
        );
    }

    #[test]
    fn a_timeout_names_the_id_that_makes_trying_again_safe_and_no_other_refusal_does() {
        assert_eq!(
            text(Refusal::from(TIMEOUT).of("a\"\u{1}ä".as_bytes()).body(true)),
            r#"{"reason":"timeout","code":5040,"retryable":true,"msg_id":"a\"\u0001ä"}"#
        );
        assert_eq!(
            text(Refusal::from(UNAUTHORIZED).of(b"id").body(true)),
            r#"{"reason":"unauthorized","code":4030,"retryable":false}"#
        );
    }
}

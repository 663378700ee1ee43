//! What the load generator says in Phoenix's words, and how a subscriber reads a delivery without parsing JSON.
//!
//! A payload is `{"b":"` + run, topic, number and time of sending as fixed hexadecimal digits + padding + `"}`. A
//! delivery is the same bytes for every publish of a topic but for these digits, so a comparison and a few digits are
//! all that a subscriber has to look at.
//! *Invariant:* what [`Expected::read`] accepts is byte for byte what [`publish`] caused; anything else is told apart.

use std::io::Write;

/// The smallest payload: its digits and quotes.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 64;

const OPENING: &[u8] = b"{\"b\":\"";
const RUN: std::ops::Range<usize> = 6..14;
const TOPIC: std::ops::Range<usize> = 14..22;
const NUMBER: std::ops::Range<usize> = 22..34;
const SENT_NS: std::ops::Range<usize> = 34..50;

const EVENT: &str = "m";

/// A heartbeat, which keeps a connection that only receives from being closed as idle.
pub(crate) const HEARTBEAT: &[u8] = br#"[null,"h","phoenix","heartbeat",{}]"#;

/// What one run of the generator publishes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Told apart from other runs on the same cluster.
    pub(crate) run: u32,
    /// Topics begin so.
    pub(crate) prefix: String,
    /// Bytes of a payload.
    pub(crate) payload_bytes: usize,
}

impl Plan {
    /// Of a run that publishes nothing.
    pub(crate) fn of_joins(run: u32, prefix: &str) -> Plan {
        Plan {
            run,
            prefix: prefix.to_owned(),
            payload_bytes: 0,
        }
    }

    /// The name of the topic with this index.
    pub(crate) fn topic(&self, index: u32) -> String {
        format!("{}-{:08x}-{index}", self.prefix, self.run)
    }

    /// The frame that publishes `number` to the topic with this index.
    pub(crate) fn publish(&self, topic: u32, number: u64, sent_ns: u64, out: &mut Vec<u8>) {
        let name = self.topic(topic);
        let start = out.len();
        write!(out, r#"["1","{topic}:{number}","{name}","{EVENT}","#).expect("a Vec takes everything");
        let payload = out.len();
        out.extend_from_slice(OPENING);
        write!(out, "{:08x}{topic:08x}{number:012x}{sent_ns:016x}", self.run)
            .expect("a Vec takes everything");
        out.resize(payload + self.payload_bytes - 2, b'.');
        out.extend_from_slice(b"\"}]");
        debug_assert!(out.len() > start + self.payload_bytes);
    }

    /// What a subscriber of this topic receives.
    pub(crate) fn expected(&self, topic: u32) -> Expected {
        Expected {
            opening: format!(
                r#",null,"{}","{EVENT}",{{"b":"{:08x}{topic:08x}"#,
                self.topic(topic),
                self.run
            )
            .into_bytes(),
            payload_bytes: self.payload_bytes,
        }
    }
}

/// The frame that joins a topic, with join_ref and ref "1".
pub(crate) fn join(topic: &str) -> Vec<u8> {
    format!(r#"["1","1","{topic}","phx_join",{{}}]"#).into_bytes()
}

/// The answer to a [`join`]: its topic, and why it was refused.
pub(crate) fn join_answer(frame: &[u8]) -> Option<(&[u8], Result<(), String>)> {
    let rest = frame
        .strip_prefix(b"[\"1\",\"1\",\"")
        .or_else(|| frame.strip_prefix(b"[null,\"1\",\""))?;
    let (topic, rest) = rest.split_at(rest.iter().position(|&byte| byte == b'"')?);
    let rest = rest.strip_prefix(b"\",\"phx_reply\",{\"status\":\"")?;
    Some(match rest.starts_with(b"ok\"") {
        true => (topic, Ok(())),
        false => (topic, Err(reason(frame))),
    })
}

/// The reply to a publish: topic, number, and why it was refused.
pub(crate) fn publish_answer(frame: &[u8]) -> Option<(u32, u64, Result<(), String>)> {
    let rest = frame.strip_prefix(b"[\"1\",\"")?;
    let end = rest.iter().position(|&byte| byte == b'"')?;
    let (topic, number) = std::str::from_utf8(&rest[..end]).ok()?.split_once(':')?;
    let answer = match frame.ends_with(br#""phx_reply",{"status":"ok","response":{}}]"#) {
        true => Ok(()),
        false => Err(reason(frame)),
    };
    Some((topic.parse().ok()?, number.parse().ok()?, answer))
}

/// How the server ended a channel that was joined by [`join`], if this frame says so.
pub(crate) fn channel_end(frame: &[u8]) -> Option<&'static str> {
    let rest = frame.strip_prefix(b"[\"1\",\"1\",\"")?;
    let rest = &rest[rest.iter().position(|&byte| byte == b'"')?..];
    ["phx_error", "phx_close"].into_iter().find(|event| {
        rest.strip_prefix(b"\",\"")
            .and_then(|rest| rest.strip_prefix(event.as_bytes()))
            .is_some_and(|rest| rest.starts_with(b"\""))
    })
}

/// The reason in an error reply, or all of it if there is none.
fn reason(frame: &[u8]) -> String {
    const REASON: &[u8] = b"\"reason\":\"";
    let found = frame.windows(REASON.len()).position(|window| window == REASON);
    let text = match found {
        Some(at) => {
            let text = &frame[at + REASON.len()..];
            &text[..text.iter().position(|&byte| byte == b'"').unwrap_or(text.len())]
        }
        None => frame,
    };
    String::from_utf8_lossy(text).into_owned()
}

/// Whether a frame is a reply, which a subscriber gets to its heartbeats only.
pub(crate) fn is_heartbeat_reply(frame: &[u8]) -> bool {
    frame.starts_with(br#"[null,"h","phoenix","phx_reply","#)
}

/// What every delivery of one topic looks like.
#[derive(Debug)]
pub(crate) struct Expected {
    opening: Vec<u8>,
    payload_bytes: usize,
}

/// A delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) number: u64,
    pub(crate) sent_ns: u64,
}

impl Expected {
    /// Reads a frame; `None` if it is no delivery of this topic.
    pub(crate) fn read(&self, frame: &[u8]) -> Option<Delivery> {
        // A broadcast has no join_ref, a push to the channel has the one it joined with.
        let rest = frame
            .strip_prefix(b"[null")
            .or_else(|| frame.strip_prefix(b"[\"1\""))?;
        self.payload(rest, &self.opening)
    }

    /// Reads a frame of a channel with positions: the offset of the delivery, and its number.
    pub(crate) fn read_placed(&self, frame: &[u8]) -> Option<(u64, u64)> {
        // What was missed is pushed to the channel, what comes after it is a broadcast.
        let rest = frame
            .strip_prefix(b"[null,\"@")
            .or_else(|| frame.strip_prefix(b"[\"1\",\"@"))?;
        let digits = rest.iter().position(|&byte| byte == b'"')?;
        let offset = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        // Its offset stands where others have no ref.
        let opening = self.opening.strip_prefix(b",null")?;
        let delivery = self.payload(&rest[digits + 1..], opening)?;
        Some((offset, delivery.number))
    }

    fn payload(&self, rest: &[u8], opening: &[u8]) -> Option<Delivery> {
        let payload = rest.len().checked_sub(self.payload_bytes + 1)?;
        if !rest.starts_with(opening) || payload + TOPIC.end != opening.len() {
            return None;
        }
        debug_assert_eq!(RUN.end, TOPIC.start);
        let payload = &rest[payload..];
        Some(Delivery {
            number: hex(&payload[NUMBER])?,
            sent_ns: hex(&payload[SENT_NS])?,
        })
        .filter(|_| payload[SENT_NS.end..].ends_with(b"\"}]"))
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(payload_bytes: usize) -> Plan {
        Plan {
            run: 0xbeef,
            prefix: "room:bench".to_owned(),
            payload_bytes,
        }
    }

    /// The delivery a gateway makes of a publish.
    fn delivered(plan: &Plan, join_ref: Option<&str>, topic: u32, number: u64, sent_ns: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        plan.publish(topic, number, sent_ns, &mut frame);
        let mut parts: Vec<serde_json::Value> = serde_json::from_slice(&frame).unwrap();
        parts[0] = join_ref.into();
        parts[1] = serde_json::Value::Null;
        serde_json::to_vec(&parts).unwrap()
    }

    #[test]
    fn what_is_published_is_read_again() {
        for (bytes, join_ref) in [(PAYLOAD_BYTES_MIN, None), (128, Some("1")), (60_000, None)] {
            let plan = plan(bytes);
            let frame = delivered(&plan, join_ref, 7, 123_456_789, u64::MAX);
            let expected = Delivery {
                number: 123_456_789,
                sent_ns: u64::MAX,
            };
            assert_eq!(plan.expected(7).read(&frame), Some(expected));
            let parts: Vec<serde_json::Value> = serde_json::from_slice(&frame).unwrap();
            assert_eq!(parts[4].to_string().len(), bytes);
        }
    }

    #[test]
    fn what_belongs_to_another_topic_run_or_is_altered_is_not() {
        let plan = plan(128);
        let good = delivered(&plan, None, 7, 1, 2);
        assert_eq!(plan.expected(8).read(&good), None);
        assert_eq!(
            Plan {
                run: 1,
                ..plan.clone()
            }
            .expected(7)
            .read(&good),
            None
        );
        for at in [0, 20, 60, good.len() - 1] {
            let mut altered = good.clone();
            altered[at] = b'!';
            assert_eq!(plan.expected(7).read(&altered), None, "byte {at}");
        }
        assert_eq!(plan.expected(7).read(&good[..good.len() - 1]), None);
        assert_eq!(plan.expected(7).read(b""), None);
        let other_join = delivered(&plan, Some("2"), 7, 1, 2);
        assert_eq!(plan.expected(7).read(&other_join), None);
    }

    #[test]
    fn a_delivery_with_a_place_is_read_with_its_offset() {
        let plan = plan(128);
        let placed = |join_ref: Option<&str>, offset: &str| {
            let frame = delivered(&plan, join_ref, 7, 3, 0);
            let mut parts: Vec<serde_json::Value> = serde_json::from_slice(&frame).unwrap();
            parts[1] = offset.into();
            serde_json::to_vec(&parts).unwrap()
        };
        let place = |offset: &str| placed(None, offset);
        assert_eq!(plan.expected(7).read_placed(&place("@42")), Some((42, 3)));
        let missed = placed(Some("1"), "@42");
        assert_eq!(plan.expected(7).read_placed(&missed), Some((42, 3)));
        assert_eq!(plan.expected(8).read_placed(&place("@42")), None, "another topic");
        for offset in ["42", "@", "@4x2", "@-1", "@99999999999999999999999"] {
            assert_eq!(plan.expected(7).read_placed(&place(offset)), None, "{offset}");
        }
        assert_eq!(plan.expected(7).read_placed(b"[\"1\",\"@1"), None);
    }

    #[test]
    fn answers_are_told_apart() {
        let joined = br#"["1","1","room:a","phx_reply",{"status":"ok","response":{}}]"#;
        assert_eq!(join_answer(joined), Some((&b"room:a"[..], Ok(()))));
        let refused =
            br#"[null,"1","x:a","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#;
        assert_eq!(
            join_answer(refused),
            Some((&b"x:a"[..], Err("unmatched topic".to_owned())))
        );
        let taken = br#"["1","3:14","room:a","phx_reply",{"status":"ok","response":{}}]"#;
        assert_eq!(publish_answer(taken), Some((3, 14, Ok(()))));
        let refused =
            br#"["1","3:14","room:a","phx_reply",{"status":"error","response":{"reason":"overloaded"}}]"#;
        assert_eq!(
            publish_answer(refused),
            Some((3, 14, Err("overloaded".to_owned())))
        );
        let odd = br#"["1","3:14","room:a","phx_reply",{"status":"error","response":"no"}]"#;
        assert!(matches!(publish_answer(odd), Some((3, 14, Err(reason))) if reason.contains("no")));
        for (event, end) in [
            ("phx_error", Some("phx_error")),
            ("phx_close", Some("phx_close")),
            ("phx_reply", None),
        ] {
            let frame = format!(r#"["1","1","room:a","{event}",{{}}]"#);
            assert_eq!(channel_end(frame.as_bytes()), end);
        }
        assert_eq!(join_answer(b""), None);
        assert_eq!(publish_answer(b"[\"1\",\"1"), None);
        assert_eq!(channel_end(b"[\"1\",\"1\",\"room"), None);
        assert!(is_heartbeat_reply(
            br#"[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]"#
        ));
    }
}

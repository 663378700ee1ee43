//! One topic of one socket: its position, what it was told, and its publishes that are not answered.
//!
//! *Invariant:* the position changes as the wire says (X4): by a join's reply, an event with `"@N"`, a gap; by no other.
//! Leaves out: the connection (`socket`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::backoff;
use super::crew::topic;
use super::story::{Answer, Asked, Position, Seen, Trail};
use crate::ledger::TopicNumber;

/// How long phoenix.js waits for an answer to a join or a push.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a publish waits that was refused without saying for how long.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Every so many-th publish is to others, where there are any.
const OTHERS_EVERY: u64 = 5;

/// Whether the publish of this number goes to all but its sender.
pub(super) fn is_to_others(number: u64) -> bool {
    number.is_multiple_of(OTHERS_EVERY)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Joins when the time comes; at once with a new connection.
    Out {
        again: Duration,
    },
    Joining {
        since: Duration,
    },
    Joined,
}

/// A publish without a final answer.
#[derive(Debug)]
struct Pending {
    number: u64,
    state: Sent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Not by this connection.
    No,
    /// When it is sent again.
    Later(Duration),
    Yes {
        reference: u64,
        at: Duration,
    },
}

/// What a frame brought, for the socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing to do.
    Told,
    /// A publication.
    Delivered,
    /// A publish has its final answer.
    Answered(u64, Answer),
    /// It was refused and will be sent again.
    PutOff(u64, Answer),
    /// The join was refused, and is tried again.
    JoinPutOff(String),
    /// What must not come.
    Disturbance(String),
}

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) number: TopicNumber,
    pub(super) name: String,
    pub(super) trail: Trail,
    pub(super) position: Option<Position>,
    join_ref: u64,
    asked: Asked,
    state: State,
    refusals: usize,
    /// In the order they were told to be sent.
    pending: BTreeMap<u64, Pending>,
    next_pending: u64,
}

impl Channel {
    pub(super) fn new(number: TopicNumber) -> Channel {
        Channel {
            number,
            name: topic(number),
            trail: Trail::default(),
            position: None,
            join_ref: 0,
            asked: Asked::FromNow,
            state: State::Out {
                again: Duration::ZERO,
            },
            refusals: 0,
            pending: BTreeMap::new(),
            next_pending: 0,
        }
    }

    /// Whether it is joined.
    pub(super) fn is_joined(&self) -> bool {
        self.state == State::Joined
    }

    /// One more publish, to be sent when it is joined.
    pub(super) fn publish(&mut self, number: u64) {
        let state = Sent::No;
        self.pending.insert(self.next_pending, Pending { number, state });
        self.next_pending += 1;
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, code: Option<u16>, now: Duration) {
        self.trail.seen.push((now, Seen::Lost(code)));
        self.state = State::Out { again: now };
        self.refusals = 0;
        for pending in self.pending.values_mut() {
            pending.state = Sent::No;
        }
    }

    /// What is to be sent now; each takes a ref of its own from `references`.
    pub(super) fn due(
        &mut self,
        now: Duration,
        references: &mut u64,
        frames: &mut Vec<String>,
    ) -> Option<String> {
        let mut late = None;
        let mut next = || {
            *references += 1;
            *references
        };
        match self.state {
            State::Out { again } if again <= now => {
                self.join_ref = next();
                self.state = State::Joining { since: now };
                let resume = match &self.position {
                    None => Value::Bool(true),
                    Some(position) => json!({"epoch": &*position.epoch, "offset": position.offset}),
                };
                self.asked = self.position.clone().map_or(Asked::FromNow, Asked::After);
                let join_ref = self.join_ref.to_string();
                frames
                    .push(json!([join_ref, join_ref, self.name, "phx_join", {"resume": resume}]).to_string());
            }
            State::Joining { since } if now > since + ANSWER_WITHIN => {
                late = Some(format!("{}: no answer to a join in {ANSWER_WITHIN:?}", self.name));
                let leave = json!([
                    self.join_ref.to_string(),
                    next().to_string(),
                    self.name,
                    "phx_leave",
                    {}
                ]);
                frames.push(leave.to_string());
                self.state = State::Out { again: now };
            }
            State::Joined => {
                for pending in self.pending.values_mut() {
                    let is_due = match pending.state {
                        Sent::No => true,
                        Sent::Later(at) => at <= now,
                        Sent::Yes { at, .. } if now > at + ANSWER_WITHIN => {
                            late = Some(format!(
                                "{}: no answer to {} in {ANSWER_WITHIN:?}",
                                self.name, pending.number
                            ));
                            true
                        }
                        Sent::Yes { .. } => false,
                    };
                    if is_due {
                        let (number, reference) = (pending.number, next());
                        pending.state = Sent::Yes { reference, at: now };
                        frames.push(publish_frame(self.join_ref, reference, &self.name, number));
                    }
                }
            }
            State::Out { .. } | State::Joining { .. } => {}
        }
        late
    }

    /// A reply to this channel.
    pub(super) fn reply(&mut self, reference: u64, payload: &Value, now: Duration) -> News {
        if reference == self.join_ref {
            return self.join_reply(payload, now);
        }
        let is_it = |pending: &&Pending| matches!(pending.state, Sent::Yes { reference: its, .. } if its == reference);
        let found = self.pending.iter().find(|(_, pending)| is_it(pending));
        let Some((key, number)) = found.map(|(key, pending)| (*key, pending.number)) else {
            // The reply to the leave that follows a join without an answer, or the second one to a publish that had none
            // in time.
            return News::Told;
        };
        let response = &payload["response"];
        if payload["status"] == "ok" {
            self.pending.remove(&key);
            return match (response["epoch"].as_str(), response["offset"].as_u64()) {
                (Some(epoch), Some(offset)) => {
                    let position = Position::new(epoch, offset);
                    let is_dup = response["dup"] == true;
                    News::Answered(number, Answer::Committed { position, is_dup })
                }
                _ => News::Disturbance(format!("{} {number} was answered {payload}", self.name)),
            };
        }
        let refused = Answer::Refused(response["reason"].as_str().unwrap_or_default().to_owned());
        if response["retryable"] != true {
            self.pending.remove(&key);
            return News::Answered(number, refused);
        }
        let after = response["retry_after_ms"].as_u64();
        let after = after.map_or(RETRY_AFTER, Duration::from_millis);
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.state = Sent::Later(now + after);
        }
        News::PutOff(number, refused)
    }

    fn join_reply(&mut self, payload: &Value, now: Duration) -> News {
        let response = &payload["response"];
        if payload["status"] != "ok" {
            self.refusals += 1;
            self.state = State::Out {
                again: now + backoff::join(self.refusals),
            };
            let said = format!("{} {payload}", self.name);
            return if response["retryable"] == true {
                News::JoinPutOff(said)
            } else {
                News::Disturbance(said)
            };
        }
        self.state = State::Joined;
        self.refusals = 0;
        let parts = (
            response["epoch"].as_str(),
            response["offset"].as_u64(),
            response["recovered"].as_bool(),
        );
        let (Some(epoch), Some(offset), Some(is_recovered)) = parts else {
            return News::Disturbance(format!("{} was not granted positions: {payload}", self.name));
        };
        let position = Position::new(epoch, offset);
        self.position = Some(position.clone());
        let asked = self.asked.clone();
        self.trail.seen.push((
            now,
            Seen::Joined {
                asked,
                position,
                is_recovered,
            },
        ));
        News::Told
    }

    /// Any other frame on this channel's topic.
    pub(super) fn event(
        &mut self,
        reference: Option<&str>,
        event: &str,
        payload: &str,
        now: Duration,
    ) -> News {
        if event == "gap" {
            return self.gap(payload, now);
        }
        if event == "phx_error" {
            self.refusals += 1;
            self.state = State::Out {
                again: now + backoff::join(self.refusals),
            };
        }
        let offset = reference.and_then(|reference| reference.strip_prefix('@')?.parse().ok());
        let number = number_in(payload);
        match (event, offset, number) {
            ("e", Some(offset), Some(number)) => {
                if let Some(position) = &mut self.position {
                    position.offset = offset;
                }
                self.trail.seen.push((now, Seen::Got { offset, number }));
                News::Delivered
            }
            _ => News::Disturbance(format!("{} {event} {reference:?} {payload}", self.name)),
        }
    }

    fn gap(&mut self, payload: &str, now: Duration) -> News {
        let gap: Value = serde_json::from_str(payload).unwrap_or_default();
        let parts = (
            gap["epoch"].as_str(),
            gap["from"].as_u64(),
            gap["to"].as_u64(),
            gap["reason"].as_str(),
        );
        let (Some(epoch), Some(from), Some(to), Some(reason)) = parts else {
            return News::Disturbance(format!("{} gap {payload}", self.name));
        };
        let (epoch, reason): (Arc<str>, String) = (epoch.into(), reason.to_owned());
        self.position = Some(Position {
            epoch: Arc::clone(&epoch),
            offset: to,
        });
        let seen = Seen::Gap {
            epoch,
            from,
            to,
            reason,
        };
        self.trail.seen.push((now, seen));
        News::Told
    }

    /// Whether a frame with this join_ref is for its present join.
    pub(super) fn is_mine(&self, join_ref: Option<&str>) -> bool {
        join_ref.is_none_or(|join_ref| join_ref.parse() == Ok(self.join_ref))
    }
}

/// The number of a publish, which is the first thing in its payload.
fn number_in(payload: &str) -> Option<u64> {
    let rest = payload.strip_prefix(r#"{"n":"#)?;
    rest[..rest.find([',', '}'])?].parse().ok()
}

fn publish_frame(join_ref: u64, reference: u64, name: &str, number: u64) -> String {
    let target = if is_to_others(number) { "others" } else { "all" };
    format!(
        r#"["{join_ref}","{reference}","{name}","publish",{{"event":"e","payload":{{"n":{number}}},"msg_id":"m{number}","target":"{target}"}}]"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn due(channel: &mut Channel, now: Duration, references: &mut u64) -> Vec<String> {
        let mut frames = Vec::new();
        channel.due(now, references, &mut frames);
        frames
    }

    fn joined() -> (Channel, u64) {
        let (mut channel, mut references) = (Channel::new(3), 0);
        let frames = due(&mut channel, MS, &mut references);
        assert_eq!(
            frames,
            [r#"["1","1","topics:kept0003","phx_join",{"resume":true}]"#]
        );
        let reply = json!({"status": "ok", "response": {"epoch": "a", "offset": 4, "recovered": false}});
        assert_eq!(channel.reply(1, &reply, MS), News::Told);
        (channel, references)
    }

    #[test]
    fn the_position_is_moved_by_events_and_gaps_and_named_in_the_next_join() {
        let (mut channel, mut references) = joined();
        assert_eq!(channel.event(Some("@5"), "e", r#"{"n":9}"#, MS), News::Delivered);
        let gap = r#"{"epoch":"b","from":1,"to":7,"reason":"epoch_changed"}"#;
        assert_eq!(channel.event(None, "gap", gap, MS), News::Told);
        channel.lost(Some(1012), MS * 2);
        let frames = due(&mut channel, MS * 3, &mut references);
        assert_eq!(
            frames,
            [r#"["2","2","topics:kept0003","phx_join",{"resume":{"epoch":"b","offset":7}}]"#]
        );
        assert_eq!(channel.trail.seen.len(), 4);
    }

    #[test]
    fn what_was_not_answered_is_sent_again_under_its_id_and_an_ok_ends_it() {
        let (mut channel, mut references) = joined();
        channel.publish(1);
        channel.publish(5);
        let frames = due(&mut channel, MS, &mut references);
        assert!(
            frames[0].contains(r#""msg_id":"m1","target":"all""#)
                && frames[1].contains(r#""msg_id":"m5","target":"others""#),
            "{frames:?}"
        );
        let ok = json!({"status": "ok", "response": {"epoch": "a", "offset": 5}});
        assert!(matches!(channel.reply(2, &ok, MS), News::Answered(1, _)));
        let full = json!({"status": "error", "response": {"reason": "overloaded", "code": 4290, "retryable": true, "retry_after_ms": 250}});
        assert!(matches!(channel.reply(3, &full, MS), News::PutOff(5, _)));
        assert!(due(&mut channel, MS * 250, &mut references).is_empty());
        assert_eq!(due(&mut channel, MS * 251, &mut references).len(), 1);
        channel.lost(None, MS * 300);
        due(&mut channel, MS * 300, &mut references);
        let reply = json!({"status": "ok", "response": {"epoch": "a", "offset": 4, "recovered": true}});
        channel.reply(references, &reply, MS * 301);
        let frames = due(&mut channel, MS * 301, &mut references);
        assert!(
            frames.len() == 1 && frames[0].contains(r#""msg_id":"m5""#),
            "{frames:?}"
        );
    }

    #[test]
    fn a_join_that_is_refused_comes_again_after_a_second() {
        let (mut channel, mut references) = (Channel::new(3), 0);
        due(&mut channel, MS, &mut references);
        let refused =
            json!({"status": "error", "response": {"reason": "topic unavailable", "retryable": true}});
        assert!(matches!(channel.reply(1, &refused, MS), News::JoinPutOff(_)));
        assert!(due(&mut channel, MS * 1000, &mut references).is_empty());
        assert_eq!(due(&mut channel, MS * 1001, &mut references).len(), 1);
    }

    #[test]
    fn a_reply_without_positions_is_a_disturbance() {
        let (mut channel, mut references) = (Channel::new(3), 0);
        due(&mut channel, MS, &mut references);
        let stock = json!({"status": "ok", "response": {}});
        assert!(matches!(channel.reply(1, &stock, MS), News::Disturbance(_)));
    }
}

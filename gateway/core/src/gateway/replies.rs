//! Replies to publishes, each channel's in the order its publishes were made.
//!
//! *Invariant:* what a reply waits for holds up those behind it on the same channel and nothing else (O5). Under O2 an ok
//! waits for the publisher's own copy, a second at most (O6). Under O1 an ok that the own copy proves is written before it,
//! even where an earlier publish of the channel has no reply yet, because only the owner's answer can tell its outcome.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::{Millis, Offset, SessionId, Slot, Topic};

use super::clients::{EMPTY, ERROR, OK};
use super::{CallId, Effect, Gateway, Published};
use crate::phoenix::Json;
use crate::phoenix::TopicName::Known;
use crate::publishing::Answer;
use crate::reason::Refusal;
use crate::session::Settled;

/// Longest time the ok to a publish is held for the publisher's own copy to be written.
const OWN_COPY_WAIT: Duration = Duration::from_secs(1);

/// Who waits for the outcome of a publish.
#[derive(Debug)]
pub(super) enum Waiter {
    Client(ClientWaiter),
    Server(CallId),
}

#[derive(Debug)]
pub(super) struct ClientWaiter {
    pub(super) session: SessionId,
    pub(super) topic: Topic,
    pub(super) reference: Json,
    /// The client's id of the publish, where its channel asked for what errors mean; else empty.
    pub(super) msg_id: Bytes,
    /// The publisher's own copy goes before the reply (O2).
    pub(super) copy_first: bool,
    /// Its own copy, if it gets one, comes after the reply (O1).
    pub(super) reply_first: bool,
    /// What it counts among its session's unanswered bytes.
    pub(super) bytes: usize,
}

/// Which channels hold replies back.
#[derive(Debug, Default)]
pub(super) struct Held {
    by_topic: BTreeMap<(Slot, Topic), BTreeSet<SessionId>>,
    /// Every wait is as long, so the first is the next to be over.
    deadlines: VecDeque<(Millis, SessionId, Slot, Topic)>,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }
}

impl Gateway {
    /// Takes the outcomes of publishes as the owners answered them.
    pub(super) fn settle_all(&mut self, decided: Vec<(Waiter, Slot, Answer)>, effects: &mut Vec<Effect>) {
        for (waiter, slot, answer) in decided {
            match waiter {
                Waiter::Server(call) => effects.push(Effect::ServerPublished(call, answer)),
                Waiter::Client(waiter) => {
                    let copy = match (&answer, self.interest.cursor(slot, &waiter.topic)) {
                        (Ok(published), Some((known, passed)))
                            if waiter.copy_first && published.epoch == *known =>
                        {
                            published.offset.filter(|offset| passed < offset)
                        }
                        _ => None,
                    };
                    self.settle(waiter, slot, answer, copy, effects);
                }
            }
        }
    }

    /// Takes the outcome of one publish. `copy` is the offset of the publisher's own copy where the reply has to wait
    /// for it.
    pub(super) fn settle(
        &mut self,
        waiter: ClientWaiter,
        slot: Slot,
        result: Answer,
        copy: Option<Offset>,
        effects: &mut Vec<Effect>,
    ) {
        let ClientWaiter {
            session: id,
            topic,
            reference,
            msg_id,
            bytes,
            ..
        } = waiter;
        // A join or leave waits for the publishes before it, so this is still the channel that published.
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(channel) = session.channels.get_mut(&topic) else {
            return;
        };
        let copy = copy.map(|offset| (offset, self.now + OWN_COPY_WAIT));
        if let Some((_, deadline)) = copy {
            self.held
                .by_topic
                .entry((slot, topic.clone()))
                .or_default()
                .insert(id);
            self.held.deadlines.push_back((deadline, id, slot, topic.clone()));
        }
        channel.settled.push_back(Settled {
            reference,
            msg_id,
            result,
            copy,
            bytes,
        });
        self.release(id, slot, &topic, Offset(0), effects);
    }

    /// Lets go of the replies that waited for copies up to `passed` of this topic.
    pub(super) fn release_passed(
        &mut self,
        slot: Slot,
        topic: &Topic,
        passed: Offset,
        effects: &mut Vec<Effect>,
    ) {
        if self.held.by_topic.is_empty() {
            return;
        }
        for id in self
            .held
            .by_topic
            .remove(&(slot, topic.clone()))
            .unwrap_or_default()
        {
            if !self.release(id, slot, topic, passed, effects) {
                self.held
                    .by_topic
                    .entry((slot, topic.clone()))
                    .or_default()
                    .insert(id);
            }
        }
    }

    /// Lets go of the replies that have waited long enough.
    pub(super) fn release_overdue(&mut self, effects: &mut Vec<Effect>) {
        while self
            .held
            .deadlines
            .front()
            .is_some_and(|(deadline, ..)| *deadline <= self.now)
        {
            let Some((_, id, slot, topic)) = self.held.deadlines.pop_front() else {
                break;
            };
            if self.release(id, slot, &topic, Offset(0), effects) {
                let key = (slot, topic);
                if let Some(sessions) = self.held.by_topic.get_mut(&key) {
                    sessions.remove(&id);
                    if sessions.is_empty() {
                        self.held.by_topic.remove(&key);
                    }
                }
            }
        }
    }

    /// Writes the replies of a channel up to the first that still waits. `true`: none waits.
    fn release(
        &mut self,
        id: SessionId,
        slot: Slot,
        topic: &Topic,
        passed: Offset,
        effects: &mut Vec<Effect>,
    ) -> bool {
        loop {
            let Some(channel) = self
                .sessions
                .get_mut(&id)
                .and_then(|session| session.channels.get_mut(topic))
            else {
                return true;
            };
            debug_assert_eq!(channel.slot, slot, "a topic's slot never changes");
            let waits = |(offset, deadline): (Offset, Millis)| offset > passed && deadline > self.now;
            match channel.settled.front() {
                None => return true,
                Some(front) if front.copy.is_some_and(waits) => return false,
                Some(_) => {}
            }
            let Some(settled) = channel.settled.pop_front() else {
                return true;
            };
            self.reply_to_publish(id, topic, settled, effects);
        }
    }

    /// Answers a publish, and goes on with what waited for it.
    fn reply_to_publish(
        &mut self,
        id: SessionId,
        topic: &Topic,
        settled: Settled,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(channel) = session.channels.get_mut(topic) else {
            return;
        };
        session.unanswered -= 1;
        session.unanswered_bytes -= settled.bytes;
        channel.unanswered -= 1;
        let push_ref = channel.push_ref.clone();
        let (status, body) = settled.response(channel.positions);
        self.reply(
            id,
            &push_ref,
            &settled.reference,
            Known(topic),
            status,
            &body,
            effects,
        );
        self.resume_channel(id, topic, effects);
    }
}

impl Settled {
    /// Status and response of the reply. `positions`: the channel asked for them, and for what errors mean.
    fn response(&self, positions: bool) -> (&'static str, Cow<'static, [u8]>) {
        match &self.result {
            Ok(published) if positions => (OK, published.to_json().into()),
            Ok(_) => (OK, EMPTY.into()),
            Err(why) => (ERROR, Refusal::from(*why).of(&self.msg_id).body(positions).into()),
        }
    }
}

impl Published {
    /// Where the publish took effect, as its publisher reads it (X6): a client with positions, or a user of the HTTP API.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Epochs need no escaping.
        let mut response = format!("{{\"epoch\":\"{}\"", self.epoch);
        match self.offset {
            Some(offset) => response.push_str(&format!(",\"offset\":{}", offset.0)),
            None => response.push_str(",\"offset\":null"),
        }
        if let Some(matched) = self.matched {
            response.push_str(&format!(",\"matched\":{matched}"));
        }
        if self.dup {
            response.push_str(",\"dup\":true");
        }
        response.push('}');
        response.into_bytes()
    }
}

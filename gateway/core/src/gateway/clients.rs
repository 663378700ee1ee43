//! What clients say and are told about their channels: heartbeats, joins, leaves; and in which order it takes effect.
//!
//! Leaves out: publishing (`pushes`) and its answers (`replies`).

use std::collections::VecDeque;

use bytes::Bytes;
use ringcast_proto::{Offset, SessionId, Topic};

use super::{Effect, Gateway};
use crate::interest::{Event, Member, Missed};
use crate::phoenix::TopicName::{self, AsSent, Known};
use crate::phoenix::{self, Json, Message, Payload, Serializer};
use crate::place::GapReason;
use crate::reason;
use crate::route::{Route, TOPICS_NAME_REFUSAL, topics_name_is_legal};
use crate::session::{Channel, Ending, Joining};

pub(super) const OK: &str = "ok";
pub(super) const ERROR: &str = "error";
pub(super) const EMPTY: &[u8] = b"{}";

impl Gateway {
    pub(super) fn message(&mut self, id: SessionId, message: Message, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let event = message.event.as_deref();
        let Some(name) = message.topic_name.clone() else {
            return self.unmatched(id, &message, false, effects);
        };
        if &*name == "phoenix" {
            if event != Some("heartbeat") {
                return self.unmatched(id, &message, false, effects);
            }
            return self.reply(
                id,
                &Json::null(),
                &message.reference,
                AsSent(&message.topic),
                OK,
                EMPTY,
                effects,
            );
        }
        if let Some(channel) = session.channels.get_mut(&*name)
            && channel.holds_back(event)
        {
            let bytes = size(&message);
            channel.waiting.push_back(message);
            session.unanswered += 1;
            session.unanswered_bytes += bytes;
            return self.pace(id, effects);
        }
        if !matches!(event, Some("phx_join" | "phx_leave")) {
            return self.push(id, &name, &message, effects);
        }
        let Ok(topic) = Topic::parse(name.as_bytes()) else {
            return self.unmatched(id, &message, false, effects);
        };
        match event {
            Some("phx_join") => self.join(id, topic, &message, effects),
            _ => self.leave(id, &topic, &message, effects),
        }
    }

    /// The connection is gone: all its channels end. What it published goes on, unanswered.
    pub(super) fn closed(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        if let Ending::Answering(until) = session.ending {
            self.retiring.remove(&(until, id));
        }
        for (topic, channel) in session.channels {
            match channel.joining {
                Some(joining) => {
                    self.join_deadlines.remove(&(joining.deadline, id, topic.clone()));
                    self.fetch_no_more(channel.slot, &topic, id);
                }
                None => self.joined -= 1,
            }
            self.interest.leave(channel.slot, &topic, id, self.now);
        }
    }

    fn join(&mut self, id: SessionId, topic: Topic, message: &Message, effects: &mut Vec<Effect>) {
        let resume = match &message.payload {
            Payload::Json(payload) => phoenix::resume(payload),
            _ => Ok(None),
        };
        let Some(route) = self.routes.find(&topic) else {
            let detail = matches!(resume, Ok(Some(_)));
            return self.unmatched(id, message, detail, effects);
        };
        // Where a family does not resume the key is the application's, whatever it holds.
        let resume = if route.resumes() { resume } else { Ok(None) };
        let positions = matches!(resume, Ok(Some(_)));
        // A join of a joined topic ends the old channel, whatever becomes of the new one (S13).
        let replaces = self.end_channel(id, &topic).map(|old| old.join_ref);
        let slot = self.owners.slot_of(topic.as_bytes());
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let refusal: Option<Vec<u8>> = if session.channels.len() >= self.limits.channels_max {
            Some(reason::body(reason::TOO_MANY_CHANNELS, positions))
        } else if !session.joins.take(self.limits.joins, self.now) {
            Some(reason::body(reason::OVERLOADED, positions))
        } else if route == Route::Topics && !topics_name_is_legal(&topic) {
            Some(TOPICS_NAME_REFUSAL.to_vec())
        } else if !self.policy.may_join(&session.subject, &topic) {
            Some(reason::body(reason::UNAUTHORIZED, positions))
        } else if resume.is_err() {
            Some(reason::body(reason::BAD_REQUEST, false))
        } else if slot.is_none() {
            Some(reason::body(reason::TOPIC_UNAVAILABLE, positions))
        } else {
            None
        };
        let (Some(slot), None) = (slot, &refusal) else {
            let body = refusal.unwrap_or_default();
            self.reply(
                id,
                &message.join_ref,
                &message.reference,
                AsSent(&message.topic),
                ERROR,
                &body,
                effects,
            );
            return self.close_replaced(id, &topic, replaces, effects);
        };
        let join_ref = detached(&message.join_ref);
        let reference = detached(&message.reference);
        let push_ref = if join_ref.is_null() {
            reference.clone()
        } else {
            join_ref.clone()
        };
        let member = Member {
            subject: session.subject.clone(),
            serializer: session.serializer,
            push_ref: match (&route, session.serializer) {
                (Route::Topics, Serializer::V2) => push_ref.clone(),
                // V1 has no join_ref, a broadcast carries none: one encoding for all.
                (Route::Topics, Serializer::V1) | (Route::Namespace(_), _) => Json::null(),
            },
            joined: false,
            positions,
            has: Offset(0),
            stream: None,
        };
        let deadline = self.now + self.limits.deadline;
        session.channels.insert(
            topic.clone(),
            Channel {
                slot,
                route,
                join_ref,
                push_ref,
                positions,
                settled: Default::default(),
                joining: Some(Box::new(Joining {
                    reference,
                    resume: resume.unwrap_or_default(),
                    replaces,
                    deadline,
                })),
                unanswered: 0,
                waiting: Default::default(),
            },
        );
        self.interest.join(slot, &topic, id, member, self.now);
        self.join_deadlines.insert((deadline, id, topic));
    }

    /// The owner answered a join.
    pub(super) fn membership(&mut self, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Refused(topic, id) => self.refuse_join(id, &topic, reason::TOO_MANY_TOPICS, effects),
            Event::Joined(topic, id) => {
                let Some(replaces) = self.reply_to_join(id, &topic, EMPTY, effects) else {
                    return;
                };
                self.close_replaced(id, &topic, replaces, effects);
                self.resume_channel(id, &topic, effects);
            }
            Event::Known(topic, id, head) => self.judge(id, &topic, head, effects),
            Event::Anew(topic, epoch, to) => {
                if let Some(slot) = self.owners.slot_of(topic.as_bytes()) {
                    let (from, reason) = (Offset(1), GapReason::EpochChanged);
                    self.tell_missed(slot, &topic, &epoch, Missed { from, to, reason }, effects);
                }
            }
        }
    }

    /// The ok to a join: its channel is there. The join_ref of the channel it replaces, if it does.
    pub(super) fn reply_to_join(
        &mut self,
        id: SessionId,
        topic: &Topic,
        response: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Option<Option<Json>> {
        let channel = self.sessions.get_mut(&id)?.channels.get_mut(topic)?;
        let joining = channel.joining.take()?;
        let join_ref = channel.join_ref.clone();
        self.joined += 1;
        self.counts.joins += 1;
        self.join_deadlines.remove(&(joining.deadline, id, topic.clone()));
        let name = Known(topic);
        self.reply(id, &join_ref, &joining.reference, name, OK, response, effects);
        Some(joining.replaces)
    }

    /// A join came to nothing; the topic is not joined.
    pub(super) fn refuse_join(
        &mut self,
        id: SessionId,
        topic: &Topic,
        why: &'static str,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut channel) = self.end_channel(id, topic) else {
            return;
        };
        let Some(joining) = channel.joining.take() else {
            return;
        };
        self.join_deadlines.remove(&(joining.deadline, id, topic.clone()));
        self.reply(
            id,
            &channel.join_ref,
            &joining.reference,
            Known(topic),
            ERROR,
            &reason::body(why, channel.positions),
            effects,
        );
        self.close_replaced(id, topic, joining.replaces, effects);
        self.replay(id, channel, effects);
    }

    fn leave(&mut self, id: SessionId, topic: &Topic, message: &Message, effects: &mut Vec<Effect>) {
        let channel = self
            .sessions
            .get(&id)
            .and_then(|session| session.channels.get(topic));
        if channel.is_some_and(|channel| channel.is_stale(message)) {
            return;
        }
        match self.end_channel(id, topic) {
            // Leaving what is not joined is no error (S9).
            None => self.reply(
                id,
                &message.join_ref,
                &message.reference,
                AsSent(&message.topic),
                OK,
                EMPTY,
                effects,
            ),
            Some(channel) => {
                self.reply(
                    id,
                    &channel.push_ref,
                    &message.reference,
                    AsSent(&message.topic),
                    OK,
                    EMPTY,
                    effects,
                );
                self.close_replaced(id, topic, Some(channel.join_ref.clone()), effects);
                self.replay(id, channel, effects);
            }
        }
    }

    /// Takes the messages that waited on a channel again, in order; some may have to wait on.
    pub(super) fn resume_channel(&mut self, id: SessionId, topic: &Topic, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(channel) = session.channels.get_mut(topic) else {
            return;
        };
        let may_go_on = |waiting: &Message| match waiting.event.as_deref() {
            Some("phx_join" | "phx_leave") => channel.unanswered == 0,
            _ => true,
        };
        if channel.joining.is_none() && channel.waiting.front().is_some_and(may_go_on) {
            let waiting = std::mem::take(&mut channel.waiting);
            self.take_again(id, waiting, effects);
        }
        self.pace(id, effects);
    }

    /// The same for a channel that has ended.
    fn replay(&mut self, id: SessionId, ended: Channel, effects: &mut Vec<Effect>) {
        self.take_again(id, ended.waiting, effects);
        self.pace(id, effects);
    }

    fn take_again(&mut self, id: SessionId, waiting: VecDeque<Message>, effects: &mut Vec<Effect>) {
        for message in waiting {
            // One at a time, so that a session that stays over its bound is not resumed in between.
            if let Some(session) = self.sessions.get_mut(&id) {
                session.unanswered -= 1;
                session.unanswered_bytes -= size(&message);
            }
            self.message(id, message, effects);
        }
    }

    /// Forgets a channel of a session, joined or joining.
    fn end_channel(&mut self, id: SessionId, topic: &Topic) -> Option<Channel> {
        let channel = self.sessions.get_mut(&id)?.channels.remove(topic)?;
        if channel.joining.is_none() {
            self.joined -= 1;
        } else {
            self.fetch_no_more(channel.slot, topic, id);
        }
        self.interest.leave(channel.slot, topic, id, self.now);
        Some(channel)
    }

    /// S6: the topic has no channel, or the session has not joined it.
    pub(super) fn unmatched(
        &self,
        id: SessionId,
        message: &Message,
        detail: bool,
        effects: &mut Vec<Effect>,
    ) {
        let body = reason::body(reason::UNMATCHED_TOPIC, detail);
        self.reply(
            id,
            &Json::null(),
            &message.reference,
            AsSent(&message.topic),
            ERROR,
            &body,
            effects,
        );
    }

    /// `phx_close` of a join that has ended; its ref is the join_ref (S8, S13).
    pub(super) fn close_replaced(
        &self,
        id: SessionId,
        topic: &Topic,
        join_ref: Option<Json>,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(session), Some(join_ref)) = (self.sessions.get(&id), join_ref) else {
            return;
        };
        let frame = phoenix::push(
            session.serializer,
            &join_ref,
            &join_ref,
            topic,
            "phx_close",
            EMPTY,
        );
        effects.push(Effect::Write(id, frame));
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the five parts of a Phoenix reply, and where it goes"
    )]
    pub(super) fn reply(
        &self,
        id: SessionId,
        join_ref: &Json,
        reference: &Json,
        topic: TopicName<'_>,
        status: &str,
        response: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get(&id) else {
            return;
        };
        effects.push(Effect::Write(
            id,
            phoenix::reply(session.serializer, join_ref, reference, topic, status, response),
        ));
    }
}

/// What a message that waits counts among its session's unanswered bytes.
fn size(message: &Message) -> usize {
    match &message.payload {
        Payload::Json(json) => json.as_bytes().len(),
        Payload::Binary(data) => data.len(),
        Payload::UserBroadcast(broadcast) => match &broadcast.data {
            phoenix::UserData::Json(json) => json.as_bytes().len(),
            phoenix::UserData::Binary(data) => data.len(),
        },
        Payload::TooDeep => 0,
    }
}

/// A copy that does not hold on to the buffer the frame came in.
pub(super) fn detached(json: &Json) -> Json {
    Json(Bytes::copy_from_slice(json.as_bytes()))
}

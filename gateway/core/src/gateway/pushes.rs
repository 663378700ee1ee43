//! A client's push becomes a publish, or is refused and hurts nobody (B1); and the server publishes.

use bytes::Bytes;
use ringcast_proto::SessionId;
use ringcast_proto::v1::{self, Target};

use super::clients::ERROR;
use super::replies::{ClientWaiter, Waiter};
use super::{CallId, Effect, Gateway, ServerPublish};
use crate::phoenix::TopicName::AsSent;
use crate::phoenix::{self, BadPublish, Json, Message, Payload, Text};
use crate::publishing::weight;
use crate::reason::{self, Refusal};
use crate::route::{ClientEvents, Namespace, Route, topics_name_is_legal};

/// Under which the server's own API is known where ids are kept: no client can be called so.
const SERVER: &[u8] = b"\0server";
/// Longest event name a publication may have.
const EVENT_BYTES_MAX: usize = 255;

impl Gateway {
    pub(super) fn push(&mut self, id: SessionId, name: &Text, message: &Message, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some((topic, channel)) = session.channels.find_mut(&**name) else {
            return self.unmatched(id, message, false, effects);
        };
        if channel.is_stale(message) {
            return;
        }
        let positions = channel.positions;
        let (slot, route, push_ref) = (channel.slot, channel.route.clone(), channel.push_ref.clone());
        let asked = if !session.pushes.take(self.limits.pushes, self.now) {
            let wait = session.pushes.next_token_in(self.limits.pushes);
            Err(Refusal::from(reason::RATE_LIMITED).after(wait))
        } else if !self.policy.may_publish(&session.subject, topic) {
            Err(Refusal::from(reason::UNAUTHORIZED))
        } else {
            asked(&route, message).map_err(Refusal::from)
        };
        let publish = match asked {
            Ok(asked) => v1::Publish {
                topic: name.bytes(),
                session: id.0,
                // Of no use to the owner but beside an id.
                subject: if asked.msg_id.is_empty() {
                    Bytes::new()
                } else {
                    session.subject.clone()
                },
                ..asked
            },
            Err(refusal) => return self.refuse(id, &push_ref, message, &refusal.body(positions), effects),
        };
        let bytes = weight(&publish);
        let is_topics = route == Route::Topics;
        let waiter = ClientWaiter {
            session: id,
            topic: topic.clone(),
            reference: message.reference.clone(),
            msg_id: if positions {
                publish.msg_id.clone()
            } else {
                Bytes::new()
            },
            // What has no offset comes as it comes: nothing tells when its copy has been passed on.
            copy_first: !is_topics && publish.target() == Target::All && !publish.ephemeral,
            reply_first: is_topics,
            bytes,
        };
        if self
            .publishing
            .push(slot, publish, Waiter::Client(waiter), self.now)
            .is_err()
        {
            let body = reason::body(reason::OVERLOADED, positions);
            return self.refuse(id, &push_ref, message, &body, effects);
        }
        channel.unanswered += 1;
        session.unanswered += 1;
        session.unanswered_bytes += bytes;
        self.counts.client_publishes += 1;
        self.pace(id, effects);
    }

    fn refuse(
        &self,
        id: SessionId,
        push_ref: &Json,
        message: &Message,
        body: &[u8],
        effects: &mut Vec<Effect>,
    ) {
        let (reference, topic) = (&message.reference, AsSent(&message.topic));
        self.reply(id, push_ref, reference, topic, ERROR, body, effects);
    }

    pub(super) fn server_publish(&mut self, call: CallId, publish: ServerPublish, effects: &mut Vec<Effect>) {
        // What nobody can join nobody would receive: better said than published.
        let route = match self.routes.find(&publish.topic) {
            None => Err(reason::UNMATCHED_TOPIC),
            Some(Route::Topics) if !topics_name_is_legal(&publish.topic) => Err(reason::BAD_REQUEST),
            Some(route) => Ok(route),
        };
        let slot = self.owners.slot_of(publish.topic.as_bytes());
        let (slot, route) = match route.and_then(|route| Ok((slot.ok_or(reason::TOPIC_UNAVAILABLE)?, route)))
        {
            Ok(found) => found,
            Err(why) => return effects.push(Effect::ServerPublished(call, Err(why))),
        };
        let message = v1::Publish {
            topic: Bytes::copy_from_slice(publish.topic.as_bytes()),
            ephemeral: is_ephemeral(&route, &publish.event),
            event: publish.event,
            payload: phoenix::compact(Json(publish.payload)).0,
            subject: if publish.msg_id.is_empty() {
                Bytes::new()
            } else {
                Bytes::from_static(SERVER)
            },
            msg_id: publish.msg_id,
            target: publish.target.into(),
            names: publish.names,
            ..Default::default()
        };
        if self
            .publishing
            .push(slot, message, Waiter::Server(call), self.now)
            .is_err()
        {
            effects.push(Effect::ServerPublished(call, Err(reason::OVERLOADED)));
        }
    }
}

/// What a push asks to have published; who asks and where is left to the caller.
fn asked(route: &Route, message: &Message) -> Result<v1::Publish, &'static str> {
    let event = message.event.as_ref().ok_or(reason::BAD_REQUEST)?;
    let mut publish = match route {
        Route::Namespace(namespace) if namespace.client_events == ClientEvents::Refuse => {
            return Err(reason::UNAUTHORIZED);
        }
        _ if &**event == "publish" => publish_event(route, &message.payload)?,
        Route::Topics => return Err(reason::BAD_REQUEST),
        Route::Namespace(namespace) => any_event(namespace, event, &message.payload)?,
    };
    // A client could close or confuse all others under these names (B9).
    let event = &publish.event;
    if event.starts_with(b"phx_") || event.starts_with(b"chan_reply_") || event == "gap" {
        return Err(reason::BAD_REQUEST);
    }
    publish.ephemeral = is_ephemeral(route, event);
    Ok(publish)
}

/// The event `publish`, which always means X6.
fn publish_event(route: &Route, payload: &Payload) -> Result<v1::Publish, &'static str> {
    let Payload::Json(payload) = payload else {
        return Err(reason::BAD_REQUEST);
    };
    let body = phoenix::publish_body(payload).map_err(|bad| match bad {
        BadPublish::BadRequest => reason::BAD_REQUEST,
        BadPublish::Unauthorized => reason::UNAUTHORIZED,
    })?;
    if !route.allows(body.target) {
        return Err(reason::UNAUTHORIZED);
    }
    Ok(v1::Publish {
        event: body.event,
        payload: phoenix::compact(body.payload).0,
        target: body.target.into(),
        names: body.names,
        msg_id: body.msg_id,
        ..Default::default()
    })
}

/// Any other event of a namespace, in JSON or binary: Phoenix's broadcast, or broadcast_from.
fn any_event(namespace: &Namespace, event: &Text, payload: &Payload) -> Result<v1::Publish, &'static str> {
    let (payload, binary) = match payload {
        Payload::Json(json) if phoenix::is_object(json) => (phoenix::compact(json.clone()).0, false),
        Payload::Binary(data) => (data.clone(), true),
        Payload::Json(_) | Payload::TooDeep | Payload::UserBroadcast(_) => return Err(reason::BAD_REQUEST),
    };
    if !(1..=EVENT_BYTES_MAX).contains(&event.len()) {
        return Err(reason::BAD_REQUEST);
    }
    let target = match namespace.client_events {
        ClientEvents::Others => Target::Others,
        ClientEvents::All | ClientEvents::Refuse => Target::All,
    };
    Ok(v1::Publish {
        event: event.bytes(),
        payload,
        target: target.into(),
        binary,
        ..Default::default()
    })
}

/// Whether what has this name takes no offset and is not kept.
fn is_ephemeral(route: &Route, event: &[u8]) -> bool {
    std::str::from_utf8(event).is_ok_and(|event| route.is_ephemeral(event))
}

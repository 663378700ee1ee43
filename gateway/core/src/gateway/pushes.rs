//! A client's push becomes a publish, or is refused and hurts nobody (B1).

use bytes::Bytes;
use ringcast_proto::v1::{self, Target};
use ringcast_proto::{SessionId, Topic};

use super::clients::{ERROR, detached};
use super::replies::{ClientWaiter, Waiter};
use super::{Effect, Gateway};
use crate::phoenix::{self, BadPublish, Message, Payload, PublishBody};
use crate::reason;
use crate::route::{ClientEvents, Route};

impl Gateway {
    pub(super) fn push(&mut self, id: SessionId, topic: Topic, message: Message, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(channel) = session.channels.get_mut(&topic) else {
            return self.unmatched(id, &message, false, effects);
        };
        if channel.is_stale(&message) {
            return;
        }
        let positions = channel.positions;
        let (slot, route, push_ref) = (channel.slot, channel.route.clone(), channel.push_ref.clone());
        let body = if !session.pushes.take(self.limits.pushes, self.now) {
            Err(reason::RATE_LIMITED)
        } else if !self.policy.may_publish(&session.subject, &topic) {
            Err(reason::UNAUTHORIZED)
        } else {
            body(&route, &message)
        };
        let body = match body {
            Ok(body) => body,
            Err(why) => {
                return self.reply(
                    id,
                    &push_ref,
                    &message.reference,
                    &message.topic,
                    ERROR,
                    &reason::body(why, positions),
                    effects,
                );
            }
        };
        let bytes = body.payload.as_bytes().len();
        let publish = v1::Publish {
            number: 0,
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            event: body.event,
            payload: phoenix::compact(body.payload).0,
            session: id.0,
            target: body.target.into(),
            ..v1::Publish::default()
        };
        let copy_first = matches!(route, Route::Namespace(_)) && body.target == Target::All;
        let waiter = ClientWaiter {
            session: id,
            topic,
            reference: detached(&message.reference),
            msg_id: Bytes::new(),
            copy_first,
            bytes,
        };
        if self
            .publishing
            .push(slot, publish, Waiter::Client(waiter), self.now)
            .is_err()
        {
            let body = reason::body(reason::OVERLOADED, positions);
            return self.reply(
                id,
                &push_ref,
                &message.reference,
                &message.topic,
                ERROR,
                &body,
                effects,
            );
        }
        channel.unanswered += 1;
        session.unanswered += 1;
        session.unanswered_bytes += bytes;
        self.counts.client_publishes += 1;
        self.pace(id, effects);
    }
}

/// What a push asks to have published.
fn body(route: &Route, message: &Message) -> Result<PublishBody, &'static str> {
    let Payload::Json(payload) = &message.payload else {
        return Err(reason::BAD_REQUEST);
    };
    let event = message.event.as_deref().ok_or(reason::BAD_REQUEST)?;
    let body = match (route, event) {
        (Route::Namespace(namespace), _) if namespace.client_events == ClientEvents::Refuse => {
            return Err(reason::UNAUTHORIZED);
        }
        (_, "publish") => phoenix::publish_body(payload).map_err(|bad| match bad {
            BadPublish::BadRequest => reason::BAD_REQUEST,
            BadPublish::Unauthorized => reason::UNAUTHORIZED,
        })?,
        (Route::Topics, _) => return Err(reason::BAD_REQUEST),
        (Route::Namespace(namespace), event) => {
            if event.is_empty() || event.len() > 255 || !phoenix::is_object(payload) {
                return Err(reason::BAD_REQUEST);
            }
            let target = if namespace.client_events == ClientEvents::Others {
                Target::Others
            } else {
                Target::All
            };
            PublishBody {
                event: Bytes::copy_from_slice(event.as_bytes()),
                payload: payload.clone(),
                target,
            }
        }
    };
    // A client could close or confuse all others under these names (B9).
    let reserved =
        body.event.starts_with(b"phx_") || body.event.starts_with(b"chan_reply_") || body.event == "gap";
    if reserved {
        Err(reason::BAD_REQUEST)
    } else {
        Ok(body)
    }
}

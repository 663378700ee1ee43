//! What a client makes of what it receives.
//!
//! *Invariant:* a reply on `topics:*` comes before the publisher's own copy (O1); what did not ask for positions is shown
//! none of section 10's words.

use bytes::Bytes;
use ringcast_proto::SessionId;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::channel::{Asked, Channel, Place, Waiting};
use super::frames::Incoming;
use super::{Client, EPHEMERAL, is_topics, topic_name, topic_number};
use crate::check::{Broken, Checker, Gap, Outcome, PubId, View};
use crate::env::Env;
use crate::time::Time;
use crate::trace::Text;

/// join_ref, ref, topic, event, payload.
type Frame<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str, &'a RawValue);

#[derive(Deserialize)]
struct Reply<'a> {
    status: &'a str,
    #[serde(borrow)]
    response: &'a RawValue,
}

/// The response of a join that asked for positions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Joined<'a> {
    epoch: &'a str,
    offset: u64,
    recovered: bool,
}

/// The response of a refusal, of stock Phoenix.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain<'a> {
    #[serde(rename = "reason")]
    _reason: &'a str,
}

/// The response of a refusal where positions were asked for.
#[derive(Deserialize)]
struct Detailed {
    code: u32,
    retryable: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GapPayload<'a> {
    epoch: &'a str,
    from: u64,
    to: u64,
    reason: &'a str,
}

fn broken<T>(of: &'static str, what: impl Into<String>) -> Result<T, Broken> {
    Err((of, what.into()))
}

impl Client {
    /// Bytes arrive.
    pub(crate) fn receive(&mut self, env: &mut Env, session: SessionId, bytes: &Bytes) {
        self.incoming.extend(bytes);
        while let Some(frame) = self.incoming.next() {
            let (now, number) = (env.now, self.number);
            match frame {
                Incoming::Text(text) => {
                    let text = text.as_slice();
                    env.trace
                        .line(now, || format!("client {number} <- {}", Text(text)));
                    if let Err((of, why)) = self.read_frame(now, &mut env.check, session, text) {
                        let what = format!("client {number}, session {session}, frame {}: {why}", Text(text));
                        env.check.fail(now, of, what);
                    }
                }
                Incoming::Close(code) => {
                    env.trace.line(now, || format!("client {number} <- close {code}"));
                    if code == 4008 {
                        env.check.slow_closed += 1;
                    }
                    let expected = code == 1012 || (code == 4008 && self.was_slow);
                    if !expected {
                        env.check
                            .fail(now, "X7", format!("client {number} is closed with {code}"));
                    }
                    return self.lost(env);
                }
                Incoming::Other(first) => {
                    env.check
                        .fail(now, "O", format!("a frame that begins with {first:#x}"));
                }
            }
        }
    }

    fn read_frame(
        &mut self,
        now: Time,
        check: &mut Checker,
        session: SessionId,
        text: &[u8],
    ) -> Result<(), Broken> {
        let Ok((join_ref, reference, topic, event, payload)) = serde_json::from_slice::<Frame<'_>>(text)
        else {
            return broken("O", "a frame that is none");
        };
        match (event, topic_number(topic)) {
            ("phx_reply", Some(topic)) => {
                let reply: Reply<'_> = serde_json::from_str(payload.get())
                    .map_err(|error| ("O", format!("a reply that is none: {error}")))?;
                let reference = reference
                    .and_then(|reference| reference.parse().ok())
                    .unwrap_or(0);
                self.replied(now, check, session, topic, reference, &reply)
            }
            ("phx_close", _) => Ok(()),
            ("msg" | EPHEMERAL, Some(topic)) => {
                let id = PubId::parse(payload.get().as_bytes())
                    .ok_or_else(|| ("I4", "a payload nobody published".to_owned()))?;
                self.delivered(check, session, topic, (join_ref, reference), id)
            }
            ("gap", Some(topic)) => self.missed(check, session, topic, (join_ref, reference), payload),
            _ => broken("O", "a frame nobody asked for"),
        }
    }

    fn replied(
        &mut self,
        now: Time,
        check: &mut Checker,
        session: SessionId,
        topic: usize,
        reference: u64,
        reply: &Reply<'_>,
    ) -> Result<(), Broken> {
        let Some(waiting) = self.waiting.remove(&reference) else {
            return broken("O5", "a second reply, or one to nothing");
        };
        let (ok, response) = (reply.status == "ok", reply.response.get());
        if !ok {
            self.refused(&waiting, response)?;
        }
        match waiting {
            Waiting::Join(_, asked) if ok => {
                let place = self.joined_at(check, topic, &asked, response)?;
                // A still newer join may be on its way.
                let newer = self.channels.get(&topic).and_then(|channel| channel.rejoining);
                let channel = Channel {
                    join_ref: reference,
                    joined: Some(now),
                    rejoining: newer.filter(|newer| *newer > reference),
                    place,
                };
                self.channels.insert(topic, channel);
            }
            Waiting::Join(..) => {
                let over =
                    |channel: &Channel| channel.join_ref == reference || channel.rejoining == Some(reference);
                if self.channels.get(&topic).is_some_and(over) {
                    self.channels.remove(&topic);
                }
            }
            Waiting::Leave(_) => {
                if response != "{}" {
                    return broken("X0", "a leave is answered with more than stock Phoenix does");
                }
                self.channels.remove(&topic);
            }
            Waiting::Publish(_, id) => {
                let told = self.outcome(topic, ok, response)?;
                check
                    .answered(id, &topic_name(topic), ok, told.as_ref())
                    .map_err(|why| ("P3", format!("session {session}: {why}")))?;
                if ok {
                    self.drafts.remove(&id.number);
                } else {
                    self.send_again(id);
                }
            }
        }
        Ok(())
    }

    /// Section 11: who asked for positions is told what a refusal means, nobody else.
    fn refused(&self, waiting: &Waiting, response: &str) -> Result<(), Broken> {
        let detailed = match waiting {
            Waiting::Join(_, asked) => *asked != Asked::Nothing,
            // Which channel a late one belonged to is not known.
            Waiting::Publish(topic, _) => match self.channels.get(topic) {
                Some(channel) => matches!(channel.place, Place::At(_)),
                None => return Ok(()),
            },
            Waiting::Leave(_) => return broken("O", "a leave is refused"),
        };
        let fits = if detailed {
            serde_json::from_str::<Detailed>(response)
                .is_ok_and(|detail| detail.code >= 4000 && detail.retryable)
        } else {
            serde_json::from_str::<Plain<'_>>(response).is_ok()
        };
        if fits {
            Ok(())
        } else {
            broken("X0", "not the refusal that was asked for")
        }
    }

    /// Where a channel begins that was joined.
    fn joined_at(
        &mut self,
        check: &mut Checker,
        topic: usize,
        asked: &Asked,
        response: &str,
    ) -> Result<Place, Broken> {
        if *asked == Asked::Nothing {
            return if response == "{}" {
                Ok(Place::Last(None))
            } else {
                broken("X0", "a stock join is answered with more than stock Phoenix does")
            };
        }
        let told: Joined<'_> =
            serde_json::from_str(response).map_err(|error| ("X2", format!("no position: {error}")))?;
        let mut view = View::new(told.epoch, told.offset);
        let asked = match asked {
            Asked::Nothing | Asked::Now => (None, false),
            Asked::After { view, genuine } => (Some(view), *genuine),
        };
        check.resumed(&topic_name(topic), asked, &mut view, told.recovered)?;
        self.positions.insert(topic, view.clone());
        Ok(Place::At(view))
    }

    /// What an ok to a publish says to a channel with positions; none to any other.
    fn outcome(&self, topic: usize, ok: bool, response: &str) -> Result<Option<Outcome>, Broken> {
        let Some(channel) = self.channels.get(&topic).filter(|_| ok) else {
            return Ok(None);
        };
        match channel.place {
            Place::At(_) => serde_json::from_str(response)
                .map(Some)
                .map_err(|error| ("X6", format!("no outcome: {error}"))),
            Place::Last(_) if response == "{}" => Ok(None),
            Place::Last(_) => broken(
                "X0",
                "a stock publish is answered with more than stock Phoenix does",
            ),
        }
    }

    fn delivered(
        &mut self,
        check: &mut Checker,
        session: SessionId,
        topic: usize,
        (join_ref, reference): (Option<&str>, Option<&str>),
        id: PubId,
    ) -> Result<(), Broken> {
        let fleeting = check.aim(id).is_some_and(|aim| !aim.is_sequenced());
        let gateway = self.gateway.map(|life| life.peer);
        let Some(channel) = self.channels.get_mut(&topic) else {
            return broken("O3", "a copy on a channel that is not joined");
        };
        let Some(joined) = channel.joined else {
            return broken("O3", "a copy before the join's reply");
        };
        let expected = is_topics(topic).then(|| channel.join_ref.to_string());
        if join_ref != expected.as_deref() {
            return broken("O1", format!("the copy carries join_ref {join_ref:?}"));
        }
        let waits = |waiting: &Waiting| *waiting == Waiting::Publish(topic, id);
        if is_topics(topic) && !check.is_repeated(id) && self.waiting.values().any(waits) {
            return broken("O1", "one's own copy before the reply");
        }
        match (&mut channel.place, reference) {
            (Place::At(view), Some(reference)) => {
                let offset = reference.strip_prefix('@').and_then(|offset| offset.parse().ok());
                let Some(offset) = offset else {
                    return broken("X3", format!("the copy carries ref {reference:?}"));
                };
                check.passes(session, &topic_name(topic), view, offset, id)?;
                self.positions.insert(topic, view.clone());
            }
            (Place::At(_), None) => check.received_fleeting(gateway, (session, &self.subject), id)?,
            (Place::Last(_), Some(_)) => return broken("X0", "a stock copy carries a ref"),
            (Place::Last(last), None) => {
                let place = check.received(session, id, *last);
                if fleeting {
                    return check.received_fleeting(gateway, (session, &self.subject), id);
                }
                let place = place.ok_or_else(|| ("I4", "nobody delivered it".to_owned()))?;
                check
                    .follows(gateway, (joined, session), *last, place)
                    .map_err(|why| ("I11", why))?;
                *last = Some(place);
            }
        }
        Ok(())
    }

    /// A gap.
    fn missed(
        &mut self,
        check: &mut Checker,
        session: SessionId,
        topic: usize,
        (join_ref, reference): (Option<&str>, Option<&str>),
        payload: &RawValue,
    ) -> Result<(), Broken> {
        let told: GapPayload<'_> = serde_json::from_str(payload.get())
            .map_err(|error| ("X7", format!("a gap that is none: {error}")))?;
        let was_slow = self.was_slow;
        let Some(channel) = self.channels.get_mut(&topic) else {
            return broken("O3", "a gap on a channel that is not joined");
        };
        let Place::At(view) = &mut channel.place else {
            return broken("X0", "a gap for a stock channel");
        };
        let of_channel = join_ref.and_then(|join_ref| join_ref.parse().ok()) == Some(channel.join_ref);
        if !of_channel || reference.is_some() {
            return broken("X7", format!("a gap with {join_ref:?}, {reference:?}"));
        }
        let gap = Gap {
            epoch: told.epoch,
            from: told.from,
            to: told.to,
            reason: told.reason,
        };
        check.gap(session, &topic_name(topic), view, &gap, was_slow)?;
        self.positions.insert(topic, view.clone());
        Ok(())
    }
}

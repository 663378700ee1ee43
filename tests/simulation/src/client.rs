//! A client: joins, leaves, publishes, goes and comes back, and holds what it receives against what it may expect.
//!
//! *Invariant:* what a channel receives of an epoch is rising and whole, or a gap that its gateway was told of explains
//! the hole (I11); a reply on `topics:*` comes before the publisher's own copy (O1).

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::SessionId;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::check::{Checker, Place, PubId};
use crate::env::Env;
use crate::random::Random;
use crate::time::Time;
use crate::wire::{Event, FromClient, Life, Urge};

/// Publishes it has under way at most.
const UNANSWERED_MAX: usize = 48;

/// How busy clients are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Temper {
    /// Between two acts, on average.
    pub(crate) pause_ms: u64,
    /// How many topics there are.
    pub(crate) topics: usize,
    /// Publishes in one act at most.
    pub(crate) burst: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    random: Random,
    temper: Temper,
    /// The connection, numbered over all clients; 0: none.
    pub(crate) connection: u64,
    /// Where it leads.
    pub(crate) gateway: Option<Life>,
    channels: BTreeMap<usize, Channel>,
    waiting: BTreeMap<u64, Waiting>,
    last_ref: u64,
    published: u64,
    /// It does nothing more by itself.
    pub(crate) calm: bool,
}

#[derive(Debug)]
struct Channel {
    join_ref: u64,
    /// Since when it is joined; none while it is joining.
    joined: Option<Time>,
    /// A newer join that is not answered.
    rejoining: Option<u64>,
    /// The last one received.
    last: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Join(usize),
    Leave(usize),
    Publish(usize, PubId),
}

/// join_ref, ref, topic, event, payload.
type Frame<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a str, &'a RawValue);

#[derive(Deserialize)]
struct Status<'a> {
    status: &'a str,
}

impl Client {
    /// One that is not connected yet.
    #[must_use]
    pub(crate) fn new(seed: u64, number: usize, temper: Temper) -> Client {
        Client {
            number,
            random: Random::new(seed, 1000 + number as u64),
            temper,
            connection: 0,
            gateway: None,
            channels: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_ref: 0,
            published: 0,
            calm: false,
        }
    }

    /// It does what is next.
    pub(crate) fn urge(&mut self, env: &mut Env, connection: u64, urge: Urge, gateways: &[Life]) {
        match urge {
            Urge::Connect if self.gateway.is_none() => self.connect(env, gateways),
            Urge::Lost if connection == self.connection && self.gateway.is_some() => self.lost(env),
            Urge::Act if connection == self.connection && self.gateway.is_some() && !self.calm => {
                self.act(env);
                let pause = self.random.between(1, 2 * self.temper.pause_ms);
                let at = env.now + Duration::from_millis(pause);
                env.at(at, Event::Urge(self.number, connection, Urge::Act));
            }
            Urge::Connect | Urge::Lost | Urge::Act => {}
        }
    }

    fn connect(&mut self, env: &mut Env, gateways: &[Life]) {
        let Some(gateway) = self.random.pick(gateways).copied() else {
            return self.come_back(env);
        };
        self.connection = env.fresh_number();
        self.gateway = Some(gateway);
        self.send(env, FromClient::Open);
        let at = env.now + Duration::from_millis(self.random.between(5, 200));
        env.at(at, Event::Urge(self.number, self.connection, Urge::Act));
    }

    /// The connection is gone; it comes back after a while, to whichever gateway there is.
    pub(crate) fn lost(&mut self, env: &mut Env) {
        self.gateway = None;
        self.channels.clear();
        // Publishes that are not answered have an unknown outcome for ever.
        self.waiting.clear();
        self.come_back(env);
    }

    fn come_back(&mut self, env: &mut Env) {
        let at = env.now + Duration::from_millis(self.random.between(10, 1_500));
        env.at(at, Event::Urge(self.number, 0, Urge::Connect));
    }

    fn act(&mut self, env: &mut Env) {
        let joined: Vec<usize> = self
            .channels
            .iter()
            .filter(|(_, channel)| channel.joined.is_some())
            .map(|(topic, _)| *topic)
            .collect();
        let topic = usize::try_from(self.random.below(self.temper.topics as u64)).unwrap_or(0);
        match (self.random.below(100), self.random.pick(&joined).copied()) {
            (0..70, Some(topic)) => {
                for _ in 0..=self.random.below(self.temper.burst) {
                    self.publish(env, topic);
                }
            }
            (70..76, Some(topic)) => self.leave(env, topic),
            (76..78, Some(topic)) => self.join(env, topic),
            (78, Some(_)) => {
                self.send(env, FromClient::Close);
                self.lost(env);
            }
            _ if self.channels.len() < 4 && !self.channels.contains_key(&topic) => self.join(env, topic),
            _ => {}
        }
    }

    fn join(&mut self, env: &mut Env, topic: usize) {
        self.last_ref += 1;
        let reference = self.last_ref;
        self.waiting.insert(reference, Waiting::Join(topic));
        self.channels
            .entry(topic)
            .and_modify(|channel| channel.rejoining = Some(reference))
            .or_insert(Channel {
                join_ref: reference,
                joined: None,
                rejoining: None,
                last: None,
            });
        let name = topic_name(topic);
        self.text(
            env,
            format!("[\"{reference}\",\"{reference}\",\"{name}\",\"phx_join\",{{}}]"),
        );
    }

    fn leave(&mut self, env: &mut Env, topic: usize) {
        let Some(channel) = self
            .channels
            .get(&topic)
            .filter(|channel| channel.rejoining.is_none())
        else {
            return;
        };
        let join_ref = channel.join_ref;
        self.last_ref += 1;
        let (reference, name) = (self.last_ref, topic_name(topic));
        self.waiting.insert(reference, Waiting::Leave(topic));
        self.text(
            env,
            format!("[\"{join_ref}\",\"{reference}\",\"{name}\",\"phx_leave\",{{}}]"),
        );
    }

    fn publish(&mut self, env: &mut Env, topic: usize) {
        let ends =
            |waiting: &Waiting| matches!(waiting, Waiting::Join(of) | Waiting::Leave(of) if *of == topic);
        // What is pushed behind a leave is for no channel; that is the gateway's own tests' matter.
        if self.waiting.len() >= UNANSWERED_MAX || self.waiting.values().any(ends) {
            return;
        }
        let Some(channel) = self.channels.get(&topic) else {
            return;
        };
        let join_ref = channel.join_ref;
        self.last_ref += 1;
        self.published += 1;
        let (reference, name) = (self.last_ref, topic_name(topic));
        let id = PubId {
            client: u32::try_from(self.number).unwrap_or(u32::MAX),
            number: self.published,
        };
        self.waiting.insert(reference, Waiting::Publish(topic, id));
        env.check.invoked(env.now, id, &name);
        let payload = id.payload();
        let push = if is_topics(topic) {
            format!("[\"{join_ref}\",\"{reference}\",\"{name}\",\"publish\",[\"msg\",{payload}]]")
        } else {
            format!("[\"{join_ref}\",\"{reference}\",\"{name}\",\"msg\",{payload}]")
        };
        self.text(env, push);
    }

    fn text(&mut self, env: &mut Env, text: String) {
        self.send(env, FromClient::Text(Bytes::from(text)));
    }

    fn send(&mut self, env: &mut Env, message: FromClient) {
        if let Some(gateway) = self.gateway {
            let (now, number, connection) = (env.now, self.number, self.connection);
            env.trace.line(now, || {
                format!("client {number} ({connection}) -> {gateway:?} {message:?}")
            });
            let at = env.now + Duration::from_micros(300);
            env.at(at, Event::Client(gateway, self.number, self.connection, message));
        }
    }

    /// A frame arrives.
    pub(crate) fn receive(&mut self, env: &mut Env, session: SessionId, frame: &Bytes) {
        let (now, number) = (env.now, self.number);
        let text = payload_of(frame);
        env.trace
            .line(now, || format!("client {number} <- {}", crate::trace::Text(text)));
        if let Err(why) = self.read(now, &mut env.check, session, text) {
            let text = crate::trace::Text(text);
            env.check
                .fail(now, why.0, format!("client {number}, frame {text}: {}", why.1));
        }
    }

    fn read(
        &mut self,
        now: Time,
        check: &mut Checker,
        session: SessionId,
        text: &[u8],
    ) -> Result<(), Broken> {
        let Ok((join_ref, reference, topic, event, payload)) = serde_json::from_slice::<Frame<'_>>(text)
        else {
            return Err(Broken("O", "a frame that is none".to_owned()));
        };
        match (event, topic_number(topic)) {
            ("phx_reply", Some(topic)) => {
                let status: Status<'_> = serde_json::from_str(payload.get())
                    .map_err(|error| Broken("O", format!("a reply that is none: {error}")))?;
                let reference = reference
                    .and_then(|reference| reference.parse().ok())
                    .unwrap_or(0);
                self.replied(now, check, session, topic, reference, status.status == "ok")
            }
            ("phx_close", _) => Ok(()),
            ("msg", Some(topic)) => {
                let id = PubId::parse(payload.get().as_bytes())
                    .ok_or_else(|| Broken("I4", "a payload nobody published".to_owned()))?;
                self.delivered(now, check, topic, join_ref, id)
            }
            _ => Err(Broken("O", "a frame nobody asked for".to_owned())),
        }
    }

    fn replied(
        &mut self,
        now: Time,
        check: &mut Checker,
        session: SessionId,
        topic: usize,
        reference: u64,
        ok: bool,
    ) -> Result<(), Broken> {
        let Some(waiting) = self.waiting.remove(&reference) else {
            return Err(Broken("O5", "a second reply, or one to nothing".to_owned()));
        };
        match waiting {
            Waiting::Join(_) if ok => {
                // A still newer join may be on its way.
                let newer = self.channels.get(&topic).and_then(|channel| channel.rejoining);
                let rejoining = newer.filter(|newer| *newer > reference);
                self.channels.insert(
                    topic,
                    Channel {
                        join_ref: reference,
                        joined: Some(now),
                        rejoining,
                        last: None,
                    },
                );
            }
            Waiting::Join(_) => {
                let over =
                    |channel: &Channel| channel.join_ref == reference || channel.rejoining == Some(reference);
                if self.channels.get(&topic).is_some_and(over) {
                    self.channels.remove(&topic);
                }
            }
            Waiting::Leave(_) => {
                self.channels.remove(&topic);
            }
            Waiting::Publish(_, id) => check
                .answered(now, id, session, ok)
                .map_err(|why| Broken("P3", why))?,
        }
        Ok(())
    }

    fn delivered(
        &mut self,
        now: Time,
        check: &mut Checker,
        topic: usize,
        join_ref: Option<&str>,
        id: PubId,
    ) -> Result<(), Broken> {
        let Some(channel) = self.channels.get_mut(&topic) else {
            return Err(Broken("O3", "a copy on a channel that is not joined".to_owned()));
        };
        let Some(joined) = channel.joined else {
            return Err(Broken("O3", "a copy before the join's reply".to_owned()));
        };
        let expected = is_topics(topic).then(|| channel.join_ref.to_string());
        if join_ref != expected.as_deref() {
            return Err(Broken("O1", format!("the copy carries join_ref {join_ref:?}")));
        }
        if is_topics(topic)
            && self
                .waiting
                .values()
                .any(|waiting| *waiting == Waiting::Publish(topic, id))
        {
            return Err(Broken("O1", "one's own copy before the reply".to_owned()));
        }
        let place = check
            .received(id)
            .ok_or_else(|| Broken("I4", "nobody delivered it".to_owned()))?;
        let gateway = self.gateway.map(|life| life.peer);
        check
            .follows(now, gateway, joined, channel.last, place)
            .map_err(|why| Broken("I11", why))?;
        channel.last = Some(place);
        Ok(())
    }

    /// What is joined now: topic, since when, what was received last.
    pub(crate) fn joined(&self) -> impl Iterator<Item = (String, Time, Option<Place>)> {
        self.channels
            .iter()
            .filter_map(|(topic, channel)| Some((topic_name(*topic), channel.joined?, channel.last)))
    }

    /// What nobody has answered.
    pub(crate) fn unanswered(&self) -> impl Iterator<Item = String> {
        let joining = self.channels.values().filter(|channel| channel.joined.is_none());
        let waiting = self.waiting.values().map(|waiting| format!("{waiting:?}"));
        waiting.chain(joining.map(|channel| format!("joining, ref {}", channel.join_ref)))
    }
}

/// What a frame breaks, and how.
struct Broken(&'static str, String);

/// Both contracts: `topics:*` and broadcast.
#[must_use]
pub(crate) fn topic_name(topic: usize) -> String {
    if is_topics(topic) {
        format!("topics:t{topic}")
    } else {
        format!("room:{topic}")
    }
}

fn is_topics(topic: usize) -> bool {
    topic.is_multiple_of(2)
}

fn topic_number(name: &str) -> Option<usize> {
    let number = name
        .strip_prefix("topics:t")
        .or_else(|| name.strip_prefix("room:"))?;
    number.parse().ok()
}

/// The text of an unmasked WebSocket frame.
fn payload_of(frame: &[u8]) -> &[u8] {
    let from = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(from..).unwrap_or_default()
}

//! A gateway whose clients live in the test, as its owners do (`owner`).
//!
//! Every text frame to a channel without positions is held against what plain Phoenix may send.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use expect_test::Expect;
use ringcast_proto::v1::publish_outcome::Outcome;
use serde_json::Value;

use super::*;
use crate::phoenix::{Frame, Message, decode_binary, decode_text};
use crate::route::{ClientEvents, Targets};
use crate::stock::{asks_for_positions, is_stock};

pub(super) fn table(owner: &str, owner_epoch: u64) -> Arc<SlotTable> {
    Arc::new(table_of(4, &server(owner), owner_epoch))
}

/// Who gave a publish to which topic which id.
pub(super) type Id = (Bytes, Bytes, Bytes);

pub(super) struct World {
    pub(super) gateway: Gateway,
    pub(super) now: Millis,
    serializers: BTreeMap<SessionId, Serializer>,
    /// Channels whose join asked for positions.
    positions: BTreeSet<(SessionId, String)>,
    pub(super) transcript: String,
    /// Calls not answered yet.
    pub(super) binds: Vec<(CallId, Vec<v1::Bind>)>,
    pub(super) publishes: Vec<(CallId, Vec<v1::SlotPublishes>)>,
    pub(super) fetches: Vec<(CallId, Vec<v1::Fetch>)>,
    pub(super) offset: u64,
    /// Of whoever answers.
    pub(super) owner_epoch: u64,
    /// How many the owner says receive what has no offset.
    pub(super) matched: u32,
    /// What the owner sends without an offset.
    pub(super) unsequenced: Vec<v1::Publication>,
    pub(super) ids: BTreeMap<Id, Outcome>,
}

impl World {
    pub(super) fn new() -> World {
        let family = |pattern: &str, change: fn(&mut Namespace)| {
            let mut namespace = Namespace::new(ringcast_proto::Pattern::parse(pattern).unwrap());
            change(&mut namespace);
            namespace
        };
        let namespaces = vec![
            family("news:*", |it| it.client_events = ClientEvents::Refuse),
            family("game:*", |it| it.client_events = ClientEvents::Others),
            family("plain:*", |it| it.resume = false),
            family("chat:*", |it| it.ephemeral = ["typing".to_owned()].into()),
            family("work:*", |it| {
                it.targets = Targets {
                    all: false,
                    one: true,
                    members: true,
                    ..Targets::default()
                }
            }),
        ];
        let config = Config {
            namespaces,
            limits: Limits::DEFAULT,
        };
        let mut world = World {
            gateway: Gateway::new(config, 1),
            now: Millis(1_000),
            serializers: BTreeMap::new(),
            positions: BTreeSet::new(),
            transcript: String::new(),
            binds: Vec::new(),
            publishes: Vec::new(),
            fetches: Vec::new(),
            offset: 0,
            owner_epoch: 1,
            matched: 0,
            unsequenced: Vec::new(),
            ids: BTreeMap::new(),
        };
        world.input(Input::Table(table("ts-1", 1)));
        world
    }

    pub(super) fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.gateway.apply(input, self.now, &mut effects);
        self.gateway.flush(self.now, &mut effects);
        for effect in effects {
            self.effect(effect);
        }
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        let out = &mut self.transcript;
        match effect {
            Effect::Write(session, frame) | Effect::Publication(session, frame, _) => {
                self.written(session, &frame);
            }
            Effect::Close(session, code, why) => writeln!(out, "{} closed {code} {why}", session.0).unwrap(),
            Effect::Pause(session) => writeln!(out, "{} paused", session.0).unwrap(),
            Effect::Resume(session) => writeln!(out, "{} resumed", session.0).unwrap(),
            Effect::Bind(call, to, binds) => {
                for bind in &binds {
                    let joined: Vec<u64> = bind.joined.iter().map(|member| member.session).collect();
                    let cursor = bind
                        .cursor
                        .as_ref()
                        .map_or(String::new(), |at| format!(" cursor {}", at.offset));
                    let topic = String::from_utf8_lossy(&bind.topic);
                    let (kind, left) = (if bind.prev_seq == 0 { "all" } else { "change" }, &bind.left);
                    writeln!(
                        out,
                        "{} bind {topic} {kind} joined {joined:?} left {left:?}{cursor}",
                        to.node
                    )
                    .unwrap();
                }
                self.binds.push((call, binds));
            }
            Effect::Fetch(call, to, fetches) => {
                for fetch in &fetches {
                    let topic = String::from_utf8_lossy(&fetch.topic);
                    let after = fetch.after.as_ref().map_or(0, |after| after.offset);
                    writeln!(out, "{} fetch {topic} after {after}", to.node).unwrap();
                }
                self.fetches.push((call, fetches));
            }
            Effect::Publish(call, to, slots) => {
                for publish in slots.iter().flat_map(|slot| &slot.publishes) {
                    writeln!(out, "{} publish {}", to.node, shown(publish)).unwrap();
                }
                self.publishes.push((call, slots));
            }
            Effect::Delivered(_, answer) => {
                for exception in answer.exceptions {
                    let cursor = exception.cursor.as_ref().map_or(0, |at| at.offset);
                    writeln!(out, "deliver: {:?} {cursor}", exception.status()).unwrap();
                }
            }
            Effect::ServerPublished(_, Ok(done)) => {
                let Published {
                    epoch,
                    offset,
                    matched,
                    dup,
                } = done;
                let at = offset.map_or("none".to_owned(), |offset| offset.0.to_string());
                let matched = matched.map_or(String::new(), |matched| format!(" matched {matched}"));
                let dup = if dup { " dup" } else { "" };
                writeln!(out, "server publish: {epoch}@{at}{matched}{dup}").unwrap();
            }
            Effect::ServerPublished(_, Err(why)) => writeln!(out, "server publish: {why:?}").unwrap(),
        }
    }

    fn written(&mut self, session: SessionId, frame: &Frame) {
        for (first, payload) in websocket_frames(&frame.0) {
            let id = session.0;
            if first == 0x82 {
                let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(self.transcript, "{id} < binary {hex}").unwrap();
                continue;
            }
            assert_eq!(first, 0x81, "a text frame, in one piece");
            let text = String::from_utf8(payload).unwrap();
            if !self.positions.contains(&(session, topic_of(&text))) {
                assert_eq!(is_stock(&text), Ok(()));
            }
            writeln!(self.transcript, "{id} < {text}").unwrap();
        }
    }

    pub(super) fn open(&mut self, session: u64, serializer: Serializer) {
        self.open_as(session, serializer, "");
    }

    pub(super) fn open_as(&mut self, session: u64, serializer: Serializer, subject: &'static str) {
        self.serializers.insert(SessionId(session), serializer);
        self.input(Input::Open {
            session: SessionId(session),
            serializer,
            subject: Bytes::from_static(subject.as_bytes()),
        });
    }

    pub(super) fn say(&mut self, session: u64, text: &str) {
        let text = text.replace('\'', "\"");
        writeln!(self.transcript, "{session} > {text}").unwrap();
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let message = decode_text(self.serializers[&SessionId(session)], bytes).unwrap();
        self.note_join(session, &text, &message);
        self.input(Input::Message {
            session: SessionId(session),
            message,
        });
    }

    pub(super) fn say_binary(&mut self, session: u64, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.transcript, "{session} > binary {hex}").unwrap();
        let message = decode_binary(
            self.serializers[&SessionId(session)],
            Bytes::copy_from_slice(bytes),
        )
        .unwrap();
        self.input(Input::Message {
            session: SessionId(session),
            message,
        });
    }

    /// Remembers which channels ask for positions and are allowed them.
    fn note_join(&mut self, session: u64, text: &str, message: &Message) {
        let (Some("phx_join"), Some(topic)) = (message.event.as_deref(), &message.topic_name) else {
            return;
        };
        let channel = (SessionId(session), topic.to_string());
        let route = self.gateway.routes.find(&Topic::parse(topic.as_bytes()).unwrap());
        if asks_for_positions(text) && route.is_none_or(|route| route.resumes()) {
            self.positions.insert(channel);
        } else {
            self.positions.remove(&channel);
        }
    }

    pub(super) fn close(&mut self, session: u64) {
        self.input(Input::Closed {
            session: SessionId(session),
        });
    }

    pub(super) fn wait(&mut self, ms: u64) {
        self.now = Millis(self.now.0 + ms);
        self.input(Input::Tick);
    }

    pub(super) fn check(self, expected: Expect) {
        expected.assert_eq(&self.transcript);
    }
}

/// A publish as an owner sees it.
fn shown(publish: &v1::Publish) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut out = format!(
        "{} #{} {}",
        text(&publish.topic),
        publish.number,
        text(&publish.event)
    );
    match publish.target() {
        v1::Target::All | v1::Target::Others => {}
        v1::Target::One => out.push_str(" to one"),
        v1::Target::Members => {
            let names: Vec<String> = publish.names.iter().map(text).collect();
            write!(out, " to {names:?}").unwrap();
        }
    }
    if publish.ephemeral {
        out.push_str(" ephemeral");
    }
    if publish.binary {
        write!(out, " binary {:?}", &publish.payload[..]).unwrap();
    }
    if !publish.msg_id.is_empty() || !publish.subject.is_empty() {
        write!(
            out,
            " id {:?} of {:?}",
            text(&publish.msg_id),
            text(&publish.subject)
        )
        .unwrap();
    }
    out
}

/// What one write carries: the first byte and the payload of each frame.
fn websocket_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        let (len, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => panic!("no frame here is so long"),
            short => (usize::from(*short), rest),
        };
        frames.push((*first, rest[..len].to_vec()));
        bytes = &rest[len..];
    }
    frames
}

/// The topic of a frame, which need not be a string.
fn topic_of(frame: &str) -> String {
    let frame: Value = serde_json::from_str(frame).unwrap();
    let topic = if frame.is_array() {
        &frame[2]
    } else {
        &frame["topic"]
    };
    topic.as_str().unwrap_or_default().to_owned()
}

pub(super) fn publication(offset: u64) -> v1::Publication {
    v1::Publication {
        offset,
        event: Bytes::from_static(b"event"),
        payload: Bytes::from(format!("{{\"n\":{offset}}}")),
        ..Default::default()
    }
}

pub(super) const JOIN: &str = "['1','1','topics:matrix','phx_join',{}]";
pub(super) const PUBLISH: &str = "['1','2','topics:matrix','publish',['event',{'message':'hi'}]]";

pub(super) fn joined_world() -> World {
    let mut world = World::new();
    world.open(1, Serializer::V2);
    world.say(1, JOIN);
    world.bound();
    world.transcript.clear();
    world
}

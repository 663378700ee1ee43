//! Clients at their gateway: what they say comes in, what is written for them goes out as far as they read.
//!
//! Mirrors `gateway/src/connection.rs` and `gateway/src/hub/leaving.rs`. Messages come decoded by the core's own codec.

use std::time::Duration;

use bytes::Bytes;
use ringcast_gateway_core::gateway::Input;
use ringcast_gateway_core::phoenix::{Frame, Serializer, decode_text};
use ringcast_gateway_core::place::Place;
use ringcast_proto::SessionId;

use super::socket::{DRAIN, Socket};
use super::{Gateway, SWEEP};
use crate::check::PubId;
use crate::env::{Env, Written};
use crate::plant::outbox;
use crate::wire::{Event, FromClient, Timer, Urge};

/// Longest time for the closing handshake.
const CLOSE_MAX: Duration = Duration::from_secs(3);
/// What it takes with a client that reads.
const CLOSE: Duration = Duration::from_micros(600);
/// What clients said is answered before they are let go, for so long at most.
const ANSWERS: Duration = Duration::from_secs(1);

impl Gateway {
    /// The session of a client's connection, if it is open here.
    #[must_use]
    pub(crate) fn session(&self, connection: u64) -> Option<SessionId> {
        self.sessions.get(&connection).copied()
    }

    /// A client's connection says something.
    pub(crate) fn client(&mut self, env: &mut Env, client: usize, connection: u64, message: FromClient) {
        let session = self.session(connection);
        match (message, session) {
            (FromClient::Open(_), _) if self.life.is_none() || self.leaving => {
                env.at(env.now, Event::Urge(client, connection, Urge::Lost));
            }
            (FromClient::Open(subject), _) => self.open(env, client, connection, subject),
            (FromClient::Text(text), Some(session)) => self.text(env, session, text),
            (FromClient::Read(rate), Some(session)) => {
                if rate.is_some() {
                    env.check.reads_slowly(session);
                }
                if let Some(socket) = self.sockets.get_mut(&session) {
                    socket.reads(rate, env.now);
                }
                self.unwritten.push(session);
                self.write(env);
            }
            (FromClient::Close, Some(session)) => self.gone(env, session),
            (FromClient::Text(_) | FromClient::Read(_) | FromClient::Close, None) => {}
        }
    }

    fn open(&mut self, env: &mut Env, client: usize, connection: u64, subject: Bytes) {
        let first = self.life.map_or(0, |life| life.0);
        self.next_session += 1;
        let session = SessionId(first << 32 | self.next_session);
        self.sessions.insert(connection, session);
        self.sockets
            .insert(session, Socket::new(session, outbox(env.plant)));
        env.check.opened(client, connection, session);
        let serializer = Serializer::V2;
        let open = Input::Open {
            session,
            serializer,
            subject,
        };
        self.take(env, open);
    }

    fn text(&mut self, env: &mut Env, session: SessionId, text: Bytes) {
        let Some(socket) = self
            .sockets
            .get_mut(&session)
            .filter(|socket| !socket.is_closing())
        else {
            return;
        };
        if socket.paused {
            return socket.unread.push_back(text);
        }
        if let Ok(message) = decode_text(Serializer::V2, text) {
            self.take(env, Input::Message { session, message });
        }
    }

    pub(super) fn pause(&mut self, session: SessionId) {
        if let Some(socket) = self.sockets.get_mut(&session) {
            socket.paused = true;
        }
    }

    pub(super) fn resume(&mut self, env: &mut Env, session: SessionId) {
        if let Some(socket) = self.sockets.get_mut(&session) {
            socket.paused = false;
            env.timer(
                self.base.life,
                self.base.clock,
                Duration::ZERO,
                Timer::ReadOn(session),
            );
        }
    }

    /// Takes what a client said while it was not read.
    pub(super) fn read_on(&mut self, env: &mut Env, session: SessionId) {
        while let Some(socket) = self.sockets.get_mut(&session)
            && !socket.paused
            && let Some(text) = socket.unread.pop_front()
        {
            self.text(env, session, text);
        }
    }

    pub(super) fn push(&mut self, env: &mut Env, session: SessionId, frame: Frame, place: Option<Place>) {
        let at = (env.now, self.base.now(env));
        let Some(socket) = self.sockets.get_mut(&session) else {
            return;
        };
        if place.is_none()
            && env.check.watches(session)
            && let Some(id) = published(&frame.0)
        {
            env.check.written(session, id);
        }
        let written = socket.push(frame.0, place, at);
        if let Some(over) = socket.over() {
            env.check.fail(env.now, "I12", over);
        }
        self.unwritten.push(session);
        self.arrive(env, session, written);
    }

    pub(super) fn close(&mut self, env: &Env, session: SessionId, code: u16) {
        let now = self.base.now(env);
        if let Some(socket) = self.sockets.get_mut(&session) {
            socket.close(code, now);
            self.unwritten.push(session);
        }
    }

    /// One write to each connection that was written to.
    pub(super) fn write(&mut self, env: &mut Env) {
        let mut unwritten = std::mem::take(&mut self.unwritten);
        unwritten.dedup();
        for session in unwritten {
            let Some(socket) = self.sockets.get_mut(&session) else {
                continue;
            };
            let written = socket.flush(env.now);
            let (life, clock) = (self.base.life, self.base.clock);
            if !socket.is_empty() && !socket.draining {
                socket.draining = true;
                env.timer(life, clock, DRAIN, Timer::Drain(session));
            }
            if socket.is_closing() && (socket.is_empty() || !socket.ending) {
                socket.ending = true;
                let over = if socket.is_empty() { CLOSE } else { CLOSE_MAX };
                env.timer(life, clock, over, Timer::Gone(session));
            }
            self.arrive(env, session, written);
        }
    }

    pub(super) fn drain(&mut self, env: &mut Env, session: SessionId) {
        if let Some(socket) = self.sockets.get_mut(&session) {
            socket.draining = false;
            self.unwritten.push(session);
            self.write(env);
        }
    }

    fn arrive(&mut self, env: &mut Env, session: SessionId, written: Vec<u8>) {
        if !written.is_empty() {
            env.written.push(Written {
                gateway: self.base.life.peer,
                session,
                bytes: Some(Bytes::from(written)),
            });
        }
    }

    pub(super) fn sweep(&mut self, env: &mut Env) {
        let now = self.base.now(env);
        for (session, socket) in &mut self.sockets {
            socket.tick(now);
            if socket.is_closing() {
                self.unwritten.push(*session);
            }
        }
        self.write(env);
        env.timer(self.base.life, self.base.clock, SWEEP, Timer::Sweep);
    }

    /// The connection is no more, whoever ended it.
    pub(super) fn gone(&mut self, env: &mut Env, session: SessionId) {
        if self.sockets.remove(&session).is_none() {
            return;
        }
        self.sessions.retain(|_, of| *of != session);
        env.written.push(Written {
            gateway: self.base.life.peer,
            session,
            bytes: None,
        });
        self.take(env, Input::Closed { session });
    }

    /// SIGTERM: what clients said is answered, they are told to go elsewhere, then the lease is given back.
    pub(crate) fn leave(&mut self, env: &mut Env) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        let until = self.base.now(env) + ANSWERS;
        let sessions: Vec<SessionId> = self.sockets.keys().copied().collect();
        for session in sessions {
            self.pause(session);
            self.take(env, Input::Retire { session, until });
        }
        self.go_if_all_are_gone(env);
    }

    pub(super) fn go_if_all_are_gone(&mut self, env: &mut Env) {
        if self.leaving && !self.going && self.core.retiring() == 0 {
            self.going = true;
            self.base.leave(env);
        }
    }
}

/// The publish a frame carries; none where it is something else.
fn published(frame: &[u8]) -> Option<PubId> {
    let from = frame.iter().rposition(|byte| *byte == b'{')?;
    PubId::parse(frame.get(from..frame.len() - 1)?)
}

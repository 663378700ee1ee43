//! Clients that read too slowly: what they lose is counted, and who they are is logged.
//!
//! *Invariant:* one client fills no log: its losses are told once in [`LOG_INTERVAL`], its end once.
//! Leaves out: what is lost and when it ends (`ringcast_gateway_core::outbox`).

use std::sync::Arc;
use std::time::Duration;

use ringcast_gateway_core::outbox::{Pushed, Why};
use ringcast_gateway_core::phoenix::Frame;
use ringcast_gateway_core::place::Place;
use ringcast_proto::{Millis, SessionId};

use super::State;
use crate::connection::Connection;

/// Between two lines about the losses of one client.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

impl State {
    /// Puts a frame into a client's outbox, and closes a client for which there is no room.
    pub(super) fn push(&mut self, session: SessionId, frame: Frame, place: Option<Place>, now: Millis) {
        let Some(connection) = self.connections.get(&session) else {
            return;
        };
        match connection.push(frame.0, place, now) {
            Pushed::First => self.writes.add(connection),
            Pushed::Queued | Pushed::Closing => {}
            Pushed::Shed => {
                let connection = Arc::clone(connection);
                self.tell_lost(&connection, now);
            }
            Pushed::Slow(why) => {
                let connection = Arc::clone(connection);
                self.close_slow(&connection, why, now);
            }
        }
    }

    /// Tells what a client lost because it reads too slowly.
    pub(super) fn tell_lost(&mut self, connection: &Connection, now: Millis) {
        let Some(lost) = connection.take_lost() else {
            return;
        };
        self.metrics.lost(&lost);
        let session = connection.session();
        let is_told = |last: &Millis| now.since(*last) < LOG_INTERVAL;
        if !lost.begins || self.told_slow.get(&session).is_some_and(is_told) {
            return;
        }
        self.told_slow.insert(session, now);
        let waiting = connection.stats();
        // What comes from clients is escaped: a log is read by terminals.
        tracing::warn!(
            %session,
            subject = ?self.subject(session),
            remote = %Remote(connection),
            topic = ?lost.topic.as_str(),
            from = lost.from.0,
            to = lost.to.0,
            publications = lost.publications,
            bytes = lost.bytes,
            waiting_frames = waiting.frames,
            waiting_bytes = waiting.bytes,
            "slow consumer: publications left out"
        );
    }

    /// Closes a client with 4008.
    pub(super) fn close_slow(&mut self, connection: &Connection, why: Why, now: Millis) {
        let waiting = connection.stats();
        self.metrics.slow_consumer_closed();
        connection.close_slow(now);
        let session = connection.session();
        let oldest_ms = waiting
            .oldest
            .map_or(0, |since| now.since(since).as_millis() as u64);
        tracing::warn!(
            %session,
            subject = ?self.subject(session),
            remote = %Remote(connection),
            why = why.as_str(),
            waiting_frames = waiting.frames,
            waiting_bytes = waiting.bytes,
            oldest_ms,
            dropped = waiting.dropped,
            "slow consumer: closed with 4008"
        );
    }

    fn subject(&self, session: SessionId) -> String {
        let client = self.core.client(session);
        client.map_or_else(String::new, |client| {
            String::from_utf8_lossy(client.subject).into_owned()
        })
    }
}

/// Where a client is, as far as its socket still knows.
struct Remote<'a>(&'a Connection);

impl std::fmt::Display for Remote<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.peer() {
            Some(peer) => peer.fmt(f),
            None => f.write_str("gone"),
        }
    }
}

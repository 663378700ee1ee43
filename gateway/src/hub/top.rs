//! The connections that stand out, for a person who asks.
//!
//! *Invariant:* each connection is looked at once, and only those that are told are described: a full gateway answers in
//! milliseconds.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use ringcast_proto::v1::{ConnectionOrder, ConnectionSummary, ListConnectionsReply};
use ringcast_proto::{Millis, SessionId};

use super::State;
use crate::connection::Connection;

/// More than anybody reads.
const LIMIT_MAX: usize = 1000;

impl State {
    /// The first `limit` connections in this order.
    pub(super) fn top(&self, order: ConnectionOrder, limit: usize, now: Millis) -> ListConnectionsReply {
        let limit = limit.min(LIMIT_MAX);
        // The smallest of those that are told is on top, to be displaced by a larger one.
        let mut first = BinaryHeap::with_capacity(limit + 1);
        for connection in self.connections.values() {
            let rank = (self.key(order, connection), Reverse(connection.session()));
            if first.len() < limit {
                first.push(Reverse(rank));
            } else if first.peek().is_some_and(|Reverse(last)| *last < rank) {
                first.pop();
                first.push(Reverse(rank));
            }
        }
        let told = first.into_sorted_vec().into_iter();
        ListConnectionsReply {
            connections: told
                .filter_map(|Reverse((_, Reverse(session)))| self.describe(session, now))
                .collect(),
            total: self.connections.len() as u64,
        }
    }

    /// What is compared: those that are slow stand before those that merely have much to read.
    fn key(&self, order: ConnectionOrder, connection: &Connection) -> (bool, u64) {
        match order {
            ConnectionOrder::Waiting | ConnectionOrder::Unspecified => {
                let stats = connection.stats();
                (stats.slow, stats.bytes as u64)
            }
            ConnectionOrder::Dropped => (false, connection.stats().dropped),
            ConnectionOrder::Sent => (false, connection.stats().sent_bytes),
            ConnectionOrder::Received => (false, connection.received_messages()),
            ConnectionOrder::Channels => (false, self.channels(connection.session())),
        }
    }

    fn channels(&self, session: SessionId) -> u64 {
        self.core
            .client(session)
            .map_or(0, |client| client.channels as u64)
    }

    fn describe(&self, session: SessionId, now: Millis) -> Option<ConnectionSummary> {
        let connection = self.connections.get(&session)?;
        let stats = connection.stats();
        let client = self.core.client(session);
        let ms_since = |since| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        Some(ConnectionSummary {
            session: session.0,
            subject: client.map_or_else(Bytes::new, |client| Bytes::copy_from_slice(client.subject)),
            remote: connection
                .peer()
                .map_or_else(String::new, |peer| peer.to_string()),
            connected_ms: ms_since(connection.opened_at()),
            channels: self.channels(session),
            outbox_frames: stats.frames as u64,
            outbox_bytes: stats.bytes as u64,
            oldest_ms: stats.oldest.map_or(0, ms_since),
            dropped: stats.dropped,
            gaps: stats.gaps,
            sent_bytes: stats.sent_bytes,
            received_messages: connection.received_messages(),
            slow: stats.slow,
        })
    }
}

//! A client's connection at its gateway: the core's outbox, and a socket that takes as much as the client reads.
//!
//! Mirrors `gateway/src/connection.rs`. *Invariant:* bytes arrive in order, as far as they were written; what waits stays
//! within the outbox's bounds.
//! Leaves out: decoding, pings, idle timeouts.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use ringcast_gateway_core::outbox::{
    BYTES_MAX, FRAMES_MAX, Flushed, Outbox, Pushed, REPLAY_BYTES_MAX, REPLAY_FRAMES_MAX, Ticked,
};
use ringcast_gateway_core::place::Place;
use ringcast_gateway_core::websocket;
use ringcast_proto::{Millis, SessionId};

use crate::time::Time;

/// Gaps and a close frame besides what the bounds count.
const UNCOUNTED_FRAMES_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) session: SessionId,
    outbox: Outbox,
    /// Bytes a second that the client reads; none: as fast as it can.
    rate: Option<u64>,
    /// What the socket takes now, in millionths of a byte, and when that was worked out.
    credit: u64,
    credit_at: Time,
    /// It is not read: what the client said meanwhile.
    pub(super) paused: bool,
    pub(super) unread: VecDeque<Bytes>,
    /// Somebody looks at it again.
    pub(super) draining: bool,
    /// It is to be gone at a certain time.
    pub(super) ending: bool,
}

impl Socket {
    pub(super) fn new(session: SessionId, outbox: Outbox) -> Socket {
        Socket {
            session,
            outbox,
            rate: None,
            credit: 0,
            credit_at: Time(0),
            paused: false,
            unread: VecDeque::new(),
            draining: false,
            ending: false,
        }
    }

    /// The client reads at this rate from now on.
    pub(super) fn reads(&mut self, rate: Option<u64>, now: Time) {
        self.rate = rate;
        (self.credit, self.credit_at) = (0, now);
    }

    /// Puts a frame into the outbox; what it wrote to make room.
    pub(super) fn push(&mut self, frame: Bytes, place: Option<Place>, at: (Time, Millis)) -> Vec<u8> {
        let mut written = Vec::new();
        if !self.outbox.has_room(frame.len(), place.as_ref()) {
            written = self.flush(at.0);
        }
        if let Pushed::Slow(_) = self.outbox.push(frame, place, at.1) {
            self.close(4008, at.1);
        }
        // Nobody names it here; it is taken so that it does not gather.
        self.outbox.take_lost();
        written
    }

    /// Once a second.
    pub(super) fn tick(&mut self, now: Millis) {
        if let Ticked::Slow(_) = self.outbox.tick(now) {
            self.close(4008, now);
        }
        self.outbox.take_lost();
    }

    pub(super) fn close(&mut self, code: u16, now: Millis) {
        self.outbox.close(websocket::close(Some(code), "simulated"), now);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.outbox.is_closing()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// What the socket takes now.
    pub(super) fn flush(&mut self, now: Time) -> Vec<u8> {
        let mut taken = Vec::new();
        let mut room = match self.rate {
            None => usize::MAX,
            Some(rate) => {
                let elapsed = u64::try_from(now.since(self.credit_at).as_micros()).unwrap_or(u64::MAX);
                // A little more than what a tenth of a second brings, or a frame would never fit.
                let most = (rate * 100_000).max(1_000_000);
                self.credit = (self.credit + elapsed.saturating_mul(rate)).min(most);
                self.credit_at = now;
                if rate == 0 {
                    0
                } else {
                    usize::try_from(self.credit / 1_000_000).unwrap_or(0)
                }
            }
        };
        let flushed = self.outbox.flush(|slices| {
            let before = taken.len();
            for slice in slices {
                let take = slice.len().min(room);
                taken.extend_from_slice(&slice[..take]);
                room -= take;
            }
            match taken.len() - before {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        });
        debug_assert!(
            matches!(flushed, Ok(Flushed::All | Flushed::Blocked)),
            "no write fails"
        );
        if self.rate.is_some() {
            self.credit = self.credit.saturating_sub(taken.len() as u64 * 1_000_000);
        }
        taken
    }

    /// Whether more waits than may (I12).
    pub(super) fn over(&self) -> Option<String> {
        let stats = self.outbox.stats();
        let frames_max = FRAMES_MAX + REPLAY_FRAMES_MAX + UNCOUNTED_FRAMES_MAX;
        let over = stats.bytes > BYTES_MAX + REPLAY_BYTES_MAX || stats.frames > frames_max;
        over.then(|| format!("{stats:?} waits for session {}", self.session))
    }
}

/// Between two looks at a socket that takes little.
pub(super) const DRAIN: Duration = Duration::from_millis(100);

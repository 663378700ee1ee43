//! When a session is read, and how the gateway ends one by itself: it is read no more, what it said is answered, and it is
//! closed with a code that lets its client come back elsewhere.
//!
//! *Invariant:* a session that is to end is never read again, and is closed once.
//! Leaves out: which sessions when (the shell's pace).

use ringcast_proto::{Millis, SessionId};

use super::{Effect, Gateway};
use crate::session::Ending;

/// Service restart (RFC 6455, registered by IANA): the client may return.
const SERVICE_RESTART: u16 = 1012;
const REASON: &str = "shutting down";

impl Gateway {
    /// Stops reading a session that has too much unanswered, and starts again at half of it.
    pub(super) fn pace(&mut self, id: SessionId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let (count, bytes) = (self.limits.unanswered_max, self.limits.unanswered_bytes_max);
        if !session.paused && (session.unanswered >= count || session.unanswered_bytes >= bytes) {
            session.paused = true;
            effects.push(Effect::Pause(id));
        } else if session.ending != Ending::Not {
            self.close_answered(id, effects);
        } else if session.paused && session.unanswered <= count / 2 && session.unanswered_bytes <= bytes / 2 {
            session.paused = false;
            effects.push(Effect::Resume(id));
        }
    }

    pub(super) fn retire(&mut self, id: SessionId, until: Millis, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.ending != Ending::Not {
            return;
        }
        session.ending = Ending::Answering(until);
        if !session.paused {
            session.paused = true;
            effects.push(Effect::Pause(id));
        }
        self.retiring.insert((until, id));
        self.close_answered(id, effects);
    }

    /// Closes a session that is to end and has all its answers.
    pub(super) fn close_answered(&mut self, id: SessionId, effects: &mut Vec<Effect>) {
        if let Some(session) = self.sessions.get_mut(&id)
            && let Ending::Answering(until) = session.ending
            && session.unanswered == 0
        {
            session.ending = Ending::Closed;
            self.retiring.remove(&(until, id));
            effects.push(Effect::Close(id, SERVICE_RESTART, REASON));
        }
    }

    /// Closes those whose answers did not come in time.
    pub(super) fn close_overdue(&mut self, effects: &mut Vec<Effect>) {
        while let Some(&(until, id)) = self.retiring.first().filter(|(until, _)| *until <= self.now) {
            self.retiring.remove(&(until, id));
            if let Some(session) = self.sessions.get_mut(&id) {
                session.ending = Ending::Closed;
                effects.push(Effect::Close(id, SERVICE_RESTART, REASON));
            }
        }
    }
}

//! The time in which a client reads too slowly: from the first loss until its outbox is empty.

use std::collections::VecDeque;

use ringcast_proto::Millis;

use super::{AGE_MAX, Lost, Outbox, SLOW_MAX, STUCK_MAX, Ticked, What, Why};
use crate::route::SlowConsumer;

/// What is known of a client that was slow at least once.
#[derive(Debug, Default)]
pub(super) struct Slow {
    /// Since when it is; none while it is not.
    pub(super) since: Option<Millis>,
    /// Channels that want everything have lost something in this time.
    pub(super) lossy: bool,
    /// When it last took something, as far as was looked.
    pub(super) progressed_at: Millis,
    /// Publications left out in all.
    pub(super) dropped: u64,
    /// Gaps written in all.
    pub(super) gaps: u64,
    /// What nobody has asked for yet.
    pub(super) lost: Option<Lost>,
}

impl Slow {
    /// It is slow from now on, if it was not before: then `true`.
    pub(super) fn begin(&mut self, now: Millis) -> bool {
        let begins = self.since.is_none();
        if begins {
            self.since = Some(now);
            self.lossy = false;
            self.progressed_at = now;
        }
        begins
    }
}

impl Outbox {
    /// To be called about once a second: leaves out what has waited too long, judges a client that does not read, and gives
    /// back the room of one that was not written to.
    pub fn tick(&mut self, now: Millis) -> Ticked {
        let progressed = std::mem::take(&mut self.progressed);
        if let Some(slow) = &mut self.slow
            && progressed
        {
            slow.progressed_at = now;
        }
        let Some(front) = self.waiting.front() else {
            if !progressed {
                self.waiting = VecDeque::new();
            }
            return Ticked::Fine;
        };
        let is_late = now.since(front.since) > AGE_MAX;
        if self.closing || !(is_late || self.is_slow()) {
            return Ticked::Fine;
        }
        let shed = is_late && self.shed_late(now);
        match self.judge(now) {
            Some(why) => Ticked::Slow(why),
            None if shed => Ticked::Shed,
            None => Ticked::Fine,
        }
    }

    fn is_slow(&self) -> bool {
        self.slow.as_ref().is_some_and(|slow| slow.since.is_some())
    }

    fn judge(&mut self, now: Millis) -> Option<Why> {
        // While publications make room, what may not be left out is given more time: it comes sooner by that.
        let patience = if self.is_slow() { SLOW_MAX } else { AGE_MAX };
        let impatient = self.waiting.iter().find(|waiting| match &waiting.what {
            What::Kept | What::Told(_) => true,
            What::Publication(place) => place.stream.slow_consumer != SlowConsumer::Latest,
            What::Gap(_) => false,
        });
        if impatient.is_some_and(|waiting| now.since(waiting.since) > patience) {
            return Some(Why::Late);
        }
        let front = self.waiting.front()?;
        if !self.is_slow() && now.since(front.since) > AGE_MAX {
            // The newest of a channel that wants nothing else. It lost nothing yet, and has to read something.
            self.slow.get_or_insert_default().begin(now);
        }
        let slow = self.slow.as_ref()?;
        match slow.since {
            Some(since) if slow.lossy && now.since(since) > SLOW_MAX => Some(Why::StillSlow),
            Some(_) if !slow.lossy && now.since(slow.progressed_at) > STUCK_MAX => Some(Why::Stuck),
            _ => None,
        }
    }
}

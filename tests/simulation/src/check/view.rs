//! What a client with positions is told of a topic: it gets everything after its position once and in order, or is told
//! what it does not get (P2, P7, P8).

use bytes::Bytes;
use ringcast_proto::SessionId;

use super::{Broken, Checker, Place, PubId};

/// A client's position in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// As the client was told it.
    pub(crate) epoch: Bytes,
    /// Everything up to here it has, or was told that it will not get.
    pub(crate) offset: u64,
    log: Option<u32>,
}

/// A `gap` as its client reads it.
#[derive(Debug)]
pub(crate) struct Gap<'a> {
    pub(crate) epoch: &'a str,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) reason: &'a str,
}

impl View {
    /// A position nobody has looked at yet.
    #[must_use]
    pub(crate) fn new(epoch: &str, offset: u64) -> View {
        View {
            epoch: Bytes::copy_from_slice(epoch.as_bytes()),
            offset,
            log: None,
        }
    }
}

impl Checker {
    fn log_of(&self, topic: &str, view: &mut View) -> Option<u32> {
        if view.log.is_none() {
            view.log = self.log.number(topic.as_bytes(), &view.epoch);
        }
        view.log
    }

    /// What a session has not received between its position and `next`, and was not told of either.
    fn unexplained(&self, session: SessionId, log: u32, view: &View, next: u64) -> Option<u64> {
        (view.offset + 1..next).find(|&offset| !self.log.is_own_hole(Place { log, offset }, session))
    }

    /// A session receives a publication with an offset; its position moves there.
    pub(crate) fn passes(
        &mut self,
        session: SessionId,
        topic: &str,
        view: &mut View,
        offset: u64,
        id: PubId,
    ) -> Result<(), Broken> {
        self.delivered += 1;
        let log = self
            .log_of(topic, view)
            .ok_or_else(|| ("I4", format!("{id:?} in {view:?}, of which nothing is known")))?;
        if offset <= view.offset {
            return Err(("P2", format!("offset {offset} after {view:?}")));
        }
        let there = self.log.entry(Place { log, offset }).map(|entry| entry.id);
        if there != Some(id) {
            return Err((
                "I4",
                format!("{id:?} at {offset} of {view:?}, where {there:?} is"),
            ));
        }
        if self.log.is_own_hole(Place { log, offset }, session) {
            return Err(("X6", format!("{id:?} came back to its sender, and was to others")));
        }
        if let Some(missing) = self.unexplained(session, log, view, offset) {
            let entry = self.log.entry(Place { log, offset: missing });
            let what = format!("offset {missing} ({entry:?}) is missing before {offset}, after {view:?}");
            return Err(("P8", what));
        }
        view.offset = offset;
        Ok(())
    }

    /// A session is told what it does not get; its position moves behind that.
    pub(crate) fn gap(
        &mut self,
        session: SessionId,
        topic: &str,
        view: &mut View,
        gap: &Gap<'_>,
        slow: bool,
    ) -> Result<(), Broken> {
        self.gaps_told += 1;
        let wrong = |why: &str, view: &View| Err(("X7", format!("{gap:?} at {view:?}: {why}")));
        if gap.reason == "epoch_changed" {
            let mut next = View::new(gap.epoch, gap.to);
            let (before, log) = (self.log_of(topic, view), self.log_of(topic, &mut next));
            if gap.from != 1
                || next.epoch == view.epoch
                || before.zip(log).is_some_and(|(old, new)| old > new)
            {
                return wrong("no new epoch", view);
            }
            *view = next;
            return Ok(());
        }
        if gap.epoch.as_bytes() != view.epoch || gap.from <= view.offset || gap.to < gap.from {
            return wrong("not what follows", view);
        }
        let known = match gap.reason {
            "history_trimmed" | "overload" => true,
            "slow_consumer" => slow,
            _ => false,
        };
        if !known {
            return wrong("for no reason", view);
        }
        if let Some(log) = self.log_of(topic, view)
            && let Some(missing) = self.unexplained(session, log, view, gap.from)
        {
            return Err((
                "P8",
                format!("offset {missing} is missing before {gap:?}, after {view:?}"),
            ));
        }
        if self.strict && gap.reason != "slow_consumer" && gap.to - gap.from < self.kept(topic) {
            return wrong("although nothing is wrong", view);
        }
        view.offset = gap.to;
        Ok(())
    }

    /// A join is answered with a position. `genuine`: the client was there before.
    pub(crate) fn resumed(
        &mut self,
        topic: &str,
        (asked, genuine): (Option<&View>, bool),
        told: &mut View,
        recovered: bool,
    ) -> Result<(), Broken> {
        let wrong = |why: &str, told: &View| {
            let what = format!("{topic}, asked for {asked:?}, recovered {recovered} at {told:?}: {why}");
            Err(("P7", what))
        };
        let log = self.log_of(topic, told);
        let head = log.map_or(0, |log| self.log.head(log));
        let same = asked.filter(|asked| asked.epoch == told.epoch);
        if recovered {
            self.recovered += 1;
            return match same {
                Some(asked) if asked.offset == told.offset && (genuine || asked.offset <= head) => Ok(()),
                _ => wrong("that is not where it was", told),
            };
        }
        // With the owner what it kept may be gone, and the gateway may not have heard of that.
        let lost = log.is_some_and(|log| self.log.is_lost(log, &self.ownership));
        if let Some(asked) = same.filter(|_| genuine && !lost) {
            if asked.offset > told.offset {
                return wrong("it has been further", told);
            }
            // The gateway may be behind the topic's head, up to which the owner keeps that much.
            if (head.max(told.offset) - asked.offset) * 3 <= self.kept(topic) {
                return wrong("all of it is there", told);
            }
        }
        Ok(())
    }

    /// Whether a session has everything when the topic ends at `head`.
    pub(crate) fn is_whole(
        &mut self,
        session: SessionId,
        topic: &str,
        view: &mut View,
        head: (&[u8], u64),
    ) -> Result<(), Broken> {
        let (epoch, offset) = head;
        if view.epoch != epoch || view.offset > offset {
            let what = format!("{view:?} at the end, where the topic ends at {offset} of {epoch:?}");
            return Err(("P8", what));
        }
        let log = self.log_of(topic, view);
        match log.and_then(|log| self.unexplained(session, log, view, offset + 1)) {
            Some(missing) => Err(("P8", format!("{missing} is missing at the end, after {view:?}"))),
            None => Ok(()),
        }
    }

    /// How much of this topic is there for certain.
    fn kept(&self, topic: &str) -> u64 {
        let of = |(family, _): &&(&str, u64)| topic.starts_with(family);
        self.kept.iter().find(of).map_or(0, |(_, kept)| *kept)
    }
}

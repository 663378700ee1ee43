//! The copies that clients without positions receive: everything once and in order, or their gateway was told of a gap (I11).

use ringcast_proto::SessionId;
use ringcast_proto::v1;

use super::Checker;
use super::log::{Place, PubId};
use crate::network::Peer;
use crate::time::Time;

impl Checker {
    /// A delivery reaches a gateway.
    pub(crate) fn arrives(&mut self, gateway: Peer, entries: &[v1::DeliverEntry]) {
        self.arriving.clear();
        for entry in entries {
            let Some(log) = self.log.number(&entry.topic, &entry.epoch) else {
                continue;
            };
            if let Some(gap) = &entry.gap {
                self.gaps
                    .entry((gateway, log))
                    .or_default()
                    .push((gap.from, gap.to));
            }
            for publication in &entry.publications {
                if let Some(id) = PubId::parse(&publication.payload) {
                    let offset = publication.offset;
                    self.arriving.entry(id).or_default().push(Place { log, offset });
                }
            }
        }
    }

    /// A session reads slowly from now on: what is written for it waits.
    pub(crate) fn reads_slowly(&mut self, session: SessionId) {
        self.waiting.entry(session).or_default();
    }

    /// Whether what is written for this session waits.
    #[must_use]
    pub(crate) fn watches(&self, session: SessionId) -> bool {
        self.waiting.contains_key(&session)
    }

    /// A publication is written for a session without positions.
    pub(crate) fn written(&mut self, session: SessionId, id: PubId) {
        if let Some(waiting) = self.waiting.get_mut(&session) {
            waiting.push_back((id, self.arriving.get(&id).cloned().unwrap_or_default()));
        }
    }

    /// Where the copy stands that a client without positions receives.
    pub(crate) fn received(&mut self, session: SessionId, id: PubId, last: Option<Place>) -> Option<Place> {
        self.delivered += 1;
        let places = match self.waiting.get_mut(&session) {
            None => self.arriving.get(&id).cloned(),
            Some(waiting) => waiting
                .pop_front()
                .filter(|(written, _)| *written == id)
                .map(|(_, at)| at),
        };
        let places = places.unwrap_or_default();
        let next =
            |place: &&Place| last.is_none_or(|last| last.log != place.log || last.offset < place.offset);
        places.iter().find(next).or(places.first()).copied()
    }

    /// Whether a channel that is joined since `joined` and has received `last` may receive `next`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn follows(
        &self,
        gateway: Option<Peer>,
        (joined, session): (Time, SessionId),
        last: Option<Place>,
        next: Place,
    ) -> Result<(), String> {
        let gap = |log: u32, offset: u64| {
            let ranges = gateway.and_then(|gateway| self.gaps.get(&(gateway, log)));
            ranges.is_some_and(|ranges| ranges.iter().any(|(from, to)| (*from..=*to).contains(&offset)))
        };
        self.log
            .follows((joined, session), last, next, gap, &self.ownership)
    }

    /// Whether a channel has received all it should have when the topic ends at `head`.
    ///
    /// # Errors
    /// What it misses.
    pub(crate) fn complete(
        &self,
        gateway: Option<Peer>,
        joined: (Time, SessionId),
        last: Option<Place>,
        head: Place,
    ) -> Result<(), String> {
        if last == Some(head) || head.offset == 0 {
            return Ok(());
        }
        // As if one more were to come: it must not leave a hole.
        let next = Place {
            offset: head.offset + 1,
            ..head
        };
        self.follows(gateway, joined, last, next)
    }
}

//! Who came and who went since a bind.
//!
//! *Invariant:* applied to the members that the bind left, it gives the members there are now.

use std::collections::BTreeSet;

use ringcast_proto::SessionId;

/// Changes to the members of a topic. A session is in at most one of the two.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) joined: BTreeSet<SessionId>,
    pub(super) left: BTreeSet<SessionId>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.left.is_empty()
    }

    pub(super) fn join(&mut self, session: SessionId) {
        self.left.remove(&session);
        self.joined.insert(session);
    }

    pub(super) fn leave(&mut self, session: SessionId) {
        self.joined.remove(&session);
        self.left.insert(session);
    }

    /// The session has never been a member. Whether it was to become one.
    pub(super) fn forget(&mut self, session: SessionId) -> bool {
        self.joined.remove(&session)
    }

    /// These changes, and then those.
    pub(super) fn then(mut self, later: Changes) -> Changes {
        later.joined.into_iter().for_each(|session| self.join(session));
        later.left.into_iter().for_each(|session| self.leave(session));
        self
    }
}

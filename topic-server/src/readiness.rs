//! How far a topic server has come.

/// A topic server is ready when all of it is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// It holds its lease.
    pub registered: bool,
    /// The cluster's slots have owners.
    pub ring_born: bool,
    /// Every slot whose record names it serves.
    pub roles_taken: bool,
    /// It is about to end.
    pub stopping: bool,
}

impl Readiness {
    /// Whether it serves all it should.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self.reasons().next().is_none()
    }

    /// Why it is not ready, for whoever waits for it.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        let reasons = [
            (self.registered, "not registered in the ring store"),
            (self.ring_born, "the ring is not born yet"),
            (self.roles_taken, "slots not taken yet"),
            (!self.stopping, "stopping"),
        ];
        reasons
            .into_iter()
            .filter(|(fine, _)| !fine)
            .map(|(_, reason)| reason)
    }
}

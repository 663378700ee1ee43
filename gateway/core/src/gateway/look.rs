//! What a person may see of a gateway's clients.

use ringcast_proto::SessionId;

use super::Gateway;

/// A client as the gateway knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// Who it is, empty when anonymous.
    pub subject: &'a [u8],
    /// Channels it has joined or is joining.
    pub channels: usize,
}

impl Gateway {
    /// What is known of a client; none where it is gone.
    #[must_use]
    pub fn client(&self, id: SessionId) -> Option<Client<'_>> {
        let session = self.sessions.get(&id)?;
        Some(Client {
            subject: &session.subject,
            channels: session.channels.len(),
        })
    }
}

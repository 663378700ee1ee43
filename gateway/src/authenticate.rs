//! Who a client is: asked once, before its connection becomes a WebSocket.

use bytes::Bytes;

/// What a client gave to be recognised by.
#[derive(Debug, Clone, Copy)]
pub struct ConnectRequest<'a> {
    /// The token of the sub-protocol `base64url.bearer.phx.`, decoded.
    pub token: Option<&'a [u8]>,
    /// Where it connects from.
    pub peer: std::net::SocketAddr,
}

/// The client is not let in; it gets 403 with an empty body (H4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not let in")]
pub struct Refused;

/// Judges clients. It decides at once, from what it holds in memory.
pub trait Authenticate: std::fmt::Debug + Send + Sync {
    /// The client's subject, empty for an anonymous one.
    ///
    /// # Errors
    /// [`Refused`].
    fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<Bytes, Refused>;
}

/// Lets everybody in, as nobody in particular.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl Authenticate for Anonymous {
    fn authenticate(&self, _request: &ConnectRequest<'_>) -> Result<Bytes, Refused> {
        Ok(Bytes::new())
    }
}

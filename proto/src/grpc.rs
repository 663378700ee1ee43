//! The channel and server settings both ends of a lane agree on.
//!
//! Keep-alive is off by default on both sides of tonic: without it a call to a stopped peer never fails.

use std::time::Duration;

pub use crate::calls::{Answers, Calls, Outgoing, answers};
pub use crate::codec::{LaneClient, SharedCall};
pub use crate::deliveries::{Deliveries, answer_deliveries};
pub use crate::topic_ids::{NoSuchTopicId, TopicIds, Topics};

use tonic::transport::{Channel, Endpoint, Server};

/// Largest message either way, in bytes: tonic's own decode limit, set for encoding too, which has none by default.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Deadline of a lane call. A call that took longer has an unknown outcome and is sent again as it was.
pub const CALL_DEADLINE: Duration = Duration::from_millis(1000);

const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_DEADLINE: Duration = Duration::from_secs(1);
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const STREAMS_MAX: u32 = 256;

/// How long a message is on the wire, in bytes.
#[must_use]
pub fn encoded_bytes(message: &impl prost::Message) -> usize {
    message.encoded_len()
}

/// An address that is no `HOST:PORT`.
#[derive(Debug, thiserror::Error)]
#[error("address {address:?} is no HOST:PORT: {source}")]
pub struct AddressError {
    /// As given.
    pub address: String,
    source: tonic::transport::Error,
}

/// A channel to `HOST:PORT` that connects when first used and again by itself when the connection is lost.
///
/// # Errors
/// [`AddressError`].
pub fn channel(address: &str) -> Result<Channel, AddressError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|source| AddressError {
        address: address.to_owned(),
        source,
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_DEADLINE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_lazy())
}

/// A server with the limits every rpc listener has: bounded concurrency, load shedding, keep-alive.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_DEADLINE))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_MAX)
        .concurrency_limit_per_connection(STREAMS_MAX as usize)
        .load_shed(true)
}

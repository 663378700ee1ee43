//! Accepting connections, whatever happens.
//!
//! *Invariant:* no error ends it. tonic would end the whole server when the process has no file descriptor left.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::net::{TcpListener, TcpStream};

/// Without file descriptors accepting fails at once, again and again: do not spin.
const RETRY: Duration = Duration::from_millis(100);

/// Every connection, for ever. Of errors one after another the first is logged.
pub(crate) fn connections(listener: TcpListener) -> impl Stream<Item = Result<TcpStream, Infallible>> {
    unfold((listener, false), |(listener, mut failing)| async move {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    if let Err(error) = connection.set_nodelay(true) {
                        tracing::debug!(%error, "connection without TCP_NODELAY");
                    }
                    return Some((Ok(connection), (listener, false)));
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "connections cannot be accepted, trying on");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    })
}

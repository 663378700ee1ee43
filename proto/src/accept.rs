//! Listening and accepting, for clients and for nodes alike.
//!
//! *Invariant:* accepting never ends by an error: without file descriptors it waits until there are some again.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::Stream;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Clients of a lost gateway come back all at once; what is not accepted yet waits in the kernel.
const BACKLOG: u32 = 4096;

/// Free descriptors come back when connections end, not sooner for being asked for more often.
const RETRY: Duration = Duration::from_millis(100);

/// Binds `address`. Port 0 takes a free one.
///
/// # Errors
/// What the system says: most often that the port is in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // Without it a restarted process cannot have its port back while old connections time out.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A listener that outlives its errors.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    failing: bool,
}

impl Acceptor {
    /// Accepts from `listener`.
    #[must_use]
    pub fn new(listener: TcpListener) -> Acceptor {
        Acceptor {
            listener,
            failing: false,
        }
    }

    /// The next connection, its small writes not delayed.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    self.failing = false;
                    // It fails only for a connection that is gone, which its reader will notice.
                    stream.set_nodelay(true).ok();
                    return (stream, peer);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    if !self.failing {
                        self.failing = true;
                        tracing::error!(%error, "cannot accept connections, trying again until it works");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Every connection from now on, as tonic takes them.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<TcpStream>> {
        futures_util::stream::unfold(self, |mut acceptor| async move {
            let (stream, _) = acceptor.accept().await;
            Some((Ok(stream), acceptor))
        })
    }
}

/// The connection was gone before it was accepted; the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

//! A connection to the store that can be cut while the store lives on.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Which bytes make the connection go dead, and what becomes of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trap {
    /// They never arrive.
    Swallow(&'static [u8]),
    /// They arrive, and nothing comes back.
    PassOn(&'static [u8]),
}

/// A proxy: after the trap was sprung nothing passes in either direction until it is healed.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    _end: DropGuard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Armed,
    Dead,
    Healed,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr, trap: Trap) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State::Armed));
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (accepting, shared, ended) = (tasks.clone(), state.clone(), end.clone());
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(to).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                let up = pump(from_client, to_server, Some(trap), shared.clone());
                let down = pump(from_server, to_client, None, shared.clone());
                let ended = ended.clone();
                // Whoever's direction ends, the connection does.
                let both = async move {
                    tokio::select! { () = up => {}, () = down => {} }
                };
                accepting.spawn(async move { ended.run_until_cancelled(both).await });
            }
        };
        let ended = end.clone();
        tasks.spawn(async move { ended.run_until_cancelled(accept).await });
        Proxy {
            address,
            state,
            _end: end.drop_guard(),
        }
    }

    /// Waits until the trap was sprung.
    pub(crate) async fn dead(&self) {
        let mut state = self.state.subscribe();
        state.wait_for(|state| *state == State::Dead).await.unwrap();
    }

    /// Lets everything pass from now on.
    pub(crate) fn heal(&self) {
        self.state.send_replace(State::Healed);
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    trap: Option<Trap>,
    state: Arc<watch::Sender<State>>,
) {
    let mut healed = state.subscribe();
    // What was read last, so that a trap is sprung by bytes that come in two pieces as well.
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..len];
        seen.extend_from_slice(bytes);
        if let Some(trap @ (Trap::Swallow(wanted) | Trap::PassOn(wanted))) = trap {
            let sprung = seen.windows(wanted.len()).any(|window| window == wanted)
                && state.send_if_modified(|state| {
                    let armed = *state == State::Armed;
                    *state = if armed { State::Dead } else { *state };
                    armed
                });
            if sprung && matches!(trap, Trap::PassOn(_)) {
                to.write_all(bytes).await.ok();
            }
            seen.drain(..seen.len().saturating_sub(wanted.len()));
        }
        if *healed.borrow_and_update() == State::Dead {
            // This connection is of no use any more: bytes were lost on it. It stays open, as one does behind a cut.
            healed.wait_for(|state| *state == State::Healed).await.ok();
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

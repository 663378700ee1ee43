//! The sockets of many clients, waited for together: one task instead of a task a client.
//!
//! A turn takes what the system says happened to hundreds of sockets in one call, and reads each once.
//! *Invariant:* no connection waits for another but for its turn, and a turn is one read; the poller itself waits only
//! where the hub's mailbox is full, which the hub empties whatever happens.
//! Leaves out: what is read (`connection::Reader`).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use ringcast_proto::{Millis, SessionId};
use ringcast_ring_store::clock;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use crate::connection::{Desk, Happened, Next, Reader};
use crate::mail::Mail;
use crate::sessions::BySession;

/// Bytes of a read.
const READ_BYTES: usize = 64 * 1024;

/// Sockets of a turn.
const EVENTS_LEN: usize = 512;

/// A handle on a poller.
#[derive(Debug, Clone)]
pub(crate) struct Poller {
    mail: Arc<Mail<Waiting>>,
}

/// The pollers of a gateway.
#[derive(Debug)]
pub(crate) struct Pollers(Vec<Poller>);

/// What waits for the poller's task. Bounded by the number of connections: each comes once, and is woken once before the
/// task looks.
#[derive(Debug, Default)]
struct Waiting {
    new: Vec<Reader>,
    woken: Vec<Token>,
    /// The task is gone.
    over: bool,
}

/// The task's end.
#[derive(Debug)]
pub(crate) struct Polling {
    mail: Arc<Mail<Waiting>>,
    sockets: AsyncFd<mio::Poll>,
    readers: HashMap<Token, Box<Reader>, BySession>,
    /// Those that are closing, by when they have to be gone.
    closing: BTreeSet<(Millis, Token)>,
    /// Those that have more to read.
    again: VecDeque<Token>,
    buffer: Vec<u8>,
    desk: Desk,
}

/// So many pollers, one at least, and their tasks' ends. Inside a tokio runtime.
///
/// # Errors
/// What the system says where it has no room for another poll.
pub(crate) fn pollers(count: usize, desk: &Desk) -> io::Result<(Pollers, Vec<Polling>)> {
    let both: io::Result<Vec<_>> = (0..count.max(1)).map(|_| poller(desk.clone())).collect();
    let (pollers, polling) = both?.into_iter().unzip();
    Ok((Pollers(pollers), polling))
}

fn poller(desk: Desk) -> io::Result<(Poller, Polling)> {
    let mail = Arc::<Mail<Waiting>>::default();
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe for descriptors that are not owned; a poll owns its own"
    )]
    let sockets = AsyncFd::with_interest(mio::Poll::new()?, tokio::io::Interest::READABLE)?;
    let polling = Polling {
        mail: Arc::clone(&mail),
        sockets,
        readers: HashMap::default(),
        closing: BTreeSet::new(),
        again: VecDeque::new(),
        buffer: vec![0; READ_BYTES],
        desk,
    };
    Ok((Poller { mail }, polling))
}

impl Pollers {
    /// The one that serves this connection.
    pub(crate) fn of(&self, session: SessionId) -> &Poller {
        let Pollers(pollers) = self;
        &pollers[session.0 as usize % pollers.len()]
    }
}

impl Poller {
    /// Serves a connection from now on to its end.
    pub(crate) fn add(&self, reader: Reader) {
        let mut waiting = self.mail.waiting();
        if !waiting.over {
            waiting.new.push(reader);
            drop(waiting);
            self.mail.post();
        }
    }

    /// Has the connection look at what the hub wants of it.
    pub(crate) fn wake(&self, session: SessionId) {
        let mut waiting = self.mail.waiting();
        if !waiting.over {
            waiting.woken.push(token(session));
            drop(waiting);
            self.mail.post();
        }
    }
}

impl Polling {
    /// Works until `stop`; connections that are left by then are dropped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut events = Events::with_capacity(EVENTS_LEN);
        let mut stopped = std::pin::pin!(stop.cancelled());
        loop {
            let deadline = self.closing.first().map(|(until, _)| *until);
            tokio::select! {
                biased;
                // The process ends.
                () = stopped.as_mut() => return,
                // A connection came, or the hub wants something of one.
                () = self.mail.posted() => {}
                // A closing handshake takes too long.
                () = until(deadline) => {}
                // Something happened to sockets, unless the runtime is gone.
                ready = self.sockets.readable() => if ready.is_err() { return },
                // There is more to read.
                () = tokio::task::yield_now(), if !self.again.is_empty() => {}
            }
            // Whatever it was: clients that are woken all the time should not keep the others from being heard.
            self.poll(&mut events);
            self.turn(&mut events).await;
        }
    }

    /// What happened to sockets, if anything did.
    fn poll(&mut self, events: &mut Events) {
        let Some(Ok(mut ready)) = self.sockets.readable_mut().now_or_never() else {
            return;
        };
        let polled = ready.get_inner_mut().poll(events, Some(Duration::ZERO));
        if polled.is_ok() && events.iter().count() < EVENTS_LEN {
            ready.clear_ready();
        }
    }

    async fn turn(&mut self, events: &mut Events) {
        self.forget_late(clock::now());
        let (new, woken) = {
            let mut waiting = self.mail.waiting();
            (
                std::mem::take(&mut waiting.new),
                std::mem::take(&mut waiting.woken),
            )
        };
        for reader in new {
            self.begin(reader).await;
        }
        for token in woken {
            self.happened(token, Happened::WOKEN).await;
        }
        for event in events.iter() {
            let happened = Happened {
                readable: event.is_readable(),
                writable: event.is_writable(),
                ended: event.is_read_closed() || event.is_error(),
                woken: false,
            };
            self.happened(event.token(), happened).await;
        }
        events.clear();
        for _ in 0..self.again.len() {
            let Some(token) = self.again.pop_front() else {
                break;
            };
            if let Some(reader) = self.readers.get_mut(&token) {
                reader.dequeue();
                self.happened(token, Happened::default()).await;
            }
        }
    }

    async fn begin(&mut self, reader: Reader) {
        let (session, token) = (reader.session(), token(reader.session()));
        let socket = reader.connection().socket().as_raw_fd();
        let registered = self.sockets.get_ref().registry().register(
            &mut SourceFd(&socket),
            token,
            Interest::READABLE | Interest::WRITABLE,
        );
        self.readers.insert(token, Box::new(reader));
        match registered {
            // What came with the handshake is there already; and what the hub wanted before this was here to be woken.
            Ok(()) => self.happened(token, Happened::WOKEN).await,
            Err(error) => {
                tracing::warn!(%session, %error, "connection dropped: its socket cannot be polled");
                self.readers.remove(&token);
                self.desk.hub.closed(session).await;
            }
        }
    }

    async fn happened(&mut self, token: Token, happened: Happened) {
        let Some(reader) = self.readers.get_mut(&token) else {
            return;
        };
        let closing = reader.closes_until();
        let next = reader.turn(happened, &self.desk, &mut self.buffer).await;
        if let (None, Some(until)) = (closing, reader.closes_until()) {
            self.closing.insert((until, token));
        }
        match next {
            Next::Wait => {}
            Next::Again if reader.queue() => self.again.push_back(token),
            Next::Again => {}
            Next::Forget => self.forget(token),
        }
    }

    fn forget_late(&mut self, now: Millis) {
        while let Some((until, token)) = self.closing.first().copied()
            && until <= now
        {
            self.forget(token);
        }
    }

    fn forget(&mut self, token: Token) {
        let Some(reader) = self.readers.remove(&token) else {
            return;
        };
        if let Some(until) = reader.closes_until() {
            self.closing.remove(&(until, token));
        }
        let socket = reader.connection().socket().as_raw_fd();
        // The hub may hold the socket a little longer; where it cannot be taken out it goes with the socket.
        self.sockets
            .get_ref()
            .registry()
            .deregister(&mut SourceFd(&socket))
            .ok();
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        // A connection holds the poller it is served by: what is left here would keep itself alive.
        let mut waiting = self.mail.waiting();
        waiting.over = true;
        let left = std::mem::take(&mut waiting.new);
        drop(waiting);
        drop(left);
    }
}

/// A session's part that counts up: no two connections of a gateway share it.
fn token(session: SessionId) -> Token {
    Token(session.0 as usize)
}

async fn until(deadline: Option<Millis>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

//! One client's socket: what it sends goes to the hub as messages, what the hub writes goes out.
//!
//! An idle connection holds its socket, a decoder and an empty outbox; bytes are read into a buffer of the thread.
//! *Invariant:* a connection that is not read (paused, or the hub is busy) is not waited for by anyone else; one that
//! is closed is gone within [`CLOSE_MAX`], whatever its client does.
//! Leaves out: timers. One sweep over all connections finds the silent and the slow ([`Connection::look`]); and what a slow
//! one loses (`ringcast_gateway_core::outbox`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ringcast_gateway_core::outbox::{Flushed, Lost, Outbox, Pushed, Stats, Ticked, Why};
use ringcast_gateway_core::phoenix::{DecodeError, Message, Serializer, decode_binary, decode_text};
use ringcast_gateway_core::place::Place;
use ringcast_gateway_core::websocket::{self, Decoder, Event, Violation};
use ringcast_proto::{Millis, SessionId};
use ringcast_ring_store::clock;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::hub::Hub;
use crate::metrics::Metrics;

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Longest time for the closing handshake. With the idle timeout of 60 s and the sweep of 1 s it makes the 65 s within
/// which a half-open socket is free again.
const CLOSE_MAX: Duration = Duration::from_secs(3);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What the hub and the connection's own task share.
#[derive(Debug)]
pub(crate) struct Connection {
    session: SessionId,
    serializer: Serializer,
    stream: TcpStream,
    outbox: Mutex<Outbox>,
    /// Tells the task to look at everything else here again.
    wake: Notify,
    paused: AtomicBool,
    opened_at: Millis,
    received_messages: AtomicU64,
    heard_at: AtomicU64,
    /// When an unfinished message is too late; 0 without one.
    unfinished_until: AtomicU64,
}

/// What the sweep found a connection to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// As it should be.
    Fine,
    /// It was silent for too long.
    Idle,
    /// It began a message and did not finish it.
    Unfinished,
    /// What waited too long was left out.
    Shed,
    /// It does not read, and is to be closed for it.
    Slow(Why),
}

/// The connection is gone: nothing more can be read or written.
struct Gone;

impl Connection {
    pub(crate) fn new(session: SessionId, serializer: Serializer, stream: TcpStream) -> Connection {
        let now = clock::now();
        Connection {
            session,
            serializer,
            stream,
            outbox: Mutex::default(),
            wake: Notify::new(),
            paused: AtomicBool::new(false),
            opened_at: now,
            received_messages: AtomicU64::new(0),
            heard_at: AtomicU64::new(now.0),
            unfinished_until: AtomicU64::new(0),
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn serializer(&self) -> Serializer {
        self.serializer
    }

    /// Where the client is; nowhere once its socket is gone.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }

    pub(crate) fn opened_at(&self) -> Millis {
        self.opened_at
    }

    pub(crate) fn received_messages(&self) -> u64 {
        self.received_messages.load(Ordering::Relaxed)
    }

    /// How its outbox stands.
    pub(crate) fn stats(&self) -> Stats {
        self.outbox().stats()
    }

    /// What was left out since the last time this was asked.
    pub(crate) fn take_lost(&self) -> Option<Lost> {
        self.outbox().take_lost()
    }

    /// Puts a frame into the outbox; with a place it is a publication, which may be left out. After [`Pushed::First`] the
    /// caller has to [`Connection::flush`], after [`Pushed::Slow`] to [`Connection::close_slow`].
    pub(crate) fn push(&self, frame: Bytes, place: Option<Place>, now: Millis) -> Pushed {
        let mut outbox = self.outbox();
        if !outbox.has_room(frame.len(), place.as_ref()) {
            // A burst within one turn of the hub is not slowness: what the socket takes now does not wait. A write that
            // fails is found by the task, which reads.
            drop(outbox.flush(|slices| self.stream.try_write_vectored(slices)));
        }
        outbox.push(frame, place, now)
    }

    /// Writes what the socket takes now; what it does not take, the connection's task writes when it can.
    pub(crate) fn flush(&self) {
        let flushed = self
            .outbox()
            .flush(|slices| self.stream.try_write_vectored(slices));
        if !matches!(flushed, Ok(Flushed::All)) {
            self.wake.notify_one();
        }
    }

    /// Puts a close frame behind what waits; the task does the rest.
    pub(crate) fn close(&self, code: u16, reason: &str, now: Millis) {
        self.outbox().close(websocket::close(Some(code), reason), now);
        self.wake.notify_one();
    }

    /// Closes a client that does not read: what it did not read so far is dropped.
    pub(crate) fn close_slow(&self, now: Millis) {
        let mut outbox = self.outbox();
        outbox.drop_waiting();
        outbox.close(websocket::close(Some(4008), "slow consumer"), now);
        drop(outbox);
        self.wake.notify_one();
    }

    /// Reads no more until [`Connection::resume`].
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::Release);
        self.wake.notify_one();
    }

    /// Looks at what only the passing of time changes, and adds what waits here to `outbox_bytes`.
    pub(crate) fn look(&self, now: Millis, idle_timeout: Duration, outbox_bytes: &mut usize) -> Look {
        let mut outbox = self.outbox();
        if outbox.is_closing() {
            return Look::Fine;
        }
        if !outbox.is_empty() {
            *outbox_bytes += outbox.stats().bytes;
            match outbox.tick(now) {
                Ticked::Fine => {}
                Ticked::Shed => return Look::Shed,
                Ticked::Slow(why) => return Look::Slow(why),
            }
        }
        drop(outbox);
        if self.is_paused() {
            // What it sent is not read, so neither silence nor slowness can be told.
            return Look::Fine;
        }
        let unfinished_until = self.unfinished_until.load(Ordering::Relaxed);
        if unfinished_until != 0 && unfinished_until <= now.0 {
            return Look::Unfinished;
        }
        let heard_at = Millis(self.heard_at.load(Ordering::Relaxed));
        match now.since(heard_at) >= idle_timeout {
            true => Look::Idle,
            false => Look::Fine,
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // A panic while it was locked can at worst have left a frame half counted.
        self.outbox
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    fn is_closing(&self) -> bool {
        self.outbox().is_closing()
    }

    fn write(&self) -> Result<(), Gone> {
        match self
            .outbox()
            .flush(|slices| self.stream.try_write_vectored(slices))
        {
            Ok(Flushed::All | Flushed::Blocked) => Ok(()),
            Err(_) => Err(Gone),
        }
    }
}

/// The task of one connection.
pub(crate) struct Task {
    connection: Arc<Connection>,
    hub: Hub,
    metrics: Arc<Metrics>,
    decoder: Decoder,
    /// Read and not yet handed on.
    items: VecDeque<Item>,
    /// Whether it was the gateway who did not read.
    held: bool,
}

type Decode = fn(Serializer, Bytes) -> Result<Message, DecodeError>;

enum Item {
    Event(Event),
    Violation(Violation),
}

impl Task {
    pub(crate) fn new(
        connection: Arc<Connection>,
        hub: Hub,
        metrics: Arc<Metrics>,
        message_bytes_max: usize,
    ) -> Task {
        let decoder = Decoder::new(message_bytes_max);
        Task {
            connection,
            hub,
            metrics,
            decoder,
            items: VecDeque::new(),
            held: false,
        }
    }

    /// Serves the client to its end. `first` is what came in one segment with the handshake.
    ///
    /// Not an `async fn`, which would hold `self` twice.
    pub(crate) fn run(mut self, first: Bytes) -> impl Future<Output = ()> + Send {
        self.decode(&first, clock::now());
        drop(first);
        async move {
            let open = self.serve().await;
            self.hub.closed(self.connection.session).await;
            if open.is_ok() {
                // Boxed: a connection spends its life in `serve`, which should not carry this along.
                let finish = Box::pin(tokio::time::timeout(CLOSE_MAX, self.finish()));
                // Whoever does not close in time is dropped, as is whoever vanished.
                drop(finish.await);
            }
        }
    }

    /// Reads and writes until a close frame waits to be written, or the connection is gone.
    async fn serve(&mut self) -> Result<(), Gone> {
        let connection = Arc::clone(&self.connection);
        loop {
            self.hand_on().await?;
            if connection.is_closing() {
                return Ok(());
            }
            let paused = connection.is_paused();
            self.held |= paused;
            let reading = !paused && self.items.is_empty();
            let writing = !connection.outbox().is_empty();
            let interest = match (reading, writing) {
                (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
                (true, false) => Some(Interest::READABLE),
                (false, true) => Some(Interest::WRITABLE),
                (false, false) => None,
            };
            let ready = tokio::select! {
                biased;
                // The hub has paused, resumed, closed, or could not write all.
                () = connection.wake.notified() => continue,
                // The socket can be read or written.
                ready = ready(&connection.stream, interest) => ready?,
            };
            if writing && ready.is_writable() {
                connection.write()?;
            }
            if reading && ready.is_readable() {
                self.read(clock::now())?;
            }
        }
    }

    /// Reads once and decodes. Nothing there is no error.
    fn read(&mut self, now: Millis) -> Result<(), Gone> {
        BUFFER.with_borrow_mut(|buffer| match self.connection.stream.try_read(buffer) {
            Ok(0) => Err(Gone),
            Ok(count) => {
                self.connection.heard_at.store(now.0, Ordering::Relaxed);
                self.decode(&buffer[..count], now);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(_) => Err(Gone),
        })
    }

    fn decode(&mut self, mut bytes: &[u8], now: Millis) {
        if std::mem::take(&mut self.held) {
            self.decoder.forgive(now);
        }
        loop {
            match self.decoder.next(&mut bytes, now) {
                Ok(Some(event)) => self.items.push_back(Item::Event(event)),
                Ok(None) => break,
                Err(violation) => self.items.push_back(Item::Violation(violation)),
            }
        }
        let until = self.decoder.deadline().map_or(0, |deadline| deadline.0);
        self.connection.unfinished_until.store(until, Ordering::Relaxed);
    }

    /// Hands on what was read, until the hub pauses this connection or it is to be closed.
    async fn hand_on(&mut self) -> Result<(), Gone> {
        while !self.connection.is_paused() && !self.connection.is_closing() {
            let Some(item) = self.items.pop_front() else {
                self.items = VecDeque::new();
                break;
            };
            let now = clock::now();
            match item {
                Item::Event(Event::Text(text)) => self.message(text, decode_text, now).await?,
                Item::Event(Event::Binary(bytes)) => self.message(bytes, decode_binary, now).await?,
                Item::Event(Event::Ping(payload)) => {
                    match self.connection.push(websocket::pong(&payload), None, now) {
                        Pushed::First => self.connection.write()?,
                        Pushed::Slow(why) => {
                            let session = self.connection.session;
                            tracing::warn!(%session, why = why.as_str(), "slow consumer: closed with 4008");
                            self.metrics.slow_consumer_closed();
                            self.connection.close_slow(now);
                        }
                        // What a pong displaced the next sweep or publication tells.
                        Pushed::Queued | Pushed::Shed | Pushed::Closing => {}
                    }
                }
                Item::Event(Event::Pong) => {}
                Item::Event(Event::Close { code, .. }) => {
                    // C9: the client's own code, or none.
                    self.connection.outbox().close(websocket::close(code, ""), now);
                }
                Item::Violation(violation) => {
                    tracing::debug!(session = %self.connection.session, %violation, "closing");
                    self.connection.close(violation.code, violation.reason, now);
                }
            }
        }
        Ok(())
    }

    async fn message(&self, bytes: Bytes, decode: Decode, now: Millis) -> Result<(), Gone> {
        self.metrics.frame_in();
        self.connection.received_messages.fetch_add(1, Ordering::Relaxed);
        // Waiting here is what keeps a flood in its own socket.
        let place = self.hub.place().await.map_err(|_| Gone)?;
        match decode(self.connection.serializer, bytes) {
            Ok(message) => place.message(self.connection.session, message),
            Err(error) => {
                self.metrics.undecodable();
                tracing::debug!(session = %self.connection.session, %error, "closing");
                self.connection.close(1011, "", now);
            }
        }
        Ok(())
    }

    /// Writes what waits, the close frame last, and reads on until the client has closed too. Closing a socket that
    /// still holds unread bytes would reset it, and the client might never see why.
    async fn finish(&mut self) -> Result<(), Gone> {
        let connection = Arc::clone(&self.connection);
        let mut ended = false;
        loop {
            connection.write()?;
            let written = connection.outbox().is_empty();
            if written && self.decoder.is_over() && !ended {
                // Both sides have said what they had to say; RFC 6455 wants the server to hang up first.
                ended = true;
                rustix::net::shutdown(&connection.stream, rustix::net::Shutdown::Write).map_err(|_| Gone)?;
            }
            let interest = if written {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            ready(&connection.stream, Some(interest)).await?;
            self.read(clock::now())?;
            self.items.clear();
        }
    }
}

async fn ready(stream: &TcpStream, interest: Option<Interest>) -> Result<Ready, Gone> {
    match interest {
        Some(interest) => stream.ready(interest).await.map_err(|_| Gone),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringcast_gateway_core::outbox::FRAMES_MAX;

    #[tokio::test]
    async fn c12_a_burst_beyond_the_bound_does_not_close_a_client_that_reads() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _client) = (stream.unwrap(), accepted.unwrap().0);
        stream.writable().await.unwrap();
        let connection = Connection::new(SessionId(1), Serializer::V2, stream);
        // Few enough bytes for the socket's buffers, which hold them as a client that reads would.
        for _ in 0..4 * FRAMES_MAX {
            let pushed = connection.push("x".into(), None, Millis(1));
            assert!(matches!(pushed, Pushed::First | Pushed::Queued), "{pushed:?}");
        }
        connection.flush();
        assert!(connection.outbox().is_empty() && !connection.is_closing());
    }

    #[tokio::test]
    async fn an_idle_connection_costs_little_memory() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let connection = Arc::new(Connection::new(SessionId(1), Serializer::V2, stream));
        let (hub, _inbox) = crate::hub::mailbox();
        let metrics = Metrics::register(&metrics::NoopRecorder, &"gw-1".parse().unwrap());
        let shared = size_of_val(&*connection);
        let task = size_of_val(&Task::new(connection, hub, metrics, 1).run(Bytes::new()));
        assert!(shared + task <= 1536, "{shared} shared and {task} of its task");
    }
}

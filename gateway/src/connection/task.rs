//! The task of one connection: reads what the client sends and hands it on, writes what the hub could not.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ringcast_gateway_core::outbox::Pushed;
use ringcast_gateway_core::phoenix::{DecodeError, Message, Serializer, decode_binary, decode_text};
use ringcast_gateway_core::websocket::{self, Decoder, Event, Violation};
use ringcast_proto::Millis;
use ringcast_ring_store::clock;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

use super::{Connection, Gone};
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

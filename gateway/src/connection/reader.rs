//! The reading side of one connection: what its client sends is decoded and handed to the hub.
//!
//! *Invariant:* nothing is read while the hub wants no more of this client, so a flood stays in its own socket; what was
//! read by then is kept as bytes, less than one read.
//! Leaves out: when there is something to read (`poller`).

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringcast_gateway_core::outbox::Pushed;
use ringcast_gateway_core::phoenix::{DecodeError, Message, Serializer, decode_binary, decode_text};
use ringcast_gateway_core::websocket::{self, Decoder, Event};
use ringcast_proto::{Millis, SessionId};
use ringcast_ring_store::clock;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Connection, Gone};
use crate::hub::Hub;
use crate::metrics::Metrics;

/// Longest time for the closing handshake. With the idle timeout of 60 s and the sweep of 1 s it makes the 65 s within
/// which a half-open socket is free again.
const CLOSE_MAX: Duration = Duration::from_secs(3);

/// What a connection holds as long as its socket is there.
#[derive(Debug)]
#[expect(dead_code, reason = "held, and not looked at")]
pub(crate) struct Holds {
    /// Its place among the WebSockets.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) descriptor: Arc<OwnedSemaphorePermit>,
    /// The gateway's end waits for it.
    pub(crate) client: TaskTrackerToken,
}

/// How far one connection is read.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: Arc<Connection>,
    decoder: Decoder,
    /// Read and not decoded.
    rest: Vec<u8>,
    stage: Stage,
    /// There may be something to read.
    readable: bool,
    /// The client sends no more: what is there is the last, and then comes the end.
    ended: bool,
    /// It was the gateway who did not read.
    held: bool,
    /// It waits for another turn.
    queued: bool,
    _holds: Holds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// A close frame waits to be written or is, and the client's own is waited for until then.
    Closing {
        until: Millis,
        shut: bool,
    },
}

/// What is to be done next about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing before something happens to it.
    Wait,
    /// There is more to read: it gets another turn when the others had theirs.
    Again,
    /// To be forgotten.
    Forget,
}

/// What happened to a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Happened {
    /// Its socket has something to read.
    pub(crate) readable: bool,
    /// Its socket takes something again.
    pub(crate) writable: bool,
    /// Its client sends no more, or the socket failed.
    pub(crate) ended: bool,
    /// The hub has something for it: it is to be read again, or closed.
    pub(crate) woken: bool,
}

impl Happened {
    /// Nothing, but that the hub has something for it.
    pub(crate) const WOKEN: Happened = Happened {
        readable: false,
        writable: false,
        ended: false,
        woken: true,
    };
}

/// Where what is read goes.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) hub: Hub,
    pub(crate) metrics: Arc<Metrics>,
}

type Decode = fn(Serializer, Bytes) -> Result<Message, DecodeError>;

impl Reader {
    /// `first` is what came in one segment with the handshake.
    pub(crate) fn new(
        connection: Arc<Connection>,
        message_bytes_max: usize,
        first: Bytes,
        holds: Holds,
    ) -> Reader {
        Reader {
            connection,
            decoder: Decoder::new(message_bytes_max),
            rest: first.into(),
            stage: Stage::Open,
            readable: false,
            ended: false,
            held: false,
            queued: false,
            _holds: holds,
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.connection.session
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Until when the closing handshake may take.
    pub(crate) fn closes_until(&self) -> Option<Millis> {
        match self.stage {
            Stage::Open => None,
            Stage::Closing { until, .. } => Some(until),
        }
    }

    /// Notes that it waits for another turn. `false`: it did already.
    pub(crate) fn queue(&mut self) -> bool {
        !std::mem::replace(&mut self.queued, true)
    }

    /// Its other turn has come.
    pub(crate) fn dequeue(&mut self) {
        self.queued = false;
    }

    /// Reads once where there may be something to read, and writes what the hub could not.
    pub(crate) async fn turn(&mut self, happened: Happened, desk: &Desk, buffer: &mut [u8]) -> Next {
        self.readable |= happened.readable || happened.ended;
        self.ended |= happened.ended;
        if happened.woken {
            self.connection.is_awake();
        }
        let was_open = self.stage == Stage::Open;
        let next = match self.act(happened, desk, buffer).await {
            Ok(()) if self.reads() => Next::Again,
            Ok(()) => Next::Wait,
            Err(Gone) => Next::Forget,
        };
        if was_open && (next == Next::Forget || self.stage != Stage::Open) {
            desk.hub.closed(self.connection.session).await;
        }
        next
    }

    async fn act(&mut self, happened: Happened, desk: &Desk, buffer: &mut [u8]) -> Result<(), Gone> {
        if happened.woken || happened.writable && self.connection.is_blocked() {
            self.connection.write()?;
        }
        let closing = match &mut self.stage {
            Stage::Open => {
                let rest = std::mem::take(&mut self.rest);
                self.hand_on(&rest, desk).await?;
                if self.reads() {
                    let count = self.read(buffer)?;
                    self.hand_on(&buffer[..count], desk).await?;
                }
                if !self.connection.is_closing() {
                    return Ok(());
                }
                let until = clock::now() + CLOSE_MAX;
                self.stage = Stage::Closing { until, shut: false };
                true
            }
            Stage::Closing { .. } => false,
        };
        self.close(closing, buffer)
    }

    /// Writes what waits, the close frame last, and reads on until the client has closed too. Closing a socket that
    /// still holds unread bytes would reset it, and the client might never see why.
    fn close(&mut self, begins: bool, buffer: &mut [u8]) -> Result<(), Gone> {
        if begins {
            let rest = std::mem::take(&mut self.rest);
            self.drain(&rest);
        }
        if self.reads() {
            let count = self.read(buffer)?;
            self.drain(&buffer[..count]);
        }
        self.connection.write()?;
        if let Stage::Closing { shut, .. } = &mut self.stage
            && !*shut
            && self.decoder.is_over()
            && self.connection.outbox().is_empty()
        {
            // Both sides have said what they had to say; RFC 6455 (7.1.1) wants the server to hang up first.
            *shut = true;
            rustix::net::shutdown(&self.connection.stream, rustix::net::Shutdown::Write).map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Whether it is to be read now.
    fn reads(&self) -> bool {
        let wanted = match self.stage {
            Stage::Open => self.rest.is_empty() && !self.connection.is_paused(),
            Stage::Closing { .. } => true,
        };
        self.readable && wanted
    }

    /// Reads once; nothing there is no error.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Gone> {
        match (&self.connection.stream).read(buffer) {
            Ok(0) => Err(Gone),
            Ok(count) => {
                // Fewer than asked for were all there are, and of more the poller is told; unless the end comes next.
                self.readable = count == buffer.len() || self.ended;
                self.connection.heard_at.store(clock::now().0, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(_) => Err(Gone),
        }
    }

    /// Decodes and hands on, until the hub pauses this connection or it is to be closed.
    async fn hand_on(&mut self, mut bytes: &[u8], desk: &Desk) -> Result<(), Gone> {
        let (now, mut room) = (clock::now(), BytesMut::new());
        while !self.connection.is_closing() {
            if self.connection.is_paused() {
                self.held = true;
                break;
            }
            if bytes.is_empty() {
                break;
            }
            if std::mem::take(&mut self.held) {
                self.decoder.forgive(now);
            }
            match self.decoder.next(&mut bytes, &mut room, now) {
                Ok(Some(event)) => self.event(event, desk, now).await?,
                Ok(None) => break,
                Err(violation) => {
                    tracing::debug!(session = %self.connection.session, %violation, "closing");
                    self.connection.close(violation.code, violation.reason, now);
                }
            }
        }
        self.rest = bytes.to_vec();
        let until = self.decoder.deadline().map_or(0, |deadline| deadline.0);
        self.connection.unfinished_until.store(until, Ordering::Relaxed);
        Ok(())
    }

    async fn event(&self, event: Event, desk: &Desk, now: Millis) -> Result<(), Gone> {
        match event {
            Event::Text(text) => self.message(text, decode_text, desk, now).await,
            Event::Binary(bytes) => self.message(bytes, decode_binary, desk, now).await,
            Event::Ping(payload) => self.ping(&payload, desk, now),
            Event::Pong => Ok(()),
            Event::Close { code, .. } => {
                // C9: the client's own code, or none.
                self.connection.end(websocket::close(code, ""), now);
                Ok(())
            }
        }
    }

    fn ping(&self, payload: &[u8], desk: &Desk, now: Millis) -> Result<(), Gone> {
        match self.connection.push(websocket::pong(payload), None, now) {
            Pushed::First => self.connection.write(),
            Pushed::Slow(why) => {
                let session = self.connection.session;
                tracing::warn!(%session, why = why.as_str(), "slow consumer: closed with 4008");
                desk.metrics.slow_consumer_closed();
                self.connection.close_slow(now);
                Ok(())
            }
            // What a pong displaced the next sweep or publication tells.
            Pushed::Queued | Pushed::Shed | Pushed::Closing => Ok(()),
        }
    }

    async fn message(&self, bytes: Bytes, decode: Decode, desk: &Desk, now: Millis) -> Result<(), Gone> {
        desk.metrics.frame_in();
        self.connection.received_messages.fetch_add(1, Ordering::Relaxed);
        // Waiting here is what keeps a flood in its sockets.
        let place = desk.hub.place().await.map_err(|_| Gone)?;
        match decode(self.connection.serializer, bytes) {
            Ok(message) => place.message(self.connection.session, message),
            Err(error) => {
                desk.metrics.undecodable();
                tracing::debug!(session = %self.connection.session, %error, "closing");
                self.connection.close(1011, "", now);
            }
        }
        Ok(())
    }

    /// Decodes for the client's close frame alone.
    fn drain(&mut self, mut bytes: &[u8]) {
        let (now, mut room) = (clock::now(), BytesMut::new());
        while !self.decoder.is_over() && matches!(self.decoder.next(&mut bytes, &mut room, now), Ok(Some(_)))
        {
        }
    }
}

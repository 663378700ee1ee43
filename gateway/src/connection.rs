//! One client's socket: what it sends goes to the hub as messages, what the hub writes goes out.
//!
//! An idle connection holds its socket, a decoder and an empty outbox; bytes are read into the poller's buffer.
//! *Invariant:* a connection that is not read (paused, or the hub is busy) is not waited for by anyone else; one that
//! is closed is gone within 3 s, whatever its client does.
//! Leaves out: timers. One sweep over all connections finds the silent and the slow ([`Connection::look`]); and what a slow
//! one loses (`ringcast_gateway_core::outbox`).

mod reader;

use std::cell::RefCell;
use std::io::{self, IoSlice, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ringcast_gateway_core::outbox::{Flushed, Lost, Outbox, Pushed, Stats, Ticked, Why};
use ringcast_gateway_core::phoenix::Serializer;
use ringcast_gateway_core::place::Place;
use ringcast_gateway_core::websocket;
use ringcast_proto::{Millis, SessionId};
use ringcast_ring_store::clock;

use crate::poller::Poller;
pub(crate) use reader::{Desk, Happened, Holds, Next, Reader};

/// Frames of so many bytes altogether are copied into one piece.
const PIECE_BYTES: usize = 16 * 1024;

thread_local! {
    /// What is written at once; between two writes it is nothing.
    static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the hub and the connection's poller share.
#[derive(Debug)]
pub(crate) struct Connection {
    session: SessionId,
    serializer: Serializer,
    /// It never blocks.
    stream: TcpStream,
    outbox: Mutex<Outbox>,
    /// The socket took no more. Changes only while the outbox is locked.
    blocked: AtomicBool,
    /// The outbox has its last frame. Changes only while the outbox is locked.
    closing: AtomicBool,
    poller: Poller,
    /// The poller is told to look here again, and has not yet.
    woken: AtomicBool,
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
    /// `stream` is one that never blocks.
    pub(crate) fn new(
        session: SessionId,
        serializer: Serializer,
        stream: TcpStream,
        poller: Poller,
    ) -> Connection {
        let now = clock::now();
        Connection {
            session,
            serializer,
            stream,
            outbox: Mutex::default(),
            blocked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            poller,
            woken: AtomicBool::new(false),
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

    /// What the poller waits for.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
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
            // fails is found by the reader.
            drop(self.flush_unless_blocked(&mut outbox));
        }
        outbox.push(frame, place, now)
    }

    /// Writes what the socket takes now; what it does not take, the poller writes when it can.
    pub(crate) fn flush(&self) {
        if self.flush_unless_blocked(&mut self.outbox()).is_err() {
            // The poller ends it.
            self.wake();
        }
    }

    /// Puts a close frame behind what waits; the poller does the rest.
    pub(crate) fn close(&self, code: u16, reason: &str, now: Millis) {
        self.end(websocket::close(Some(code), reason), now);
        self.wake();
    }

    /// Closes a client that does not read: what it did not read so far is dropped.
    pub(crate) fn close_slow(&self, now: Millis) {
        self.outbox().drop_waiting();
        self.close(4008, "slow consumer", now);
    }

    /// Reads no more until [`Connection::resume`].
    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::Release);
        self.wake();
    }

    /// Looks at what only the passing of time changes, and adds what waits here to `outbox_bytes`.
    pub(crate) fn look(&self, now: Millis, idle_timeout: Duration, outbox_bytes: &mut usize) -> Look {
        let mut outbox = self.outbox();
        if outbox.is_closing() {
            return Look::Fine;
        }
        *outbox_bytes += outbox.stats().bytes;
        match outbox.tick(now) {
            Ticked::Fine => {}
            Ticked::Shed => return Look::Shed,
            Ticked::Slow(why) => return Look::Slow(why),
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
        self.closing.load(Ordering::Acquire)
    }

    fn is_blocked(&self) -> bool {
        let _outbox = self.outbox();
        // Whoever finds the socket full says so before the lock is free: the poller, told that the socket takes more,
        // comes before that write or after.
        self.blocked.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.poller.wake(self.session);
        }
    }

    /// The poller looks now: whatever is wanted from now on wakes it again.
    fn is_awake(&self) {
        self.woken.store(false, Ordering::Release);
    }

    /// Puts the last frame.
    fn end(&self, frame: Bytes, now: Millis) {
        let mut outbox = self.outbox();
        outbox.close(frame, now);
        self.closing.store(true, Ordering::Release);
    }

    fn write(&self) -> Result<(), Gone> {
        match self.flush_from(&mut self.outbox()) {
            Ok(()) => Ok(()),
            Err(_) => Err(Gone),
        }
    }

    /// The poller is told when a socket that was full takes something again, and knows better than to ask it every time.
    fn flush_unless_blocked(&self, outbox: &mut Outbox) -> io::Result<()> {
        match self.blocked.load(Ordering::Relaxed) {
            true => Ok(()),
            false => self.flush_from(outbox),
        }
    }

    fn flush_from(&self, outbox: &mut Outbox) -> io::Result<()> {
        let flushed = outbox.flush(|slices| match slices {
            [slice] => (&self.stream).write(slice),
            slices => write_in_one(&self.stream, slices),
        })?;
        self.blocked.store(flushed == Flushed::Blocked, Ordering::Relaxed);
        Ok(())
    }
}

/// Writes as much as the socket takes. The system takes a few small frames in one piece, the copying included, for less
/// than it takes to go through a list of them.
fn write_in_one(mut stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
    if bytes > PIECE_BYTES {
        return stream.write_vectored(slices);
    }
    PIECE.with_borrow_mut(|piece| {
        piece.clear();
        for slice in slices {
            piece.extend_from_slice(slice);
        }
        stream.write(piece)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use ringcast_gateway_core::outbox::FRAMES_MAX;
    use tokio::sync::Semaphore;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::metrics::Metrics;
    use crate::poller;

    /// A connection, its client, and what its reader needs.
    pub(crate) fn connected() -> (Arc<Connection>, TcpStream, Desk) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let metrics = Metrics::register(&metrics::NoopRecorder, &"gw-1".parse().unwrap());
        let (hub, _inbox) = crate::hub::mailbox();
        let desk = Desk { hub, metrics };
        let (pollers, _polling) = poller::pollers(1, &desk).unwrap();
        let session = SessionId(1);
        let connection = Connection::new(session, Serializer::V2, stream, pollers.of(session).clone());
        (Arc::new(connection), client, desk)
    }

    #[tokio::test]
    async fn c12_a_burst_beyond_the_bound_does_not_close_a_client_that_reads() {
        let (connection, _client, _) = connected();
        // Few enough bytes for the socket's buffers, which hold them as a client that reads would.
        for _ in 0..4 * FRAMES_MAX {
            let pushed = connection.push("x".into(), None, Millis(1));
            assert!(matches!(pushed, Pushed::First | Pushed::Queued), "{pushed:?}");
        }
        connection.flush();
        assert!(connection.outbox().is_empty() && !connection.is_closing());
    }

    #[tokio::test]
    async fn frames_leave_in_order_whether_they_are_few_or_too_many_for_one_piece() {
        let (connection, client, _) = connected();
        for (frame_bytes, frames) in [(100, 5), (PIECE_BYTES / 2, 3)] {
            for number in 0..frames {
                let frame = vec![b'a' + number; frame_bytes];
                connection.push(frame.into(), None, Millis(1));
            }
            connection.flush();
            assert!(connection.outbox().is_empty());
            let mut received = vec![0; frame_bytes * usize::from(frames)];
            (&client).read_exact(&mut received).unwrap();
            let expected = (0..frames).flat_map(|number| vec![b'a' + number; frame_bytes]);
            assert!(received.into_iter().eq(expected), "frames of {frame_bytes} bytes");
        }
    }

    #[tokio::test]
    async fn an_idle_connection_costs_little_memory() {
        let (connection, _client, _) = connected();
        let permit = || Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let holds = Holds {
            place: permit(),
            descriptor: Arc::new(permit()),
            client: TaskTracker::new().token(),
        };
        let shared = size_of_val(&*connection);
        let reader = size_of_val(&Reader::new(connection, 1, Bytes::new(), holds));
        assert!(
            shared + reader <= 512,
            "{shared} shared and {reader} of its reader"
        );
    }
}

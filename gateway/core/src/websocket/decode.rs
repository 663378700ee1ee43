//! The bytes of one client, made into messages.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringcast_proto::Millis;

use super::frame::Opcode;
use super::header::{Header, Partial};
use super::mask::unmask;

/// Most frames a message may come in.
pub const FRAGMENTS_MAX: u8 = 64;

/// Longest time a message may take from its first byte to its last.
pub const UNFINISHED_MAX: Duration = Duration::from_secs(10);

/// Pings and pongs a client may send, in the long run.
pub const PINGS_PER_SECOND: u64 = 10;

/// Pings and pongs it may send at once.
pub const PINGS_BURST: u64 = 50;

const PING_COSTS_MS: u64 = 1000 / PINGS_PER_SECOND;
const PING_CREDIT_MAX_MS: u64 = PING_COSTS_MS * PINGS_BURST;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message of UTF-8 text.
    Text(Bytes),
    /// A message of bytes.
    Binary(Bytes),
    /// To be answered by a pong of the same bytes.
    Ping(Bytes),
    /// Nothing to do but to know that the client lives.
    Pong,
    /// The client closes; nothing after it counts.
    Close {
        /// Its code, if it gave one: to be echoed.
        code: Option<u16>,
        /// Its reason.
        reason: Bytes,
    },
}

/// What a client must not do. The connection is closed with `code`, and what comes after is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({code})")]
pub struct Violation {
    /// The close code: 1002, 1007, 1008 or 1009.
    pub code: u16,
    /// What it was.
    pub reason: &'static str,
}

impl Violation {
    pub(super) fn protocol(reason: &'static str) -> Violation {
        Violation { code: 1002, reason }
    }

    fn utf8(reason: &'static str) -> Violation {
        Violation { code: 1007, reason }
    }

    fn policy(reason: &'static str) -> Violation {
        Violation { code: 1008, reason }
    }

    fn too_big() -> Violation {
        Violation {
            code: 1009,
            reason: "message too big",
        }
    }
}

/// Turns the bytes of one client into events.
///
/// *Invariant:* after a [`Violation`] or a close it takes everything and gives nothing.
#[derive(Debug)]
pub struct Decoder {
    message_bytes_max: usize,
    header: Partial,
    frame: Option<Frame>,
    /// Whether the message under way is text; `None` between messages.
    text: Option<bool>,
    message: Vec<u8>,
    /// So much of `message` is known to be UTF-8.
    utf8_len: usize,
    fragments: u8,
    control: Vec<u8>,
    unfinished_since: Option<Millis>,
    ping_credit_ms: u64,
    pinged_at: Millis,
    over: bool,
}

/// The frame whose payload is coming.
#[derive(Debug, Clone, Copy)]
struct Frame {
    header: Header,
    taken: usize,
}

impl Decoder {
    /// A decoder that takes messages of up to `message_bytes_max` bytes, however fragmented.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Decoder {
        Decoder {
            message_bytes_max,
            header: Partial::default(),
            frame: None,
            text: None,
            message: Vec::new(),
            utf8_len: 0,
            fragments: 0,
            control: Vec::new(),
            unfinished_since: None,
            ping_credit_ms: PING_CREDIT_MAX_MS,
            pinged_at: Millis(0),
            over: false,
        }
    }

    /// Takes bytes off the front of `bytes` up to the next event. `None`: all are taken, more are needed. Messages that come
    /// in one piece are put into `room`, where those of one client and one read share an allocation.
    ///
    /// # Errors
    /// [`Violation`], once.
    pub fn next(
        &mut self,
        bytes: &mut &[u8],
        room: &mut BytesMut,
        now: Millis,
    ) -> Result<Option<Event>, Violation> {
        if self.over {
            *bytes = &[];
            return Ok(None);
        }
        let result = self.advance(bytes, room, now);
        if let Err(_) | Ok(Some(Event::Close { .. })) = &result {
            self.over = true;
            self.unfinished_since = None;
            (self.message, self.control) = (Vec::new(), Vec::new());
        }
        result
    }

    /// Whether the client broke the rules or has closed: nothing more will come of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// When an unfinished message is too late.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.unfinished_since.map(|since| since + UNFINISHED_MAX)
    }

    /// To be asked when [`Decoder::deadline`] has passed.
    ///
    /// # Errors
    /// [`Violation`] if a message took too long.
    pub fn check(&mut self, now: Millis) -> Result<(), Violation> {
        match self.deadline() {
            Some(deadline) if deadline <= now => {
                self.over = true;
                self.unfinished_since = None;
                Err(Violation::policy("message not finished in time"))
            }
            _ => Ok(()),
        }
    }

    /// Starts the time of an unfinished message anew: it was the server who did not read.
    pub fn forgive(&mut self, now: Millis) {
        if self.unfinished_since.is_some() {
            self.unfinished_since = Some(now);
        }
    }

    fn advance(
        &mut self,
        bytes: &mut &[u8],
        room: &mut BytesMut,
        now: Millis,
    ) -> Result<Option<Event>, Violation> {
        while !bytes.is_empty() {
            if self.unfinished_since.is_none() {
                self.unfinished_since = Some(now);
            }
            if self.frame.is_none() {
                let Some(header) = self.header.take(bytes)? else {
                    return Ok(None);
                };
                self.begin(header)?;
                self.frame = Some(Frame { header, taken: 0 });
            }
            if let Some(message) = self.whole_message(bytes, room)? {
                return Ok(Some(message));
            }
            if let Some(event) = self.payload(bytes, now)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Judges a frame by its header, before any of its payload is kept.
    fn begin(&mut self, header: Header) -> Result<(), Violation> {
        if header.opcode.is_control() {
            return Ok(());
        }
        match (header.opcode, self.text) {
            (Opcode::Continuation, None) => return Err(Violation::protocol("continuation of nothing")),
            (Opcode::Continuation, Some(_)) => {}
            (_, Some(_)) => return Err(Violation::protocol("new message within a fragmented one")),
            (opcode, None) => self.text = Some(opcode == Opcode::Text),
        }
        self.fragments += 1;
        if self.fragments > FRAGMENTS_MAX {
            return Err(Violation::policy("too many fragments"));
        }
        let room = (self.message_bytes_max - self.message.len()) as u64;
        if header.len > room {
            Err(Violation::too_big())
        } else {
            Ok(())
        }
    }

    /// Takes a message of one frame that is all there, as most are.
    fn whole_message(&mut self, bytes: &mut &[u8], room: &mut BytesMut) -> Result<Option<Event>, Violation> {
        let Some(Frame { header, taken: 0 }) = self.frame else {
            return Ok(None);
        };
        // `begin` has bounded the length far below what a usize can hold.
        let len = header.len as usize;
        let is_whole = header.fin && self.fragments == 1 && !header.opcode.is_control() && len <= bytes.len();
        if !is_whole {
            return Ok(None);
        }
        let (payload, rest) = bytes.split_at(len);
        if room.capacity() < len {
            // What follows are most often more such frames.
            *room = BytesMut::with_capacity(bytes.len());
        }
        *bytes = rest;
        room.extend_from_slice(payload);
        unmask(&mut room[..], header.mask, 0);
        let message = room.split().freeze();
        self.frame = None;
        (self.fragments, self.unfinished_since) = (0, None);
        if self.text.take() == Some(true) {
            match std::str::from_utf8(&message) {
                Ok(_) => Ok(Some(Event::Text(message))),
                Err(_) => Err(Violation::utf8("text that is not UTF-8")),
            }
        } else {
            Ok(Some(Event::Binary(message)))
        }
    }

    /// Takes payload of the frame under way, and ends it if that was all.
    fn payload(&mut self, bytes: &mut &[u8], now: Millis) -> Result<Option<Event>, Violation> {
        let Some(Frame { header, taken }) = &mut self.frame else {
            return Ok(None);
        };
        let header = *header;
        // `begin` and the header's own checks bound the length far below what a usize can hold.
        let missing = header.len as usize - *taken;
        let (piece, rest) = bytes.split_at(missing.min(bytes.len()));
        *bytes = rest;
        let into = if header.opcode.is_control() {
            &mut self.control
        } else {
            &mut self.message
        };
        let start = into.len();
        if piece.len() == missing && header.fin {
            into.reserve_exact(piece.len());
        }
        into.extend_from_slice(piece);
        unmask(&mut into[start..], header.mask, *taken);
        *taken += piece.len();
        let whole = piece.len() == missing;
        if !header.opcode.is_control() && self.text == Some(true) {
            self.check_utf8(whole && header.fin)?;
        }
        if !whole {
            return Ok(None);
        }
        self.frame = None;
        self.end(header, now)
    }

    fn end(&mut self, header: Header, now: Millis) -> Result<Option<Event>, Violation> {
        if header.opcode.is_control() {
            let payload = Bytes::from(std::mem::take(&mut self.control));
            if self.text.is_none() {
                self.unfinished_since = None;
            }
            return match header.opcode {
                Opcode::Ping => self.count_ping(now).map(|()| Some(Event::Ping(payload))),
                Opcode::Pong => self.count_ping(now).map(|()| Some(Event::Pong)),
                _ => close_event(payload).map(Some),
            };
        }
        if !header.fin {
            return Ok(None);
        }
        let message = Bytes::from(std::mem::take(&mut self.message));
        (self.utf8_len, self.fragments, self.unfinished_since) = (0, 0, None);
        Ok(match self.text.take() {
            Some(true) => Some(Event::Text(message)),
            _ => Some(Event::Binary(message)),
        })
    }

    /// Checks the text that is new. A character may be cut in two between pieces, but not at the end.
    fn check_utf8(&mut self, at_end: bool) -> Result<(), Violation> {
        match std::str::from_utf8(&self.message[self.utf8_len..]) {
            Ok(text) => self.utf8_len += text.len(),
            Err(error) if error.error_len().is_none() && !at_end => self.utf8_len += error.valid_up_to(),
            Err(_) => return Err(Violation::utf8("text that is not UTF-8")),
        }
        Ok(())
    }

    fn count_ping(&mut self, now: Millis) -> Result<(), Violation> {
        let elapsed = now.0.saturating_sub(self.pinged_at.0);
        self.pinged_at = now;
        let credit = self
            .ping_credit_ms
            .saturating_add(elapsed)
            .min(PING_CREDIT_MAX_MS);
        self.ping_credit_ms = credit
            .checked_sub(PING_COSTS_MS)
            .ok_or(Violation::policy("too many pings"))?;
        Ok(())
    }
}

fn close_event(payload: Bytes) -> Result<Event, Violation> {
    if payload.is_empty() {
        return Ok(Event::Close {
            code: None,
            reason: payload,
        });
    }
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Err(Violation::protocol("close of one byte"));
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::protocol("close code that is none"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation::utf8("close reason that is not UTF-8"));
    }
    Ok(Event::Close {
        code: Some(code),
        reason: payload.slice(2..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_decoder_holds_no_buffer() {
        let mut decoder = Decoder::new(100);
        let two_fragments_around_a_ping = b"\x01\x82\0\0\0\0hi\x89\x81\0\0\0\0p\x80\x81\0\0\0\0!";
        let mut events = Vec::new();
        for byte in two_fragments_around_a_ping.chunks(1) {
            events.extend(
                decoder
                    .next(&mut &byte[..], &mut BytesMut::new(), Millis(1))
                    .unwrap(),
            );
        }
        assert_eq!(events, [Event::Ping("p".into()), Event::Text("hi!".into())]);
        assert_eq!((decoder.message.capacity(), decoder.control.capacity()), (0, 0));
        assert!(
            size_of::<Decoder>() <= 192,
            "{} bytes for every connection",
            size_of::<Decoder>()
        );
    }
}

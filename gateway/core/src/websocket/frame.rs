//! Frames of the server: never masked, never fragmented.

use bytes::{BufMut, Bytes};

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// The next piece of a fragmented message.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The sender closes.
    Close,
    /// To be answered by a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// Reads the low four bits of a frame's first byte. `None` for the reserved ones.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    /// Whether it may stand between the fragments of a message, and must itself be whole and short.
    #[must_use]
    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }
}

/// Longest payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// How long the header of a frame of `len` bytes is.
#[must_use]
pub fn header_len(len: usize) -> usize {
    match len {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// Writes the header of a whole frame of `len` bytes.
pub fn write_header(out: &mut impl BufMut, opcode: Opcode, len: usize) {
    let first = 0x80 | opcode.bits();
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => {
            out.put_slice(&[first, short]);
        }
        (_, Ok(medium)) => {
            out.put_slice(&[first, 126]);
            out.put_slice(&medium.to_be_bytes());
        }
        _ => {
            out.put_slice(&[first, 127]);
            // A usize has at most 64 bits wherever Rust runs.
            out.put_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// A close frame with this code, or without any where the client's had none.
#[must_use]
pub fn close(code: Option<u16>, reason: &str) -> Bytes {
    let mut body = Vec::with_capacity(CONTROL_BYTES_MAX);
    if let Some(code) = code {
        body.extend(code.to_be_bytes());
        let room = CONTROL_BYTES_MAX - body.len();
        body.extend(&reason.as_bytes()[..reason.floor_char_boundary(room)]);
    }
    control(Opcode::Close, &body)
}

/// The answer to a ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    control(Opcode::Pong, &payload[..payload.len().min(CONTROL_BYTES_MAX)])
}

fn control(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(header_len(payload.len()) + payload.len());
    write_header(&mut out, opcode, payload.len());
    out.extend_from_slice(payload);
    out.into()
}

//! The frames of RFC 6455, as far as a client of Ringcast meets them.
//!
//! *Invariant:* however the bytes of a server are cut, the same frames come out; a server that breaks the protocol is an
//! error and never a panic.
//! Leaves out: fragments and extensions, which a gateway never sends.

/// More than any gateway sends in one frame.
const FRAME_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A frame of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A message, text or binary.
    Message(&'a [u8]),
    /// To be answered with [`pong`].
    Ping(&'a [u8]),
    /// An answer to a ping that nobody sent; no matter.
    Pong,
    /// The server's last frame: its code (1005 when it gave none) and reason.
    Close(u16, &'a [u8]),
}

/// Why the bytes of a server make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the server sent a masked, fragmented or unknown frame (first bytes {0:#04x} {1:#04x})")]
    Protocol(u8, u8),
    #[error("the server announced a frame of {0} bytes, more than {FRAME_BYTES_MAX}")]
    TooLong(u64),
}

/// Bytes of a frame that is not complete yet. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    partial: Vec<u8>,
}

impl Reader {
    /// Takes what was read and calls `on_frame` with every frame that is now complete.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_frame: impl FnMut(Frame<'_>)) -> Result<(), Error> {
        if self.partial.is_empty() {
            let used = frames(bytes, &mut on_frame)?;
            if used < bytes.len() {
                self.partial = bytes[used..].to_vec();
            }
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let used = frames(&partial, &mut on_frame)?;
        if used < partial.len() {
            partial.drain(..used);
            self.partial = partial;
        }
        Ok(())
    }
}

/// Every complete frame, and how many bytes they had.
fn frames(bytes: &[u8], on_frame: &mut impl FnMut(Frame<'_>)) -> Result<usize, Error> {
    let mut used = 0;
    while let Some((frame, len)) = frame(&bytes[used..])? {
        on_frame(frame);
        used += len;
    }
    Ok(used)
}

/// The first frame and its length; `None` if it is not complete.
fn frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Error> {
    let &[first, second, ..] = bytes else {
        return Ok(None);
    };
    let (head, len) = match second {
        0..=125 => (2, u64::from(second)),
        126 => match bytes.get(2..4) {
            Some(len) => (4, u64::from(u16::from_be_bytes([len[0], len[1]]))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(len) => (10, u64::from_be_bytes(len.try_into().expect("eight bytes"))),
            None => return Ok(None),
        },
        _ => return Err(Error::Protocol(first, second)),
    };
    if len > FRAME_BYTES_MAX {
        return Err(Error::TooLong(len));
    }
    let end = head + usize::try_from(len).expect("far below 4 GiB");
    let Some(payload) = bytes.get(head..end) else {
        return Ok(None);
    };
    let frame = match first {
        0x81 | 0x82 => Frame::Message(payload),
        0x88 => match payload {
            [high, low, reason @ ..] => Frame::Close(u16::from_be_bytes([*high, *low]), reason),
            _ => Frame::Close(1005, &[]),
        },
        0x89 => Frame::Ping(payload),
        0x8a => Frame::Pong,
        _ => return Err(Error::Protocol(first, second)),
    };
    Ok(Some((frame, end)))
}

/// Appends a text frame under `mask`.
pub(crate) fn text(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    masked(0x81, payload, mask, out);
}

/// The answer to a ping.
pub(crate) fn pong(payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    masked(0x8a, payload, mask, out);
}

fn masked(first: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(len as u8),
            len @ 126..=0xffff => {
                out.push(126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    fn read(reader: &mut Reader, bytes: &[u8]) -> Result<Vec<String>, Error> {
        let mut seen = Vec::new();
        reader.feed(bytes, |frame| {
            seen.push(match frame {
                Frame::Message(bytes) => format!("message of {}", bytes.len()),
                Frame::Close(code, reason) => format!("close {code} {}", String::from_utf8_lossy(reason)),
                other => format!("{other:?}"),
            });
        })?;
        Ok(seen)
    }

    #[test]
    fn frames_come_out_the_same_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        for len in [0, 1, 125, 126, 200, 65_535, 65_536] {
            bytes.extend(server_frame(0x81, &vec![b'x'; len]));
        }
        bytes.extend(server_frame(0x89, b"?"));
        bytes.extend(server_frame(0x8a, b""));
        bytes.extend(server_frame(0x88, b"\x0f\xa8slow consumer"));
        let whole = read(&mut Reader::default(), &bytes).unwrap();
        assert_eq!(whole.len(), 10);
        assert_eq!(whole[9], "close 4008 slow consumer");
        for cut in [1, 2, 3, 7, 1000, 65_537] {
            let mut reader = Reader::default();
            let pieces: Vec<String> = bytes
                .chunks(cut)
                .flat_map(|piece| read(&mut reader, piece).unwrap())
                .collect();
            assert_eq!(pieces, whole, "cut every {cut}");
            assert_eq!(reader.partial.capacity(), 0);
        }
    }

    #[test]
    fn what_no_gateway_sends_is_an_error() {
        for bytes in [&[0x81, 0x85][..], &[0x01, 0], &[0x80, 0], &[0xc1, 0], &[0x83, 0]] {
            assert!(
                matches!(read(&mut Reader::default(), bytes), Err(Error::Protocol(..))),
                "{bytes:x?}"
            );
        }
        let endless = [0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            read(&mut Reader::default(), &endless),
            Err(Error::TooLong(u64::MAX))
        );
    }

    #[test]
    fn a_client_s_frame_is_masked_as_rfc_6455_shows() {
        let mut out = Vec::new();
        text(b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(
            out,
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
    }
}

//! Unmasked WebSocket frames out of a stream of bytes that may stop anywhere.

/// What has arrived and is not read yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    read: usize,
}

/// A frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A message.
    Text(Vec<u8>),
    /// The other side closes, with this code.
    Close(u16),
    /// What no server sends.
    Other(u8),
}

impl Frames {
    /// More has arrived.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Option<Incoming> {
        let rest = self.bytes.get(self.read..)?;
        let (&first, &second) = (rest.first()?, rest.get(1)?);
        let (from, len) = match second {
            126 => (
                4,
                usize::from(u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?)),
            ),
            127 => {
                let len = u64::from_be_bytes(rest.get(2..10)?.try_into().ok()?);
                (10, usize::try_from(len).ok()?)
            }
            len => (2, usize::from(len)),
        };
        let payload = rest.get(from..from + len)?;
        let frame = match first {
            0x81 => Incoming::Text(payload.to_vec()),
            0x88 => Incoming::Close(
                payload
                    .get(..2)
                    .map_or(1005, |code| u16::from_be_bytes([code[0], code[1]])),
            ),
            other => Incoming::Other(other),
        };
        self.read += from + len;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_wherever_the_stream_stops() {
        let mut stream = vec![0x81, 2, b'h', b'i'];
        stream.extend([0x81, 126, 0, 130]);
        stream.extend([b'x'; 130]);
        stream.extend([0x88, 2, 0x0f, 0xa8]);
        for step in 1..stream.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in stream.chunks(step) {
                frames.extend(piece);
                found.extend(std::iter::from_fn(|| frames.next()));
            }
            let expected = [
                Incoming::Text(b"hi".to_vec()),
                Incoming::Text(vec![b'x'; 130]),
                Incoming::Close(4008),
            ];
            assert_eq!(found, expected, "in steps of {step}");
        }
    }
}

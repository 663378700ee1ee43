//! The header of a client's frame, byte by byte.

use super::Violation;
use super::frame::{CONTROL_BYTES_MAX, Opcode};

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// What a header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
    pub(super) len: u64,
    pub(super) mask: [u8; 4],
}

/// A header that is still coming.
#[derive(Debug, Default)]
pub(super) struct Partial {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl Partial {
    /// Takes what belongs to the header off the front of `bytes`; the header once it is whole.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Header>, Violation> {
        loop {
            let have = usize::from(self.len);
            let need = if have < 2 { 2 } else { self.whole_len() };
            if have == need {
                let header = self.parse()?;
                self.len = 0;
                return Ok(Some(header));
            }
            let count = (need - have).min(bytes.len());
            if count == 0 {
                return Ok(None);
            }
            let (taken, rest) = bytes.split_at(count);
            self.bytes[have..have + count].copy_from_slice(taken);
            // At most HEADER_BYTES_MAX, which `need` never exceeds.
            self.len += count as u8;
            *bytes = rest;
            if self.len == 2 {
                self.check_first_two()?;
            }
        }
    }

    fn length_bits(&self) -> u8 {
        self.bytes[1] & 0x7f
    }

    fn whole_len(&self) -> usize {
        match self.length_bits() {
            126 => 2 + 2 + 4,
            127 => 2 + 8 + 4,
            _ => 2 + 4,
        }
    }

    fn check_first_two(&self) -> Result<(), Violation> {
        let [first, second, ..] = self.bytes;
        if first & 0x70 != 0 {
            return Err(Violation::protocol("reserved bit set"));
        }
        let opcode = Opcode::from_bits(first & 0x0f).ok_or(Violation::protocol("reserved opcode"))?;
        if second & 0x80 == 0 {
            return Err(Violation::protocol("frame not masked"));
        }
        if opcode.is_control() && first & 0x80 == 0 {
            return Err(Violation::protocol("control frame fragmented"));
        }
        if opcode.is_control() && usize::from(self.length_bits()) > CONTROL_BYTES_MAX {
            return Err(Violation::protocol("control frame over 125 bytes"));
        }
        Ok(())
    }

    fn parse(&self) -> Result<Header, Violation> {
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (len, least) = match self.length_bits() {
            126 => (number(&self.bytes[2..4]), 126),
            127 => (number(&self.bytes[2..10]), 1 << 16),
            short => (u64::from(short), 0),
        };
        if len >> 63 != 0 {
            return Err(Violation::protocol("length with its top bit set"));
        }
        if len < least {
            return Err(Violation::protocol("length not in its shortest form"));
        }
        let mask = self.bytes[self.whole_len() - 4..self.whole_len()]
            .try_into()
            .expect("four bytes make a mask");
        let opcode =
            Opcode::from_bits(self.bytes[0] & 0x0f).expect("check_first_two refused reserved opcodes");
        Ok(Header {
            fin: self.bytes[0] & 0x80 != 0,
            opcode,
            len,
            mask,
        })
    }
}

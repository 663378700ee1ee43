//! WebSocket (RFC 6455) as a server speaks it: the bytes of clients in, messages out.
//!
//! It promises the close code RFC 6455 asks for, whatever comes in, and the same events however the bytes are split.
//! *Invariant:* between messages a decoder holds no buffer; within one it has room for at most twice what came.
//! Leaves out: the HTTP handshake and the socket (`ringcast-gateway`); extensions, of which there are none.

mod decode;
mod frame;
mod header;
mod mask;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Event, FRAGMENTS_MAX, PINGS_BURST, PINGS_PER_SECOND, UNFINISHED_MAX, Violation};
pub use frame::{Opcode, close, header_len, pong, write_header};
pub use mask::unmask;

//! WebSocket (RFC 6455) as a server speaks it: the bytes of clients in, messages out.
//!
//! It promises the close code RFC 6455 asks for, whatever comes in, and the same events however the bytes are split.
//! *Invariant:* between messages a decoder holds no buffer, and never more than it was sent.
//! Leaves out: the HTTP handshake and the socket (`ringcast-gateway`); extensions, of which there are none.

mod frame;

pub use frame::{Opcode, close, pong, write_header};

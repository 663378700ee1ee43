//! The pure hot paths, ready to be counted: what happens to every publish and every delivery, without a socket.
//!
//! It promises the same instructions for the same build: no clock, no thread, no order of chance runs in a path.
//! *Invariant:* the crates under the count are called through pointers that the compiler cannot see through, so that they are
//! compiled as they are and not as their caller here would have them (but for the outbox, which is generic over its socket).
//! Leaves out: counting and judging (the binary), and the shells.

#![forbid(unsafe_code)]

mod cluster;
mod meter;
mod paths;

pub use meter::COUNTED;
pub use paths::{PATHS, Path};

//! How sessions are hashed.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps by session: their ids are this gateway's own, so nobody can choose them to collide.
pub(crate) type BySession = BuildHasherDefault<SessionHasher>;

/// Spreads ids that count up.
#[derive(Debug, Default)]
pub(crate) struct SessionHasher(u64);

/// The golden ratio's part of 2^64: what counts up comes out far apart.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for SessionHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // A map looks at the low bits and at the highest ones, and a product has its best ones high.
        self.0 = (self.0 ^ id).wrapping_mul(SPREAD).rotate_left(32);
    }

    fn write_usize(&mut self, id: usize) {
        self.write_u64(id as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

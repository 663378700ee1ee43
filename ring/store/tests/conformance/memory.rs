//! The suite on the store in memory.

use ringcast_ring_store::{AnyStore, Memory};

use crate::harness::Harness;

struct InMemory(Memory);

const WINDOW_LEN: usize = 100;

impl Harness for InMemory {
    async fn start() -> InMemory {
        InMemory(Memory::with_window(WINDOW_LEN).unwrap())
    }

    fn store(&self) -> AnyStore {
        AnyStore::Memory(self.0.clone())
    }

    fn window_len(&self) -> usize {
        WINDOW_LEN
    }
}

crate::conformance!(super::InMemory);

//! Which part of a path is counted: callgrind counts inside [`in_the_count`] and nowhere else.
//!
//! *Invariant:* what a path prepares and throws away between its operations costs nothing, and the operations before the
//! counted ones run the same code, so that queues and histories are as large as they stay.
//! Leaves out: counting, which is valgrind's (`callgrind`).

use std::hint::black_box;

/// What callgrind is told to count: the part of the function's name that mangling keeps.
pub const COUNTED: &str = "*in_the_count*";

/// As large as a small frame's header and payload.
const PLANTED_BYTES: usize = 128;

/// Runs the operations of one path.
#[derive(Debug)]
pub(crate) struct Meter {
    warm_up: u32,
    operations: u32,
    /// Allocations added to each operation, to prove that they are noticed.
    planted: u32,
    done: u32,
}

impl Meter {
    /// For a path whose first `warm_up` operations are not counted and the `operations` after them are.
    pub(crate) fn new(warm_up: u32, operations: u32) -> Meter {
        Meter {
            warm_up,
            operations,
            planted: 0,
            done: 0,
        }
    }

    /// The same, with so many allocations more in each counted operation.
    pub(crate) fn plant(self, planted: u32) -> Meter {
        Meter { planted, ..self }
    }

    /// How often a path has to call [`Meter::measure`].
    pub(crate) fn rounds(&self) -> std::ops::Range<u64> {
        0..u64::from(self.warm_up + self.operations)
    }

    /// Runs one operation. What it returns is dropped by the caller, out of the count.
    pub(crate) fn measure<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        self.done += 1;
        if self.done <= self.warm_up {
            before_the_count(operation)
        } else {
            in_the_count(operation, self.planted)
        }
    }

    /// Whether every round was measured, once.
    pub(crate) fn is_complete(&self) -> bool {
        self.done == self.warm_up + self.operations
    }
}

#[inline(never)]
fn in_the_count<T>(operation: impl FnOnce() -> T, planted: u32) -> T {
    let result = operation();
    for _ in 0..planted {
        drop(black_box(Vec::<u8>::with_capacity(PLANTED_BYTES)));
    }
    result
}

#[inline(never)]
fn before_the_count<T>(operation: impl FnOnce() -> T) -> T {
    operation()
}

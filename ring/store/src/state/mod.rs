//! The ring store as a state machine: records, revisions, leases and the watch window, with time as an argument.
//!
//! [`Durable`] is what must survive a restart and decides every change; [`Store`] adds what need not: lease deadlines and
//! the changes a watch may still ask for. *Invariant:* no clock, no random source, no IO; the same calls give the same
//! answers. Leaves out: locks, files, sockets.

mod durable;
mod lease;
mod store;
mod window;

pub use durable::{BYTES_MAX, Decided, Durable, Granted, Step};
pub use lease::Leases;
pub use store::{Store, WINDOW_LEN};
pub use window::Window;

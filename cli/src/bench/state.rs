//! What all tasks of a run under load share; all are on one thread.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::sync::Notify;

use super::tally::Tally;
use super::wire::Plan;

/// Of one run.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    pub(crate) tally: RefCell<Tally>,
    /// Whether clients come back when their connection ends.
    pub(crate) reconnect: bool,
    /// The window may have room again.
    pub(crate) room: Notify,
    /// It has when no more than this is outstanding.
    pub(crate) wake_below: Cell<u64>,
    start: Instant,
}

impl State {
    /// Of a run that starts now.
    pub(crate) fn new(plan: Plan, tally: Tally, reconnect: bool) -> State {
        State {
            plan,
            tally: RefCell::new(tally),
            reconnect,
            room: Notify::new(),
            wake_below: Cell::new(0),
            start: Instant::now(),
        }
    }

    /// Since the start.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Wakes a closed loop if there is room.
    pub(crate) fn wake(&self) {
        if self.tally.borrow().outstanding() <= self.wake_below.get() {
            self.room.notify_one();
        }
    }
}

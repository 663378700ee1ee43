//! Many connections of one process: opened some at a time, kept from being idle.
//!
//! Everything of a process runs on one thread, so that what the generator costs is one core at most.
//! *Invariant:* at most as many connections as the process may have files open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinSet;

use super::client::MASK;
use super::{frames, wire};

/// More in one process would make that process what is measured.
const CONNECTIONS_MAX: u32 = 15_000;
/// Files of the process that are no connections.
const FILES_RESERVED: u64 = 200;

/// A gateway closes what was silent for 60 s.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);
const HEARTBEAT_STEP: Duration = Duration::from_millis(100);

/// Connections one process can have.
pub(crate) fn connections_max() -> u32 {
    #[cfg(unix)]
    if let Some(files) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        return u32::try_from(files.saturating_sub(FILES_RESERVED))
            .unwrap_or(u32::MAX)
            .clamp(1, CONNECTIONS_MAX);
    }
    CONNECTIONS_MAX
}

/// Makes `count` of something, `concurrency` at a time, in any order. The first failure ends it.
pub(crate) async fn make<T: 'static>(
    count: u32,
    concurrency: u32,
    one: impl AsyncFn(u32) -> Result<T> + 'static,
    made: impl Fn(u32) + 'static,
) -> Result<Vec<T>> {
    let one = Rc::new(one);
    let made = Rc::new(made);
    let next = Rc::new(Cell::new(0));
    let all: Rc<RefCell<Vec<Option<T>>>> = Rc::new(RefCell::new((0..count).map(|_| None).collect()));
    let done = Rc::new(Cell::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..concurrency.min(count) {
        let (one, made, next, done, all) = (
            Rc::clone(&one),
            Rc::clone(&made),
            Rc::clone(&next),
            Rc::clone(&done),
            Rc::clone(&all),
        );
        tasks.spawn_local(async move {
            while next.get() < count {
                let index = next.replace(next.get() + 1);
                let thing = one(index).await?;
                all.borrow_mut()[index as usize] = Some(thing);
                done.set(done.get() + 1);
                made(done.get());
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("open connections")??;
    }
    let all = std::mem::take(&mut *all.borrow_mut());
    Ok(all.into_iter().flatten().collect())
}

/// The writing halves of the connections that stand, by their number.
#[derive(Debug, Clone)]
pub(crate) struct Senders(Rc<RefCell<Vec<Option<OwnedWriteHalf>>>>);

impl Senders {
    /// Of so many connections, none of which stands yet.
    pub(crate) fn new(count: u32) -> Senders {
        Senders(Rc::new(RefCell::new((0..count).map(|_| None).collect())))
    }

    /// The connection stands.
    pub(crate) fn set(&self, index: u32, sender: OwnedWriteHalf) {
        self.0.borrow_mut()[index as usize] = Some(sender);
    }

    /// It has ended.
    pub(crate) fn clear(&self, index: u32) {
        self.0.borrow_mut()[index as usize] = None;
    }

    /// It shall end without a word, once its reading half is gone too.
    pub(crate) fn cut(&self, index: u32) {
        if let Some(sender) = self.0.borrow_mut()[index as usize].take() {
            sender.forget();
        }
    }

    /// Answers a ping, or leaves it out: then the next one is on its way.
    pub(crate) fn pong(&self, index: u32, payload: &[u8]) {
        if let Some(sender) = &self.0.borrow()[index as usize] {
            let mut out = Vec::new();
            frames::pong(payload, MASK, &mut out);
            sender.try_write(&out).ok();
        }
    }
}

/// Sends heartbeats for ever, the first after [`HEARTBEAT_EVERY`], so that short measurements have none.
pub(crate) async fn keep_alive(senders: Senders) -> std::convert::Infallible {
    let mut frame = Vec::new();
    frames::text(wire::HEARTBEAT, MASK, &mut frame);
    let steps = (HEARTBEAT_EVERY.as_millis() / HEARTBEAT_STEP.as_millis()) as usize;
    tokio::time::sleep(HEARTBEAT_EVERY).await;
    loop {
        for step in 0..steps {
            for connection in senders.0.borrow().iter().skip(step).step_by(steps).flatten() {
                // A connection that takes no 40 bytes now is not idle; one that is gone is noticed by its reader.
                connection.try_write(&frame).ok();
            }
            tokio::time::sleep(HEARTBEAT_STEP).await;
        }
    }
}

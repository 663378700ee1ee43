//! A task that writes to a share of the connections, where there are cores for more than one.
//!
//! *Invariant:* what waits for it is bounded by its connections, each of which is there once; that it is late is known to
//! whoever hands over more.
//! Leaves out: how it writes (`pass`).

use std::sync::Arc;

use ringcast_proto::Millis;
use ringcast_ring_store::clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::pass::Pass;
use crate::connection::Connection;
use crate::mail::Mail;

/// The hub's handle on a writer.
#[derive(Debug)]
pub(super) struct Writer {
    /// To be handed over at the end of the hub's turn.
    due: Vec<Arc<Connection>>,
    mail: Arc<Mail<Waiting>>,
}

/// The task's end.
#[derive(Debug)]
pub(crate) struct Writing {
    mail: Arc<Mail<Waiting>>,
    pass: Pass,
    /// Told when a pass is over.
    written: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    due: Vec<Arc<Connection>>,
    /// When the pass that is under way began, or the wait for the next one; none while there is nothing to write.
    since: Option<Millis>,
}

/// A writer, both ends. `written` is told when a pass of it is over.
pub(super) fn writer(written: Arc<Notify>) -> (Writer, Writing) {
    let mail = Arc::<Mail<Waiting>>::default();
    let writer = Writer {
        due: Vec::new(),
        mail: Arc::clone(&mail),
    };
    let pass = Pass::default();
    let writing = Writing { mail, pass, written };
    (writer, writing)
}

impl Writer {
    pub(super) fn add(&mut self, connection: Arc<Connection>) {
        self.due.push(connection);
    }

    /// Has the task write what was added since the last time.
    pub(super) fn hand_over(&mut self, now: Millis) {
        if self.due.is_empty() {
            return;
        }
        let mut waiting = self.mail.waiting();
        waiting.due.append(&mut self.due);
        waiting.since.get_or_insert(now);
        drop(waiting);
        self.mail.post();
    }

    /// Since when the pass lasts that is under way.
    pub(super) fn since(&self) -> Option<Millis> {
        self.mail.waiting().since
    }
}

impl Writing {
    /// Works until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mail = Arc::clone(&self.mail);
        loop {
            tokio::select! {
                biased;
                // The process ends.
                () = stop.cancelled() => return,
                // There is something to write; what more the hub has is looked at below, turn by turn.
                () = std::future::ready(()), if !self.pass.is_empty() => {}
                // The hub has more.
                () = mail.posted() => {}
            }
            self.turn().await;
        }
    }

    async fn turn(&mut self) {
        for connection in self.mail.waiting().due.drain(..) {
            self.pass.add(connection);
        }
        let now = clock::now();
        if self.pass.write(now).await {
            let mut waiting = self.mail.waiting();
            let is_all = waiting.due.is_empty() && self.pass.is_empty();
            waiting.since = (!is_all).then_some(now);
            drop(waiting);
            self.written.notify_one();
        }
    }
}

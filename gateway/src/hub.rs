//! The one task that owns the gateway's state: takes what happened, lets the core judge it, does what the core wants.
//!
//! *Invariant:* it waits for nobody. Connections, lanes and the ring wait for it, each at the bounded mailbox.
//! Leaves out: every decision about the protocol (`ringcast-gateway-core`).

mod handle;
mod leaving;
mod slow;
mod top;
mod writes;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ringcast_gateway_core::gateway::{CallId, Effect, Gateway, Input};
use ringcast_proto::{Millis, SessionId, v1};
use ringcast_ring_store::clock;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, Look};
use crate::lanes::Lanes;
use crate::metrics::Metrics;
use crate::sessions::BySession;
use handle::{Command, ServerPublished};
pub(crate) use handle::{Hub, Inbox, mailbox};
use leaving::Leaving;
pub(crate) use leaving::Pace;
pub(crate) use writes::{Writes, writes};

/// Taken at once. Enough for a burst to become one batch, few enough for its answers to be prompt.
const BATCH_LEN: usize = 512;

/// How often silent and slow connections are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Room for so many effects is kept from turn to turn.
const EFFECTS_KEPT: usize = 16 * 1024;

/// What the task owns.
pub(crate) struct State {
    core: Gateway,
    connections: HashMap<SessionId, Arc<Connection>, BySession>,
    delivering: BTreeMap<CallId, oneshot::Sender<v1::DeliverAnswer>>,
    publishing: BTreeMap<CallId, oneshot::Sender<ServerPublished>>,
    last_call: u64,
    lanes: Lanes,
    metrics: Arc<Metrics>,
    idle_timeout: Duration,
    pace: Pace,
    /// Set from the moment on at which all clients are to go.
    leaving: Option<Leaving>,
    effects: Vec<Effect>,
    writes: Writes,
    /// When the log last told that a connection is slow.
    told_slow: BTreeMap<SessionId, Millis>,
}

impl State {
    pub(crate) fn new(
        core: Gateway,
        lanes: Lanes,
        metrics: Arc<Metrics>,
        writes: Writes,
        idle_timeout: Duration,
        pace: Pace,
    ) -> State {
        State {
            core,
            connections: HashMap::default(),
            delivering: BTreeMap::new(),
            publishing: BTreeMap::new(),
            last_call: 0,
            lanes,
            metrics,
            idle_timeout,
            pace,
            leaving: None,
            effects: Vec::new(),
            writes,
            told_slow: BTreeMap::new(),
        }
    }

    /// Works until `stop`. From `drain` on every connection is closed with 1012 at the gateway's pace, and new ones at
    /// once; when all have their close frame, `let_go` is cancelled.
    pub(crate) async fn run(
        mut self,
        inbox: Inbox,
        drain: CancellationToken,
        let_go: CancellationToken,
        stop: CancellationToken,
    ) {
        let Inbox(mut inbox) = inbox;
        let mut waiting = Vec::with_capacity(BATCH_LEN);
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.core.deadline();
            let batch_due = self.leaving.as_ref().and_then(Leaving::due);
            tokio::select! {
                biased;
                // The process ends.
                () = stop.cancelled() => return,
                // The process is about to end: once.
                () = drain.cancelled(), if self.leaving.is_none() => {
                    let clients = self.connections.keys().copied();
                    self.leaving = Some(Leaving::new(self.pace, clients, clock::now()));
                }
                // The next clients are to go.
                () = until(batch_due) => self.let_batch_go(clock::now()),
                // Once a second.
                _ = sweep.tick() => self.sweep(clock::now()),
                // The core has a retry or a deadline.
                () = until(deadline) => {}
                // Something happened.
                _ = inbox.recv_many(&mut waiting, BATCH_LEN), if self.writes.may_wait(clock::now()) => {}
                // There is something to write, or a writer has got on.
                () = self.writes.wait() => {}
            }
            let now = clock::now();
            for command in waiting.drain(..) {
                self.take(command, now);
            }
            if deadline.is_some_and(|deadline| deadline <= now) {
                self.core.apply(Input::Tick, now, &mut self.effects);
            }
            self.core.flush(now, &mut self.effects);
            self.perform(now);
            self.writes.write(now).await;
            self.metrics.core(self.core.counts(), self.core.joined());
            if self.core.retiring() == 0 && self.leaving.as_ref().is_some_and(Leaving::is_over) {
                let_go.cancel();
            }
        }
    }

    fn take(&mut self, command: Command, now: Millis) {
        let input = match command {
            Command::Open { connection, subject } => {
                if self.leaving.is_some() {
                    connection.close(1012, "shutting down", now);
                }
                let (session, serializer) = (connection.session(), connection.serializer());
                self.connections.insert(session, connection);
                self.metrics.connections(self.connections.len());
                Input::Open {
                    session,
                    serializer,
                    subject,
                }
            }
            Command::Message { session, message } => Input::Message { session, message },
            Command::Closed { session } => {
                self.connections.remove(&session);
                self.told_slow.remove(&session);
                self.metrics.connections(self.connections.len());
                Input::Closed { session }
            }
            Command::Retire { sessions, until } => return self.retire(sessions, until, now),
            Command::Top { order, limit, answer } => {
                // Whoever asked may have given up.
                answer.send(self.top(order, limit, now)).ok();
                return;
            }
            Command::Table(table) => {
                self.lanes.follow(&table);
                Input::Table(table)
            }
            Command::Registered(incarnation) => {
                self.lanes.registered(incarnation);
                Input::Registered(incarnation)
            }
            Command::Bound(call, answer) => Input::Bound(call, answer),
            Command::Published(call, answer) => Input::Published(call, answer),
            Command::Fetched(call, answer) => Input::Fetched(call, answer),
            Command::Deliver { entries, answer } => {
                let call = self.next_call();
                self.delivering.insert(call, answer);
                Input::Deliver(call, entries)
            }
            Command::ServerPublish { publish, answer } => {
                let call = self.next_call();
                self.publishing.insert(call, answer);
                Input::ServerPublish(call, publish)
            }
        };
        tracing::trace!(?input, "input");
        self.core.apply(input, now, &mut self.effects);
    }

    /// Does what the core wants, but for the writing itself.
    fn perform(&mut self, now: Millis) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            tracing::trace!(?effect, "effect");
            match effect {
                Effect::Write(session, frame) => self.push(session, frame, None, now),
                Effect::Publication(session, frame, place) => self.push(session, frame, Some(place), now),
                Effect::Close(session, code, reason) => {
                    if let Some(connection) = self.connections.get(&session) {
                        connection.close(code, reason, now);
                    }
                }
                Effect::Pause(session) => {
                    if let Some(connection) = self.connections.get(&session) {
                        connection.pause();
                    }
                }
                Effect::Resume(session) => {
                    if let Some(connection) = self.connections.get(&session) {
                        connection.resume();
                    }
                }
                Effect::Bind(call, node, binds) => {
                    let waited = self.waited(call, now);
                    self.metrics.bind_lane().leaves(binds.len(), waited);
                    self.lanes.bind(call, node, binds);
                }
                Effect::Fetch(call, node, fetches) => self.lanes.fetch(call, node, fetches),
                Effect::Publish(call, node, slots) => {
                    let publishes = slots.iter().map(|slot| slot.publishes.len()).sum();
                    let waited = self.waited(call, now);
                    self.metrics.publish_lane().leaves(publishes, waited);
                    self.lanes.publish(call, node, slots);
                }
                // Whoever asked may have given up; then nobody needs the answer.
                Effect::Delivered(call, answer) => {
                    self.delivering.remove(&call).map(|waiter| waiter.send(answer));
                }
                Effect::ServerPublished(call, answer) => {
                    self.publishing.remove(&call).map(|waiter| waiter.send(answer));
                }
            }
        }
        if effects.capacity() > EFFECTS_KEPT {
            // Hundreds of thousands may come of one burst, which are no measure of the next turn.
            effects.shrink_to(EFFECTS_KEPT);
        }
        self.effects = effects;
    }

    fn sweep(&mut self, now: Millis) {
        self.metrics.store_connected(self.lanes.store_connected());
        let (mut outbox_bytes, mut slow) = (0, Vec::new());
        for connection in self.connections.values() {
            match connection.look(now, self.idle_timeout, &mut outbox_bytes) {
                Look::Fine => {}
                Look::Idle => connection.close(1001, "idle", now),
                Look::Unfinished => connection.close(1008, "message not finished in time", now),
                look @ (Look::Shed | Look::Slow(_)) => slow.push((Arc::clone(connection), look)),
            }
        }
        self.metrics.outbox_bytes(outbox_bytes);
        for (connection, look) in slow {
            self.tell_lost(&connection, now);
            if let Look::Slow(why) = look {
                self.close_slow(&connection, why, now);
            }
        }
    }

    /// Reads no more of the next clients, and lets them go behind what the mailbox holds of them already.
    fn let_batch_go(&mut self, now: Millis) {
        let Some(leaving) = &mut self.leaving else { return };
        let (sessions, until) = leaving.batch(now);
        for connection in sessions
            .iter()
            .filter_map(|session| self.connections.get(session))
        {
            connection.pause();
        }
        if let Err(refused) = self.lanes.hub().retire(sessions, until) {
            // Who is that busy has to go as well.
            self.retire(refused, until, now);
        }
    }

    fn retire(&mut self, sessions: Vec<SessionId>, until: Millis, now: Millis) {
        if let Some(leaving) = &mut self.leaving {
            leaving.taken();
        }
        for session in sessions {
            self.core
                .apply(Input::Retire { session, until }, now, &mut self.effects);
        }
    }

    fn waited(&self, call: CallId, now: Millis) -> Option<Duration> {
        let since = self.core.waiting_since(call)?;
        Some(now.since(since))
    }

    fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }
}

async fn until(deadline: Option<Millis>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

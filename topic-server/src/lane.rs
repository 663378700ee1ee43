//! The task of one lane: one Deliver call in flight, repeated as it was until the gateway answers or is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringcast_proto::grpc::{self, AddressError, CALL_DEADLINE, Calls, LaneClient, SharedCall};
use ringcast_proto::{NodeRef, Slot, v1};
use ringcast_topic_server_core::Input;
use ringcast_topic_server_core::lane::{Answered, Exception, Full, Lane, Says};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::header;
use crate::metrics::LaneMetrics;
use crate::shared::Shared;
use crate::waits::Waits;

/// Back-off between calls that got no answer: prompt after a hiccup, and no storm on a gateway that starts again.
const RETRY_MIN: Duration = Duration::from_millis(25);
const RETRY_MAX: Duration = Duration::from_millis(400);

/// Failures in a row that are worth a line: a gateway that crashed is silent until its lease is over.
const SILENT: u32 = 3;

/// The way onto a lane. Slots share it; each push holds the lock for as long as it takes to move one entry.
#[derive(Clone)]
pub(crate) struct LaneHandle {
    inner: Arc<Inner>,
}

struct Inner {
    lane: Mutex<Timed>,
    more: Notify,
    end: CancellationToken,
    metrics: LaneMetrics,
}

struct Timed {
    lane: Lane,
    waits: Waits,
}

impl LaneHandle {
    /// `false` if there is no room.
    pub(crate) fn push(&self, entry: v1::DeliverEntry) -> bool {
        let pushed = self.inner.lane().push(entry);
        match pushed {
            Ok(()) => self.inner.more.notify_one(),
            Err(_) => self.inner.metrics.dropped(),
        }
        pushed.is_ok()
    }

    /// The gateway is gone: nothing more is sent.
    pub(crate) fn end(&self) {
        self.inner.end.cancel();
    }
}

impl Timed {
    fn push(&mut self, entry: v1::DeliverEntry) -> Result<(), Full> {
        let before = self.lane.waiting_bytes();
        self.lane.push(entry)?;
        self.waits.put(before, self.lane.waiting_bytes(), Instant::now);
        Ok(())
    }

    /// The call to make, and how long the oldest entry waited if it is made for the first time.
    fn next_call(&mut self) -> (Option<Arc<Vec<v1::DeliverEntry>>>, Option<Duration>) {
        let before = self.lane.waiting_bytes();
        let entries = self.lane.next_call();
        let after = self.lane.waiting_bytes();
        let wait = if after < before {
            self.waits.left(before, after, Instant::now())
        } else {
            None
        };
        (entries, wait)
    }
}

impl Inner {
    fn lane(&self) -> MutexGuard<'_, Timed> {
        // A panic in the queue would be a bug in one push; what it holds was not half written by it.
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the lane to a gateway.
pub(crate) fn start(
    gateway: &NodeRef,
    address: &str,
    shared: &Arc<Shared>,
) -> Result<LaneHandle, AddressError> {
    let channel = grpc::channel(address)?;
    let inner = Arc::new(Inner {
        lane: Mutex::new(Timed {
            lane: Lane::new(shared.limits.clone()),
            waits: Waits::default(),
        }),
        more: Notify::new(),
        end: shared.stop.child_token(),
        metrics: shared.metrics.lane(&gateway.node),
    });
    let task = Task {
        gateway: gateway.clone(),
        client: LaneClient::new(channel),
        calls: Calls::default(),
        inner: inner.clone(),
        shared: shared.clone(),
    };
    let end = inner.end.clone();
    shared
        .tasks
        .spawn(async move { end.run_until_cancelled_owned(task.run()).await }.in_current_span());
    tracing::info!(%gateway, address, "lane to gateway");
    Ok(LaneHandle { inner })
}

struct Task {
    gateway: NodeRef,
    client: LaneClient,
    calls: Calls<SharedCall, v1::DeliverAnswer>,
    inner: Arc<Inner>,
    shared: Arc<Shared>,
}

/// How many it carries, with and without offsets.
fn publications(entry: &v1::DeliverEntry) -> usize {
    entry.publications.len() + entry.unsequenced.len()
}

impl Task {
    async fn run(mut self) {
        let mut retry = RETRY_MIN;
        let mut failures = 0_u32;
        loop {
            self.inner.more.notified().await;
            // What arrives while a call is out is the next one; a call without an answer is made again as it was.
            while let Some(entries) = self.next_call() {
                match self.deliver(entries).await {
                    Ok(answer) => {
                        if failures >= SILENT {
                            tracing::info!(gateway = %self.gateway, failures, "gateway answers again");
                        }
                        (retry, failures) = (RETRY_MIN, 0);
                        let answered = self.inner.lane().lane.answered(&answer);
                        self.tell_slots(answered).await;
                    }
                    Err(reason) => {
                        let room = self.inner.lane().lane.unanswered();
                        self.tell_room(room).await;
                        failures += 1;
                        if failures == SILENT {
                            tracing::warn!(gateway = %self.gateway, reason, "gateway does not answer, its lane waits");
                        }
                        tokio::time::sleep(jittered(retry)).await;
                        retry = (retry * 2).min(RETRY_MAX);
                    }
                }
            }
        }
    }

    fn next_call(&self) -> Option<Arc<Vec<v1::DeliverEntry>>> {
        let (entries, wait) = self.inner.lane().next_call();
        if let Some(wait) = wait {
            self.inner.metrics.waited(wait);
        }
        entries
    }

    /// One call. Without an answer its outcome is unknown.
    async fn deliver(&mut self, entries: Arc<Vec<v1::DeliverEntry>>) -> Result<v1::DeliverAnswer, String> {
        let carrying = entries.iter().filter(|entry| publications(entry) > 0).count();
        let publications = entries.iter().map(publications).sum();
        self.inner.metrics.call(entries.len(), carrying, publications);
        let call = SharedCall {
            header: header::to(&self.gateway, &self.shared),
            entries,
        };
        let answer = self.calls.call(call, |calls| self.client.deliver(calls));
        match tokio::time::timeout(CALL_DEADLINE, answer).await {
            Ok(Ok(answer)) if answer.incarnation == self.gateway.incarnation.0 => Ok(answer),
            Ok(Ok(answer)) => Err(format!("answered by incarnation {}", answer.incarnation)),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn tell_slots(&self, answered: Answered) {
        for Exception { slot, topic, says } in answered.exceptions {
            let gateway = self.gateway.clone();
            let input = match says {
                Says::NeedFrom(cursor) => Input::NeedFrom {
                    gateway,
                    topic,
                    cursor,
                },
                Says::NoInterest { bind_seq, from } => Input::NoInterest {
                    gateway,
                    topic,
                    bind_seq,
                    from,
                },
                Says::Stale { owner_epoch, from } => Input::Stale {
                    gateway,
                    topic,
                    from,
                    owner_epoch,
                },
            };
            if let Some(slot) = self.shared.slot(slot) {
                slot.tell(input).await;
            }
        }
        self.tell_room(answered.room).await;
    }

    async fn tell_room(&self, room: Vec<Slot>) {
        for slot in room {
            if let Some(slot) = self.shared.slot(slot) {
                slot.tell(Input::LaneRoom(self.gateway.clone())).await;
            }
        }
    }
}

/// Between nothing and `retry`, so that lanes that failed together do not come back together.
fn jittered(retry: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    retry.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

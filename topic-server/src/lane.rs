//! The task of one lane: makes its Deliver calls, and repeats them as they were until the gateway answers or is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringcast_proto::grpc::{self, AddressError, CALL_DEADLINE, Deliveries, LaneClient, SharedCall};
use ringcast_proto::{NodeRef, Slot, v1};
use ringcast_topic_server_core::Input;
use ringcast_topic_server_core::lane::{Answered, Call, Exception, Full, Lane, Says};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
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
    fn next_call(&mut self) -> (Option<Call>, Option<Duration>) {
        let before = self.lane.waiting_bytes();
        let call = self.lane.next_call();
        let after = self.lane.waiting_bytes();
        let wait = if after < before {
            self.waits.left(before, after, Instant::now())
        } else {
            None
        };
        (call, wait)
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
        deliveries: Deliveries::default(),
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
    deliveries: Deliveries,
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
            let exchanged = tokio::time::timeout(CALL_DEADLINE, self.exchange()).await;
            match exchanged.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
                Ok(None) => self.inner.more.notified().await,
                Ok(Some(answered)) => {
                    if failures >= SILENT {
                        tracing::info!(gateway = %self.gateway, failures, "gateway answers again");
                    }
                    (retry, failures) = (RETRY_MIN, 0);
                    self.tell_slots(answered).await;
                }
                Err(reason) => {
                    self.deliveries.give_up();
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

    /// Makes the calls there are until some are answered; none: nothing waits and nothing is on its way. After an error the
    /// outcome of what was on its way is unknown.
    async fn exchange(&mut self) -> Result<Option<Answered>, String> {
        loop {
            while let Some(call) = self.next_call() {
                self.send(call).await.map_err(|status| status.to_string())?;
            }
            if !self.deliveries.waits() {
                return Ok(None);
            }
            tokio::select! {
                biased;
                answer = self.deliveries.answer() => {
                    let answer = answer.map_err(|status| status.to_string())?;
                    if answer.incarnation != self.gateway.incarnation.0 {
                        return Err(format!("answered by incarnation {}", answer.incarnation));
                    }
                    return Ok(Some(self.inner.lane().lane.answered(&answer)));
                }
                () = self.inner.more.notified() => {}
            }
        }
    }

    async fn send(&mut self, call: Call) -> Result<(), Status> {
        let Call { entries, may_wait } = call;
        let carrying = entries.iter().filter(|entry| publications(entry) > 0).count();
        let publications = entries.iter().map(publications).sum();
        self.inner.metrics.call(entries.len(), carrying, publications);
        let call = SharedCall {
            header: header::to(&self.gateway, &self.shared),
            entries,
            may_wait,
        };
        // As every call carries something, there are no more of them on their way than the credit.
        let most = self.shared.limits.lane_credit.max(1);
        self.deliveries
            .send(call, most, |calls| self.client.deliver(calls))
            .await
    }

    fn next_call(&self) -> Option<Call> {
        let (call, wait) = self.inner.lane().next_call();
        if let Some(wait) = wait {
            self.inner.metrics.waited(wait);
        }
        call
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

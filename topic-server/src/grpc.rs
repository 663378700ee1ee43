//! The service gateways and the CLI call.
//!
//! *Invariant:* the publishes of a slot enter its mailbox in the order of the call, and no commit is acknowledged
//! unless the lease is still certain when the answer leaves.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use ringcast_proto::grpc::{Answers, TopicIds, answers};
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::topic_server_server::TopicServer;
use ringcast_proto::v1::{self, BindOutcome, BindStatus, SlotPublishAnswer, SlotStatus};
use ringcast_proto::{NodeRef, OwnerEpoch, Slot};
use ringcast_ring_store::clock;
use ringcast_topic_server_core::{Bind, PullPage};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status, Streaming};

use crate::header::caller;
use crate::shared::Shared;
use crate::slot::Mail;

/// A slot that has not decided by then must not hold the others of the lane.
const ANSWER_DEADLINE: Duration = Duration::from_millis(20);

/// A bind waits longer: it has no place in a lane to hold up, and no answer means sending all members again.
const BIND_DEADLINE: Duration = Duration::from_millis(500);

/// A page takes a slot some milliseconds, when its turn has come. The target waits for a second at most.
const PULL_DEADLINE: Duration = Duration::from_millis(500);

/// When to try again after finding a mailbox full: what 1,024 waiting inputs take to work off.
pub(crate) const RETRY_AFTER_MS: u32 = 25;

/// Binds and slots in one call; more is no gateway of ours.
const CALL_LEN_MAX: usize = 65_536;

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) type Waiting<T> = Result<oneshot::Receiver<T>, T>;

#[tonic::async_trait]
impl TopicServer for Service {
    type PublishStream = Answers<v1::PublishAnswer>;

    async fn publish(
        &self,
        calls: Request<Streaming<v1::PublishCall>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let (service, mut topic_ids) = (self.clone(), TopicIds::default());
        let answers = answers(
            calls.into_inner(),
            self.shared.stop.clone().cancelled_owned(),
            move |mut call| {
                let resolved = topic_ids.resolve(&mut call);
                let service = service.clone();
                async move {
                    resolved.map_err(|unknown| Status::invalid_argument(unknown.to_string()))?;
                    service.publish_all(call).await
                }
            },
        );
        Ok(Response::new(answers))
    }

    type BindStream = Answers<v1::BindAnswer>;

    async fn bind(
        &self,
        calls: Request<Streaming<v1::BindCall>>,
    ) -> Result<Response<Self::BindStream>, Status> {
        let service = self.clone();
        let answers = answers(
            calls.into_inner(),
            self.shared.stop.clone().cancelled_owned(),
            move |call| service.clone().bind_all(call),
        );
        Ok(Response::new(answers))
    }

    async fn fetch(&self, call: Request<v1::FetchCall>) -> Result<Response<v1::FetchAnswer>, Status> {
        let call = call.into_inner();
        let from = caller(call.header.as_ref(), &self.shared)?;
        let incarnation = self.shared.lease.node().incarnation.0;
        let deadline = Instant::now() + BIND_DEADLINE;
        let outcomes = self.fetch_all(&from, call.fetches, deadline).await;
        Ok(Response::new(v1::FetchAnswer {
            incarnation,
            outcomes,
        }))
    }

    async fn pull(&self, call: Request<v1::PullCall>) -> Result<Response<v1::PullAnswer>, Status> {
        let call = call.into_inner();
        let from = caller(call.header.as_ref(), &self.shared)?;
        let incarnation = self.shared.lease.node().incarnation.0;
        let answer = self.page(from, call).await?;
        Ok(Response::new(v1::PullAnswer {
            incarnation,
            ..answer
        }))
    }

    async fn slot_stats(
        &self,
        _: Request<v1::SlotStatsRequest>,
    ) -> Result<Response<v1::SlotStatsReply>, Status> {
        self.stats().await.map(Response::new)
    }

    async fn list_moves(
        &self,
        request: Request<v1::ListMovesRequest>,
    ) -> Result<Response<v1::ListMovesReply>, Status> {
        let moves = self.shared.moves.ended.list(&request.get_ref().prefix);
        Ok(Response::new(v1::ListMovesReply { moves }))
    }

    async fn list_topics(
        &self,
        request: Request<v1::ListTopicsRequest>,
    ) -> Result<Response<v1::ListTopicsReply>, Status> {
        self.list(request.into_inner()).await.map(Response::new)
    }

    async fn show_topic(
        &self,
        request: Request<v1::ShowTopicRequest>,
    ) -> Result<Response<v1::ShowTopicReply>, Status> {
        self.show(request.into_inner()).await.map(Response::new)
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersReply>, Status> {
        self.members(request.into_inner()).await.map(Response::new)
    }

    type TapStream = Pin<Box<dyn Stream<Item = Result<v1::TapEvent, Status>> + Send>>;

    async fn tap(&self, request: Request<v1::TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        self.follow(request.into_inner()).map(Response::new)
    }
}

impl Service {
    async fn publish_all(self, call: v1::PublishCall) -> Result<v1::PublishAnswer, Status> {
        let from = caller(call.header.as_ref(), &self.shared)?;
        bounded(call.slots.len())?;
        let life = self.shared.lease.node().incarnation;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let mut asked = Vec::with_capacity(call.slots.len());
        for slot in call.slots {
            let (number, publishes) = (slot.slot, slot.publishes.len());
            asked.push((number, publishes, self.ask_publish(&from, slot)));
        }
        let mut slots = Vec::with_capacity(asked.len());
        for (slot, publishes, waiting) in asked {
            let answer = match waiting {
                Ok(answer) => match timeout_at(deadline, answer).await {
                    Ok(Ok(answer)) => answer,
                    // Undecided, or the slot ended: what became of it the same numbers will tell.
                    Ok(Err(_)) | Err(_) => rest(slot, SlotStatus::Pending),
                },
                Err(answer) => answer,
            };
            slots.push((publishes, answer));
        }
        // The second check of the commit rule: a pause since the append may have outlasted the lease.
        let certain = self.shared.lease.valid_for(life, clock::now());
        let slots = slots
            .into_iter()
            .map(|(publishes, answer)| self.leaves(publishes, answer, certain))
            .collect();
        Ok(v1::PublishAnswer {
            incarnation: life.0,
            slots,
        })
    }

    async fn bind_all(self, call: v1::BindCall) -> Result<v1::BindAnswer, Status> {
        let from = caller(call.header.as_ref(), &self.shared)?;
        bounded(call.binds.len())?;
        let incarnation = self.shared.lease.node().incarnation.0;
        self.shared.metrics.bound(call.binds.len());
        let deadline = Instant::now() + BIND_DEADLINE;
        let asked: Vec<_> = call
            .binds
            .into_iter()
            .map(|bind| self.ask_bind(&from, bind))
            .collect();
        let mut outcomes = Vec::with_capacity(asked.len());
        for waiting in asked {
            outcomes.push(match waiting {
                Ok(outcome) => match timeout_at(deadline, outcome).await {
                    Ok(Ok(outcome)) => outcome,
                    Ok(Err(_)) | Err(_) => unbound(BindStatus::Overloaded),
                },
                Err(outcome) => outcome,
            });
        }
        Ok(v1::BindAnswer {
            incarnation,
            outcomes,
        })
    }

    fn ask_publish(&self, from: &NodeRef, publishes: v1::SlotPublishes) -> Waiting<SlotPublishAnswer> {
        let v1::SlotPublishes {
            slot: number,
            owner_epoch,
            publishes,
            held_ms,
        } = publishes;
        let Some(slot) = u16::try_from(number)
            .ok()
            .and_then(|slot| self.shared.slot(Slot(slot)))
        else {
            return Err(rest(number, SlotStatus::NotOwner));
        };
        let (answer, answered) = oneshot::channel();
        let (from, owner_epoch) = (from.clone(), OwnerEpoch(owner_epoch));
        if slot.try_ask(Mail::Publish {
            from,
            owner_epoch,
            publishes,
            held_ms,
            answer,
        }) {
            Ok(answered)
        } else {
            Err(SlotPublishAnswer {
                retry_after_ms: RETRY_AFTER_MS,
                ..rest(number, SlotStatus::Overloaded)
            })
        }
    }

    fn ask_bind(&self, from: &NodeRef, bind: v1::Bind) -> Waiting<BindOutcome> {
        let (slot, owner_epoch) = (bind.slot, OwnerEpoch(bind.owner_epoch));
        let Some(slot) = u16::try_from(slot)
            .ok()
            .and_then(|slot| self.shared.slot(Slot(slot)))
        else {
            return Err(unbound(BindStatus::NotOwner));
        };
        let bind = match Bind::parse(bind) {
            Ok(bind) => bind,
            Err(error) => {
                tracing::warn!(%from, %error, "bind refused");
                return Err(unbound(BindStatus::BadRequest));
            }
        };
        let (answer, answered) = oneshot::channel();
        if slot.try_ask(Mail::Bind {
            from: from.clone(),
            owner_epoch,
            bind,
            answer,
        }) {
            Ok(answered)
        } else {
            Err(BindOutcome {
                retry_after_ms: RETRY_AFTER_MS,
                ..unbound(BindStatus::Overloaded)
            })
        }
    }

    async fn page(&self, from: NodeRef, call: v1::PullCall) -> Result<v1::PullAnswer, Status> {
        let Some(slot) = u16::try_from(call.slot)
            .ok()
            .and_then(|slot| self.shared.slot(Slot(slot)))
        else {
            return Ok(v1::PullAnswer {
                status: v1::PullStatus::NotOwner.into(),
                ..v1::PullAnswer::default()
            });
        };
        let (answer, answered) = oneshot::channel();
        let pull = PullPage {
            owner_epoch: OwnerEpoch(call.owner_epoch),
            move_id: call.move_id,
            attempt: call.attempt,
            page: call.page,
        };
        if !slot.try_ask(Mail::Pull { from, pull, answer }) {
            return Err(Status::resource_exhausted("the slot is overloaded"));
        }
        match tokio::time::timeout(PULL_DEADLINE, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Status::unavailable("the topic server is stopping")),
            Err(_) => Err(Status::deadline_exceeded("the slot did not answer in time")),
        }
    }

    /// The answer as it leaves: without the lease nothing that was committed is acknowledged.
    fn leaves(&self, publishes: usize, answer: SlotPublishAnswer, certain: bool) -> SlotPublishAnswer {
        let answer = if certain || answer.outcomes.is_empty() {
            answer
        } else {
            SlotPublishAnswer {
                owner_epoch: answer.owner_epoch,
                ..rest(answer.slot, SlotStatus::OwnerLeaseLost)
            }
        };
        for outcome in &answer.outcomes {
            if let Some(Outcome::Refused(_)) = outcome.outcome {
                self.shared.metrics.publish_refused(refusal(outcome), 1);
            }
        }
        let undecided = publishes - answer.outcomes.len().min(publishes);
        if answer.rest() != SlotStatus::Ok && undecided > 0 {
            self.shared
                .metrics
                .publish_refused(reason(answer.rest()), undecided);
        }
        answer
    }
}

fn bounded(len: usize) -> Result<(), Status> {
    if len <= CALL_LEN_MAX {
        Ok(())
    } else {
        Err(Status::invalid_argument(format!("{len} entries in one call")))
    }
}

fn rest(slot: u32, status: SlotStatus) -> SlotPublishAnswer {
    SlotPublishAnswer {
        slot,
        rest: status.into(),
        ..SlotPublishAnswer::default()
    }
}

fn unbound(status: BindStatus) -> BindOutcome {
    BindOutcome {
        status: status.into(),
        ..BindOutcome::default()
    }
}

fn reason(status: SlotStatus) -> &'static str {
    match status {
        SlotStatus::Ok => "ok",
        SlotStatus::Pending => "pending",
        SlotStatus::Sealed => "sealed",
        SlotStatus::NotOwner => "not_owner",
        SlotStatus::OwnerLeaseLost => "owner_lease_lost",
        SlotStatus::Overloaded => "overloaded",
    }
}

fn refusal(outcome: &v1::PublishOutcome) -> &'static str {
    let Some(Outcome::Refused(why)) = outcome.outcome else {
        return "none";
    };
    match v1::Refusal::try_from(why) {
        Ok(v1::Refusal::StaleNumber) => "stale_number",
        Ok(v1::Refusal::TooLarge) => "too_large",
        Ok(v1::Refusal::TooManyTopics) => "too_many_topics",
        Ok(v1::Refusal::BadRequest) => "bad_request",
        Ok(v1::Refusal::Unspecified) | Err(_) => "unspecified",
    }
}

//! The stream of `Deliver` calls of a lane: several may be on their way, and one answer may be for several of them. An answer is
//! a message and a wake-up at both ends, which would be a good part of what a publication costs where little is published.
//!
//! *Invariant:* calls are handled in the order they are sent; an answer with an exception waits for nothing. Leaves out: how
//! many may be on their way, and what becomes of them when the stream breaks (the lane of the topic server).

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tonic::{Response, Status, Streaming};

use crate::calls::{Answers, Outgoing};
use crate::codec::SharedCall;
use crate::v1::{DeliverAnswer, DeliverCall};

/// How long an answer may wait for that of a later call. Far below the deadline of a call, and long enough for some more calls
/// where a few are made a second.
const ANSWER_WAITS_MAX: Duration = Duration::from_millis(200);

/// The calling end.
#[derive(Debug, Default)]
pub struct Deliveries {
    stream: Option<(mpsc::Sender<SharedCall>, Streaming<DeliverAnswer>)>,
    /// Calls on their way.
    unanswered: usize,
}

impl Deliveries {
    /// Sends a call, over a new stream by `open` where there is none. At most `most` may be without an answer.
    ///
    /// # Errors
    /// What became of the connection, or what the node says instead: all that has no answer is of unknown outcome.
    pub async fn send<O>(
        &mut self,
        call: SharedCall,
        most: usize,
        open: impl FnOnce(Outgoing<SharedCall>) -> O,
    ) -> Result<(), Status>
    where
        O: Future<Output = Result<Response<Streaming<DeliverAnswer>>, Status>>,
    {
        let left = match &self.stream {
            Some((calls, _)) => calls.try_send(call).map_err(TrySendError::into_inner),
            None => Err(call),
        };
        match left {
            Ok(()) => {}
            // Its end is closed when the connection was lost since the last answer: then nothing has left.
            Err(call) if self.unanswered == 0 => {
                let (calls, outgoing) = mpsc::channel(most);
                if calls.try_send(call).is_err() {
                    return Err(Status::internal("a new stream takes no call"));
                }
                self.stream = Some((calls, open(Outgoing::new(outgoing)).await?.into_inner()));
            }
            Err(_) => return Err(Status::unavailable("the stream of calls broke")),
        }
        self.unanswered += 1;
        Ok(())
    }

    /// Whether an answer is to come.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.unanswered > 0
    }

    /// The next answer, which is for [`DeliverAnswer::calls`] calls. Whoever stops waiting has lost nothing.
    ///
    /// # Errors
    /// As for [`Deliveries::send`].
    pub async fn answer(&mut self) -> Result<DeliverAnswer, Status> {
        let Some((_, answers)) = &mut self.stream else {
            return Err(Status::unavailable("there is no stream of calls"));
        };
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the node ended the stream of calls"))?;
        let calls = usize::try_from(answer.calls).unwrap_or(usize::MAX).max(1);
        self.unanswered = self.unanswered.saturating_sub(calls);
        Ok(answer)
    }

    /// Gives the stream up, and all answers to come: the next call makes another one.
    pub fn give_up(&mut self) {
        *self = Deliveries::default();
    }
}

/// Handles each call before the next is read, until `stop`, or until a call has no answer but a status. An answer that may
/// wait goes with that of a later call, within 200 ms.
pub fn answer_deliveries<F>(
    calls: Streaming<DeliverCall>,
    stop: impl Future<Output = ()> + Send + 'static,
    handle: impl FnMut(DeliverCall) -> F + Send + 'static,
) -> Answers<DeliverAnswer>
where
    F: Future<Output = Result<DeliverAnswer, Status>> + Send,
{
    let due = Box::pin(tokio::time::sleep(ANSWER_WAITS_MAX));
    let begun = Some((calls, Box::pin(stop), handle, due));
    Box::pin(futures_util::stream::unfold(begun, |state| async {
        let (mut calls, mut stop, mut handle, mut due) = state?;
        // What has been handled and not been answered.
        let mut owed: Option<DeliverAnswer> = None;
        loop {
            let call = tokio::select! {
                biased;
                // A stream that waits for calls would keep the server from ending.
                () = &mut stop => {
                    let last = owed.ok_or_else(|| Status::unavailable("the node is shutting down"));
                    return Some((last, None));
                }
                call = calls.message() => call,
                () = &mut due, if owed.is_some() => {
                    return owed.map(|answer| (Ok(answer), Some((calls, stop, handle, due))));
                }
            };
            let call = match call {
                Ok(call) => call?,
                Err(status) => return Some((Err(status), None)),
            };
            let may_wait = call.may_wait;
            let mut answer = match handle(call).await {
                Ok(answer) => answer,
                Err(status) => return Some((Err(status), None)),
            };
            answer.calls = 1 + owed.as_ref().map_or(0, |owed| owed.calls);
            if !may_wait || !answer.exceptions.is_empty() {
                return Some((Ok(answer), Some((calls, stop, handle, due))));
            }
            // One timer a stream, set when the first answer begins to wait.
            if owed.is_none() {
                due.as_mut().reset(Instant::now() + ANSWER_WAITS_MAX);
            }
            owed = Some(answer);
        }
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;
    use tonic::{Code, Request};

    use super::*;
    use crate::grpc::{self, LaneClient};
    use crate::served::Served;
    use crate::v1::gateway_server::{Gateway, GatewayServer};
    use crate::v1::{
        CallHeader, DeliverEntry, DeliverException, ListConnectionsReply, ListConnectionsRequest,
        ServerPublishReply, ServerPublishRequest,
    };

    /// Has an exception of this one.
    const EXCEPTION: u64 = 1;
    /// Refuses this one.
    const REFUSED: u64 = 2;

    /// Answers with the number it is called with.
    struct Echo {
        stop: Arc<Notify>,
        /// Hears of each call as it is handled.
        handled: mpsc::Sender<u64>,
    }

    #[tonic::async_trait]
    impl Gateway for Echo {
        type DeliverStream = Answers<DeliverAnswer>;

        async fn deliver(
            &self,
            calls: Request<Streaming<DeliverCall>>,
        ) -> Result<Response<Self::DeliverStream>, Status> {
            let handled = self.handled.clone();
            let answer = move |call: DeliverCall| {
                let incarnation = call.header.unwrap().to_incarnation;
                handled.try_send(incarnation).unwrap();
                let exceptions = usize::from(incarnation == EXCEPTION);
                std::future::ready(match incarnation {
                    REFUSED => Err(Status::failed_precondition("not this one")),
                    _ => Ok(DeliverAnswer {
                        incarnation,
                        exceptions: vec![DeliverException::default(); exceptions],
                        ..DeliverAnswer::default()
                    }),
                })
            };
            let stop = Arc::clone(&self.stop);
            let stop = async move { stop.notified().await };
            Ok(Response::new(answer_deliveries(calls.into_inner(), stop, answer)))
        }

        async fn server_publish(
            &self,
            _: Request<ServerPublishRequest>,
        ) -> Result<Response<ServerPublishReply>, Status> {
            Err(Status::unimplemented("nobody asks"))
        }

        async fn list_connections(
            &self,
            _: Request<ListConnectionsRequest>,
        ) -> Result<Response<ListConnectionsReply>, Status> {
            Err(Status::unimplemented("nobody asks"))
        }
    }

    struct World {
        deliveries: Deliveries,
        client: LaneClient,
        stop: Arc<Notify>,
        handled: mpsc::Receiver<u64>,
        _served: Served,
    }

    impl World {
        fn start() -> World {
            let stop = Arc::<Notify>::default();
            let (tell, handled) = mpsc::channel(8);
            let echo = Echo {
                stop: Arc::clone(&stop),
                handled: tell,
            };
            let served = Served::start(GatewayServer::new(echo));
            World {
                deliveries: Deliveries::default(),
                client: LaneClient::new(grpc::channel(&served.address).unwrap()),
                stop,
                handled,
                _served: served,
            }
        }

        async fn send(&mut self, to_incarnation: u64, may_wait: bool) -> Result<(), Status> {
            let header = CallHeader {
                to_incarnation,
                ..CallHeader::default()
            };
            let call = SharedCall {
                header,
                entries: Arc::new(vec![DeliverEntry::default()]),
                may_wait,
            };
            let client = &mut self.client;
            self.deliveries.send(call, 8, |calls| client.deliver(calls)).await
        }

        /// Whose answer it is, for how many calls, with how many exceptions.
        async fn answer(&mut self) -> Result<(u64, u32, usize), Status> {
            let answer = self.deliveries.answer().await?;
            Ok((answer.incarnation, answer.calls, answer.exceptions.len()))
        }
    }

    #[tokio::test]
    async fn calls_that_may_wait_are_answered_with_the_one_that_may_not() {
        let mut world = World::start();
        for (number, may_wait) in [(10, true), (11, true), (12, false), (13, false)] {
            world.send(number, may_wait).await.unwrap();
        }
        assert_eq!(world.answer().await.unwrap(), (12, 3, 0));
        assert!(world.deliveries.waits());
        assert_eq!(world.answer().await.unwrap(), (13, 1, 0));
        assert!(!world.deliveries.waits());
    }

    #[tokio::test]
    async fn a_call_that_no_other_follows_is_answered_all_the_same() {
        let mut world = World::start();
        world.send(10, true).await.unwrap();
        world.send(11, true).await.unwrap();
        let answer = tokio::time::timeout(grpc::CALL_DEADLINE, world.answer()).await;
        assert_eq!(answer.unwrap().unwrap(), (11, 2, 0));
    }

    #[tokio::test]
    async fn an_exception_waits_for_nothing_and_is_of_the_last_call_it_is_for() {
        let mut world = World::start();
        for number in [10, EXCEPTION, 11] {
            world.send(number, true).await.unwrap();
        }
        assert_eq!(world.answer().await.unwrap(), (EXCEPTION, 2, 1));
        assert_eq!(world.answer().await.unwrap(), (11, 1, 0));
    }

    #[tokio::test]
    async fn a_stream_that_broke_takes_no_more_calls_and_when_it_is_given_up_another_does() {
        let mut world = World::start();
        world.send(10, true).await.unwrap();
        world.send(REFUSED, true).await.unwrap();
        assert_eq!(world.answer().await.unwrap_err().code(), Code::FailedPrecondition);
        assert!(world.deliveries.waits(), "what became of the first nobody knows");
        world.deliveries.give_up();
        world.send(12, false).await.unwrap();
        assert_eq!(world.answer().await.unwrap(), (12, 1, 0));
    }

    #[tokio::test]
    async fn a_node_that_shuts_down_first_answers_what_it_has_handled() {
        let mut world = World::start();
        for number in [10, 11] {
            world.send(number, true).await.unwrap();
            assert_eq!(world.handled.recv().await, Some(number));
        }
        world.stop.notify_one();
        assert_eq!(world.answer().await.unwrap(), (11, 2, 0));
        assert_eq!(world.answer().await.unwrap_err().code(), Code::Unavailable);
    }
}

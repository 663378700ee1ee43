//! Calls to a node that go one after another over one stream: a lane's. What a call costs beyond its bytes, the making and
//! ending of an HTTP/2 stream at both ends, is then paid once a stream.
//!
//! *Invariant:* an answer is the answer to the call that was made last; after anything else than an answer the stream is
//! not used again. Leaves out: what an unknown outcome means.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::{Response, Status, Streaming};

/// The calling end.
#[derive(Debug)]
pub struct Calls<C, A> {
    stream: Option<(mpsc::Sender<C>, Streaming<A>)>,
}

/// Calls on their way to a node, as a request's body.
#[derive(Debug)]
pub struct Outgoing<C>(mpsc::Receiver<C>);

/// Answers on their way back, as a response's body.
pub type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

impl<C, A> Default for Calls<C, A> {
    fn default() -> Calls<C, A> {
        Calls { stream: None }
    }
}

impl<C, A> Calls<C, A> {
    /// Makes a call and waits for its answer. `open` makes a stream where there is none. Whoever stops waiting has lost
    /// the stream: the next call makes another.
    ///
    /// # Errors
    /// What the node says instead of an answer, or what became of the connection. Unless the node says that it has not,
    /// it may have done what the call wants.
    pub async fn call<O>(&mut self, call: C, open: impl FnOnce(Outgoing<C>) -> O) -> Result<A, Status>
    where
        O: Future<Output = Result<Response<Streaming<A>>, Status>>,
    {
        // Taken out and put back with the answer: a stream whose answer nobody waited for is of no use.
        let waiting = match self.stream.take() {
            // Its end is closed when the connection was lost since: then nothing has left.
            Some((calls, answers)) => match calls.try_send(call) {
                Ok(()) => Ok((calls, answers)),
                Err(refused) => Err(refused.into_inner()),
            },
            None => Err(call),
        };
        let (calls, mut answers) = match waiting {
            Ok(stream) => stream,
            Err(call) => {
                let (calls, outgoing) = mpsc::channel(1);
                if calls.try_send(call).is_err() {
                    return Err(Status::internal("a new stream takes no call"));
                }
                (calls, open(Outgoing::new(outgoing)).await?.into_inner())
            }
        };
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the node ended the stream of calls"))?;
        self.stream = Some((calls, answers));
        Ok(answer)
    }
}

impl<C> Outgoing<C> {
    pub(crate) fn new(calls: mpsc::Receiver<C>) -> Outgoing<C> {
        Outgoing(calls)
    }
}

impl<C> Stream for Outgoing<C> {
    type Item = C;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<C>> {
        self.0.poll_recv(context)
    }
}

/// Answers each call before the next is read, until `stop`, or until a call has no answer but a status.
pub fn answers<C, A, F>(
    calls: Streaming<C>,
    stop: impl Future<Output = ()> + Send + 'static,
    answer: impl FnMut(C) -> F + Send + 'static,
) -> Answers<A>
where
    C: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Status>> + Send,
{
    let begun = Some((calls, Box::pin(stop), answer));
    Box::pin(futures_util::stream::unfold(begun, |state| async {
        let (mut calls, mut stop, mut answer) = state?;
        let call = tokio::select! {
            biased;
            // A stream that waits for calls would keep the server from ending.
            () = &mut stop => Err(Status::unavailable("the node is shutting down")),
            // The next call, or the caller's end.
            call = calls.message() => call,
        };
        let answered = match call {
            Ok(Some(call)) => answer(call).await,
            Ok(None) => return None,
            Err(status) => Err(status),
        };
        let goes_on = answered.is_ok();
        Some((answered, goes_on.then_some((calls, stop, answer))))
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tonic::transport::Channel;
    use tonic::{Code, Request};

    use super::*;
    use crate::grpc;
    use crate::served::Served;
    use crate::v1::gateway_client::GatewayClient;
    use crate::v1::gateway_server::{Gateway, GatewayServer};
    use crate::v1::{
        CallHeader, DeliverAnswer, DeliverCall, ListConnectionsReply, ListConnectionsRequest,
        ServerPublishReply, ServerPublishRequest,
    };

    /// Has no answer to this one, ever.
    const SILENT: u64 = 1;
    /// Refuses this one.
    const REFUSED: u64 = 2;

    /// Answers with the number it is called with.
    struct Echo {
        streams: Arc<AtomicUsize>,
    }

    #[tonic::async_trait]
    impl Gateway for Echo {
        type DeliverStream = Answers<DeliverAnswer>;

        async fn deliver(
            &self,
            calls: Request<Streaming<DeliverCall>>,
        ) -> Result<Response<Self::DeliverStream>, Status> {
            self.streams.fetch_add(1, Ordering::SeqCst);
            let answer = async |call: DeliverCall| match number(&call) {
                SILENT => std::future::pending().await,
                REFUSED => Err(Status::failed_precondition("not this one")),
                incarnation => Ok(DeliverAnswer {
                    incarnation,
                    ..DeliverAnswer::default()
                }),
            };
            let answer = move |call| Box::pin(answer(call)) as Pin<Box<dyn Future<Output = _> + Send>>;
            Ok(Response::new(answers(
                calls.into_inner(),
                std::future::pending(),
                answer,
            )))
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

    fn number(call: &DeliverCall) -> u64 {
        call.header.as_ref().unwrap().to_incarnation
    }

    struct World {
        calls: Calls<DeliverCall, DeliverAnswer>,
        client: GatewayClient<Channel>,
        streams: Arc<AtomicUsize>,
        _served: Served,
    }

    impl World {
        fn start() -> World {
            let streams = Arc::<AtomicUsize>::default();
            let echo = Echo {
                streams: Arc::clone(&streams),
            };
            let served = Served::start(GatewayServer::new(echo));
            World {
                calls: Calls::default(),
                client: GatewayClient::new(grpc::channel(&served.address).unwrap()),
                streams,
                _served: served,
            }
        }

        async fn call(&mut self, to_incarnation: u64) -> Result<u64, Status> {
            let header = Some(CallHeader {
                to_incarnation,
                ..CallHeader::default()
            });
            let call = DeliverCall {
                header,
                ..DeliverCall::default()
            };
            let answer = self.calls.call(call, |calls| self.client.deliver(calls)).await?;
            Ok(answer.incarnation)
        }

        fn streams(&self) -> usize {
            self.streams.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn many_calls_share_a_stream_and_each_gets_its_own_answer() {
        let mut world = World::start();
        for number in 10..100 {
            assert_eq!(world.call(number).await.unwrap(), number);
        }
        assert_eq!(world.streams(), 1);
    }

    #[tokio::test]
    async fn the_answer_to_a_call_that_was_given_up_is_never_that_of_the_next() {
        let mut world = World::start();
        assert_eq!(world.call(10).await.unwrap(), 10);
        let given_up = tokio::time::timeout(Duration::from_millis(50), world.call(SILENT)).await;
        assert!(given_up.is_err());
        assert_eq!(world.call(11).await.unwrap(), 11);
        assert_eq!(world.streams(), 2);
    }

    #[tokio::test]
    async fn a_call_that_is_refused_ends_its_stream_and_the_next_makes_another() {
        let mut world = World::start();
        assert_eq!(
            world.call(REFUSED).await.unwrap_err().code(),
            Code::FailedPrecondition
        );
        assert_eq!(world.call(10).await.unwrap(), 10);
        assert_eq!(world.streams(), 2);
    }
}

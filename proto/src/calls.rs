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
                (calls, open(Outgoing(outgoing)).await?.into_inner())
            }
        };
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the node ended the stream of calls"))?;
        self.stream = Some((calls, answers));
        Ok(answer)
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
    answer: impl Fn(C) -> F + Send + 'static,
) -> Answers<A>
where
    C: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Status>> + Send,
{
    let begun = Some((calls, Box::pin(stop), answer));
    Box::pin(futures_util::stream::unfold(begun, |state| async {
        let (mut calls, mut stop, answer) = state?;
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

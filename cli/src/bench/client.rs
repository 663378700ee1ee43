//! One WebSocket connection of the load generator, as light as it can be: bytes are read into one buffer of the thread.
//!
//! *Invariant:* a connection that only receives costs a read and a look at each frame; it holds no buffer of its own
//! while no frame is cut.
//! Leaves out: TLS, and everything a gateway never sends (`frames`).

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frames::{self, Frame, Reader};
use super::url::Url;
use super::wire;

/// For the connection, the handshake and the join, each.
const DEADLINE: Duration = Duration::from_secs(10);

const BUFFER_BYTES: usize = 256 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// RFC 6455's own example. A gateway cannot tell, and neither side gains anything by a fresh one here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Likewise: a mask guards proxies against scripts of browsers, and there is neither.
pub(crate) const MASK: [u8; 4] = [0x52, 0x69, 0x6e, 0x67];

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// The reading half.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: OwnedReadHalf,
    reader: Reader,
}

/// Why a connection could not be made, or ended. The text has no address and no topic, so that equal ones can be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system says no: nobody listens, a reset, too many open files.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server is silent.
    #[error("{0}: no answer in {secs} s", secs = DEADLINE.as_secs())]
    Timeout(&'static str),
    /// The server answered the handshake with something else, e.g. 503.
    #[error("no WebSocket there: {0}")]
    Handshake(String),
    /// The end of the stream without a close frame.
    #[error("the server hung up")]
    HungUp,
    /// The server's close frame.
    #[error("the server closed with {code} {reason:?}")]
    Closed {
        /// As RFC 6455 and Phoenix number them.
        code: u16,
        /// For people.
        reason: String,
    },
    /// The connection stands, and may try again.
    #[error("join refused: {0}")]
    JoinRefused(String),
    /// The connection stands, and the server ended a channel of it.
    #[error("the server ended a channel with {0}")]
    ChannelEnded(&'static str),
    /// No frame of RFC 6455.
    #[error(transparent)]
    Protocol(#[from] frames::Error),
}

/// Connects and shakes hands.
pub(crate) async fn connect(url: &Url) -> Result<(Receiver, OwnedWriteHalf), Error> {
    within(open(url), "connect").await
}

async fn open(url: &Url) -> Result<(Receiver, OwnedWriteHalf), Error> {
    let mut stream = TcpStream::connect(&url.authority).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: {KEY}\r\n\r\n",
        url.target, url.authority
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    let end = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut piece).await? {
            0 => return Err(Error::HungUp),
            count => head.extend_from_slice(&piece[..count]),
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Error::Handshake(format!(
                "an answer of more than {HEAD_BYTES_MAX} bytes"
            )));
        }
    };
    let answer = String::from_utf8_lossy(&head[..end]);
    if !answer.starts_with("HTTP/1.1 101 ") || !answer.contains(ACCEPT) {
        return Err(Error::Handshake(
            answer.lines().next().unwrap_or_default().to_owned(),
        ));
    }
    let mut reader = Reader::default();
    // A gateway speaks only when spoken to, so nothing but half a frame of a broken server can be here.
    reader.feed(&head[end + 4..], |_| {})?;
    let (read, write) = stream.into_split();
    Ok((Receiver { stream: read, reader }, write))
}

/// Joins all `topics` at once, and takes out of them what is joined. What comes meanwhile and is no answer goes to
/// `on_frame`. [`Error::JoinRefused`] leaves the connection as it was, and in `topics` what to try again.
pub(crate) async fn join(
    receiver: &mut Receiver,
    sender: &mut OwnedWriteHalf,
    topics: &mut Vec<String>,
    on_frame: &mut impl FnMut(Frame<'_>),
) -> Result<(), Error> {
    let mut out = Vec::new();
    for topic in topics.iter() {
        frames::text(&wire::join(topic), MASK, &mut out);
    }
    let joined = async {
        sender.write_all(&out).await?;
        let (mut asked, mut refusal) = (topics.len(), None);
        while asked > 0 {
            receiver
                .receive(|frame| {
                    let answer = match frame {
                        Frame::Message(message) => wire::join_answer(message),
                        _ => None,
                    };
                    match answer {
                        Some((topic, answer)) => {
                            asked = asked.saturating_sub(1); // a server may answer more than it was asked
                            match answer {
                                Ok(()) => topics.retain(|waiting| waiting.as_bytes() != topic),
                                Err(reason) => refusal = Some(reason),
                            }
                        }
                        None => on_frame(frame),
                    }
                })
                .await?;
        }
        match refusal {
            Some(reason) => Err(Error::JoinRefused(reason)),
            None => Ok(()),
        }
    };
    within(joined, "join").await
}

impl Receiver {
    /// From now on the connection ends as if a cable were cut: no close frame, and the system forgets it at once, so that
    /// a storm does not run out of ports.
    pub(crate) fn end_abruptly(&self) {
        self.stream.as_ref().set_zero_linger().ok(); // without it the end is only slower
    }

    /// Waits for bytes, reads once, and calls `on_frame` with every frame that is complete. A close frame or the end of
    /// the connection is an error that says which.
    pub(crate) async fn receive(&mut self, mut on_frame: impl FnMut(Frame<'_>)) -> Result<(), Error> {
        let Receiver { stream, reader } = self;
        std::future::poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut into = ReadBuf::new(buffer);
                match Pin::new(&mut *stream).poll_read(context, &mut into) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                    Poll::Ready(Ok(())) if into.filled().is_empty() => Poll::Ready(Err(Error::HungUp)),
                    Poll::Ready(Ok(())) => {
                        let mut closed = None;
                        let fed = reader.feed(into.filled(), |frame| match frame {
                            Frame::Close(code, reason) => {
                                let reason = String::from_utf8_lossy(reason).into_owned();
                                closed.get_or_insert(Error::Closed { code, reason });
                            }
                            frame => on_frame(frame),
                        });
                        Poll::Ready(match closed {
                            Some(closed) => Err(closed),
                            None => fed.map_err(Into::into),
                        })
                    }
                }
            })
        })
        .await
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Error>>, what: &'static str) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => Err(Error::Timeout(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shakes hands, reads what is asked, and says `answers`, whatever that was.
    async fn server(listener: tokio::net::TcpListener, answers: Vec<String>) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 4096];
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        let head = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        let mut out = Vec::new();
        for answer in answers {
            out.extend([0x81, u8::try_from(answer.len()).unwrap()]);
            out.extend(answer.as_bytes());
        }
        stream.write_all(&out).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_refused_stays_to_be_asked_again_and_no_answer_too_many_hurts() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("ws://{}", listener.local_addr().unwrap())).unwrap();
        let reply = |topic: &str, status: &str| {
            let response = r#"{"reason":"overloaded"}"#;
            format!(r#"["1","1","{topic}","phx_reply",{{"status":"{status}","response":{response}}}]"#)
        };
        let answers = vec![
            reply("a", "ok"),
            reply("b", "error"),
            r#"["1",null,"a","m",{}]"#.to_owned(),
            reply("a", "ok"),
        ];
        let client = async {
            let (mut receiver, mut sender) = connect(&url).await.unwrap();
            let mut topics = vec!["a".to_owned(), "b".to_owned()];
            let mut others = 0;
            let joined = join(&mut receiver, &mut sender, &mut topics, &mut |_| others += 1).await;
            let error = joined.unwrap_err();
            assert_eq!(error.to_string(), "join refused: overloaded");
            assert_eq!((topics, others), (vec!["b".to_owned()], 1));
            let ended = receiver.receive(|_| {}).await;
            assert_eq!(ended.unwrap_err().to_string(), "the server hung up");
        };
        tokio::join!(server(listener, answers), client);
    }
}

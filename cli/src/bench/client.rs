//! One WebSocket connection of the load generator, as light as it can be: bytes are read into one buffer of the thread.
//!
//! *Invariant:* a connection that only receives costs a read and a look at each frame; it holds no buffer of its own
//! while no frame is cut.
//! Leaves out: TLS, and everything a gateway never sends (`frames`).

use std::cell::RefCell;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
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
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
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

/// Connects and shakes hands.
pub(crate) async fn connect(url: &Url) -> Result<(Receiver, OwnedWriteHalf)> {
    within(open(url), "connect")
        .await
        .with_context(|| format!("connect to {url}"))
}

async fn open(url: &Url) -> Result<(Receiver, OwnedWriteHalf)> {
    let mut stream = TcpStream::connect(&url.authority).await?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: {KEY}\r\n\r\n",
        url.target, url.authority
    );
    stream
        .write_all(request.as_bytes())
        .await
        .context("shake hands")?;
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    let end = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut piece).await.context("shake hands")? {
            0 => bail!("the server hung up instead of shaking hands"),
            count => head.extend_from_slice(&piece[..count]),
        }
        if head.len() > HEAD_BYTES_MAX {
            bail!("the answer to the handshake has more than {HEAD_BYTES_MAX} bytes");
        }
    };
    let answer = String::from_utf8_lossy(&head[..end]);
    if !answer.starts_with("HTTP/1.1 101 ") || !answer.contains(ACCEPT) {
        bail!(
            "no WebSocket there: {}",
            answer.lines().next().unwrap_or_default()
        );
    }
    let mut reader = Reader::default();
    // A gateway speaks only when spoken to, so nothing but half a frame of a broken server can be here.
    reader.feed(&head[end + 4..], |_| {})?;
    let (read, write) = stream.into_split();
    Ok((Receiver { stream: read, reader }, write))
}

/// Joins `topic` and waits for the answer.
pub(crate) async fn join(receiver: &mut Receiver, sender: &mut OwnedWriteHalf, topic: &str) -> Result<()> {
    let joined = async {
        let mut out = Vec::new();
        frames::text(&wire::join(topic), MASK, &mut out);
        sender.write_all(&out).await?;
        let mut answer = None;
        while answer.is_none() {
            receiver
                .receive(|frame| {
                    if let Frame::Message(message) = frame
                        && answer.is_none()
                    {
                        answer = wire::joined(topic, message);
                    }
                })
                .await?;
        }
        match answer {
            Some(Err(refusal)) => bail!("the server answered {refusal}"),
            _ => Ok(()),
        }
    };
    within(joined, "join")
        .await
        .with_context(|| format!("join {topic}"))
}

impl Receiver {
    /// Waits for bytes, reads once, and calls `on_frame` with every frame that is complete. A close frame or the end of
    /// the connection is an error that says which.
    pub(crate) async fn receive(&mut self, mut on_frame: impl FnMut(Frame<'_>)) -> Result<()> {
        let Receiver { stream, reader } = self;
        std::future::poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut into = ReadBuf::new(buffer);
                match Pin::new(&mut *stream).poll_read(context, &mut into) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                    Poll::Ready(Ok(())) if into.filled().is_empty() => {
                        Poll::Ready(Err(anyhow!("the server hung up")))
                    }
                    Poll::Ready(Ok(())) => {
                        let mut closed = None;
                        let fed = reader.feed(into.filled(), |frame| match frame {
                            Frame::Close(code, reason) => {
                                let reason = String::from_utf8_lossy(reason).into_owned();
                                closed.get_or_insert(anyhow!("the server closed with {code} {reason:?}"));
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

async fn within<T>(work: impl Future<Output = Result<T>>, what: &str) -> Result<T> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => Err(anyhow!("{what}: no answer in {} s", DEADLINE.as_secs())),
    }
}

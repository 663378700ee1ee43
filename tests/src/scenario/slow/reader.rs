//! The slow one: a socket with hardly a receive buffer, read a little at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::{HEARTBEAT, HEARTBEAT_EVERY, HEARTBEAT_REPLY, Shared};
use crate::raw::{CLOSE, FIN, TEXT, frame, parse, upgrade};
use crate::resuming::{Asked, Position, Seen, Trail, topic};
use crate::wait::SOON;

/// As little as Linux gives.
const RECEIVE_BUFFER: u32 = 2048;

/// Pieces of a second in which it reads.
const READS_PER_SECOND: usize = 10;

/// A reader that takes its time.
#[derive(Debug)]
pub(super) struct SlowReader {
    stream: TcpStream,
    address: SocketAddr,
    bytes_per_read: usize,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    trail: Trail,
}

/// How it ended: with a close frame of this code, or none.
type Closed = Option<Option<u16>>;

impl SlowReader {
    /// Connects and joins with positions, as fast as anybody.
    pub(super) async fn connect(
        gateway: SocketAddr,
        bytes_per_second: usize,
        shared: Arc<Shared>,
    ) -> Result<SlowReader> {
        let socket = TcpSocket::new_v4().context("make a socket")?;
        socket
            .set_recv_buffer_size(RECEIVE_BUFFER)
            .context("set its buffer")?;
        let stream = timeout(SOON, socket.connect(gateway))
            .await
            .context("connect in time")?;
        let stream = stream.context("connect")?;
        let address = stream.local_addr().context("its address")?;
        let mut reader = SlowReader {
            stream,
            address,
            bytes_per_read: (bytes_per_second / READS_PER_SECOND).max(1),
            shared,
            buffer: Vec::new(),
            trail: Trail::default(),
        };
        reader
            .stream
            .write_all(upgrade("/socket/websocket?vsn=2.0.0", "").as_bytes())
            .await
            .context("ask for the upgrade")?;
        let end = loop {
            if let Some(end) = reader.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            ensure!(reader.read(512).await?, "closed without an upgrade");
        };
        ensure!(reader.buffer.starts_with(b"HTTP/1.1 101 "), "no upgrade");
        reader.buffer.drain(..end + 4);
        let join = format!(r#"["1","1","{}","phx_join",{{"resume":true}}]"#, topic(0));
        let join = frame(FIN | TEXT, join.as_bytes());
        reader.stream.write_all(&join).await.context("join")?;
        while reader.trail.seen.is_empty() {
            ensure!(reader.read(512).await?, "closed without an answer");
            reader.take_frames()?;
        }
        Ok(reader)
    }

    /// Where the gateway sees it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads slowly until it is woken, then as fast as it can to the last publication or to its end.
    pub(super) async fn run(mut self) -> Result<(Trail, Closed)> {
        let mut heartbeat_at = Instant::now();
        loop {
            if Instant::now() >= heartbeat_at {
                heartbeat_at += HEARTBEAT_EVERY;
                let heartbeat = frame(FIN | TEXT, HEARTBEAT.as_bytes());
                // Where the connection is over, reading will tell.
                drop(self.stream.write_all(&heartbeat).await);
            }
            let is_awake = self.shared.is_awake.load(Ordering::SeqCst);
            if !is_awake {
                sleep(Duration::from_secs(1) / READS_PER_SECOND as u32).await;
            }
            let length = if is_awake { 1 << 16 } else { self.bytes_per_read };
            let more = self.read(length).await?;
            if let Some(code) = self.take_frames()? {
                return Ok((self.trail, Some(code)));
            }
            if !more {
                let now = self.shared.start.elapsed();
                self.trail.seen.push((now, Seen::Lost(None)));
                return Ok((self.trail, Some(None)));
            }
            let last = self.shared.last.load(Ordering::SeqCst);
            let has =
                |(_, seen): &(Duration, Seen)| matches!(seen, Seen::Got { number, .. } if *number == last);
            if last > 0 && self.trail.seen.last().is_some_and(has) {
                return Ok((self.trail, None));
            }
        }
    }

    /// Reads at most so much; whether there was more before the end.
    async fn read(&mut self, length: usize) -> Result<bool> {
        let mut chunk = vec![0; length];
        match timeout(SOON, self.stream.read(&mut chunk)).await {
            Ok(Ok(0)) => Ok(false),
            Ok(Ok(read)) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                Ok(true)
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Ok(Err(error)) => Err(error).context("read"),
            Err(_) => bail!("the slow reader was sent nothing for {SOON:?}"),
        }
    }

    /// Writes down all whole frames; a close frame gives its code.
    fn take_frames(&mut self) -> Result<Closed> {
        let now = self.shared.start.elapsed();
        while let Some((first, payload, length)) = parse(&self.buffer)? {
            self.buffer.drain(..length);
            if first == FIN | CLOSE {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                self.trail.seen.push((now, Seen::Lost(code)));
                return Ok(Some(code));
            }
            if payload.starts_with(HEARTBEAT_REPLY.as_bytes()) {
                continue;
            }
            let frame: Value = serde_json::from_slice(&payload).context("a frame")?;
            let seen = seen(&frame).with_context(|| format!("the slow reader got {frame}"))?;
            self.trail.seen.push((now, seen));
        }
        Ok(None)
    }
}

fn seen(frame: &Value) -> Option<Seen> {
    let payload = &frame[4];
    match frame[3].as_str()? {
        "phx_reply" => {
            let response = &payload["response"];
            Some(Seen::Joined {
                asked: Asked::FromNow,
                position: Position::new(response["epoch"].as_str()?, response["offset"].as_u64()?),
                is_recovered: response["recovered"].as_bool()?,
            })
        }
        "e" => Some(Seen::Got {
            offset: frame[1].as_str()?.strip_prefix('@')?.parse().ok()?,
            number: payload["n"].as_u64()?,
        }),
        "gap" => Some(Seen::Gap {
            epoch: payload["epoch"].as_str()?.into(),
            from: payload["from"].as_u64()?,
            to: payload["to"].as_u64()?,
            reason: payload["reason"].as_str()?.to_owned(),
        }),
        _ => None,
    }
}

//! A TCP connection that says whatever it is told to: broken handshakes, broken frames, halves of both.
//!
//! It never asks for positions, so every text it is sent is one that plain Phoenix could have sent.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stock::is_stock;
use crate::wait::SOON;

/// A text frame's opcode.
pub const TEXT: u8 = 1;
/// A binary frame's opcode.
pub const BINARY: u8 = 2;
/// A close frame's opcode.
pub const CLOSE: u8 = 8;
/// A ping's opcode.
pub const PING: u8 = 9;
/// The bit of a message's last frame.
pub const FIN: u8 = 0x80;

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    /// Read and not yet taken.
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects and says nothing.
    ///
    /// # Errors
    /// No connection.
    pub async fn connect(to: SocketAddr) -> Result<Raw> {
        let stream = TcpStream::connect(to)
            .await
            .with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true).context("set nodelay")?;
        Ok(Raw {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Connects and upgrades to V2.
    ///
    /// # Errors
    /// No upgrade.
    pub async fn upgraded(to: SocketAddr) -> Result<Raw> {
        let mut raw = Raw::connect(to).await?;
        let head = raw.handshake(&upgrade("/socket/websocket?vsn=2.0.0", "")).await?;
        ensure!(head.starts_with("HTTP/1.1 101 "), "no upgrade: {head}");
        Ok(raw)
    }

    /// Writes these bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("write")
    }

    /// Writes a request and reads the head of the answer; what follows stays in the buffer.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn handshake(&mut self, request: &str) -> Result<String> {
        self.write(request.as_bytes()).await?;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            ensure!(
                self.read_more(SOON).await?,
                "closed without an answer, after {:?}",
                self.buffer
            );
        }
    }

    /// Reads everything until the other side closes, as text.
    ///
    /// # Errors
    /// It does not close in time.
    pub async fn rest(&mut self) -> Result<String> {
        while self.read_more(SOON).await? {}
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned())
    }

    /// The next server frame: its first byte and its payload. `None` where the connection ended.
    ///
    /// # Errors
    /// None in time, a masked one, or one that only a channel with positions may be sent.
    pub async fn frame(&mut self, deadline: Duration) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((first, payload, length)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                if first == FIN | TEXT {
                    let text = std::str::from_utf8(&payload).context("a text frame is UTF-8")?;
                    is_stock(text).map_err(anyhow::Error::msg)?;
                }
                return Ok(Some((first, payload)));
            }
            if !self.read_more(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// The next frame that is no close must not come: reads on to the close frame and gives its code.
    ///
    /// # Errors
    /// Another frame, or the end without a close frame.
    pub async fn close_code(&mut self, deadline: Duration) -> Result<Option<u16>> {
        match self.frame(deadline).await? {
            Some((first, payload)) if first == FIN | CLOSE => {
                Ok(payload.first_chunk().map(|code| u16::from_be_bytes(*code)))
            }
            other => bail!("expected a close frame, got {other:?}"),
        }
    }

    /// The connection is over: nothing more comes and the other side has closed.
    ///
    /// # Errors
    /// More comes, or it stays open.
    pub async fn expect_end(&mut self, deadline: Duration) -> Result<()> {
        let more = self.read_more(deadline).await?;
        ensure!(
            !more && self.buffer.is_empty(),
            "expected the end, got {:?}",
            self.buffer
        );
        Ok(())
    }

    /// Sends FIN and keeps reading.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn finish_writing(&mut self) -> Result<()> {
        self.stream.shutdown().await.context("shut down")
    }

    /// Whether there was more before the end.
    async fn read_more(&mut self, deadline: Duration) -> Result<bool> {
        let mut chunk = [0; 4096];
        let read = tokio::time::timeout(deadline, self.stream.read(&mut chunk)).await;
        match read.with_context(|| format!("nothing in {deadline:?}, after {:?}", self.buffer))? {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Ok(true)
            }
            // The other side may close with what we sent still unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error).context("read"),
        }
    }
}

/// An upgrade request; `more` are further header lines, each with its line break.
#[must_use]
pub fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A masked frame: `first` is FIN, RSV and opcode.
#[must_use]
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, 0x80, payload.len());
    let mask = [0x12, 0x34, 0x56, 0x78];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

/// A frame as only servers may send it.
#[must_use]
pub fn unmasked_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, 0, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

fn header(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    match length {
        0..=125 => vec![first, mask_bit | length as u8],
        126..=0xFFFF => [&[first, mask_bit | 126][..], &(length as u16).to_be_bytes()].concat(),
        _ => [&[first, mask_bit | 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// First byte, payload and whole length of the frame at the start of `bytes`, if it is all there.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(u8, Vec<u8>, usize)>> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    ensure!(second & 0x80 == 0, "a server frame is masked");
    let (length, head) = match (second & 0x7F, rest) {
        (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
        (126, _) => return Ok(None),
        (127, rest) => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length) as usize, 10),
            None => return Ok(None),
        },
        (short, _) => (usize::from(short), 2),
    };
    Ok(bytes
        .get(head..head + length)
        .map(|payload| (*first, payload.to_vec(), head + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_frame_of_every_length_form_is_read_back() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let bytes = unmasked_frame(FIN | TEXT, &payload);
            assert_eq!(parse(&bytes).unwrap(), Some((FIN | TEXT, payload, bytes.len())));
            assert_eq!(
                parse(&bytes[..bytes.len() - 1]).unwrap().filter(|_| length > 0),
                None
            );
        }
    }
}

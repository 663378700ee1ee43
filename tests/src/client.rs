//! A client that shows every frame: what is sent and received is exactly what the test writes down.
//!
//! *Invariant:* every wait has a deadline, and frames are compared as the bytes that came. Until it asks for positions,
//! every text is one that plain Phoenix could have sent.
//! Leaves out: reconnecting, heartbeats and joining by itself. Real clients are in `tests/clients`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::stock::{asks_for_positions, is_stock};
use crate::wait::SOON;

/// What a gateway sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// The answer to a ping.
    Pong(Vec<u8>),
    /// The connection's end, with its code where there was one; `None` too where it just broke.
    Closed(Option<u16>),
}

/// A WebSocket connection to a gateway.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    next_ref: u64,
    asked_for_positions: bool,
}

impl Client {
    /// Connects as phoenix.js does, to `/socket/websocket?vsn=2.0.0`.
    ///
    /// # Errors
    /// No upgrade.
    pub async fn connect(gateway: SocketAddr) -> Result<Client> {
        Client::connect_to(gateway, "/socket/websocket?vsn=2.0.0").await
    }

    /// Connects to any path.
    ///
    /// # Errors
    /// No upgrade.
    pub async fn connect_to(gateway: SocketAddr, path: &str) -> Result<Client> {
        let request = format!("ws://{gateway}{path}")
            .into_client_request()
            .context("make the request")?;
        Client::connect_by(gateway, request).await
    }

    /// Connects by this request.
    ///
    /// # Errors
    /// No upgrade; the error names the status.
    pub async fn connect_by(gateway: SocketAddr, request: Request) -> Result<Client> {
        // A thousand of these live in one test; the default would zero 128 KiB at each read.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let connect = async {
            let stream = TcpStream::connect(gateway)
                .await
                .with_context(|| format!("connect to {gateway}"))?;
            stream.set_nodelay(true).context("set nodelay")?;
            let (socket, _) = client_async_with_config(request, stream, Some(config))
                .await
                .context("upgrade")?;
            Ok::<_, anyhow::Error>(socket)
        };
        let socket = tokio::time::timeout(SOON, connect)
            .await
            .with_context(|| format!("no upgrade by {gateway}"))??;
        Ok(Client {
            socket,
            next_ref: 1000,
            asked_for_positions: false,
        })
    }

    /// Sends a text message as it stands.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.asked_for_positions |= asks_for_positions(text);
        let send = self.socket.send(Message::text(text));
        tokio::time::timeout(SOON, send)
            .await
            .context("send: it does not read")?
            .context("send")
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket
            .send(Message::binary(bytes.to_vec()))
            .await
            .context("send")
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn ping(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket
            .send(Message::Ping(bytes.to_vec().into()))
            .await
            .context("ping")
    }

    /// The next frame.
    ///
    /// # Errors
    /// None came in time.
    pub async fn next(&mut self) -> Result<Frame> {
        self.next_within(SOON).await
    }

    /// The next frame, if it comes in time.
    ///
    /// # Errors
    /// None came in time, or one that only a channel with positions may be sent.
    pub async fn next_within(&mut self, deadline: Duration) -> Result<Frame> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Frame::Text(text.as_str().to_owned())),
                    Some(Ok(Message::Binary(bytes))) => return Ok(Frame::Binary(bytes.to_vec())),
                    Some(Ok(Message::Pong(bytes))) => return Ok(Frame::Pong(bytes.to_vec())),
                    Some(Ok(Message::Close(frame))) => {
                        return Ok(Frame::Closed(frame.map(|frame| frame.code.into())));
                    }
                    Some(Ok(Message::Ping(_) | Message::Frame(_))) => {}
                    None | Some(Err(Error::ConnectionClosed | Error::Io(_) | Error::Protocol(_))) => {
                        return Ok(Frame::Closed(None));
                    }
                    Some(Err(error)) => return Err(error).context("read"),
                }
            }
        };
        let frame = tokio::time::timeout(deadline, next)
            .await
            .with_context(|| format!("no frame in {deadline:?}"))??;
        if let Frame::Text(text) = &frame
            && !self.asked_for_positions
        {
            is_stock(text).map_err(anyhow::Error::msg)?;
        }
        Ok(frame)
    }

    /// The next text.
    ///
    /// # Errors
    /// Something else came, or nothing in time.
    pub async fn text(&mut self) -> Result<String> {
        match self.next().await? {
            Frame::Text(text) => Ok(text),
            other => bail!("expected a text, got {other:?}"),
        }
    }

    /// The next frame must be this text, byte for byte.
    ///
    /// # Errors
    /// It is another.
    pub async fn expect(&mut self, text: &str) -> Result<()> {
        let frame = self.next().await.with_context(|| format!("waiting for {text}"))?;
        ensure!(
            frame == Frame::Text(text.to_owned()),
            "expected {text}\n     got {frame:?}"
        );
        Ok(())
    }

    /// The next frame must be the connection's end with this code.
    ///
    /// # Errors
    /// It is another.
    pub async fn expect_close(&mut self, code: u16) -> Result<()> {
        let frame = self
            .next()
            .await
            .with_context(|| format!("waiting for close {code}"))?;
        ensure!(
            frame == Frame::Closed(Some(code)),
            "expected close {code}, got {frame:?}"
        );
        Ok(())
    }

    /// Sends `text` and expects `answer` next, byte for byte.
    ///
    /// # Errors
    /// Another frame came, or none in time.
    pub async fn ask(&mut self, text: &str, answer: &str) -> Result<()> {
        self.send(text).await?;
        self.expect(answer).await.with_context(|| format!("after {text}"))
    }

    /// Joins with an empty payload; join_ref and ref are `join_ref`.
    ///
    /// # Errors
    /// The reply is anything but a bare ok.
    pub async fn join(&mut self, join_ref: &str, topic: &str) -> Result<()> {
        let join = json!([join_ref, join_ref, topic, "phx_join", {}]).to_string();
        let topic = Value::from(topic);
        let reply =
            format!(r#"["{join_ref}","{join_ref}",{topic},"phx_reply",{{"status":"ok","response":{{}}}}]"#);
        self.ask(&join, &reply).await
    }

    /// Nothing but what was expected has come: a heartbeat is answered next.
    ///
    /// # Errors
    /// Something else came first.
    pub async fn nothing_else(&mut self) -> Result<()> {
        self.next_ref += 1;
        let reference = self.next_ref;
        self.ask(
            &format!(r#"[null,"{reference}","phoenix","heartbeat",{{}}]"#),
            &format!(r#"[null,"{reference}","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#),
        )
        .await
    }

    /// It has joined `topics:quiet` under the join_ref "1", and is still joined, still served, and was told nothing else.
    ///
    /// # Errors
    /// Something else came, or nothing did.
    pub async fn undisturbed(&mut self) -> Result<()> {
        let publish = r#"["1","2","topics:quiet","publish",["e",{}]]"#;
        let reply = r#"["1","2","topics:quiet","phx_reply",{"status":"ok","response":{}}]"#;
        let served = async {
            self.nothing_else().await?;
            self.ask(publish, reply).await?;
            self.expect(r#"["1",null,"topics:quiet","e",{}]"#).await?;
            self.nothing_else().await
        };
        served.await.context("a bystander was disturbed")
    }

    /// Closes with this code, or with none, and gives the code of the echo.
    ///
    /// # Errors
    /// No close came back in time.
    pub async fn close(&mut self, code: Option<u16>) -> Result<Option<u16>> {
        let frame = code.map(|code| CloseFrame {
            code: code.into(),
            reason: "".into(),
        });
        self.socket.close(frame).await.context("close")?;
        loop {
            if let Frame::Closed(code) = self.next().await? {
                return Ok(code);
            }
        }
    }

    /// The two halves, for a task that reads and one that writes.
    #[must_use]
    pub fn into_inner(self) -> WebSocketStream<TcpStream> {
        self.socket
    }
}

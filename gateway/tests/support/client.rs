//! Clients, well-behaved and not.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::stock::{asks_for_positions, is_stock};
use super::{HANDSHAKE, PATIENCE};

/// A well-behaved client. As long as it asks for no positions, whatever it is sent is what plain Phoenix might send.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked_for_positions: bool,
}

impl Client {
    pub(super) fn new(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Client {
        Client {
            socket,
            asked_for_positions: false,
        }
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        let message = message.into();
        self.asked_for_positions |= matches!(&message, Message::Text(text) if asks_for_positions(text));
        self.socket.send(message).await.unwrap();
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
        let message = next.expect("a message in time").expect("not closed yet").unwrap();
        if let Message::Text(text) = &message
            && !self.asked_for_positions
        {
            assert_eq!(is_stock(text), Ok(()));
        }
        message
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.next().await {
            Message::Text(text) => text.to_string(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// The code of the close frame, which must be next.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        match self.next().await {
            Message::Close(frame) => frame.map(|frame| frame.code.into()),
            other => panic!("expected a close, got {other:?}"),
        }
    }

    /// Joins `topic` with this join_ref and takes the reply.
    pub(crate) async fn join(&mut self, join_ref: &str, topic: &str) {
        self.send(format!(
            r#"["{join_ref}","{join_ref}","{topic}","phx_join",{{}}]"#
        ))
        .await;
        let reply =
            format!(r#"["{join_ref}","{join_ref}","{topic}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        assert_eq!(self.text().await, reply);
    }

    /// Proves that the connection and the gateway live.
    pub(crate) async fn heartbeat(&mut self) {
        self.send(r#"[null,"h","phoenix","heartbeat",{}]"#).await;
        assert_eq!(
            self.text().await,
            r#"[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]"#
        );
    }
}

/// A client of bytes. As long as it asks for no positions, it is sent nothing that plain Phoenix would not send.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    asked_for_positions: bool,
}

impl Raw {
    pub(super) fn new(stream: TcpStream) -> Raw {
        Raw {
            stream,
            asked_for_positions: false,
        }
    }

    pub(super) async fn shaken(mut self) -> Raw {
        self.send(HANDSHAKE).await;
        assert!(self.head().await.starts_with("HTTP/1.1 101 "));
        self
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // Under a mask of zeros a frame can be read.
        let asks = bytes.windows(8).any(|window| window == b"\"resume\"");
        self.asked_for_positions |= asks;
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends what may not be taken to its end.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// The head of an HTTP answer.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await);
        }
        String::from_utf8(head).unwrap()
    }

    /// A server's frame: its first byte and its payload.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let (first, len) = (self.byte().await, self.byte().await);
        let len = match len {
            126 => u64::from(self.byte().await) << 8 | u64::from(self.byte().await),
            127 => panic!("no frame here is so long"),
            short => u64::from(short),
        };
        let mut payload = vec![0; len as usize];
        tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut payload))
            .await
            .unwrap()
            .unwrap();
        if first == 0x81 && !self.asked_for_positions {
            assert_eq!(is_stock(std::str::from_utf8(&payload).unwrap()), Ok(()));
        }
        (first, payload)
    }

    /// The code of the next frame, which must be a close.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{payload:?}");
        payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        drop(
            tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest))
                .await
                .expect("an end in time"),
        );
        rest
    }

    async fn byte(&mut self) -> u8 {
        tokio::time::timeout(PATIENCE, self.stream.read_u8())
            .await
            .expect("a byte in time")
            .expect("a byte")
    }
}

/// A client's frame under a mask of zeros.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    match payload.len() {
        len @ 0..=125 => frame.extend([first, 0x80 | len as u8]),
        len @ 126..=0xffff => {
            frame.extend([first, 0xfe]);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.extend([first, 0xff]);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

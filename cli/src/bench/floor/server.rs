//! A server that takes what is published and writes it to every socket of its topic, and no more.
//!
//! What was read in one turn is written together, up to so many frames to a socket at once; with one frame a write it is
//! the plainest broadcast there is.
//! Leaves out: strictness. Its one client is the generator, whose frames are whole, small and well formed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use anyhow::{Context, Result};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;

use super::super::args::FloorServerArgs;
use super::super::client::ACCEPT;
use super::super::said::lines_of_stdin;
use crate::output;

/// Connections that wait to be taken. With the 128 that is usual, most of a storm would be told to try again in a second.
const BACKLOG: u32 = 4096;

const BUFFER_BYTES: usize = 64 * 1024;

/// What a client pushes: join_ref, ref, topic, event, payload.
type Push<'a> = (Option<&'a str>, &'a str, &'a str, &'a str, &'a RawValue);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// Serves until its stdin ends.
pub(crate) async fn run(args: &FloorServerArgs) -> Result<()> {
    let listener = listen().context("listen")?;
    output::line(&listener.local_addr()?.port().to_string())?;
    let server = Rc::new(Server {
        frames: args.frames as usize,
        topics: RefCell::default(),
        due: RefCell::default(),
        flush: Notify::new(),
    });
    tokio::task::spawn_local(Rc::clone(&server).flush());
    let serve = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::task::spawn_local(Rc::clone(&server).serve(stream))),
                Err(error) => return Err(error).context("accept a connection"),
            }
        }
    };
    let mut lines = lines_of_stdin();
    tokio::select! {
        failed = serve => failed,
        () = async { while lines.recv().await.is_some() {} } => Ok(()),
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    socket.listen(BACKLOG)
}

struct Server {
    /// Written to a socket at once, at most.
    frames: usize,
    topics: RefCell<HashMap<String, Rc<Topic>>>,
    /// Topics with something to write.
    due: RefCell<Vec<Rc<Topic>>>,
    flush: Notify,
}

#[derive(Default)]
struct Topic {
    members: RefCell<Vec<Rc<Socket>>>,
    /// How many of them are gone.
    gone: Cell<usize>,
    frames: RefCell<Vec<Vec<u8>>>,
}

struct Socket {
    stream: TcpStream,
    /// What the socket did not take.
    unsent: RefCell<Vec<u8>>,
    wake: Notify,
    gone: Cell<bool>,
    /// Of which it is a member.
    topics: RefCell<Vec<Rc<Topic>>>,
}

impl Server {
    async fn serve(self: Rc<Server>, mut stream: TcpStream) {
        if shake_hands(&mut stream).await.is_err() {
            return;
        }
        let socket = Rc::new(Socket {
            stream,
            unsent: RefCell::default(),
            wake: Notify::new(),
            gone: Cell::new(false),
            topics: RefCell::default(),
        });
        // Whatever ends it: the generator knows which of its connections it has closed.
        let ended = self.read(&socket).await;
        socket.gone.set(true);
        for topic in socket.topics.take() {
            topic.lose_one();
        }
        drop(ended);
    }

    async fn read(&self, socket: &Rc<Socket>) -> io::Result<()> {
        let mut partial = Vec::new();
        loop {
            let interest = match socket.unsent.borrow().is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let ready = tokio::select! {
                biased;
                () = socket.wake.notified() => continue,
                ready = socket.stream.ready(interest) => ready?,
            };
            if ready.is_writable() {
                socket.write_unsent()?;
            }
            if ready.is_readable() {
                BUFFER.with_borrow_mut(|buffer| match socket.stream.try_read(buffer) {
                    Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => self.take(socket, &mut partial, &buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    Err(error) => Err(error),
                })?;
            }
        }
    }

    /// Takes every whole frame; what is left of one stays in `partial`.
    fn take(&self, socket: &Rc<Socket>, partial: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
        partial.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((payload, len)) = unmask(&mut partial[used..]) {
            self.push(socket, payload)?;
            used += len;
        }
        partial.drain(..used);
        Ok(())
    }

    fn push(&self, socket: &Rc<Socket>, text: &[u8]) -> io::Result<()> {
        let (join_ref, reference, name, event, payload): Push<'_> = serde_json::from_slice(text)?;
        let join_ref = join_ref.map_or("null".to_owned(), |join_ref| format!("\"{join_ref}\""));
        if event == "phx_join" {
            let topic = Rc::clone(self.topics.borrow_mut().entry(name.to_owned()).or_default());
            topic.members.borrow_mut().push(Rc::clone(socket));
            socket.topics.borrow_mut().push(topic);
        }
        let reply =
            format!(r#"[{join_ref},"{reference}","{name}","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        socket.write(&[frame(reply.as_bytes())]);
        if matches!(event, "phx_join" | "heartbeat") {
            return Ok(());
        }
        let Some(topic) = self.topics.borrow().get(name).map(Rc::clone) else {
            return Ok(());
        };
        let text = format!(r#"[null,null,"{name}","{event}",{payload}]"#);
        let waiting = {
            let mut frames = topic.frames.borrow_mut();
            frames.push(frame(text.as_bytes()));
            frames.len()
        };
        if waiting >= self.frames {
            topic.write();
        } else if waiting == 1 {
            self.due.borrow_mut().push(topic);
            self.flush.notify_one();
        }
        Ok(())
    }

    /// Writes what was published, once everything that could be read was.
    async fn flush(self: Rc<Server>) {
        loop {
            self.flush.notified().await;
            for topic in self.due.take() {
                topic.write();
            }
        }
    }
}

impl Topic {
    fn write(&self) {
        let frames = self.frames.take();
        for member in self.members.borrow().iter() {
            member.write(&frames);
        }
    }

    /// A socket stays open as long as it is a member, so those that are gone go once they are the half: each costs a look
    /// or two, however many a topic has.
    fn lose_one(&self) {
        self.gone.set(self.gone.get() + 1);
        let mut members = self.members.borrow_mut();
        if self.gone.get() * 2 >= members.len() {
            members.retain(|member| !member.gone.get());
            self.gone.set(0);
        }
    }
}

impl Socket {
    fn write(&self, frames: &[Vec<u8>]) {
        if self.gone.get() {
            return;
        }
        let mut unsent = self.unsent.borrow_mut();
        let mut written = 0;
        if unsent.is_empty() {
            let slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
            match self.stream.try_write_vectored(&slices) {
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Reading finds out.
                Err(_) => return,
            }
        }
        for frame in frames {
            let skipped = written.min(frame.len());
            unsent.extend_from_slice(&frame[skipped..]);
            written -= skipped;
        }
        if !unsent.is_empty() {
            self.wake.notify_one();
        }
    }

    fn write_unsent(&self) -> io::Result<()> {
        let mut unsent = self.unsent.borrow_mut();
        match self.stream.try_write(&unsent) {
            Ok(count) => drop(unsent.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

async fn shake_hands(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await
}

/// Takes the mask off the first frame, if all of it is there, and tells how long the frame is.
fn unmask(bytes: &mut [u8]) -> Option<(&[u8], usize)> {
    let (head, len) = match *bytes.get(1)? & 0x7f {
        126 => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        len => (2, u64::from(len)),
    };
    let end = head + 4 + usize::try_from(len).ok()?;
    let (mask, payload) = bytes.get_mut(head..end)?.split_at_mut(4);
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Some((payload, end))
}

/// A text frame of a server.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

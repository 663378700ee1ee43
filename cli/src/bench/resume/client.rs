//! How one client comes back: it connects and joins until it is in, and reads until nothing is left to come.
//!
//! *Invariant:* it waits between tries as phoenix.js does, and takes the next gateway for the next one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, watch};

use super::super::backoff;
use super::super::client::{self, Error, MASK, Receiver};
use super::super::frames::{self, Frame};
use super::super::histogram::Histogram;
use super::super::reasons::Reasons;
use super::super::url::Url;
use super::super::wire::Expected;
use super::account::{Account, Event};

/// For the answer to a join.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Storm {
    /// All is over when each has this publication, or was told that it will not come.
    last: u64,
    started: Cell<Instant>,
    one_more: Notify,
    part: RefCell<Part>,
}

/// What became of them.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) back: u32,
    pub(crate) joined_ns: Histogram,
    pub(crate) back_ns: Histogram,
    pub(crate) failures: Reasons,
    pub(crate) closed: Reasons,
}

impl Part {
    fn new() -> Part {
        Part {
            back: 0,
            joined_ns: Histogram::new(),
            back_ns: Histogram::new(),
            failures: Reasons::default(),
            closed: Reasons::default(),
        }
    }
}

impl Storm {
    /// Up to this publication.
    pub(crate) fn new(last: u64) -> Storm {
        Storm {
            last,
            started: Cell::new(Instant::now()),
            one_more: Notify::new(),
            part: RefCell::new(Part::new()),
        }
    }

    /// Now all want back.
    pub(crate) fn begin(&self) {
        self.started.set(Instant::now());
    }

    /// Since then.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.get().elapsed()
    }

    /// How many are.
    pub(crate) fn back(&self) -> u32 {
        self.part.borrow().back
    }

    /// Waits until `count` are back.
    pub(crate) async fn one_more(&self, count: u32) {
        while self.back() < count {
            self.one_more.notified().await;
        }
    }

    /// What became of all.
    pub(crate) fn take(&self) -> Part {
        self.part.replace(Part::new())
    }

    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A connection that has joined.
#[derive(Debug)]
pub(crate) struct Connection {
    receiver: Receiver,
    sender: OwnedWriteHalf,
}

impl Connection {
    /// Ends it without a word.
    pub(crate) fn cut(self) {
        self.receiver.end_abruptly();
        self.sender.forget();
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: u32,
    pub(crate) urls: Rc<[Url]>,
    pub(crate) topic: String,
    pub(crate) expected: Expected,
    pub(crate) account: Rc<RefCell<Account>>,
    pub(crate) storm: Rc<Storm>,
}

impl Client {
    /// Its gateway at this try.
    pub(crate) fn url(&self, tries: usize) -> &Url {
        &self.urls[(self.index as usize + tries) % self.urls.len()]
    }

    /// Connects and joins with its position, if it has one.
    pub(crate) async fn enter(&self, tries: usize) -> Result<Connection, Error> {
        let (receiver, mut sender) = client::connect(self.url(tries)).await?;
        let mut out = Vec::new();
        frames::text(self.account.borrow().join(&self.topic).as_bytes(), MASK, &mut out);
        sender.write_all(&out).await?;
        let mut connection = Connection { receiver, sender };
        let joined = async {
            loop {
                match self.read(&mut connection).await? {
                    Event::Joined => return Ok(()),
                    Event::Refused(reason) => return Err(Error::JoinRefused(reason)),
                    Event::Ended(event) => return Err(Error::ChannelEnded(event)),
                    Event::Other => {}
                }
            }
        };
        match tokio::time::timeout(JOIN_DEADLINE, joined).await {
            Ok(joined) => joined.map(|()| connection),
            Err(_) => Err(Error::Timeout("join")),
        }
    }

    /// Reads until all of the first `count` publications came, or were told to be missed.
    pub(crate) async fn catch_up(&self, connection: &mut Connection, count: u64) -> Result<(), Error> {
        while !self.account.borrow().is_complete(count) {
            if let Event::Ended(event) = self.read(connection).await? {
                return Err(Error::ChannelEnded(event));
            }
        }
        Ok(())
    }

    /// Comes back, and stays until it is told to end.
    pub(crate) async fn come_back(self, mut ended: watch::Receiver<()>) {
        tokio::select! {
            biased;
            _ = ended.changed() => {}          // the run is over
            never = self.come() => match never {},
        }
    }

    async fn come(&self) -> std::convert::Infallible {
        let (mut tries, mut waits, mut is_back) = (0, 0, false);
        let mut was_in = false;
        loop {
            tokio::time::sleep(backoff::before_connect(waits)).await;
            waits += 1;
            let mut connection = match self.enter(tries).await {
                Ok(connection) => connection,
                Err(error) => {
                    self.storm.part.borrow_mut().failures.count(&error.to_string());
                    tries += 1;
                    continue;
                }
            };
            if !std::mem::replace(&mut was_in, true) {
                let ns = self.storm.elapsed_ns();
                self.storm.part.borrow_mut().joined_ns.record(ns);
            }
            waits = 0;
            let mut read = self.catch_up(&mut connection, self.storm.last).await;
            if read.is_ok() && !std::mem::replace(&mut is_back, true) {
                let ns = self.storm.elapsed_ns();
                let mut part = self.storm.part.borrow_mut();
                part.back += 1;
                part.back_ns.record(ns);
                drop(part);
                self.storm.one_more.notify_one();
            }
            while read.is_ok() {
                read = match self.read(&mut connection).await {
                    Ok(Event::Ended(event)) => Err(Error::ChannelEnded(event)),
                    Ok(_) => Ok(()),
                    Err(error) => Err(error),
                };
            }
            if let Err(error) = read {
                self.storm.part.borrow_mut().closed.count(&error.to_string());
            }
            tries += 1;
        }
    }

    /// Reads once; of the frames that came, the one that decides.
    async fn read(&self, connection: &mut Connection) -> Result<Event, Error> {
        let Connection { receiver, sender } = connection;
        let mut decided = Event::Other;
        receiver
            .receive(|frame| match frame {
                Frame::Message(message) => {
                    let event = self
                        .account
                        .borrow_mut()
                        .take(message, &self.topic, &self.expected);
                    if event != Event::Other {
                        decided = event;
                    }
                }
                Frame::Ping(payload) => {
                    let mut out = Vec::new();
                    frames::pong(payload, MASK, &mut out);
                    // A connection that takes no few bytes now is not idle.
                    sender.try_write(&out).ok();
                }
                Frame::Pong | Frame::Close(..) => {}
            })
            .await?;
        Ok(decided)
    }
}

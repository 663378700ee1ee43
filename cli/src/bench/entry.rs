//! How a client gets in: it connects and joins, once or until it has succeeded, as phoenix.js would.
//!
//! *Invariant:* a client that insists waits between any two tries as `backoff` says, and takes the next gateway for the
//! next connection, as behind a load balancer that asks which ones are ready.

use std::rc::Rc;

use tokio::net::tcp::OwnedWriteHalf;

use super::client::{self, Error, Receiver};
use super::frames::Frame;
use super::url::Url;
use super::{backoff, client::join};

/// Where a client wants to be.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    urls: Rc<[Url]>,
    /// Its first gateway is the one with this number, modulo how many there are.
    index: usize,
    topics: Vec<String>,
}

impl Entry {
    /// Of the client with this number.
    pub(crate) fn new(urls: Rc<[Url]>, index: u32, topics: Vec<String>) -> Entry {
        Entry {
            urls,
            index: index as usize,
            topics,
        }
    }

    /// Its first gateway.
    pub(crate) fn url(&self) -> &Url {
        &self.urls[self.index % self.urls.len()]
    }

    /// Tries once.
    pub(crate) async fn once(&self) -> Result<(Receiver, OwnedWriteHalf), Error> {
        let (mut receiver, mut sender) = client::connect(self.url()).await?;
        join(&mut receiver, &mut sender, &mut self.topics.clone(), &mut |_| {}).await?;
        Ok((receiver, sender))
    }

    /// Tries until it has succeeded, and tells every failure to `failed`; a client that `was_in` waits before its first
    /// try. What comes between the answer to its join and the return goes to `on_frame`. Whoever calls has a deadline.
    pub(crate) async fn insist(
        &self,
        was_in: bool,
        mut failed: impl FnMut(&Error),
        mut on_frame: impl FnMut(Frame<'_>),
    ) -> (Receiver, OwnedWriteHalf) {
        let (mut at, mut tries) = (self.index, 0);
        let mut waits = was_in;
        loop {
            if waits {
                tokio::time::sleep(backoff::before_connect(tries)).await;
                tries += 1;
            }
            waits = true;
            match client::connect(&self.urls[at % self.urls.len()]).await {
                Err(error) => failed(&error),
                Ok((mut receiver, mut sender)) => {
                    tries = 0;
                    let (mut topics, mut refusals) = (self.topics.clone(), 0);
                    loop {
                        match join(&mut receiver, &mut sender, &mut topics, &mut on_frame).await {
                            Ok(()) => return (receiver, sender),
                            Err(error) => {
                                failed(&error);
                                if !matches!(error, Error::JoinRefused(_)) {
                                    break;
                                }
                            }
                        }
                        refusals += 1;
                        tokio::time::sleep(backoff::before_join(refusals)).await;
                    }
                }
            }
            at += 1;
        }
    }
}

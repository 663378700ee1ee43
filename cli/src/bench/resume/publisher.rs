//! What publishes while others are away: connections that wait for every answer before they say the next thing.
//!
//! *Invariant:* a publish without an answer within the deadline ends the run.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;

use super::super::client::{MASK, Receiver};
use super::super::entry::Entry;
use super::super::frames::{self, Frame};
use super::super::reasons::Reasons;
use super::super::url::Url;
use super::super::wire::{self, Plan};

/// A gateway lets a connection join so many.
const TOPICS_PER_CONNECTION: u32 = 100;

/// How many connections publish to so many topics.
pub(crate) fn connections(topics: u32) -> u32 {
    topics.div_ceil(TOPICS_PER_CONNECTION)
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Publishers {
    plan: Plan,
    connections: Vec<(Vec<u32>, Receiver, OwnedWriteHalf)>,
    published: u64,
    refused: Reasons,
}

impl Publishers {
    /// Connects and joins.
    pub(crate) async fn open(plan: &Plan, urls: &Rc<[Url]>, topics: u32) -> Result<Publishers> {
        let count = connections(topics);
        let mut connections = Vec::with_capacity(count as usize);
        for index in 0..count {
            let topics: Vec<u32> = (index..topics).step_by(count as usize).collect();
            let names = topics.iter().map(|&topic| plan.topic(topic)).collect();
            let entry = Entry::new(Rc::clone(urls), index, names);
            let (receiver, sender) = entry
                .once()
                .await
                .with_context(|| format!("join as a publisher at {}", entry.url()))?;
            connections.push((topics, receiver, sender));
        }
        Ok(Publishers {
            plan: plan.clone(),
            connections,
            published: 0,
            refused: Reasons::default(),
        })
    }

    /// Publishes these numbers to every topic, and waits for the answers.
    pub(crate) async fn publish(&mut self, numbers: RangeInclusive<u64>, deadline: Duration) -> Result<()> {
        let Publishers {
            plan,
            connections,
            published,
            refused,
        } = self;
        let all = async {
            for number in numbers {
                for (topics, _, sender) in &mut *connections {
                    let (mut out, mut message) = (Vec::new(), Vec::new());
                    for &topic in &*topics {
                        message.clear();
                        plan.publish(topic, number, 0, &mut message);
                        frames::text(&message, MASK, &mut out);
                    }
                    sender.write_all(&out).await.context("publish")?;
                    *published += topics.len() as u64;
                }
                for (topics, receiver, sender) in &mut *connections {
                    answers(topics.len(), number, receiver, sender, refused).await?;
                }
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(deadline, all).await {
            Ok(done) => done,
            Err(_) => bail!("publishes were not answered within {} s", deadline.as_secs_f64()),
        }
    }

    /// How many were sent.
    pub(crate) fn published(&self) -> u64 {
        self.published
    }

    /// Of these, how many were answered with an error.
    pub(crate) fn refused(&self) -> Reasons {
        self.refused.clone()
    }
}

async fn answers(
    count: usize,
    number: u64,
    receiver: &mut Receiver,
    sender: &OwnedWriteHalf,
    refused: &mut Reasons,
) -> Result<()> {
    let mut left = count;
    while left > 0 {
        let received = receiver.receive(|frame| match frame {
            Frame::Message(message) => {
                let answer = wire::publish_answer(message).filter(|(_, of, _)| *of == number);
                if let Some((_, _, outcome)) = answer {
                    left = left.saturating_sub(1); // a server may answer more than it was asked
                    if let Err(reason) = outcome {
                        refused.count(&reason);
                    }
                }
            }
            Frame::Ping(payload) => {
                let mut out = Vec::new();
                frames::pong(payload, MASK, &mut out);
                sender.try_write(&out).ok(); // it takes a few bytes, or is not idle
            }
            Frame::Pong | Frame::Close(..) => {}
        });
        received.await.context("wait for answers to publishes")?;
    }
    Ok(())
}

//! Many members of one topic who count what they get.
//!
//! *Invariant:* each member must get the numbers 1, 2, 3, ... in this order; the first that gets another says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::stock::is_stock;
use crate::{Client, wait};

/// Members that connect at the same time.
const CONNECTING_MAX: usize = 32;

/// The members; they leave when this is dropped.
#[derive(Debug)]
pub struct Crowd {
    members: usize,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    deliveries: AtomicU64,
    wrong: Mutex<Option<String>>,
}

impl Crowd {
    /// `members` of them join `topic`, the first on the first gateway, the second on the next, and so on.
    ///
    /// # Errors
    /// A connection or a join failed.
    pub async fn join(topic: &str, members: usize, gateways: &[SocketAddr]) -> Result<Crowd> {
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        let mut connecting: JoinSet<Result<Client>> = JoinSet::new();
        for member in 0..members {
            if connecting.len() >= CONNECTING_MAX {
                let client = connecting
                    .join_next()
                    .await
                    .context("one connects")?
                    .context("connect task")??;
                tasks.spawn(count(client, Arc::clone(&seen)));
            }
            let (gateway, topic) = (gateways[member % gateways.len()], topic.to_owned());
            connecting.spawn(async move {
                let mut client = Client::connect(gateway).await?;
                client.join("1", &topic).await?;
                Ok(client)
            });
        }
        while let Some(client) = connecting.join_next().await {
            tasks.spawn(count(client.context("connect task")??, Arc::clone(&seen)));
        }
        Ok(Crowd {
            members,
            seen,
            _tasks: tasks,
        })
    }

    /// Waits until every member has got the numbers up to `number`.
    ///
    /// # Errors
    /// One got another, or not in time.
    pub async fn all_got(&self, number: u64, deadline: Duration) -> Result<()> {
        let expected = number * self.members as u64;
        wait::until("the crowd to get everything", deadline, async || {
            match self.seen.deliveries.load(Ordering::Relaxed) {
                deliveries if deliveries == expected => Ok(()),
                deliveries => Err(format!("{deliveries} of {expected} deliveries")),
            }
        })
        .await
        .with_context(|| {
            self.wrong()
                .unwrap_or_else(|| "no member got anything wrong".into())
        })?;
        match self.wrong() {
            None => Ok(()),
            Some(wrong) => bail!(wrong),
        }
    }

    fn wrong(&self) -> Option<String> {
        self.seen.wrong.lock().ok()?.clone()
    }
}

/// Reads one member's frames.
async fn count(client: Client, seen: Arc<Seen>) {
    let mut stream = client.into_inner();
    let mut last = 0;
    loop {
        let message = stream.next().await;
        let number = match &message {
            Some(Ok(Message::Text(text))) => serde_json::from_str::<Value>(text)
                .ok()
                .filter(|_| is_stock(text).is_ok())
                .and_then(|frame| frame[4]["n"].as_u64().filter(|_| frame[3] == "event")),
            _ => None,
        };
        if number != Some(last + 1) {
            if let Ok(mut wrong) = seen.wrong.lock() {
                wrong.get_or_insert_with(|| format!("a member that had {last} got {message:?}"));
            }
            return;
        }
        last += 1;
        seen.deliveries.fetch_add(1, Ordering::Relaxed);
    }
}

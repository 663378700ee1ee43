//! Which connections are to be written to, and who writes: the hub itself, or where the machine has cores for it tasks that
//! share the connections.
//!
//! One thread that does all is the cheapest on few cores: nothing wakes anything, and what is to be written gathers while
//! it does something else.
//! *Invariant:* a pass that lasts long is finished before anything more is taken in: so what waits in outboxes because of
//! us has a bound.

mod offers;
mod pass;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use ringcast_proto::Millis;
use tokio::sync::Notify;

use crate::connection::Connection;
use pass::Pass;
use writer::Writer;
pub(crate) use writer::Writing;

/// So long into a pass more is taken in.
const PASS_MAX: Duration = Duration::from_millis(20);

/// Connections whose outbox was empty before something was put into it.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// What the hub writes itself: everything, or nothing.
    own: Pass,
    writers: Vec<Writer>,
    /// Told when a pass of a writer is over.
    written: Arc<Notify>,
}

/// Writes of so many shards, and their tasks' ends. One shard is written by the hub.
pub(crate) fn writes(shards: usize) -> (Writes, Vec<Writing>) {
    let count = if shards > 1 { shards } else { 0 };
    let written = Arc::<Notify>::default();
    let (writers, writing) = (0..count).map(|_| writer::writer(Arc::clone(&written))).unzip();
    let writes = Writes {
        own: Pass::default(),
        writers,
        written,
    };
    (writes, writing)
}

impl Writes {
    pub(super) fn add(&mut self, connection: &Arc<Connection>) {
        match self.writers.len() {
            0 => self.own.add(Arc::clone(connection)),
            count => self.writers[connection.session().0 as usize % count].add(Arc::clone(connection)),
        }
    }

    /// Whether more may be taken in before these are written.
    pub(super) fn may_wait(&self, now: Millis) -> bool {
        let under_way = self.writers.iter().map(Writer::since).chain([self.own.since()]);
        under_way.flatten().all(|since| now.since(since) < PASS_MAX)
    }

    /// Waits until there is something for the hub to do: to write, or to take in again.
    pub(super) async fn wait(&self) {
        if self.own.is_empty() {
            self.written.notified().await;
        }
    }

    /// Has the writers write, or writes to some of the connections, however much waits for each.
    pub(super) async fn write(&mut self, now: Millis) {
        for writer in &mut self.writers {
            writer.hand_over(now);
        }
        self.own.write(now).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringcast_ring_store::clock;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::connection::tests::connected;

    #[tokio::test]
    async fn a_writer_that_is_late_lets_nothing_more_in_until_it_has_written() {
        let (mut writes, writing) = writes(2);
        assert_eq!(writing.len(), 2);
        let (connection, mut client, _desk) = connected();
        connection.push("x".into(), None, Millis(1));
        writes.add(&connection);
        let now = clock::now();
        writes.write(now).await;
        assert!(writes.may_wait(now) && !writes.may_wait(now + PASS_MAX));
        assert!(
            tokio::time::timeout(Duration::from_millis(20), writes.wait())
                .await
                .is_err()
        );

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        for writing in writing {
            tasks.spawn(writing.run(stop.clone()));
        }
        tokio::time::timeout(Duration::from_secs(10), writes.wait())
            .await
            .unwrap();
        assert!(writes.may_wait(now + PASS_MAX));
        let mut received = [0; 1];
        std::io::Read::read_exact(&mut client, &mut received).unwrap();
        assert_eq!(received, *b"x");
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn the_hub_writes_itself_where_there_is_one_shard() {
        for shards in [0, 1] {
            let (mut writes, writing) = writes(shards);
            assert!(writing.is_empty());
            let (connection, _client, _desk) = connected();
            connection.push("x".into(), None, Millis(1));
            writes.add(&connection);
            writes.write(clock::now()).await;
            assert_eq!(connection.stats().frames, 0);
        }
    }
}

//! The writer on a disk that fails as told.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use ringcast_proto::NodeId;
use ringcast_proto::record::{Key, NodeRecord, PlanId, Record, Role};
use ringcast_ring::{Change, Refused, Revision};

use super::data_dir::{Disk, Error, WriteError, io_error};
use super::image::{self, Contents};
use super::writer::{Ended, FileStore};
use crate::state::Durable;
use crate::store::{NodeInfo, RegisterRefused, RenewError, RingStore, Watched, fresh_op};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Good,
    Full,
    Broken,
    /// A write begins and does not end.
    Stuck,
}

/// What the test and the writer's disk share.
#[derive(Clone)]
struct Told {
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

struct Shared {
    mode: Mode,
    writes: u64,
    stored: Vec<u8>,
}

impl Told {
    fn set(&self, mode: Mode) {
        self.shared.0.lock().unwrap().mode = mode;
        self.shared.1.notify_all();
    }

    fn writes(&self) -> u64 {
        self.shared.0.lock().unwrap().writes
    }

    /// What a start would find.
    fn stored(&self) -> Durable {
        image::parse(&self.shared.0.lock().unwrap().stored)
            .unwrap()
            .durable
    }
}

impl Disk for Told {
    fn replace(&mut self, image: &[u8], _revision: Revision) -> Result<(), WriteError> {
        let (shared, changed) = &*self.shared;
        let mut shared = shared.lock().unwrap();
        shared.writes += 1;
        shared = changed
            .wait_while(shared, |shared| shared.mode == Mode::Stuck)
            .unwrap();
        match shared.mode {
            Mode::Full => Err(WriteError::Full),
            Mode::Broken => {
                let broken = std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
                Err(WriteError::Failed(io_error(
                    "/data/ring.snapshot.tmp".as_ref(),
                    "write it",
                )(broken)))
            }
            Mode::Good | Mode::Stuck => {
                shared.stored = image.to_vec();
                Ok(())
            }
        }
    }
}

fn start() -> (FileStore, Told, Ended) {
    let shared = Shared {
        mode: Mode::Good,
        writes: 0,
        stored: Vec::new(),
    };
    let told = Told {
        shared: Arc::new((Mutex::new(shared), Condvar::new())),
    };
    let contents = Contents {
        store_id: "s1".to_owned(),
        durable: Durable::default(),
    };
    let (store, ended) = FileStore::start(told.clone(), contents, 100).unwrap();
    (store, told, ended)
}

fn put(id: &str) -> Change {
    let put = vec![(Key::Plan(PlanId(id.to_owned())), Record::Plan(Box::default()))];
    Change {
        expect: Vec::new(),
        guards: Vec::new(),
        put,
        delete: Vec::new(),
        op: fresh_op(),
    }
}

fn node(ttl: Duration) -> NodeInfo {
    let record = NodeRecord {
        incarnation: ringcast_proto::Incarnation(0),
        role: Role::Gateway,
        advertise: "gw-1:7100".to_owned(),
        build: "0.1.0".to_owned(),
        ready: false,
        leaving: false,
        rest: serde_json::Map::new(),
    };
    NodeInfo {
        id: NodeId::parse("gw-1").unwrap(),
        record,
        ttl,
    }
}

#[tokio::test]
async fn without_room_changes_are_refused_and_everything_else_goes_on() {
    let (store, told, _ended) = start();
    let lease = store
        .register(&node(Duration::from_secs(30)), &fresh_op())
        .await
        .unwrap();
    store.compare_and_swap(put("a")).await.unwrap();
    let before = store.load().await.unwrap();

    told.set(Mode::Full);
    assert_eq!(store.compare_and_swap(put("b")).await, Err(Refused::Full));
    let other = NodeInfo {
        id: NodeId::parse("gw-2").unwrap(),
        ..node(Duration::from_secs(30))
    };
    assert_eq!(
        store.register(&other, &fresh_op()).await,
        Err(RegisterRefused::Full)
    );
    assert_eq!(
        store.load().await.unwrap(),
        before,
        "nothing of what was refused is shown"
    );
    store.renew(&lease).await.unwrap();
    assert_eq!(
        store.watch(before.revision).next().await,
        Some(Watched::Progress(before.revision))
    );

    told.set(Mode::Good);
    let revision = store.compare_and_swap(put("c")).await.unwrap();
    assert_eq!(revision, Revision(before.revision.0 + 1));
    let after = store.load().await.unwrap();
    assert_eq!(
        *told.stored().snapshot(),
        after,
        "nothing of what was refused is stored"
    );
    assert_eq!(after.records.len(), before.records.len() + 1);
}

#[tokio::test]
async fn a_lease_that_ends_while_there_is_no_room_is_over_and_goes_when_there_is() {
    let (store, told, _ended) = start();
    let lease = store
        .register(&node(Duration::from_millis(300)), &fresh_op())
        .await
        .unwrap();
    let mut watch = store.watch(Revision(lease.node.incarnation.0));
    told.set(Mode::Full);
    let writes = told.writes();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    // Two tries to write its end: it was found overdue.
    while told.writes() < writes + 2 {
        ticks.tick().await;
    }
    assert_eq!(store.renew(&lease).await, Err(RenewError::Lost));
    assert!(store.load().await.unwrap().alive(&lease.node));

    told.set(Mode::Good);
    loop {
        if let Some(Watched::Changed(changed)) = watch.next().await {
            assert_eq!(changed.records, [(Key::Node(lease.node.node.clone()), None)]);
            break;
        }
    }
    assert!(!told.stored().snapshot().alive(&lease.node));
}

#[tokio::test]
async fn a_disk_that_fails_ends_the_store_and_answers_nothing() {
    let (store, told, ended) = start();
    store.compare_and_swap(put("a")).await.unwrap();
    let before = store.load().await.unwrap();
    told.set(Mode::Broken);
    let refused = store.compare_and_swap(put("b")).await;
    assert!(matches!(refused, Err(Refused::Unknown(_))), "{refused:?}");
    let error = ended.await.unwrap().unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Io {
                action: "write it",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        store.load().await.unwrap(),
        before,
        "what may not be stored was never shown"
    );
    told.set(Mode::Good);
    let refused = store.compare_and_swap(put("c")).await;
    assert!(
        matches!(refused, Err(Refused::Unavailable(_))),
        "it never tries again: {refused:?}"
    );
    assert_eq!(told.stored().snapshot(), &before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_costs_no_lease_and_shows_nothing_early() {
    let (store, told, _ended) = start();
    let lease = store
        .register(&node(Duration::from_millis(500)), &fresh_op())
        .await
        .unwrap();
    let before = store.load().await.unwrap();
    told.set(Mode::Stuck);
    let changing = put("a");
    let (outcome, ()) = tokio::join!(store.compare_and_swap(changing.clone()), async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..15 {
            ticks.tick().await;
            store.renew(&lease).await.unwrap();
            assert_eq!(store.load().await.unwrap(), before);
        }
        told.set(Mode::Good);
    });
    let revision = outcome.unwrap();
    let after = store.load().await.unwrap();
    assert_eq!(after.revision, revision, "not even the lease's end came between");
    assert!(after.alive(&lease.node));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_wait_share_a_write() {
    let (store, told, _ended) = start();
    told.set(Mode::Stuck);
    let first = put("first");
    let rest: Vec<_> = (0..100).map(|number| put(&number.to_string())).collect();
    let (outcome, outcomes) = tokio::join!(store.compare_and_swap(first), async {
        while told.writes() == 0 {
            tokio::task::yield_now().await;
        }
        let mut waiting: Vec<_> = rest
            .into_iter()
            .map(|change| Box::pin(store.compare_and_swap(change)))
            .collect();
        // Polled once, each stands in the queue.
        for change in &mut waiting {
            assert!(futures_util::poll!(change).is_pending());
        }
        told.set(Mode::Good);
        let mut outcomes = Vec::new();
        for change in waiting {
            outcomes.push(change.await.unwrap());
        }
        outcomes
    });
    assert_eq!(outcome.unwrap(), Revision(1));
    assert_eq!(outcomes, (2..=101).map(Revision).collect::<Vec<_>>());
    assert_eq!(told.writes(), 2, "one for the first, one for all that waited");
    assert_eq!(told.stored().snapshot(), &store.load().await.unwrap());
}

//! What a coordinator finds again after it was killed, and what it refuses to start from.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use ringcast_proto::record::{Cause, Key, NodeRecord, Record, Role, SlotRecord};
use ringcast_proto::{Incarnation, NodeRef, OwnerEpoch, Slot};
use ringcast_ring::{Change, Expect, Refused, Revision, Snapshot};
use ringcast_ring_store::coordinator::{Config, Error};
use ringcast_ring_store::{
    AnyStore, Coordinator, Membership, Mirror, NodeInfo, RenewError, RingStore, Standing, Watched, clock,
    fresh_op,
};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PATIENCE: Duration = Duration::from_secs(10);

/// A coordinator in this process that can be killed: its tasks are dropped where they stand, nothing is told to stop.
struct Server {
    address: SocketAddr,
    store: AnyStore,
    _tasks: JoinSet<()>,
}

async fn start(data_dir: &Path, listen: SocketAddr) -> Server {
    let config = Config {
        listen,
        data_dir: data_dir.to_owned(),
    };
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let coordinator = tokio::time::timeout(PATIENCE, async {
        loop {
            ticks.tick().await;
            match Coordinator::build(&config) {
                Ok(coordinator) => return coordinator,
                // The threads of the one that was killed may live for a moment, as no process of its own would.
                Err(Error::Data(error)) if error.to_string().contains("another coordinator") => {}
                Err(Error::Listen { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let coordinator = coordinator.await.unwrap();
    let address = coordinator.local_addr();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { coordinator.run(CancellationToken::new()).await.unwrap() });
    Server {
        address,
        store: AnyStore::open(&format!("http://{address}")).unwrap(),
        _tasks: tasks,
    }
}

const ANY_PORT: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn put(slot: u16, epoch: u64) -> Change {
    let owner = NodeRef {
        node: "ts-1".parse().unwrap(),
        incarnation: Incarnation(1),
    };
    let record = SlotRecord {
        owner_epoch: OwnerEpoch(epoch),
        base: OwnerEpoch(1),
        owner,
        replica: None,
        moving: None,
        cause: Cause::Birth,
        rest: serde_json::Map::new(),
    };
    let put = vec![(Key::Slot(Slot(slot)), Record::Slot(record))];
    Change {
        expect: Vec::new(),
        guards: Vec::new(),
        put,
        delete: Vec::new(),
        op: fresh_op(),
    }
}

fn node(id: &str, ttl: Duration) -> NodeInfo {
    let record = NodeRecord {
        incarnation: Incarnation(0),
        role: Role::TopicServer,
        advertise: format!("{id}.test:7200"),
        build: "0.1.0".to_owned(),
        ready: false,
        leaving: false,
        rest: serde_json::Map::new(),
    };
    NodeInfo {
        id: id.parse().unwrap(),
        record,
        ttl,
    }
}

/// Loads as soon as the store answers.
async fn loaded(store: &AnyStore) -> Snapshot {
    tokio::time::timeout(PATIENCE, async {
        loop {
            match store.load().await {
                Ok(snapshot) => return snapshot,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_coordinator_comes_back_with_everything_it_answered_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), ANY_PORT.into()).await;
    let lease = server
        .store
        .register(&node("ts-1", Duration::from_secs(1)), &fresh_op())
        .await
        .unwrap();
    for round in 1..=5_u64 {
        let mut writers = JoinSet::new();
        for slot in 0..8 {
            let store = server.store.clone();
            writers.spawn(async move { store.compare_and_swap(put(slot, round)).await.unwrap() });
        }
        let last = writers.join_all().await.into_iter().max().unwrap();
        let before = server.store.load().await.unwrap();
        assert_eq!(before.revision, last);

        let address = server.address;
        drop(server);
        server = start(folder.path(), address).await;
        assert_eq!(loaded(&server.store).await, before);
        server.store.renew(&lease).await.unwrap();
        let next = server.store.compare_and_swap(put(9, round)).await.unwrap();
        assert_eq!(next, Revision(last.0 + 1), "no revision is given out twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_every_node_has_its_ttl_and_three_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let ttl = Duration::from_millis(400);
    let server = start(folder.path(), ANY_PORT.into()).await;
    let silent = server
        .store
        .register(&node("ts-1", ttl), &fresh_op())
        .await
        .unwrap();
    let back = server
        .store
        .register(&node("ts-2", ttl), &fresh_op())
        .await
        .unwrap();
    drop(server);

    let opened = Instant::now();
    let server = start(folder.path(), ANY_PORT.into()).await;
    let started = Instant::now();
    let mut watch = server.store.watch(loaded(&server.store).await.revision);
    server.store.renew(&back).await.unwrap();
    let gone = tokio::time::timeout(PATIENCE, async {
        let mut gone = Vec::new();
        while gone.len() < 2 {
            if let Some(Watched::Changed(changed)) = watch.next().await {
                gone.extend(changed.records.into_iter().map(|(key, _)| (key, Instant::now())));
            }
        }
        gone
    });
    let expected = ttl + Duration::from_secs(3);
    // A renewal never shortens what the restart gave, so both end by it.
    for (key, at) in gone.await.unwrap() {
        assert!(at - opened >= expected, "{key} ended after {:?}", at - opened);
        assert!(
            at - started <= expected + Duration::from_secs(1),
            "{key} ended after {:?}",
            at - started
        );
    }
    assert_eq!(server.store.renew(&silent).await, Err(RenewError::Lost));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_within_a_second_costs_no_lease_and_no_change() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), ANY_PORT.into()).await;
    let member = Membership::join(
        server.store.clone(),
        node("ts-1", Duration::from_secs(2)),
        PATIENCE,
    )
    .await
    .unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mirror = Mirror::start(server.store.clone(), &tasks, stop.clone());
    let (lease, address) = (member.lease(), server.address);
    let born = lease.node();
    drop(server);
    tokio::time::sleep(Duration::from_millis(900)).await;
    let server = start(folder.path(), address).await;

    let change = put(3, 7);
    let op = change.op.clone();
    // What was certainly not done may simply be sent again; here the connection is the one that was cut.
    while let Err(refused) = server.store.compare_and_swap(change.clone()).await {
        assert!(
            matches!(refused, Refused::Unavailable(_) | Refused::Unknown(_)),
            "{refused}"
        );
    }
    let mut shown = mirror.subscribe();
    let seen = shown.wait_for(|snapshot| {
        snapshot
            .records
            .get(&Key::Slot(Slot(3)))
            .is_some_and(|s| s.op == op)
    });
    drop(tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap());
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..20 {
        ticks.tick().await;
        assert_eq!(*member.standing().borrow(), Standing::Held(born.incarnation));
    }
    assert!(lease.valid_for(born.incarnation, clock::now()), "renewals go on");
    assert!(mirror.connected());
    stop.cancel();
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_a_node_keeps_what_it_saw_and_not_its_lease() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), ANY_PORT.into()).await;
    server.store.compare_and_swap(put(1, 1)).await.unwrap();
    let store = server.store.clone();
    let member = Membership::join(store.clone(), node("ts-1", Duration::from_secs(1)), PATIENCE)
        .await
        .unwrap();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mirror = Mirror::start(store.clone(), &tasks, stop.clone());
    let mut shown = mirror.subscribe();
    drop(
        shown
            .wait_for(|snapshot| snapshot.slots().count() == 1)
            .await
            .unwrap(),
    );
    let (lease, cut) = (member.lease(), Instant::now());
    drop(server);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while lease.valid(clock::now()) || mirror.connected() {
        ticks.tick().await;
        assert!(cut.elapsed() < PATIENCE);
    }
    assert_eq!(
        *member.standing().borrow(),
        Standing::Held(lease.node().incarnation),
        "nobody said that it is lost"
    );
    assert_eq!(mirror.snapshot().slots().count(), 1);
    assert!(
        matches!(
            store.compare_and_swap(put(1, 2)).await,
            Err(Refused::Unavailable(_))
        ),
        "certainly not done"
    );
    stop.cancel();
}

/// A folder in which a coordinator stored a few records, and the files in it.
struct Stored {
    folder: tempfile::TempDir,
    snapshot: PathBuf,
    marker: PathBuf,
}

async fn stored(changes: u64) -> Stored {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: ANY_PORT.into(),
        data_dir: folder.path().to_owned(),
    };
    let coordinator = Coordinator::build(&config).unwrap();
    let store = AnyStore::open(&format!("http://{}", coordinator.local_addr())).unwrap();
    let stop = CancellationToken::new();
    let write = async {
        store
            .register(&node("ts-1", Duration::from_secs(2)), &fresh_op())
            .await
            .unwrap();
        for epoch in 0..changes {
            store
                .compare_and_swap(put(u16::try_from(epoch % 2).unwrap(), epoch))
                .await
                .unwrap();
        }
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(coordinator.run(stop.clone()), write);
    ran.unwrap();
    let snapshot = folder.path().join("ring.snapshot");
    let marker = folder.path().join("CLUSTER");
    Stored {
        folder,
        snapshot,
        marker,
    }
}

impl Stored {
    fn build(&self) -> Result<Coordinator, Error> {
        Coordinator::build(&Config {
            listen: ANY_PORT.into(),
            data_dir: self.folder.path().to_owned(),
        })
    }

    /// Why it does not start; the message names the file.
    fn refused(&self, what: &str) -> String {
        let error = self
            .build()
            .err()
            .unwrap_or_else(|| panic!("{what}: it started"))
            .to_string();
        assert!(
            error.contains("ring.snapshot") && error.starts_with('/'),
            "{what}: {error}"
        );
        error
    }
}

#[tokio::test]
async fn a_snapshot_file_with_any_byte_changed_is_refused() {
    let stored = stored(3).await;
    let whole = fs::read(&stored.snapshot).unwrap();
    for at in 0..whole.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            fs::write(&stored.snapshot, &bytes).unwrap();
            stored.refused(&format!("byte {at} flipped by {flip:#x}"));
        }
    }
    fs::write(&stored.snapshot, &whole).unwrap();
    stored.build().unwrap();
}

#[tokio::test]
async fn a_snapshot_file_cut_lengthened_or_zeroed_is_refused() {
    let stored = stored(3).await;
    let whole = fs::read(&stored.snapshot).unwrap();
    for len in 0..whole.len() {
        fs::write(&stored.snapshot, &whole[..len]).unwrap();
        stored.refused(&format!("cut to {len} bytes"));
        let mut zeroed = whole.clone();
        zeroed[len..].fill(0);
        fs::write(&stored.snapshot, &zeroed).unwrap();
        stored.refused(&format!("zeroed from byte {len}"));
    }
    for tail in ["\n", " ", "\0", "xxh3 0000000000000000\n"] {
        fs::write(&stored.snapshot, [&whole, tail.as_bytes()].concat()).unwrap();
        stored.refused(&format!("lengthened by {tail:?}"));
    }
}

#[tokio::test]
async fn a_snapshot_file_missing_beside_its_marker_is_refused() {
    let stored = stored(3).await;
    fs::remove_file(&stored.snapshot).unwrap();
    let error = stored.refused("missing");
    assert!(
        error.contains("missing, though CLUSTER beside it says that revision 4 was stored"),
        "{error}"
    );
}

#[tokio::test]
async fn an_old_copy_of_the_snapshot_file_is_refused_even_the_one_kept_beside_it() {
    let stored = stored(3).await;
    let previous = stored.folder.path().join("ring.snapshot.previous");
    fs::copy(previous, &stored.snapshot).unwrap();
    let error = stored.refused("the generation before");
    assert!(
        error.contains("an old copy of revision 3, though CLUSTER beside it says that 4"),
        "{error}"
    );

    // A person who means it moves the marker away, and says so by that.
    fs::remove_file(&stored.marker).unwrap();
    stored.build().unwrap();
}

#[tokio::test]
async fn the_snapshot_file_of_another_store_is_refused() {
    let (here, there) = (stored(1).await, stored(3).await);
    fs::copy(&there.snapshot, &here.snapshot).unwrap();
    assert!(here.refused("foreign").contains("is of store"));
}

#[tokio::test]
async fn a_snapshot_file_of_an_unknown_format_is_refused() {
    let stored = stored(1).await;
    let text = fs::read_to_string(&stored.snapshot)
        .unwrap()
        .replacen("\"format\":1", "\"format\":2", 1);
    let body = &text[..text.len() - "xxh3 0000000000000000\n".len()];
    let hash = xxhash_rust::xxh3::xxh3_64(body.as_bytes());
    fs::write(&stored.snapshot, format!("{body}xxh3 {hash:016x}\n")).unwrap();
    assert!(
        stored
            .refused("format 2")
            .contains("unknown format 2, this build reads format 1")
    );
}

#[tokio::test]
async fn a_snapshot_file_that_cannot_be_read_is_refused() {
    let stored = stored(1).await;
    fs::remove_file(&stored.snapshot).unwrap();
    fs::create_dir(&stored.snapshot).unwrap();
    assert!(stored.refused("a folder").contains("cannot read it"));
}

#[tokio::test]
async fn a_damaged_marker_is_refused() {
    let stored = stored(1).await;
    fs::write(&stored.marker, b"{}\n").unwrap();
    assert!(
        stored
            .refused("marker")
            .contains("neither of its two entries is whole")
    );
}

#[tokio::test]
async fn two_coordinators_cannot_share_a_folder() {
    let stored = stored(1).await;
    let first = stored.build().unwrap();
    let error = stored.build().unwrap_err().to_string();
    assert!(error.contains("another coordinator uses this folder"), "{error}");
    drop(first);
}

#[tokio::test]
async fn a_port_in_use_is_refused_by_name() {
    let taken = std::net::TcpListener::bind(SocketAddr::from(ANY_PORT)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listen = taken.local_addr().unwrap();
    let error = Coordinator::build(&Config {
        listen,
        data_dir: folder.path().to_owned(),
    })
    .unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("listen on {listen}: ")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_never_answers_leaves_outcomes_unknown_and_ends_watches() {
    // Connections are made by the system's backlog; nobody ever reads from them.
    let deaf = std::net::TcpListener::bind(SocketAddr::from(ANY_PORT)).unwrap();
    let store = AnyStore::open(&format!("http://{}", deaf.local_addr().unwrap())).unwrap();
    let asked = Instant::now();
    let change = Change {
        expect: vec![(Key::Birth, Expect::Absent)],
        ..put(1, 1)
    };
    let refused = store.compare_and_swap(change).await.unwrap_err();
    assert!(matches!(refused, Refused::Unknown(_)), "{refused}");
    assert!(
        asked.elapsed() < Duration::from_millis(1500),
        "{:?}",
        asked.elapsed()
    );
    let mut watch = store.watch(Revision(0));
    assert_eq!(watch.next().await, None);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_without_room_refuses_a_change_and_takes_the_next_one_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), ANY_PORT.into()).await;
    let lease = server
        .store
        .register(&node("ts-1", Duration::from_secs(5)), &fresh_op())
        .await
        .unwrap();
    let before = server.store.load().await.unwrap();
    // The file that is about to be written is on a device that is always full; it is removed to make room.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("ring.snapshot.tmp")).unwrap();
    assert_eq!(server.store.compare_and_swap(put(1, 1)).await, Err(Refused::Full));
    assert_eq!(server.store.load().await.unwrap(), before);
    server.store.renew(&lease).await.unwrap();
    let revision = server.store.compare_and_swap(put(1, 2)).await.unwrap();
    assert_eq!(revision, Revision(before.revision.0 + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_ends_the_coordinator_and_its_next_start_finds_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: ANY_PORT.into(),
        data_dir: folder.path().to_owned(),
    };
    let coordinator = Coordinator::build(&config).unwrap();
    let store = AnyStore::open(&format!("http://{}", coordinator.local_addr())).unwrap();
    let temporary = folder.path().join("ring.snapshot.tmp");
    let write = async {
        store.compare_and_swap(put(1, 1)).await.unwrap();
        fs::create_dir(&temporary).unwrap();
        let refused = store.compare_and_swap(put(1, 2)).await.unwrap_err();
        assert!(matches!(refused, Refused::Unknown(_)), "{refused}");
    };
    // Nobody tells it to stop.
    let (ran, ()) = tokio::join!(coordinator.run(CancellationToken::new()), write);
    let error = ran.unwrap_err().to_string();
    assert!(error.contains("ring.snapshot.tmp: cannot write it"), "{error}");

    fs::remove_dir(&temporary).unwrap();
    let server = start(folder.path(), ANY_PORT.into()).await;
    let found = loaded(&server.store).await;
    assert_eq!(found.slot(Slot(1)).unwrap().1.owner_epoch, OwnerEpoch(1));
}

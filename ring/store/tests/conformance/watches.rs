//! Watches: in order, without holes, or load again.

use std::time::Duration;

use futures_util::StreamExt;
use ringcast_ring::{Change, Revision, Snapshot};
use ringcast_ring_store::{AnyStore, RingStore, Watched};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::*;

/// `writers` tasks with `each` changes each, to records of their own.
async fn write(harness: &impl Harness, writers: u16, each: u64) {
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let store = harness.store();
        tasks.spawn(async move {
            for epoch in 0..each {
                store
                    .compare_and_swap(put(slot(writer), slot_record(epoch)))
                    .await
                    .unwrap();
            }
        });
    }
    within("the writers", tasks.join_all()).await;
}

pub(crate) async fn a_watch_shows_every_change_in_order_and_nothing_else(harness: &impl Harness) {
    let store = harness.store();
    let mut watch = store.watch(NONE);
    let (writers, each) = (4, 20);
    let ((), seen) = tokio::join!(write(harness, writers, each), async {
        let mut seen = Snapshot::default();
        for revision in 1..=u64::from(writers) * each {
            let changed = next_change(&mut watch).await;
            assert_eq!(changed.revision, Revision(revision));
            assert_eq!(changed.records.len(), 1);
            seen.apply(&changed);
        }
        seen
    });
    assert_eq!(seen, load(&store).await);

    let gone = store
        .compare_and_swap(Change {
            delete: vec![slot(0), slot(500)],
            ..change()
        })
        .await
        .unwrap();
    let changed = next_change(&mut watch).await;
    assert_eq!(
        (changed.revision, changed.records),
        (gone, vec![(slot(0), None)]),
        "what was not there did not go"
    );
}

pub(crate) async fn a_watch_goes_on_from_a_revision(harness: &impl Harness) {
    let store = harness.store();
    write(harness, 1, 6).await;
    let mut watch = store.watch(Revision(4));
    assert_eq!(next_change(&mut watch).await.revision, Revision(5));
    drop(watch);
    let mut watch = harness.store().watch(Revision(5));
    assert_eq!(next_change(&mut watch).await.revision, Revision(6));
    let change = put(slot(3), slot_record(1));
    store.compare_and_swap(change.clone()).await.unwrap();
    let changed = next_change(&mut watch).await;
    assert_eq!(changed.records[0].1.as_ref().unwrap().op, change.op);
}

pub(crate) async fn a_watch_from_a_forgotten_or_future_revision_says_load_again(harness: &impl Harness) {
    let over = u64::try_from(harness.window_len()).unwrap() + 1;
    let writers = 64.min(u16::try_from(over).unwrap());
    write(harness, writers, over.div_ceil(u64::from(writers))).await;
    let store = harness.store();
    let present = load(&store).await.revision;
    for after in [NONE, Revision(present.0 + 1)] {
        let mut watch = store.watch(after);
        assert_eq!(
            within("resync", watch.next()).await,
            Some(Watched::Resync),
            "after {after}"
        );
        assert_eq!(within("the end", watch.next()).await, None);
    }
    let mut watch = store.watch(present);
    assert_eq!(
        within("progress", watch.next()).await,
        Some(Watched::Progress(present))
    );
}

pub(crate) async fn a_watch_with_nothing_to_say_says_so_every_second(harness: &impl Harness) {
    let store: AnyStore = harness.store();
    let revision = store.compare_and_swap(create(0..1)).await.unwrap();
    let mut watch = store.watch(revision);
    for _ in 0..3 {
        let asked = Instant::now();
        assert_eq!(
            within("progress", watch.next()).await,
            Some(Watched::Progress(revision))
        );
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "silence of {:?}",
            asked.elapsed()
        );
    }
}

//! Servers that are asked to end.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::record::PlanId;
use ringcast_proto::{NodeId, Slot};
use ringcast_ring::Wish;
use ringcast_ring_store::{RingStore, fresh_op};
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::moves::{topics_of, two};
use crate::publishers::Publishers;
use crate::{Cluster, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_end_serves_until_another_has_all_its_slots() {
    let mut cluster = Cluster::new();
    let mut servers = two(&mut cluster).await;
    let topics: Vec<String> = {
        let table = cluster.table().await;
        let both = ["ts-1", "ts-2"].map(|owner| topics_of(&table, owner, 1).1.remove(0));
        both.into()
    };
    let members = Gateway::start("gw-1", &cluster.store).await;
    for topic in &topics {
        members.bind(topic, None).await;
    }
    let publishers = Publishers::start(2, &cluster.store, &topics).await;
    members.receive(&topics[0], 10).await;
    let epochs: Vec<_> = topics.iter().map(|topic| members.epoch(topic)).collect();

    servers[0].stop.cancel();
    let stopping = servers[0].readiness.wait_for(|ready| ready.stopping);
    tokio::time::timeout(PATIENCE, stopping)
        .await
        .expect("not ready any more")
        .unwrap();
    tokio::time::timeout(PATIENCE, servers[0].ended())
        .await
        .expect("ended in time");
    let table = cluster.table().await;
    for slot in (0..16).map(Slot) {
        assert_eq!(table.owner(slot).unwrap().owner.node.as_str(), "ts-2");
    }
    assert_eq!(cluster.life("ts-1").await, None, "it gave its lease back");
    let ring = cluster.store.load().await.unwrap().ring().unwrap().clone();
    assert_eq!((ring.version, ring.plan), (1, None), "the ring is as it was");
    let before = members.received();
    while members.received() < before + 50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    publishers.end().await.came_whole_to(&members).await;
    let after: Vec<_> = topics.iter().map(|topic| members.epoch(topic)).collect();
    assert_eq!(epochs, after, "no topic began anew");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_server_there_is_ends_at_once() {
    let mut cluster = Cluster::new();
    let mut server = cluster.start("ts-1", 1).await;
    Cluster::ready(&mut server).await;
    let asked = Instant::now();
    server.stop.cancel();
    tokio::time::timeout(PATIENCE, server.ended())
        .await
        .expect("ended in time");
    assert!(
        asked.elapsed() < Duration::from_millis(1_500),
        "took {:?}",
        asked.elapsed()
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_slots_nobody_takes_ends_when_its_time_is_over() {
    let mut cluster = Cluster::new();
    let servers = [
        cluster
            .start_with("ts-1", |config| {
                (config.expect_topic_servers, config.drain) = (Some(2), Duration::from_millis(600));
            })
            .await,
        cluster.start("ts-2", 2).await,
    ];
    let [mut leaver, mut stuck] = servers;
    Cluster::ready(&mut leaver).await;
    Cluster::ready(&mut stuck).await;
    // Registered, and of no use: its slots are wished for and never taken.
    stuck.crash.abort();
    let asked = Instant::now();
    leaver.stop.cancel();
    tokio::time::timeout(PATIENCE, leaver.ended())
        .await
        .expect("ended in time");
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_millis(600),
        "took {took:?}, and had somebody to leave to"
    );
    assert!(took < Duration::from_millis(2_100), "took {took:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_end_while_slots_come_to_it_takes_none_of_them_along() {
    let mut lost = Vec::new();
    for trial in 0..12u64 {
        let mut cluster = Cluster::new();
        let mut first = cluster.start("ts-1", 1).await;
        Cluster::ready(&mut first).await;
        let mut second = cluster.start("ts-2", 1).await;
        Cluster::ready(&mut second).await;
        add(&cluster, "ts-2").await;
        let comes = async {
            while !cluster
                .store
                .load()
                .await
                .unwrap()
                .slots()
                .any(|(_, _, record)| record.moving.is_some())
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, comes)
            .await
            .expect("a wish in time");
        // Another step of the move each time: the copy, the seal, the write.
        tokio::time::sleep(Duration::from_micros(700 * trial)).await;
        second.stop.cancel();
        tokio::time::timeout(PATIENCE, second.ended())
            .await
            .expect("ended in time");
        let snapshot = cluster.store.load().await.unwrap();
        let taken_along = snapshot
            .slots()
            .filter(|(_, _, record)| record.owner.node.as_str() == "ts-2");
        lost.extend(taken_along.map(|(slot, _, _)| (trial, slot)));
        cluster.end().await;
    }
    assert_eq!(lost, [], "in which trial which slot was left with its owner gone");
}

/// A plan that adds the server, and its commit.
async fn add(cluster: &Cluster, id: &str) {
    let plan_id = PlanId("p".to_owned());
    let wish = Wish::Add(NodeId::parse(id).unwrap());
    let plan = ringcast_ring::plan(&cluster.store.load().await.unwrap(), &[wish], &BTreeMap::new()).unwrap();
    let save = ringcast_ring::save(&cluster.store.load().await.unwrap(), &plan_id, &plan, fresh_op());
    cluster.store.compare_and_swap(save).await.unwrap();
    let commit = ringcast_ring::commit(
        &cluster.store.load().await.unwrap(),
        &plan_id,
        "test",
        0,
        fresh_op(),
    )
    .unwrap();
    cluster.store.compare_and_swap(commit).await.unwrap();
}

//! Slots that change hands while they serve.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::record::{PlanId, SlotRecord};
use ringcast_proto::v1::{self, BindStatus};
use ringcast_proto::{NodeId, OwnerEpoch, Slot};
use ringcast_ring::{Revision, SlotTable, Wish};
use ringcast_ring_store::{RingStore, fresh_op};
use tokio::time::Instant;

use crate::gateway::{Gateway, publish};
use crate::publishers::Publishers;
use crate::{Cluster, PATIENCE, Server};

impl Cluster {
    pub(crate) async fn record(&self, slot: Slot) -> (Revision, SlotRecord) {
        let snapshot = self.store.load().await.unwrap();
        let (revision, record) = snapshot.slot(slot).expect("born");
        (revision, record.clone())
    }

    /// Commits a plan that moves this one slot.
    pub(crate) async fn move_slot(&self, slot: Slot, target: &str, id: &str) {
        let id = PlanId(id.to_owned());
        let snapshot = self.store.load().await.unwrap();
        let wish = Wish::Pin(slot, NodeId::parse(target).unwrap());
        let mut plan = ringcast_ring::plan(&snapshot, &[wish], &BTreeMap::new()).unwrap();
        plan.moves.retain(|planned| planned.slot == slot);
        let save = ringcast_ring::save(&snapshot, &id, &plan, fresh_op());
        self.store.compare_and_swap(save).await.unwrap();
        let snapshot = self.store.load().await.unwrap();
        let commit = ringcast_ring::commit(&snapshot, &id, "test", 0, fresh_op()).unwrap();
        self.store.compare_and_swap(commit).await.unwrap();
    }

    /// Waits until the metric has this value, summed over all its labels.
    pub(crate) async fn metric_is(&self, name: &str, value: f64) {
        let is = async {
            while self.metric(name) != value {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, is).await.is_err() {
            panic!("{name} is {}, expected {value}", self.metric(name));
        }
    }

    /// Waits until the record names this owner.
    pub(crate) async fn owned_by(&self, slot: Slot, owner: &str) -> SlotRecord {
        let moved = async {
            loop {
                let (_, record) = self.record(slot).await;
                if record.owner.node.as_str() == owner {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, moved)
            .await
            .expect("moved in time")
    }
}

/// `len` topics of one slot that `owner` owns.
pub(crate) fn topics_of(table: &SlotTable, owner: &str, len: usize) -> (Slot, Vec<String>) {
    let slot = (0..table.slots())
        .map(Slot)
        .find(|slot| table.owner(*slot).unwrap().owner.node.as_str() == owner)
        .unwrap();
    let topics = (0..)
        .map(|n| format!("topic-{n}"))
        .filter(|topic| table.slot_of(topic.as_bytes()) == slot)
        .take(len);
    (slot, topics.collect())
}

pub(crate) async fn two(cluster: &mut Cluster) -> [Server; 2] {
    let mut servers = [cluster.start("ts-1", 2).await, cluster.start("ts-2", 2).await];
    for server in &mut servers {
        Cluster::ready(server).await;
    }
    servers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_while_it_is_published_to_and_nothing_is_lost_doubled_or_out_of_order() {
    let mut cluster = Cluster::new();
    let _servers = two(&mut cluster).await;
    let (slot, topics) = topics_of(&cluster.table().await, "ts-1", 5);
    let members = Gateway::start("gw-1", &cluster.store).await;
    for topic in &topics {
        members.bind(topic, None).await;
    }
    let publishers = Publishers::start(3, &cluster.store, &topics).await;
    members.receive(&topics[4], 20).await;
    cluster.move_slot(slot, "ts-2", "plan-1").await;
    let record = cluster.owned_by(slot, "ts-2").await;
    assert_eq!((record.owner_epoch, record.base), (OwnerEpoch(2), OwnerEpoch(1)));
    let before = members.received();
    while members.received() < before + 200 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    publishers.end().await.came_whole_to(&members).await;
    for topic in &topics {
        assert_eq!(members.members(topic).await, ["gw-1"], "members came along");
        let bound = members.bind(topic, Some(0)).await;
        assert_eq!(bound.cursor.unwrap().offset, 0, "the same epoch");
    }

    cluster.metric_is("ringcast_moves_total", 1.0).await;
    let mut owner = members.client(&topics[0]).await;
    let request = |prefix: &str| v1::ListMovesRequest {
        prefix: prefix.into(),
    };
    let moves = owner
        .list_moves(request("plan-1."))
        .await
        .unwrap()
        .into_inner()
        .moves;
    let [ended] = &moves[..] else { panic!("{moves:?}") };
    assert!(ended.id.starts_with(&format!("plan-1.{slot}")), "{ended:?}");
    assert_eq!(
        (ended.slot, ended.from.as_str(), ended.topics, ended.members),
        (slot.0.into(), "ts-1", 5, 5)
    );
    assert!(ended.pause_ms < 500 && ended.bytes > 0, "{ended:?}");
    let others = owner.list_moves(request("plan-2.")).await.unwrap().into_inner();
    assert_eq!(others.moves, []);
    cluster.metric_is("ringcast_move_pause_seconds_count", 1.0).await;
    cluster.metric_is("ringcast_moves_under_way", 0.0).await;
    cluster.metric_is("ringcast_slots_owned", 16.0).await;
    assert!(cluster.metric("ringcast_lane_wait_seconds_count") > 0.0);

    let stats = owner
        .slot_stats(v1::SlotStatsRequest {})
        .await
        .unwrap()
        .into_inner();
    let table = cluster.table().await;
    let mine = (0..16).filter(|slot| table.owner(Slot(*slot)).unwrap().owner.node.as_str() == "ts-2");
    assert!(stats.slots.iter().map(|stat| stat.slot).eq(mine.map(u32::from)));
    let stat = stats
        .slots
        .iter()
        .find(|stat| stat.slot == u32::from(slot.0))
        .unwrap();
    assert_eq!((stat.topics, stat.members), (5, 5));
    assert!(stat.history_bytes > 0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_longer_than_a_page_move_whole() {
    let mut cluster = Cluster::new();
    let _servers = two(&mut cluster).await;
    let (slot, topics) = topics_of(&cluster.table().await, "ts-1", 3);
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    const LEN: u64 = 60;
    let payload = |n: u64| format!("{n:016384}");
    for (t, topic) in (0..).zip(&topics) {
        gateway.bind(topic, None).await;
        for n in 0..LEN {
            gateway
                .publish(topic, vec![publish(topic, t * LEN + n + 1, &payload(n))])
                .await;
        }
    }
    cluster.move_slot(slot, "ts-2", "plan-1").await;
    cluster.owned_by(slot, "ts-2").await;
    // A gateway that has seen nothing of it.
    let late = Gateway::start("gw-2", &cluster.store).await;
    for topic in &topics {
        let epoch = gateway.bind(topic, Some(LEN)).await.cursor.unwrap().epoch;
        let bound = late
            .bind_from(topic, Some(v1::Position { epoch, offset: 0 }))
            .await;
        assert_eq!((bound.status(), bound.head), (BindStatus::Ok, LEN));
        let received = late.receive(topic, LEN as usize).await;
        let expected: Vec<String> = (0..LEN).map(|n| format!("{} {}", n + 1, payload(n))).collect();
        assert!(received == expected, "{topic}: {} of {LEN} came", received.len());
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_target_is_killed_in_the_middle_serves_on() {
    let mut cluster = Cluster::new();
    let servers = two(&mut cluster).await;
    let (slot, topics) = topics_of(&cluster.table().await, "ts-1", 12);
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    let big = "x".repeat(60_000);
    let mut number = 0;
    for topic in &topics {
        gateway.bind(topic, None).await;
        // 0.9 MB each: at 32 MiB/s the copy takes a third of a second.
        let mut publishes = Vec::new();
        for _ in 0..15 {
            number += 1;
            publishes.push(publish(topic, number, &big));
        }
        gateway.publish(topic, publishes).await;
    }
    cluster.move_slot(slot, "ts-2", "plan-1").await;
    let begun = async {
        while cluster.metric("ringcast_move_bytes_total") < 1e6 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun)
        .await
        .expect("begun in time");
    servers[1].crash.abort();
    let topic = &topics[0];
    let until = Instant::now() + Duration::from_millis(500);
    let mut offset = 15;
    while Instant::now() < until {
        number += 1;
        offset += 1;
        let asked = Instant::now();
        assert_eq!(
            gateway.publish(topic, vec![publish(topic, number, "on")]).await,
            [offset]
        );
        assert!(
            asked.elapsed() < Duration::from_millis(500),
            "took {:?}",
            asked.elapsed()
        );
    }
    let (_, record) = cluster.record(slot).await;
    assert_eq!(
        (record.owner.node.as_str(), record.owner_epoch),
        ("ts-1", OwnerEpoch(1))
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_a_page_that_no_move_gives_it_is_refused() {
    let mut cluster = Cluster::new();
    Cluster::ready(&mut cluster.start("ts-1", 1).await).await;
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    gateway.bind("a", None).await;
    let header = gateway.header("a").await;
    let (mut owner, slot) = (gateway.client("a").await, cluster.table().await.slot_of(b"a"));
    let call = v1::PullCall {
        header: Some(header.clone()),
        slot: slot.0.into(),
        owner_epoch: 1,
        move_id: "plan-1.1".repeat(1_000),
        attempt: u32::MAX,
        page: u64::MAX,
    };
    for slot in [call.slot, 16, u32::MAX] {
        let asked = v1::PullCall { slot, ..call.clone() };
        let answer = owner.pull(asked).await.unwrap().into_inner();
        assert_eq!(
            (answer.status(), answer.incarnation, answer.page),
            (v1::PullStatus::NotOwner, header.to_incarnation, None)
        );
    }
    let stranger = v1::CallHeader {
        to_incarnation: header.to_incarnation + 1,
        ..header
    };
    for header in [None, Some(stranger)] {
        let asked = v1::PullCall {
            header,
            ..call.clone()
        };
        assert!(owner.pull(asked).await.is_err());
    }
    assert_eq!(gateway.publish("a", vec![publish("a", 1, "on")]).await, [1]);
    cluster.end().await;
}

//! Slots that change hands while they serve.

use std::collections::BTreeMap;
use std::time::Duration;

use ringcast_proto::record::{PlanId, SlotRecord};
use ringcast_proto::v1::{self, BindStatus};
use ringcast_proto::{NodeId, OwnerEpoch, Slot};
use ringcast_ring::{Revision, SlotTable, Wish};
use ringcast_ring_store::coordinator::Coordinator;
use ringcast_ring_store::{AnyStore, RingStore, fresh_op};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::{Gateway, publish};
use crate::proxy::{Proxy, Trap};
use crate::{Cluster, PATIENCE, Server};

impl Cluster {
    async fn record(&self, slot: Slot) -> (Revision, SlotRecord) {
        let snapshot = self.store.load().await.unwrap();
        let (revision, record) = snapshot.slot(slot).expect("born");
        (revision, record.clone())
    }

    /// Commits a plan that moves this one slot.
    async fn move_slot(&self, slot: Slot, target: &str, id: &str) {
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
    async fn metric_is(&self, name: &str, value: f64) {
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
    async fn owned_by(&self, slot: Slot, owner: &str) -> SlotRecord {
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
fn topics_of(table: &SlotTable, owner: &str, len: usize) -> (Slot, Vec<String>) {
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

async fn two(cluster: &mut Cluster) -> [Server; 2] {
    let mut servers = [cluster.start("ts-1", 2).await, cluster.start("ts-2", 2).await];
    for server in &mut servers {
        Cluster::ready(server).await;
    }
    servers
}

/// What publishers did: for every topic, who published what at which offset.
#[derive(Default)]
struct Published(BTreeMap<String, Vec<(u64, String)>>);

/// Publishers that go on until they are told to end, each a gateway with a member in none of the topics.
struct Publishers {
    tasks: JoinSet<Vec<(String, u64, String)>>,
    end: CancellationToken,
}

impl Publishers {
    async fn start(len: usize, store: &AnyStore, topics: &[String]) -> Publishers {
        let (mut tasks, end) = (JoinSet::new(), CancellationToken::new());
        for p in 0..len {
            let gateway = Gateway::start(&format!("gw-p{p}"), store).await;
            let (topics, end) = (topics.to_vec(), end.clone());
            tasks.spawn(async move {
                let mut published = Vec::new();
                // Numbers belong to a slot, so these rise in each.
                for n in 0.. {
                    if end.is_cancelled() {
                        break;
                    }
                    let (topic, payload) = (&topics[n % topics.len()], format!("{p}:{n}"));
                    let call = vec![publish(topic, n as u64 + 1, &payload)];
                    let offsets = gateway.publish(topic, call.clone()).await;
                    if n % 7 == 0 {
                        // Its answer may as well have been lost.
                        assert_eq!(gateway.publish(topic, call).await, offsets, "the kept outcome");
                    }
                    published.push((topic.clone(), offsets[0], payload));
                }
                published
            });
        }
        Publishers { tasks, end }
    }

    async fn end(mut self) -> Published {
        self.end.cancel();
        let mut published = Published::default();
        while let Some(ended) = self.tasks.join_next().await {
            for (topic, offset, payload) in ended.unwrap() {
                published.0.entry(topic).or_default().push((offset, payload));
            }
        }
        for lines in published.0.values_mut() {
            lines.sort();
        }
        published
    }
}

impl Published {
    /// Checks that `members` got all of it and nothing else, in one order without holes.
    async fn came_whole_to(&self, members: &Gateway) {
        for (topic, published) in &self.0 {
            let received = members.receive(topic, published.len()).await;
            let lines = published
                .iter()
                .map(|(offset, payload)| format!("{offset} {payload}"));
            assert!(lines.eq(received), "{topic}");
            let offsets = published.iter().map(|(offset, _)| *offset);
            assert!(offsets.eq(1..=published.len() as u64), "{topic}: doubled or lost");
        }
        let all: usize = self.0.values().map(Vec::len).sum();
        assert_eq!(members.received(), all);
    }
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

/// Moves a slot whose owner loses its store at the very moment of the swap, and gets it back after 1.3 s, which is
/// longer than it waits for an outcome.
async fn swap_while_the_store_is_away(trap: fn(&'static [u8]) -> Trap) {
    let mut cluster = Cluster::new();
    let AnyStore::Memory(memory) = cluster.store.clone() else {
        panic!("the cluster's store is in memory")
    };
    let coordinator = Coordinator::in_memory(([127, 0, 0, 1], 0).into(), memory).unwrap();
    let proxy = Proxy::start(coordinator.local_addr(), trap(br#""cause":"swap""#)).await;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(coordinator.run(stop.clone()));
    let behind = AnyStore::open(&format!("http://{}", proxy.address)).unwrap();
    // Its lease outlives the cut.
    let ttl = Duration::from_secs(10);
    let mut servers = [
        cluster
            .start_with("ts-1", |config| {
                (config.store, config.lease_ttl) = (behind, ttl);
                config.expect_topic_servers = Some(2);
            })
            .await,
        cluster.start("ts-2", 2).await,
    ];
    for server in &mut servers {
        Cluster::ready(server).await;
    }
    let (slot, topics) = topics_of(&cluster.table().await, "ts-1", 1);
    let topic = &topics[0];
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    gateway.bind(topic, None).await;
    assert_eq!(gateway.publish(topic, vec![publish(topic, 1, "p1")]).await, [1]);

    // A call meant for the owner as it is before the move.
    let before = gateway.header(topic).await;
    let mut owner = gateway.client(topic).await;
    let mut ask_owner = async |number| {
        let slots = vec![v1::SlotPublishes {
            slot: slot.0.into(),
            publishes: vec![publish(topic, number, "never")],
            ..v1::SlotPublishes::default()
        }];
        let call = v1::PublishCall {
            header: Some(before.clone()),
            slots,
        };
        owner.publish(call).await.unwrap().into_inner().slots.remove(0)
    };
    cluster.move_slot(slot, "ts-2", "plan-1").await;
    tokio::time::timeout(PATIENCE, proxy.dead())
        .await
        .expect("the swap is written");
    let back = Instant::now() + Duration::from_millis(1_300);
    while Instant::now() < back {
        let answer = ask_owner(2).await;
        assert_eq!(answer.rest(), v1::SlotStatus::Sealed, "{answer:?}");
        assert!(answer.outcomes.is_empty() && answer.retry_after_ms > 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.heal();
    let record = cluster.owned_by(slot, "ts-2").await;
    assert_eq!(record.owner_epoch, OwnerEpoch(2));
    let told = async {
        while ask_owner(2).await.rest() != v1::SlotStatus::NotOwner {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .expect("the old owner knows");
    assert_eq!(gateway.publish(topic, vec![publish(topic, 2, "p2")]).await, [2]);
    assert_eq!(gateway.receive(topic, 2).await, ["1 p1", "2 p2"]);
    cluster.end().await;
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_swap_never_arrived_is_sealed_until_the_store_is_back_and_moves_then() {
    swap_while_the_store_is_away(Trap::Swallow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_swap_was_made_and_not_answered_is_sealed_until_its_old_owner_knows() {
    swap_while_the_store_is_away(Trap::PassOn).await;
}

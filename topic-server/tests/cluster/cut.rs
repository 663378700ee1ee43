//! Slots whose owner loses its store in the middle of handing over.

use std::time::Duration;

use ringcast_proto::grpc::Calls;
use ringcast_proto::v1;
use ringcast_proto::v1::topic_server_client::TopicServerClient;
use ringcast_proto::{OwnerEpoch, Slot};
use ringcast_ring_store::AnyStore;
use ringcast_ring_store::coordinator::Coordinator;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use crate::gateway::{Gateway, publish};
use crate::moves::topics_of;
use crate::proxy::{Proxy, Trap};
use crate::{Cluster, PATIENCE, Server};

/// A slot of ts-1 on its way to ts-2, whose owner lost its store at the very moment of the swap.
struct Cut {
    cluster: Cluster,
    _servers: [Server; 2],
    proxy: Proxy,
    slot: Slot,
    topic: String,
    /// It has a member of the topic, and has published p1.
    gateway: Gateway,
    /// Of a call that means the owner as it was before the move.
    header: v1::CallHeader,
    owner: TopicServerClient<Channel>,
    _coordinator: DropGuard,
}

impl Cut {
    async fn at_the_swap(trap: fn(&'static [u8]) -> Trap) -> Cut {
        let mut cluster = Cluster::new();
        let AnyStore::Memory(memory) = cluster.store.clone() else {
            panic!("the cluster's store is in memory")
        };
        let coordinator = Coordinator::in_memory(([127, 0, 0, 1], 0).into(), memory).unwrap();
        let proxy = Proxy::start(coordinator.local_addr(), trap(br#""cause":"swap""#)).await;
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(coordinator.run(stop.clone()));
        let behind = AnyStore::open(&format!("http://{}", proxy.address)).unwrap();
        let mut servers = [
            cluster
                .start_with("ts-1", |config| {
                    config.store = behind;
                    config.expect_topic_servers = Some(2);
                    // Its lease outlives the cut.
                    config.lease_ttl = Duration::from_secs(10);
                })
                .await,
            cluster.start("ts-2", 2).await,
        ];
        for server in &mut servers {
            Cluster::ready(server).await;
        }
        let (slot, mut topics) = topics_of(&cluster.table().await, "ts-1", 1);
        let topic = topics.remove(0);
        let gateway = Gateway::start("gw-1", &cluster.store).await;
        gateway.bind(&topic, None).await;
        assert_eq!(gateway.publish(&topic, vec![publish(&topic, 1, "p1")]).await, [1]);
        let header = gateway.header(&topic).await;
        let owner = gateway.client(&topic).await;
        cluster.move_slot(slot, "ts-2", "plan-1").await;
        tokio::time::timeout(PATIENCE, proxy.dead())
            .await
            .expect("the swap is written");
        Cut {
            cluster,
            _servers: servers,
            proxy,
            slot,
            topic,
            gateway,
            header,
            owner,
            _coordinator: stop.drop_guard(),
        }
    }

    /// Publishes p2 to the owner as it was.
    async fn ask_owner(&mut self) -> v1::SlotPublishAnswer {
        let slots = vec![v1::SlotPublishes {
            slot: self.slot.0.into(),
            publishes: vec![publish(&self.topic, 2, "p2")],
            ..v1::SlotPublishes::default()
        }];
        let call = v1::PublishCall {
            header: Some(self.header.clone()),
            slots,
        };
        let answer = Calls::default()
            .call(call, |calls| self.owner.publish(calls))
            .await;
        answer.unwrap().slots.remove(0)
    }

    /// Gives the store back after 1.3 s, which is longer than the owner waits for one answer of it.
    async fn sealed_until_healed(&mut self) {
        let back = Instant::now() + Duration::from_millis(1_300);
        while Instant::now() < back {
            let answer = self.ask_owner().await;
            assert_eq!(answer.rest(), v1::SlotStatus::Sealed, "{answer:?}");
            assert!(answer.outcomes.is_empty() && answer.retry_after_ms > 0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.proxy.heal();
    }

    /// Whoever owns the slot by now, it goes on where it was.
    async fn goes_on(self) {
        let committed = self
            .gateway
            .publish(&self.topic, vec![publish(&self.topic, 2, "p2")])
            .await;
        assert_eq!(committed, [2]);
        assert_eq!(self.gateway.receive(&self.topic, 2).await, ["1 p1", "2 p2"]);
        let bound = self.gateway.bind(&self.topic, Some(1)).await;
        assert_eq!(bound.cursor.unwrap().offset, 1, "the same epoch");
        self.cluster.end().await;
    }

    async fn moves_when_healed(mut self) {
        self.sealed_until_healed().await;
        let record = self.cluster.owned_by(self.slot, "ts-2").await;
        assert_eq!(record.owner_epoch, OwnerEpoch(2));
        let told = async {
            while self.ask_owner().await.rest() != v1::SlotStatus::NotOwner {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .expect("the old owner knows");
        self.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_swap_never_arrived_is_sealed_until_the_store_is_back_and_moves_then() {
    Cut::at_the_swap(Trap::Swallow).await.moves_when_healed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_swap_was_made_and_not_answered_is_sealed_until_its_old_owner_knows() {
    Cut::at_the_swap(Trap::PassOn).await.moves_when_healed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_whose_target_was_lost_before_the_swap_could_be_made_is_served_by_its_owner_again() {
    let mut cut = Cut::at_the_swap(Trap::Swallow).await;
    cut.cluster.evict("ts-2").await;
    cut.sealed_until_healed().await;
    let served = async {
        loop {
            let answer = cut.ask_owner().await;
            match answer.rest() {
                v1::SlotStatus::Sealed => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => return answer,
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, served)
        .await
        .expect("unsealed in time");
    assert_eq!(answer.rest(), v1::SlotStatus::Ok, "{answer:?}");
    assert_eq!((answer.owner_epoch, answer.outcomes.len()), (1, 1), "{answer:?}");
    // The repeated publish finds its outcome.
    cut.goes_on().await;
}

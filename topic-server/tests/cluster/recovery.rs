//! What clients that resume, that repeat their publishes and that name their receivers need of topic servers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::Pattern;
use ringcast_proto::v1::publish_outcome::Outcome;
use ringcast_proto::v1::{self, FetchStatus, Publish, Target};
use ringcast_topic_server::HistoryRule;

use crate::gateway::{Gateway, publish};
use crate::moves::{topics_of, two};
use crate::{Cluster, PATIENCE};

fn payloads(outcome: &v1::FetchOutcome) -> Vec<String> {
    let payload = |one: &v1::Publication| String::from_utf8_lossy(&one.payload).into_owned();
    outcome.publications.iter().map(payload).collect()
}

fn with_id(publish: Publish, id: &str) -> Publish {
    Publish {
        msg_id: Bytes::copy_from_slice(id.as_bytes()),
        subject: Bytes::from_static(b"someone"),
        ..publish
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_brings_what_follows_each_position_or_says_why_not() {
    let mut cluster = Cluster::new();
    let _servers = two(&mut cluster).await;
    let (slot, topics) = topics_of(&cluster.table().await, "ts-1", 2);
    let (other, _) = topics_of(&cluster.table().await, "ts-2", 1);
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    for topic in &topics {
        gateway.bind(topic, None).await;
    }
    let publishes = (1..=4).map(|n| publish(&topics[0], n, &format!("p{n}")));
    gateway.publish(&topics[0], publishes.collect()).await;
    let fetched = gateway
        .fetch(&[(&topics[0], 2), (&topics[1], 0), (&topics[0], 4)])
        .await;
    assert_eq!(payloads(&fetched[0]), ["p3", "p4"]);
    assert_eq!(fetched[0].head.as_ref().unwrap().offset, 4);
    assert_eq!(
        (
            fetched[1].head.as_ref().unwrap().offset,
            payloads(&fetched[1]).len()
        ),
        (0, 0)
    );
    assert_eq!(
        (
            fetched[2].head.as_ref().unwrap().offset,
            payloads(&fetched[2]).len()
        ),
        (4, 0)
    );

    let position = |epoch: &'static str| {
        Some(v1::Position {
            epoch: epoch.into(),
            offset: 1,
        })
    };
    let fetch = |slot: u32, topic: &str, after| v1::Fetch {
        slot,
        owner_epoch: 1,
        topic: Bytes::copy_from_slice(topic.as_bytes()),
        after,
    };
    let asked = vec![
        fetch(slot.0.into(), &topics[0], position("another")),
        fetch(slot.0.into(), "nobody-was-here", position("another")),
        fetch(other.0.into(), &topics[0], position("another")),
        fetch(9_999, &topics[0], position("another")),
        fetch(slot.0.into(), &topics[0], position("not an epoch")),
        fetch(slot.0.into(), &topics[0], None),
        fetch(slot.0.into(), "", position("another")),
    ];
    let fetched = gateway.fetch_these(&topics[0], asked).await;
    let statuses: Vec<FetchStatus> = fetched.iter().map(v1::FetchOutcome::status).collect();
    let (ok, not_owner, bad) = (FetchStatus::Ok, FetchStatus::NotOwner, FetchStatus::BadRequest);
    assert_eq!(statuses, [ok, ok, not_owner, not_owner, bad, bad, bad]);
    assert!(fetched[0].head.is_some() && fetched[0].publications.is_empty());
    assert!(fetched[1].head.is_none(), "no topic is made for a fetch");
    assert_eq!(fetched[2].owner.as_ref().unwrap().node, "ts-2");
    assert_eq!(cluster.metric("ringcast_fetches_total"), 10.0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_fetches_is_a_prefix_that_fits_into_a_message() {
    let mut cluster = Cluster::new();
    let mut server = cluster.start("ts-1", 1).await;
    Cluster::ready(&mut server).await;
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    let (_, topics) = topics_of(&cluster.table().await, "ts-1", 6);
    let large = "x".repeat(60_000);
    for (topic, n) in topics.iter().zip((1..).step_by(16)) {
        gateway.bind(topic, None).await;
        let publishes = (n..n + 16).map(|n| publish(topic, n, &large));
        gateway.publish(topic, publishes.collect()).await;
    }
    let mut asked: Vec<(&str, u64)> = topics.iter().map(|topic| (topic.as_str(), 0)).collect();
    while !asked.is_empty() {
        let fetched = gateway.fetch(&asked).await;
        assert_eq!(
            fetched.len(),
            3.min(asked.len()),
            "3 MiB a call, and here almost one a topic"
        );
        assert!(fetched.iter().all(|outcome| outcome.publications.len() == 16));
        asked.drain(..fetched.len());
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_is_repeated_through_two_gateways_and_across_a_move_takes_effect_once() {
    let mut cluster = Cluster::new();
    let _servers = two(&mut cluster).await;
    let (slot, topics) = topics_of(&cluster.table().await, "ts-1", 1);
    let topic = &topics[0];
    let gateways = [
        Gateway::start("gw-1", &cluster.store).await,
        Gateway::start("gw-2", &cluster.store).await,
    ];
    gateways[0].bind(topic, None).await;
    let mut first = Vec::new();
    for n in 1..=60_u64 {
        if n == 20 {
            cluster.move_slot(slot, "ts-2", "plan-1").await;
        }
        if n == 40 {
            cluster.owned_by(slot, "ts-2").await;
        }
        let (payload, id) = (format!("p{n}"), format!("id-{n}"));
        let publishes = vec![with_id(publish(topic, n, &payload), &id)];
        let [one, other] = &gateways;
        let (a, b) = tokio::join!(
            one.outcomes(topic, publishes.clone()),
            other.outcomes(topic, publishes)
        );
        assert_eq!(a[0].outcome, b[0].outcome, "one publish, one position");
        assert!(a[0].dup != b[0].dup, "one of the two is the first");
        first.push(a[0].outcome.clone().unwrap());
    }
    for (n, first) in (61..).zip(&first) {
        let publishes = vec![with_id(publish(topic, n, "again"), &format!("id-{}", n - 60))];
        let again = gateways[1].outcomes(topic, publishes).await;
        assert_eq!((again[0].dup, again[0].outcome.as_ref()), (true, Some(first)));
    }
    let expected: Vec<String> = (1..=60).map(|n| format!("{n} p{n}")).collect();
    assert_eq!(gateways[0].receive(topic, 60).await, expected);
    cluster.metric_is("ringcast_publishes_total", 60.0).await;
    cluster
        .metric_is("ringcast_publishes_duplicate_total", 120.0)
        .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_and_named_members_get_a_publication_wherever_they_are() {
    let mut cluster = Cluster::new();
    let mut server = cluster.start("ts-1", 1).await;
    Cluster::ready(&mut server).await;
    let gateways = [
        Gateway::start("gw-1", &cluster.store).await,
        Gateway::start("gw-2", &cluster.store).await,
    ];
    for gateway in &gateways {
        gateway.bind("a", None).await;
    }
    let matched = |outcome: &v1::PublishOutcome| match &outcome.outcome {
        Some(Outcome::Unsequenced(sent)) => sent.matched,
        other => panic!("{other:?}"),
    };
    let to = |n, payload: &str, target: Target, names: &[u64]| Publish {
        target: target.into(),
        names: names.iter().map(|name| Bytes::from(name.to_string())).collect(),
        ..publish("a", n, payload)
    };
    let [one, other] = &gateways;
    let sessions = [one.session(), other.session()];
    let publishes = (1..=40).map(|n| to(n, &format!("one-{n}"), Target::One, &[]));
    let outcomes = one.outcomes("a", publishes.collect()).await;
    assert!(outcomes.iter().all(|outcome| matched(outcome) == 1));
    let publishes = vec![
        to(41, "both", Target::Members, &sessions),
        to(42, "second", Target::Members, &[sessions[1], 7]),
        to(43, "nobody", Target::Members, &[7]),
        Publish {
            ephemeral: true,
            ..publish("a", 44, "all")
        },
        publish("a", 45, "kept"),
    ];
    let outcomes = one.outcomes("a", publishes).await;
    let counts: Vec<u32> = outcomes[..4].iter().map(matched).collect();
    assert_eq!(counts, [2, 1, 0, 2]);

    let (mut seen, mut lines) = (BTreeSet::new(), 0);
    for (gateway, session) in gateways.iter().zip(sessions) {
        let came = async {
            loop {
                let lines = gateway.receive("a", 1).await;
                if lines.last().is_some_and(|last| last == "1 kept") {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let got = tokio::time::timeout(PATIENCE, came)
            .await
            .expect("received in time");
        let for_one = got.iter().filter(|line| line.starts_with("once one-"));
        for line in for_one {
            assert!(line.ends_with(&format!(" [{session}]")), "{line}");
            assert!(
                seen.insert(line.split(' ').nth(1).unwrap().to_owned()),
                "twice: {line}"
            );
            lines += 1;
        }
        assert!(
            lines > 0,
            "40 publications to one of two sessions, and none for {session}"
        );
        let second = session == sessions[1];
        assert!(got.contains(&format!("once both [{session}]")));
        assert_eq!(got.contains(&format!("once second [{session}]")), second);
        assert_eq!(
            got[got.len() - 2..],
            ["once all []", "1 kept"],
            "in the order published"
        );
    }
    assert_eq!((seen.len(), lines), (40, 40));
    cluster
        .metric_is("ringcast_publishes_unsequenced_total", 44.0)
        .await;
    cluster.metric_is("ringcast_publishes_total", 1.0).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_family_of_topics_without_history_keeps_what_gateways_repair_from_and_no_more() {
    let mut cluster = Cluster::new();
    let rule = HistoryRule {
        pattern: Pattern::parse("quiet:*").unwrap(),
        len_max: 0,
        bytes_max: 0,
        age_max: Duration::ZERO,
    };
    let rules = move |config: &mut ringcast_topic_server::Config| {
        config.expect_topic_servers = Some(1);
        config.limits.history_rules = Arc::new([rule]);
    };
    let mut server = cluster.start_with("ts-1", rules).await;
    Cluster::ready(&mut server).await;
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    for (topic, n) in [("quiet:a", 1), ("loud:a", 1_001)] {
        gateway.bind(topic, None).await;
        gateway.publish(topic, vec![publish(topic, n, "p")]).await;
        assert_eq!(payloads(&gateway.fetch(&[(topic, 0)]).await[0]), ["p"]);
    }
    let one = cluster.metric("ringcast_history_bytes") / 2.0;
    cluster.metric_is("ringcast_history_bytes", one).await;
    assert_eq!(payloads(&gateway.fetch(&[("quiet:a", 0)]).await[0]), [""; 0]);
    assert_eq!(payloads(&gateway.fetch(&[("loud:a", 0)]).await[0]), ["p"]);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_memory_for_histories_is_full_takes_those_of_idle_topics() {
    const MEMORY: usize = 1_000_000;
    let mut cluster = Cluster::new();
    let small = |config: &mut ringcast_topic_server::Config| {
        config.expect_topic_servers = Some(1);
        config.history_memory = Some(MEMORY);
    };
    let mut server = cluster.start_with("ts-1", small).await;
    Cluster::ready(&mut server).await;
    let gateway = Gateway::start("gw-1", &cluster.store).await;
    let (_, topics) = topics_of(&cluster.table().await, "ts-1", 6);
    let (busy, idle) = topics.split_first().unwrap();
    let large = "x".repeat(50_000);
    let mut n = 0;
    for topic in &topics {
        gateway.bind(topic, None).await;
        let publishes = (n + 1..=n + 5).map(|number| publish(topic, number, &large));
        gateway.publish(topic, publishes.collect()).await;
        n += 5;
    }
    assert_eq!(cluster.metric("ringcast_history_bytes_max"), MEMORY as f64);
    let trimmed = async {
        while cluster.metric("ringcast_history_bytes") > MEMORY as f64 {
            n += 1;
            gateway.publish(busy, vec![publish(busy, n, "busy")]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, trimmed)
        .await
        .expect("trimmed in time");
    let kept = gateway.fetch(&[(busy, 0)]).await.remove(0);
    assert_eq!(kept.publications[0].offset, 1, "a busy topic keeps what it has");
    let mut emptied = 0;
    for (at, topic) in idle.iter().enumerate() {
        if gateway.fetch(&[(topic, 0)]).await[0].publications.is_empty() {
            assert_eq!(emptied, at, "one that was idle for longer kept its history");
            emptied += 1;
        }
    }
    assert!(
        emptied >= 2,
        "{emptied} histories of a quarter of the memory went, of six"
    );
    let shed = cluster.metric("ringcast_history_shed_total");
    assert!(shed >= (5 * emptied) as f64, "{shed}");
    cluster.end().await;
}

//! Messages no client of ours would send.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

use ringcast_proto::v1::coordinator_client::CoordinatorClient;
use ringcast_proto::{grpc, v1};
use ringcast_ring_store::Coordinator;
use ringcast_ring_store::coordinator::Config;
use tokio_util::sync::CancellationToken;
use tonic::Code;

fn put(key: &str, value: &str) -> v1::PutRecord {
    v1::PutRecord {
        key: key.to_owned(),
        value: value.to_owned().into(),
    }
}

fn change(put: Vec<v1::PutRecord>) -> v1::ChangeRequest {
    v1::ChangeRequest {
        put,
        op: "op".to_owned(),
        ..v1::ChangeRequest::default()
    }
}

const HISTORY: &str = r#"{"version":1,"cause":"commit"}"#;

fn bad_changes() -> Vec<(&'static str, v1::ChangeRequest)> {
    let good = || put("history/1", HISTORY);
    let guard = |guard| v1::ChangeRequest {
        guards: vec![v1::Guard { guard }],
        ..change(vec![good()])
    };
    let node = v1::NodeGuard {
        node: "no node id".to_owned(),
        incarnation: 1,
    };
    let expectation = v1::Expectation {
        key: "slot/70000".to_owned(),
        revision: None,
    };
    let deep = format!(
        r#"{{"version":1,"cause":"commit","later":{}{}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let long = format!(
        r#"{{"version":1,"cause":"commit","who":"{}"}}"#,
        "x".repeat(600_000)
    );
    vec![
        ("unknown key", change(vec![put("nothing", "1")])),
        ("a key that climbs", change(vec![put("node/../birth", "1")])),
        (
            "a long key",
            change(vec![put(&format!("plan/{}", "x".repeat(300)), HISTORY)]),
        ),
        ("no JSON", change(vec![put("history/1", "{")])),
        (
            "JSON and more",
            change(vec![put("history/1", &format!("{HISTORY} 1"))]),
        ),
        ("too deep", change(vec![put("history/1", &deep)])),
        (
            "another kind of record",
            change(vec![put("slot/1", r#"{"version":1}"#)]),
        ),
        (
            "an unknown cause",
            change(vec![put(
                "slot/1",
                r#"{"owner_epoch":1,"base":1,"owner":{"node":"a","inc":1},"cause":"whim"}"#,
            )]),
        ),
        (
            "a weight that is no number",
            change(vec![put(
                "ring",
                r#"{"version":1,"replicas":1,"vnodes_per_weight":256,"nodes":[{"id":"a","weight":1e999,"state":"up"}]}"#,
            )]),
        ),
        ("a large record", change(vec![put("history/1", &long)])),
        ("the same key twice", change(vec![good(), good()])),
        (
            "put and deleted",
            v1::ChangeRequest {
                delete: vec!["history/1".into()],
                ..change(vec![good()])
            },
        ),
        (
            "129 puts",
            change(
                (0..129)
                    .map(|number| put(&format!("history/{number}"), HISTORY))
                    .collect(),
            ),
        ),
        (
            "no op",
            v1::ChangeRequest {
                op: String::new(),
                ..change(vec![good()])
            },
        ),
        (
            "a long op",
            v1::ChangeRequest {
                op: "x".repeat(129),
                ..change(vec![good()])
            },
        ),
        ("an empty guard", guard(None)),
        ("a guard of no node", guard(Some(v1::guard::Guard::Alive(node)))),
        (
            "a key out of range",
            v1::ChangeRequest {
                expect: vec![expectation],
                ..change(vec![good()])
            },
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_by_name_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: folder.path().to_owned(),
    };
    let coordinator = Coordinator::build(&config).unwrap();
    let channel = grpc::channel(&coordinator.local_addr().to_string()).unwrap();
    let stop = CancellationToken::new();
    let ask = async {
        let mut client = CoordinatorClient::new(channel);
        for (what, change) in bad_changes() {
            let status = client.compare_and_swap(change).await.expect_err(what);
            assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
            assert!(
                !status.message().is_empty() && status.message().len() < 300,
                "{what}: {status}"
            );
        }
        let register = |ttl_ms, node: &str, record: &str| v1::RegisterRequest {
            node: node.to_owned(),
            record: record.to_owned().into(),
            ttl_ms,
            op: "op".to_owned(),
        };
        let record = r#"{"inc":0,"role":"gateway","advertise":"h:1","build":"b"}"#;
        for bad in [
            register(0, "gw-1", record),
            register(u64::MAX, "gw-1", record),
            register(2000, "", record),
            register(2000, "gw-1", "{}"),
        ] {
            assert_eq!(
                client.register(bad).await.unwrap_err().code(),
                Code::InvalidArgument
            );
        }
        let renew = v1::RenewRequest {
            node: "a b".to_owned(),
            incarnation: 1,
        };
        assert_eq!(
            client.renew(renew).await.unwrap_err().code(),
            Code::InvalidArgument
        );
        let load = client.load(v1::LoadRequest {}).await.unwrap().into_inner();
        assert_eq!((load.revision, load.records.len()), (0, 0));

        // As strange as a record may be: it must be found again.
        let deepest = format!(
            r#"{{"version":1,"cause":"commit","later":{}1{}}}"#,
            "[".repeat(119),
            "]".repeat(119)
        );
        let strange = vec![
            put("history/1", &deepest),
            put(
                "plan/\t\n\u{1f}\"\\",
                "{\"base_version\":1,\"wish\":[\"\\u0000\\n\\t\u{2028}\"],\"before\":{\"nodes\":[]},\"after\":{\"nodes\":[]},\
                 \"moves\":[],\"shares\":[]}",
            ),
        ];
        client.compare_and_swap(change(strange)).await.unwrap();
        stop.cancel();
        load
    };
    let (ran, _) = tokio::join!(coordinator.run(stop.clone()), ask);
    ran.unwrap();
    Coordinator::build(&config).unwrap();
}

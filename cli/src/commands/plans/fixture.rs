//! Records for tests: a ring of two nodes whose plan is half done.

use ringcast_proto::record::{Key, Record};
use ringcast_ring::{Changed, Op, Revision, Snapshot, Stored};

/// A snapshot of these keys and JSON values.
pub(crate) fn snapshot(records: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (number, (key, json)) in (1..).zip(records) {
        let key: Key = key.parse().expect("a key");
        let record = Record::decode(&key, json.as_bytes()).expect("a record");
        let stored = Stored {
            revision: Revision(number),
            op: Op(format!("op-{number}")),
            record,
        };
        snapshot.apply(&Changed {
            revision: Revision(number),
            records: vec![(key, Some(stored))],
        });
    }
    snapshot
}

/// Four slots, of which `p1-abc` moves three from ts-1 to ts-2: slot 0 is there, slot 1 is under way, slot 2 waits.
pub(crate) const HALF_DONE: [(&str, &str); 11] = [
    ("birth", r#"{"format":1,"cluster_id":"c","slots":4,"seed":1}"#),
    (
        "node/ts-1",
        r#"{"inc":2,"role":"topic-server","advertise":"a:1","build":"1"}"#,
    ),
    (
        "node/ts-2",
        r#"{"inc":3,"role":"topic-server","advertise":"a:2","build":"1"}"#,
    ),
    (
        "slot/0",
        r#"{"owner_epoch":2,"base":1,"owner":{"node":"ts-2","inc":3},"cause":"swap"}"#,
    ),
    (
        "slot/1",
        r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":2},"cause":"birth","move":{"id":"p1-abc.1","kind":"owner","target":{"node":"ts-2","inc":3}}}"#,
    ),
    (
        "slot/2",
        r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-1","inc":2},"cause":"birth"}"#,
    ),
    (
        "slot/3",
        r#"{"owner_epoch":1,"base":1,"owner":{"node":"ts-2","inc":3},"cause":"birth"}"#,
    ),
    ("planner", r#"{"holder":{"node":"ts-2","inc":3},"term":1}"#),
    (
        "plan/p1-abc",
        r#"{"base_version":1,"wish":["--drain ts-1"],"before":{"nodes":[]},"after":{"nodes":[]},"shares":[],"moves":[{"slot":0,"from":"ts-1","to":"ts-2"},{"slot":1,"from":"ts-1","to":"ts-2"},{"slot":2,"from":"ts-1","to":"ts-2"}]}"#,
    ),
    (
        "ring",
        r#"{"version":2,"replicas":1,"vnodes_per_weight":256,"nodes":[{"id":"ts-1","weight":1.0,"state":"draining"},{"id":"ts-2","weight":1.0,"state":"up"}],"plan":"p1-abc"}"#,
    ),
    (
        "history/2",
        r#"{"version":2,"plan":"p1-abc","who":"ann@web-1","cause":"commit"}"#,
    ),
];

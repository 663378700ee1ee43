//! Positions in every shape a frame has: both serializers, broadcast-style channels, binary publications (X3, X5, F5, O2).

use anyhow::{Context, Result, ensure};
use ringcast_tests::{Client, Cluster, Frame};
use serde_json::{Value, json};

const ROOM: &str = "room:bin";

async fn value(client: &mut Client) -> Result<Value> {
    serde_json::from_str(&client.text().await?).context("a frame")
}

/// kind 2: event `blob`, data 01 02 ff.
fn broadcast() -> Frame {
    Frame::Binary([&[2, 8, 4][..], b"room:bin", b"blob", &[1, 2, 0xff]].concat())
}

#[tokio::test]
async fn every_serializer_is_told_offsets_in_its_own_way_and_a_binary_one_by_what_follows_it() -> Result<()> {
    let cluster = Cluster::dev(2, 2).await?;
    let gateway = cluster.listen("gw-1")?;
    let mut stock = Client::connect(gateway).await?;
    stock.join("9", ROOM).await?;
    let mut second = Client::connect(gateway).await?;
    let join = json!(["1", "1", ROOM, "phx_join", {"resume": true}]);
    second.send(&join.to_string()).await?;
    let said = value(&mut second).await?;
    let epoch = said[4]["response"]["epoch"].as_str().context("epoch")?.to_owned();
    let mut first = Client::connect_to(gateway, "/socket/websocket?vsn=1.0.0").await?;
    let join = json!({"topic": ROOM, "event": "phx_join", "payload": {"resume": true}, "ref": "1"});
    first.send(&join.to_string()).await?;
    let response = json!({"epoch": epoch, "offset": 0, "recovered": false});
    let reply = |response: Value| json!({"status": "ok", "response": response});
    ensure!(
        value(&mut first).await?
            == json!({"topic": ROOM, "event": "phx_reply", "payload": reply(response), "ref": "1"})
    );

    // Copy before reply: this is no `topics:*`.
    second.send(r#"["1","2","room:bin","msg",{"a":1}]"#).await?;
    second.expect(r#"[null,"@1","room:bin","msg",{"a":1}]"#).await?;
    let at = |offset: u64| reply(json!({"epoch": epoch, "offset": offset}));
    ensure!(value(&mut second).await? == json!(["1", "2", ROOM, "phx_reply", at(1)]));
    ensure!(
        value(&mut first).await? == json!({"topic": ROOM, "event": "msg", "payload": {"a": 1}, "ref": "@1"})
    );
    stock.expect(r#"[null,null,"room:bin","msg",{"a":1}]"#).await?;

    let push = [
        &[0, 1, 1, 8, 4][..],
        b"1",
        b"3",
        b"room:bin",
        b"blob",
        &[1, 2, 0xff],
    ]
    .concat();
    second.send_binary(&push).await?;
    ensure!(second.next().await? == broadcast());
    second.expect(r#"[null,"@2","room:bin","phx_offset",{}]"#).await?;
    ensure!(value(&mut second).await? == json!(["1", "3", ROOM, "phx_reply", at(2)]));
    let skipped =
        json!({"topic": ROOM, "event": "phx_offset", "payload": {"skipped": "binary"}, "ref": "@2"});
    ensure!(value(&mut first).await? == skipped);
    ensure!(stock.next().await? == broadcast());
    stock.nothing_else().await?;

    // The same by the other gateway, from the beginning: what is replayed is what was live.
    let mut late = Client::connect(cluster.listen("gw-2")?).await?;
    let join = json!(["5", "5", ROOM, "phx_join", {"resume": {"epoch": epoch, "offset": 0}}]);
    late.send(&join.to_string()).await?;
    let response = json!({"epoch": epoch, "offset": 0, "recovered": true});
    ensure!(value(&mut late).await? == json!(["5", "5", ROOM, "phx_reply", reply(response)]));
    late.expect(r#"[null,"@1","room:bin","msg",{"a":1}]"#).await?;
    ensure!(late.next().await? == broadcast());
    late.expect(r#"[null,"@2","room:bin","phx_offset",{}]"#).await?;
    late.nothing_else().await?;
    let mut late = Client::connect_to(cluster.listen("gw-2")?, "/socket/websocket?vsn=1.0.0").await?;
    let join = json!({"topic": ROOM, "event": "phx_join", "payload": {"resume": {"epoch": epoch, "offset": 1}}, "ref": "1"});
    late.send(&join.to_string()).await?;
    ensure!(value(&mut late).await?["payload"]["response"]["recovered"] == true);
    ensure!(value(&mut late).await? == skipped);
    cluster.finish()
}

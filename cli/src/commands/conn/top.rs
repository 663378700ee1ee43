//! `ringcast conn top`: the connections that stand out, once or again and again.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Result;
use ringcast_proto::NodeId;
use ringcast_proto::v1::ConnectionSummary;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::TopArgs;
use super::ask::{Answers, ask};
use crate::cluster::Cluster;
use crate::output::{Output, line, size, table};

/// With `--watch`: slower than eyes, faster than a slow client is closed.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its first corner.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

#[derive(Debug, Serialize)]
struct Top {
    connections: Vec<Connection>,
    /// Of all gateways that answered.
    total: u64,
    silent: Vec<Silent>,
}

#[derive(Debug, Serialize)]
struct Connection {
    id: String,
    gateway: NodeId,
    /// Empty when anonymous.
    subject: String,
    /// Null where the socket is gone already.
    remote: Option<String>,
    connected_seconds: u64,
    channels: u64,
    outbox: Outbox,
    dropped: u64,
    gaps: u64,
    sent_bytes: u64,
    received_messages: u64,
    slow: bool,
}

/// What waits to be written.
#[derive(Debug, Serialize)]
struct Outbox {
    frames: u64,
    bytes: u64,
    oldest_ms: u64,
}

/// A gateway that did not answer.
#[derive(Debug, Serialize)]
struct Silent {
    gateway: NodeId,
    error: String,
}

/// Prints them; `false` if no gateway answered.
pub(crate) async fn top(
    mut cluster: Cluster,
    args: &TopArgs,
    output: Output,
    interrupt: CancellationToken,
) -> Result<bool> {
    if !args.watch {
        return show(ask(&cluster, args).await?, output, "");
    }
    let clear = match !output.is_json() && std::io::stdout().is_terminal() {
        true => CLEAR,
        false => "",
    };
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut answered = true;
    while interrupt.run_until_cancelled(ticks.tick()).await.is_some() {
        // Gateways come and go.
        let look = async {
            cluster.reload().await?;
            ask(&cluster, args).await
        };
        match interrupt.run_until_cancelled(look).await {
            Some(answers) => answered = show(answers?, output, clear)?,
            None => break,
        }
    }
    Ok(answered)
}

fn show(answers: Answers, output: Output, before: &str) -> Result<bool> {
    let answered = answers.silent.len() < answers.asked;
    let top = Top::of(answers);
    for silent in &top.silent {
        eprintln!("{} did not answer: {}", silent.gateway, silent.error);
    }
    if !before.is_empty() {
        line(before)?;
    }
    if answered || output.is_json() {
        output.print(&top, people)?;
    }
    Ok(answered)
}

impl Top {
    fn of(answers: Answers) -> Top {
        let connection = |(gateway, one): (NodeId, ConnectionSummary)| Connection {
            id: one.session.to_string(),
            gateway,
            subject: String::from_utf8_lossy(&one.subject).into_owned(),
            remote: (!one.remote.is_empty()).then_some(one.remote),
            connected_seconds: one.connected_ms / 1000,
            channels: one.channels,
            outbox: Outbox {
                frames: one.outbox_frames,
                bytes: one.outbox_bytes,
                oldest_ms: one.oldest_ms,
            },
            dropped: one.dropped,
            gaps: one.gaps,
            sent_bytes: one.sent_bytes,
            received_messages: one.received_messages,
            slow: one.slow,
        };
        let silent = |(gateway, error)| Silent { gateway, error };
        Top {
            connections: answers.connections.into_iter().map(connection).collect(),
            total: answers.total,
            silent: answers.silent.into_iter().map(silent).collect(),
        }
    }
}

fn people(top: &Top) -> String {
    if top.connections.is_empty() {
        return "no connection".to_owned();
    }
    let rows = top.connections.iter().map(|one| {
        let waiting = match one.outbox.frames {
            0 => "-".to_owned(),
            frames => format!("{frames}, {}", size(one.outbox.bytes)),
        };
        let oldest = match one.outbox.frames {
            0 => "-".to_owned(),
            _ => format!("{:.1} s", one.outbox.oldest_ms as f64 / 1000.0),
        };
        vec![
            if one.slow { "SLOW" } else { "" }.to_owned(),
            one.id.clone(),
            one.gateway.to_string(),
            one.subject.clone(),
            one.remote.clone().unwrap_or_else(|| "gone".to_owned()),
            time(one.connected_seconds),
            one.channels.to_string(),
            waiting,
            oldest,
            one.dropped.to_string(),
            one.gaps.to_string(),
            size(one.sent_bytes),
            one.received_messages.to_string(),
        ]
    });
    let header = [
        "", "id", "gateway", "subject", "remote", "age", "channels", "waiting", "oldest", "dropped", "gaps",
        "sent", "received",
    ];
    let listed = table(&header, &[5, 6, 7, 8, 9, 10, 11, 12], rows);
    format!(
        "{listed}\n\n{} of {} connections",
        top.connections.len(),
        top.total
    )
}

/// `59s`, `3m`, `2h`, `5d`: how long somebody is there.
fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use ringcast_proto::v1::ConnectionSummary;

    use super::*;

    fn top() -> Top {
        let gateway = |id: &str| NodeId::parse(id).unwrap();
        let slow = ConnectionSummary {
            session: 4_294_967_299,
            subject: "ann\u{1b}[2J".into(),
            remote: "10.0.0.7:50122".to_owned(),
            connected_ms: 61_500,
            channels: 2,
            outbox_frames: 700,
            outbox_bytes: 150_000,
            oldest_ms: 8_123,
            dropped: 501,
            gaps: 1,
            sent_bytes: 2_500_000,
            received_messages: 9,
            slow: true,
        };
        let quiet = ConnectionSummary {
            session: 7,
            connected_ms: 100,
            ..Default::default()
        };
        Top::of(Answers {
            connections: vec![(gateway("gw-1"), slow), (gateway("gw-2"), quiet)],
            total: 2000,
            silent: vec![(gateway("gw-3"), "gone".to_owned())],
            asked: 3,
        })
    }

    #[test]
    fn people_see_who_is_slow_and_cannot_be_driven_by_a_name() {
        expect![[r#"
                  ID          GATEWAY  SUBJECT       REMOTE          AGE  CHANNELS         WAITING  OLDEST  DROPPED  GAPS     SENT  RECEIVED
            SLOW  4294967299  gw-1     ann\u{1b}[2J  10.0.0.7:50122   1m         2  700, 146.5 KiB   8.1 s      501     1  2.4 MiB         9
                  7           gw-2                   gone             0s         0               -       -        0     0      0 B         0

            2 of 2000 connections"#]].assert_eq(&people(&top()));
    }

    #[test]
    fn scripts_get_the_fields_they_depend_on() {
        expect![[r#"{"connections":[{"id":"4294967299","gateway":"gw-1","subject":"ann\u001b[2J","remote":"10.0.0.7:50122","connected_seconds":61,"channels":2,"outbox":{"frames":700,"bytes":150000,"oldest_ms":8123},"dropped":501,"gaps":1,"sent_bytes":2500000,"received_messages":9,"slow":true},{"id":"7","gateway":"gw-2","subject":"","remote":null,"connected_seconds":0,"channels":0,"outbox":{"frames":0,"bytes":0,"oldest_ms":0},"dropped":0,"gaps":0,"sent_bytes":0,"received_messages":0,"slow":false}],"total":2000,"silent":[{"gateway":"gw-3","error":"gone"}]}"#]].assert_eq(&serde_json::to_string(&top()).unwrap());
    }

    #[test]
    fn a_time_is_told_by_its_largest_unit() {
        for (seconds, said) in [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86_400, "1d")] {
            assert_eq!(time(seconds), said);
        }
    }
}

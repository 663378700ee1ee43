//! What became of a plan, and how long its moves held publishers up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use ringcast_proto::NodeId;
use ringcast_proto::record::PlanId;
use ringcast_proto::v1::{EndedMove, ListMovesRequest};
use ringcast_ring::{SlotTable, Snapshot};
use serde::Serialize;

use crate::cluster::{request_within, topic_server};
use crate::output::{Output, count};

const DEADLINE: Duration = Duration::from_secs(2);
/// The pause of a move is known when the new owner has appended, which is a moment after the record says that it owns.
const PAUSES_DEADLINE: Duration = Duration::from_secs(1);
const PAUSES_RETRY: Duration = Duration::from_millis(100);

/// What a command that changes the ring prints in the end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// The plan.
    pub(crate) plan: PlanId,
    /// The plan that it took back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aborted: Option<PlanId>,
    /// Slots that it moved; that it will move, while it is not done.
    pub(crate) moves: u32,
    /// Slots that are not where it wanted them.
    pub(crate) skipped: u32,
    /// Slots that are where it wanted them and began empty there, because their owner died on the way.
    pub(crate) lost: u32,
    /// From the commit to the end.
    pub(crate) seconds: f64,
    /// The longest time that a slot took no publish; none, where a new owner could not be asked.
    pub(crate) longest_pause_ms: Option<u32>,
    /// Whether it is over.
    pub(crate) done: bool,
}

impl Outcome {
    /// Prints it.
    pub(crate) fn print(&self, output: Output) -> Result<()> {
        output.print(self, people)
    }
}

fn people(outcome: &Outcome) -> String {
    let what = match &outcome.aborted {
        Some(aborted) => format!("plan {} was taken back by {}", aborted.0, outcome.plan.0),
        None if outcome.done => format!("plan {} is done", outcome.plan.0),
        None => format!("plan {} is committed", outcome.plan.0),
    };
    let slots = |n: u32| count(n as usize, "slot", "slots");
    if !outcome.done {
        return format!(
            "{what}: {} to move; `ringcast ring watch` shows how far it is",
            slots(outcome.moves)
        );
    }
    let home = if outcome.aborted.is_some() { " home" } else { "" };
    let pause = match (outcome.moves, outcome.longest_pause_ms) {
        (0, _) => String::new(),
        (_, Some(pause)) => format!(", the longest pause {pause} ms"),
        (_, None) => ", the longest pause is unknown: a new owner did not say".to_owned(),
    };
    let skipped = match outcome.skipped {
        0 => String::new(),
        skipped => format!(
            "; {} skipped, whose old or new owner was lost on the way",
            slots(skipped)
        ),
    };
    let lost = match outcome.lost {
        0 => String::new(),
        lost => format!(
            "; {} began empty, because the owner died on the way: histories and positions of their topics are lost",
            slots(lost)
        ),
    };
    format!(
        "{what}: {} moved{home} in {:.1} s{pause}{skipped}{lost}",
        slots(outcome.moves),
        outcome.seconds
    )
}

/// The longest pause of the moves of `plan`, as the new owners tell it; none where one of `targets` cannot be asked.
pub(crate) async fn longest_pause(
    snapshot: &Snapshot,
    plan: &PlanId,
    targets: &BTreeSet<NodeId>,
    moves: u32,
) -> Option<u32> {
    let table = SlotTable::from_snapshot(snapshot)?;
    let addresses: BTreeMap<NodeId, &str> = table
        .topic_servers()
        .map(|(node, address)| (node.node, address))
        .collect();
    let targets: Vec<&str> = targets
        .iter()
        .map(|target| addresses.get(target).copied())
        .collect::<Option<_>>()?;
    let deadline = tokio::time::Instant::now() + PAUSES_DEADLINE;
    loop {
        let asked = join_all(targets.iter().map(|address| ask(address, plan))).await;
        let ended: Vec<EndedMove> = asked.into_iter().collect::<Option<Vec<_>>>()?.concat();
        let slots: BTreeSet<u32> = ended.iter().map(|ended| ended.slot).collect();
        let is_complete = slots.len() >= moves as usize;
        if is_complete || tokio::time::Instant::now() >= deadline {
            return ended.iter().map(|ended| ended.pause_ms).max();
        }
        tokio::time::sleep(PAUSES_RETRY).await;
    }
}

async fn ask(address: &str, plan: &PlanId) -> Option<Vec<EndedMove>> {
    let mut client = topic_server(address).ok()?;
    let request = ListMovesRequest {
        prefix: format!("{}.", plan.0),
    };
    let call = client.list_moves(request_within(DEADLINE, request));
    let reply = tokio::time::timeout(DEADLINE, call).await.ok()?.ok()?;
    Some(reply.into_inner().moves)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            plan: PlanId("p7-k3f".to_owned()),
            aborted: None,
            moves: 342,
            skipped: 0,
            lost: 0,
            seconds: 8.42,
            longest_pause_ms: Some(12),
            done: true,
        }
    }

    fn check(outcome: &Outcome, said: &Expect) {
        said.assert_eq(&people(outcome));
    }

    #[test]
    fn people_are_told_what_became_of_a_plan() {
        check(
            &outcome(),
            &expect!["plan p7-k3f is done: 342 slots moved in 8.4 s, the longest pause 12 ms"],
        );
        check(
            &Outcome {
                skipped: 1,
                longest_pause_ms: None,
                ..outcome()
            },
            &expect![
                "plan p7-k3f is done: 342 slots moved in 8.4 s, the longest pause is unknown: a new owner did not say; 1 slot skipped, whose old or new owner was lost on the way"
            ],
        );
        check(
            &Outcome {
                moves: 0,
                lost: 2,
                longest_pause_ms: None,
                ..outcome()
            },
            &expect![
                "plan p7-k3f is done: 0 slots moved in 8.4 s; 2 slots began empty, because the owner died on the way: histories and positions of their topics are lost"
            ],
        );
        check(
            &Outcome {
                aborted: Some(PlanId("p6-abc".to_owned())),
                moves: 1,
                ..outcome()
            },
            &expect![
                "plan p6-abc was taken back by p7-k3f: 1 slot moved home in 8.4 s, the longest pause 12 ms"
            ],
        );
        check(
            &Outcome {
                done: false,
                ..outcome()
            },
            &expect![
                "plan p7-k3f is committed: 342 slots to move; `ringcast ring watch` shows how far it is"
            ],
        );
    }

    #[test]
    fn scripts_get_the_fields_they_depend_on() {
        expect![[
            r#"{"plan":"p7-k3f","moves":342,"skipped":0,"lost":0,"seconds":8.42,"longest_pause_ms":12,"done":true}"#
        ]]
        .assert_eq(&serde_json::to_string(&outcome()).unwrap());
    }
}

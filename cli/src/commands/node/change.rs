//! `ringcast node add|drain|remove|weight`: a plan and its commit in one.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context, Result, bail};
use ringcast_proto::NodeId;
use ringcast_ring::{PlanError, Snapshot, Wish};

use crate::commands::plans::{Asked, Operator, TRIES_MAX, brief, node_id, weight};
use crate::output::{Output, count, printable};

/// What is to become of a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// It gets its share.
    Add {
        /// As typed.
        id: String,
        /// As typed.
        weight: Option<String>,
    },
    /// It gives everything away.
    Drain {
        /// As typed.
        id: String,
    },
    /// It gives everything away and goes.
    Remove {
        /// As typed.
        id: String,
        /// It is down.
        dead: bool,
        /// Nobody is to be asked.
        yes: bool,
    },
    /// It gets another share.
    Weight {
        /// As typed.
        id: String,
        /// As typed.
        weight: String,
    },
}

impl Change {
    fn asked(&self) -> Result<Vec<Asked>> {
        let wishes = match self {
            Change::Add { id, weight: None } => vec![Wish::Add(node_id("ID", id)?)],
            Change::Add {
                id,
                weight: Some(text),
            } => {
                let node = node_id("ID", id)?;
                vec![
                    Wish::Add(node.clone()),
                    Wish::Weight(node, weight("--weight", text)?),
                ]
            }
            Change::Drain { id } => vec![Wish::Drain(node_id("ID", id)?)],
            Change::Remove { id, dead, .. } => vec![Wish::Remove {
                node: node_id("ID", id)?,
                dead: *dead,
            }],
            Change::Weight { id, weight: text } => {
                vec![Wish::Weight(node_id("ID", id)?, weight("W", text)?)]
            }
        };
        Ok(wishes.into_iter().map(Asked::Node).collect())
    }
}

/// Plans and commits, after the plan that runs, if any, and waits for the end. `false`: interrupted, or not confirmed.
///
/// What is asked for does not depend on what a plan would show: when the ring changes in between, it is planned anew.
pub(crate) async fn change(mut operator: Operator, change: &Change, output: Output) -> Result<bool> {
    let asked = change.asked()?;
    if !confirmed(&operator.cluster.snapshot, change)? {
        return Ok(false);
    }
    for _ in 0..TRIES_MAX {
        if let Some(running) = running(&operator.cluster.snapshot) {
            if !operator.wait_for_other(&running).await? {
                return Ok(false);
            }
            continue;
        }
        let planned = operator.plan(&asked).await?;
        match operator.commit(&planned.id).await? {
            Ok(committed) => {
                eprintln!("{}", brief(&planned.id, &planned.plan));
                for warning in &planned.plan.warnings {
                    eprintln!("warning: {}", printable(warning));
                }
                return match operator.finish(committed).await? {
                    Some(outcome) => outcome.print(output).map(|()| true),
                    None => Ok(false),
                };
            }
            // Somebody else was faster: with what the ring is now, again.
            Err(PlanError::Running(_) | PlanError::Stale { .. }) => {}
            Err(error) => return Err(operator.refused(&planned.id, error)),
        }
    }
    bail!("others were faster {TRIES_MAX} times: see `ringcast ring history`")
}

fn running(snapshot: &Snapshot) -> Option<ringcast_proto::record::PlanId> {
    snapshot.ring()?.plan.clone()
}

/// Whether a node that is down may be given up: says what is lost, and asks unless told not to.
fn confirmed(snapshot: &Snapshot, change: &Change) -> Result<bool> {
    let Change::Remove { id, dead: true, yes } = change else {
        return Ok(true);
    };
    let id = node_id("ID", id)?;
    let is_member = snapshot
        .ring()
        .is_some_and(|ring| ring.nodes.iter().any(|node| node.id == id));
    if !is_member || snapshot.node(&id).is_some() {
        return Ok(true); // nothing is lost: the plan refuses it, or moves everything away first
    }
    eprintln!("{}", lost(snapshot, &id));
    if *yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        bail!("nobody to ask on a terminal: --yes removes {id}");
    }
    eprint!("Remove {id}? [y/N] ");
    std::io::stderr().flush().context("ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("read the answer")?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !yes {
        eprintln!("nothing was changed");
    }
    Ok(yes)
}

/// What is lost with a node that is down.
fn lost(snapshot: &Snapshot, id: &NodeId) -> String {
    let alone = snapshot
        .slots()
        .filter(|(.., record)| record.owner.node == *id && record.replica.is_none())
        .count();
    match alone {
        0 => format!(
            "{id} is down and owns no slot any more. Its slots began empty at other nodes: histories and positions of \
             their topics were lost then. Removing it loses nothing more; if it comes back, it is a stranger."
        ),
        slots => format!(
            "{id} is down and alone holds {}, of how many topics is unknown: their histories and positions are lost. The \
             slots begin empty at other nodes; clients stay connected and are joined again.",
            count(slots, "slot", "slots")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_of_a_newcomer_is_part_of_the_same_plan() {
        let change = Change::Add {
            id: "ts-9".into(),
            weight: Some("2".into()),
        };
        let node = NodeId::parse("ts-9").unwrap();
        assert_eq!(
            change.asked().unwrap(),
            [
                Asked::Node(Wish::Add(node.clone())),
                Asked::Node(Wish::Weight(node, 2.0))
            ]
        );
    }

    #[test]
    fn what_is_no_id_or_number_is_refused_in_words() {
        for (change, said) in [
            (Change::Drain { id: "a/b".into() }, "node id \"a/b\""),
            (Change::Drain { id: String::new() }, "node id \"\""),
            (
                Change::Weight {
                    id: "ts-1".into(),
                    weight: "heavy".into(),
                },
                "weight \"heavy\" is no number",
            ),
        ] {
            let error = format!("{:#}", change.asked().unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }
}

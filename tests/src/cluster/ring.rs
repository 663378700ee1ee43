//! The ring of a cluster, as the command line tells and changes it.
//!
//! *Invariant:* everything goes through `ringcast ring`, as an operator's script would do it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Cluster;
use crate::wait;

/// How long a plan of a whole ring may take.
const PLAN_DEADLINE: Duration = Duration::from_secs(60);

/// `ring status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Who plans.
    pub planner: Option<String>,
    /// The plan that runs.
    pub plan: Option<String>,
    /// By topic server: its state and how many slots it owns.
    pub nodes: BTreeMap<String, (String, u64)>,
    /// Slots that are changing hands, and who takes them.
    pub moves: Vec<(u64, String)>,
    /// How many slots there are.
    pub slots: u64,
}

/// What `ring commit` and the like print.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The plan.
    pub plan: String,
    /// Slots it moved.
    pub moves: u64,
    /// From the commit to the end.
    pub seconds: f64,
    /// The longest pause of a slot.
    pub longest_pause_ms: Option<u64>,
}

/// A plan that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub plan: String,
    /// Its moves: slot, from, to.
    pub moves: Vec<(u64, String, String)>,
}

/// What `topic ls` says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its slot.
    pub slot: u64,
    /// Who owns the slot.
    pub owner: String,
    /// Its sequence's identity.
    pub epoch: String,
    /// Its last offset.
    pub offset: u64,
}

impl Ring {
    /// How many slots a topic server owns.
    #[must_use]
    pub fn owned(&self, node: &str) -> u64 {
        self.nodes.get(node).map_or(0, |(_, owned)| *owned)
    }

    /// What a topic server is to the ring.
    #[must_use]
    pub fn state(&self, node: &str) -> &str {
        self.nodes.get(node).map_or("", |(state, _)| state)
    }
}

impl Cluster {
    /// The ring as it is.
    ///
    /// # Errors
    /// The command failed.
    pub async fn ring(&self) -> Result<Ring> {
        let status = self.json(&["ring", "status"]).await?;
        let nodes = status["nodes"].as_array().context("nodes")?;
        let node = |node: &Value| {
            Some((
                text(&node["id"])?,
                (text(&node["state"])?, node["slots_owned"].as_u64()?),
            ))
        };
        let moves = status["moves"].as_array().context("moves")?;
        let moving = |moving: &Value| Some((moving["slot"].as_u64()?, text(&moving["to"])?));
        Ok(Ring {
            planner: text(&status["planner"]),
            plan: text(&status["plan"]),
            nodes: nodes.iter().map(node).collect::<Option<_>>().context("a node")?,
            moves: moves
                .iter()
                .map(moving)
                .collect::<Option<_>>()
                .context("a move")?,
            slots: status["slots"].as_u64().context("slots")?,
        })
    }

    /// `ring plan`.
    ///
    /// # Errors
    /// The command failed.
    pub async fn plan(&self, wishes: &[&str]) -> Result<Planned> {
        let shown = self.json(&[&["ring", "plan"], wishes].concat()).await?;
        let moves = shown["moves"].as_array().context("moves")?;
        let moving = |moving: &Value| {
            Some((
                moving["slot"].as_u64()?,
                text(&moving["from"])?,
                text(&moving["to"])?,
            ))
        };
        Ok(Planned {
            plan: text(&shown["plan"]).context("plan")?,
            moves: moves
                .iter()
                .map(moving)
                .collect::<Option<_>>()
                .context("a move")?,
        })
    }

    /// A command that changes the ring and waits until it is done.
    ///
    /// # Errors
    /// The command failed.
    pub async fn change(&self, arguments: &[&str]) -> Result<Done> {
        let done = self.json_within(arguments, PLAN_DEADLINE).await?;
        eprintln!("ringcast {}: {done}", arguments.join(" "));
        Ok(Done {
            plan: text(&done["plan"]).context("plan")?,
            moves: done["moves"].as_u64().context("moves")?,
            seconds: done["seconds"].as_f64().context("seconds")?,
            longest_pause_ms: done["longest_pause_ms"].as_u64(),
        })
    }

    /// Waits until no plan runs and no slot is changing hands, and every slot's owner is up.
    ///
    /// # Errors
    /// Not in time; says how the ring stands.
    pub async fn at_rest(&self, deadline: Duration) -> Result<Duration> {
        let ((), took) = wait::until("the ring to be at rest", deadline, async || {
            let ring = self.ring().await?;
            let up = ring.nodes.values().filter(|(state, _)| state == "up");
            let owned: u64 = up.map(|(_, owned)| owned).sum();
            let is_at_rest = ring.plan.is_none() && ring.moves.is_empty() && owned == ring.slots;
            ensure!(is_at_rest, "{ring:?}");
            Ok(())
        })
        .await?;
        Ok(took)
    }

    /// Waits until this plan runs no more.
    ///
    /// # Errors
    /// Not in time; says how the ring stands.
    pub async fn plan_over(&self, plan: &str, deadline: Duration) -> Result<Duration> {
        let ((), took) = wait::until(&format!("the end of plan {plan}"), deadline, async || {
            let ring = self.ring().await?;
            ensure!(ring.plan.as_deref() != Some(plan), "{ring:?}");
            Ok(())
        })
        .await?;
        Ok(took)
    }

    /// `topic ls` of all topics that begin with `prefix` and end in a number, by name.
    ///
    /// # Errors
    /// The command failed.
    pub async fn topics(&self, prefix: &str) -> Result<BTreeMap<String, Listed>> {
        let (mut all, mut prefixes) = (BTreeMap::new(), vec![prefix.to_owned()]);
        while let Some(prefix) = prefixes.pop() {
            let listed = self
                .json(&["topic", "ls", "--prefix", &prefix, "--limit", "100000"])
                .await?;
            if listed["truncated"] == true {
                // More than an answer holds: each next digit is asked for by itself.
                prefixes.extend((0..10).map(|digit| format!("{prefix}{digit}")));
                continue;
            }
            for topic in listed["topics"].as_array().context("topics")? {
                let (name, listed) = Listed::read(topic).with_context(|| format!("topic {topic}"))?;
                all.insert(name, listed);
            }
        }
        Ok(all)
    }
}

impl Listed {
    fn read(topic: &Value) -> Option<(String, Listed)> {
        let listed = Listed {
            slot: topic["slot"].as_u64()?,
            owner: text(&topic["owner"])?,
            epoch: text(&topic["epoch"])?,
            offset: topic["offset"].as_u64()?,
        };
        Some((text(&topic["topic"])?, listed))
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

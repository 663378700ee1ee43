//! kill -9 in the middle of moves: of who gives, of who takes, of who plans.
//!
//! One topic server is always draining; a round takes it back and drains another, so that nearly every slot of one goes to
//! the other, and the third looks on. *Invariant:* a publish may be lost only in a topic whose epoch changed, and its
//! epoch may change only where the killed one owned its slot, or was about to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::dice::Dice;
use super::{Report, end, enter, start};
use crate::cluster::{Listed, Planned, Shape};
use crate::ledger::{Ledger, TopicNumber, Window};
use crate::load::{self, Load};
use crate::{Cluster, wait};

/// How long after a kill every slot must serve again.
const BACK_WITHIN: Duration = Duration::from_secs(6);

/// From one kill to the next at least. A planner that sees two of three topic servers lost within 3 s takes that for a fault of
/// the network or of the store, and lets their slots wait for 5 s: each of these losses is to be one alone. A lease is over
/// 1.5 to 2 s after the kill.
const ALONE: Duration = Duration::from_secs(5);

/// How long a plan may take that lost one of its nodes, once that is back.
const PLAN_DEADLINE: Duration = Duration::from_secs(60);

/// How much and how often.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The load.
    pub load: load::Shape,
    /// Slots of the ring; `None`: as many as the product thinks right.
    pub slots: Option<u16>,
    /// How many kills.
    pub kills: usize,
    /// Of everything that is random.
    pub seed: u64,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Source,
    Target,
    Planner,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Source => "source",
            Role::Target => "target",
            Role::Planner => "planner",
        })
    }
}

/// What a kill did.
#[derive(Debug)]
struct Kill {
    role: Role,
    victim: String,
    at: Duration,
    /// Topics that began anew.
    broken: BTreeSet<TopicNumber>,
    /// Topics that began anew although the victim had nothing to do with them.
    unexplained: Vec<String>,
    /// The plan was over by itself, and had moved so many slots when the kill came.
    was_aborted: bool,
    moved_before: u64,
    /// Whether the plan still ran when the kill came.
    was_running: bool,
    /// From the kill until every slot had an owner, then until the killed one was back, then until the plan was over.
    steps: [Duration; 3],
}

/// Kills by turns.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn run(scale: Scale) -> Result<Report> {
    eprintln!("seed {}", scale.seed);
    let mut dice = Dice::new(scale.seed);
    let shape = Shape {
        slots: scale.slots,
        ..Shape::default()
    };
    let (mut cluster, load) = start(shape, scale.load).await?;
    // Every later plan moves about as much: a kill comes at any time of it.
    let first = cluster.change(&["node", "drain", "ts-3"]).await?;
    let longest = Duration::from_secs_f64(first.seconds * 0.7);
    let mut drained = "ts-3".to_owned();
    let mut kills: Vec<Kill> = Vec::new();
    for number in 0..scale.kills {
        if let Some(Kill { at, .. }) = kills.last() {
            load.run((*at + ALONE).saturating_sub(load.now())).await;
        }
        let role = [Role::Source, Role::Target, Role::Planner][number % 3];
        let (is_aborted, delay) = (number % 6 >= 3, dice.time(longest));
        let (kill, now_drained) = round(role, is_aborted, delay, drained, &mut cluster, &load, &mut dice)
            .await
            .with_context(|| format!("kill {number} of seed {}, of a {role}", scale.seed))?;
        eprintln!(
            "{role} {} killed at {:.1?} after {} moves: {} topics began anew; owners, back, plan over: {:.1?}{}",
            kill.victim,
            kill.at,
            kill.moved_before,
            kill.broken.len(),
            kill.steps,
            if kill.was_aborted { ", plan aborted" } else { "" },
        );
        kills.push(kill);
        drained = now_drained;
    }
    let ledger = load.stop(&[]).await?;
    let report = judge(&scale, &kills, &ledger);
    end(cluster, report)
}

/// One kill, until everything serves again, the killed one is back, and the plan is over, by itself or because it is
/// aborted. Gives who is drained now.
async fn round(
    role: Role,
    is_aborted: bool,
    delay: Duration,
    drained: String,
    cluster: &mut Cluster,
    load: &Load,
    dice: &mut Dice,
) -> Result<(Kill, String)> {
    let others: Vec<String> = cluster
        .running("ts-")
        .into_iter()
        .filter(|name| *name != drained)
        .collect();
    let source = dice.one(&others).clone();
    let plan = cluster.plan(&["--add", &drained, "--drain", &source]).await?;
    let commit = cluster.json(&["ring", "commit", &plan.plan, "--no-wait"]).await;
    commit.with_context(|| format!("commit {}", plan.plan))?;
    if role != Role::Planner {
        // Who was killed in the round before takes nothing until it has been there for a while. A planner's death before
        // the first move is as good as any.
        wait::until("the first move of the plan", PLAN_DEADLINE, async || {
            let ring = cluster.ring().await?;
            ensure!(ring.owned(&drained) > 0, "{ring:?}");
            Ok(())
        })
        .await?;
    }
    load.run(delay).await;

    let ring = cluster.ring().await?;
    let victim = match role {
        Role::Source => source.clone(),
        Role::Target => drained.clone(),
        Role::Planner => ring.planner.clone().context("there is a planner")?,
    };
    let (before, _) = wait::until("every topic to be listed", wait::SOON, async || {
        listed(cluster, load).await
    })
    .await?;
    let at = load.now();
    cluster.kill(&victim)?;
    load.served(at, &load.topics(), BACK_WITHIN).await?;
    // Slots without a topic of the load are looked at by their records.
    let left = BACK_WITHIN.saturating_sub(load.now() - at);
    let (after, _) = wait::until("every slot to have an owner", left, async || {
        let ring = cluster.ring().await?;
        ensure!(
            ring.owned(&victim) == 0,
            "{victim} still owns {}",
            ring.owned(&victim)
        );
        listed(cluster, load).await
    })
    .await?;
    let explained = may_begin_anew(&victim, &plan, &ring.moves);
    let mut kill = Kill {
        role,
        victim: victim.clone(),
        at,
        broken: BTreeSet::new(),
        unexplained: Vec::new(),
        was_aborted: false,
        moved_before: ring.owned(&drained),
        was_running: ring.plan.is_some(),
        steps: [Duration::ZERO; 3],
    };
    for (name, listed) in &after {
        let was = before.get(name).with_context(|| format!("{name} is new"))?;
        if was.epoch == listed.epoch {
            continue;
        }
        kill.broken
            .insert(load::number(name).context("a topic of the load")?);
        if !explained(was) {
            kill.unexplained
                .push(format!("{name} of {}, killed {victim}", was.owner));
        }
    }
    let served = load.now();
    cluster.start_again(&victim)?;
    cluster.ready(&victim).await?;
    let ready = load.now();
    let may_run = if is_aborted { Duration::ZERO } else { PLAN_DEADLINE };
    if let Err(running) = cluster.plan_over(&plan.plan, may_run).await {
        ensure!(is_aborted, "{running:#}");
        match cluster.change(&["ring", "abort"]).await {
            Ok(_) => kill.was_aborted = true,
            // It ended by itself meanwhile, or the abort was refused for nothing.
            Err(refused) => {
                let over = cluster.plan_over(&plan.plan, Duration::ZERO).await;
                over.context(format!("{refused:#}"))?;
            }
        }
    }
    let ring = cluster.ring().await?;
    ensure!(ring.plan.is_none(), "a plan is left: {ring:?}");
    kill.steps = [served - at, ready - served, load.now() - ready];
    Ok((
        kill,
        if kill_was_undone(&ring, &source) {
            drained
        } else {
            source
        },
    ))
}

/// All topics of the load. One whose slot changes hands while its old and new owner are asked may be listed by neither.
async fn listed(cluster: &Cluster, load: &Load) -> Result<BTreeMap<String, Listed>> {
    let (listed, topics) = (cluster.topics("topics:load").await?, load.topics().len());
    ensure!(listed.len() == topics, "{} of {topics}", listed.len());
    Ok(listed)
}

/// An aborted plan leaves the drained one drained.
fn kill_was_undone(ring: &crate::cluster::Ring, source: &str) -> bool {
    ring.state(source) != "draining"
}

/// Whether a topic that was so just before the kill may have lost its past with `victim`.
fn may_begin_anew<'a>(
    victim: &'a str,
    plan: &'a Planned,
    moves: &'a [(u64, String)],
) -> impl Fn(&Listed) -> bool + 'a {
    let planned = plan.moves.iter().filter(move |(_, _, to)| to == victim);
    let under_way = moves.iter().filter(move |(_, to)| to == victim);
    let to_victim: BTreeSet<u64> = planned
        .map(|(slot, _, _)| *slot)
        .chain(under_way.map(|(slot, _)| *slot))
        .collect();
    move |was| was.owner == victim || to_victim.contains(&was.slot)
}

fn judge(scale: &Scale, kills: &[Kill], ledger: &Ledger) -> Report {
    let mut windows: BTreeMap<TopicNumber, Vec<Window>> = BTreeMap::new();
    let mut back: Vec<Duration> = Vec::new();
    for kill in kills {
        for topic in 0..scale.load.topics {
            let served = ledger.served_since(topic, kill.at).unwrap_or(Duration::MAX);
            back.push(served.saturating_sub(kill.at));
            if kill.broken.contains(&topic) {
                let from = kill.at.saturating_sub(Duration::from_secs(1));
                windows
                    .entry(topic)
                    .or_default()
                    .push(Window { from, to: served });
            }
        }
    }
    let account = ledger.account_outside(|topic, publish| {
        windows
            .get(&topic)
            .is_some_and(|windows| windows.iter().any(|window| window.covers(publish)))
    });
    let mut report = Report::new(format!(
        "kill -9 in the middle of moves, seed {}: {} publishes/s on {} topics x {} members",
        scale.seed, scale.load.publishes_per_second, scale.load.topics, scale.load.members
    ));
    for role in [Role::Source, Role::Target, Role::Planner] {
        let of_role: Vec<&Kill> = kills.iter().filter(|kill| kill.role == role).collect();
        let midway = of_role
            .iter()
            .filter(|kill| kill.moved_before > 0 && kill.was_running)
            .count();
        let anew: usize = of_role.iter().map(|kill| kill.broken.len()).sum();
        let aborted = of_role.iter().filter(|kill| kill.was_aborted).count();
        report.tell(
            &format!("kills of a {role}"),
            format!(
                "{} ({midway} between the first move and the last), {anew} topics began anew, {aborted} plans aborted",
                of_role.len()
            ),
        );
    }
    report.below(
        "every topic served again within",
        back.iter().max().copied().unwrap_or_default(),
        BACK_WITHIN,
    );
    let unexplained: Vec<String> = kills.iter().flat_map(|kill| kill.unexplained.clone()).collect();
    report.none("topics of others that began anew", &unexplained);
    report.tell("publishes under way when their owner was killed", account.inside);
    report.tell("deliveries lost of these", account.lost_inside);
    report.none("deliveries doubled of these", &account.doubled_inside);
    report.none("deliveries reordered of these", &account.reordered_inside);
    enter(&account, 1000, &ledger.disturbances, &mut report);
    report
}

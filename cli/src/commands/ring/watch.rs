//! `ringcast ring watch`: the running plan, live.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use ringcast_proto::record::PlanId;
use ringcast_proto::{NodeId, Slot};
use ringcast_ring::{Revision, Snapshot, Status, progress};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::commands::plans::{Follow, Next};
use crate::output::{Output, count, line, printable, table};

/// Lines for a log or a script: enough to follow, few enough to keep.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
const JSON_INTERVAL: Duration = Duration::from_millis(100);
/// More than a node has under way; what goes beyond is counted.
const MOVES_SHOWN_MAX: usize = 8;

/// The ring and its plan at one revision.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct View {
    version: u64,
    plan: Option<PlanId>,
    wish: Vec<String>,
    running: bool,
    total: u32,
    moved: u32,
    skipped: u32,
    pairs: Vec<Pair>,
    nodes: Vec<Node>,
    moves: Vec<Move>,
}

/// The moves of the plan between two nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Pair {
    from: NodeId,
    to: NodeId,
    moved: u32,
    total: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Node {
    id: NodeId,
    state: String,
    slots_owned: u32,
    share: f64,
}

/// A move under way, the plan's or another.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Move {
    slot: Slot,
    from: NodeId,
    to: NodeId,
    phase: String,
}

impl View {
    /// `plan` is the one to tell of: the running one, or the one that ran last.
    fn of(snapshot: &Snapshot, plan: Option<&PlanId>) -> View {
        let status = Status::of(snapshot);
        let progress = plan.and_then(|id| progress(snapshot, id));
        let stored = plan.and_then(|id| snapshot.plan(id));
        let mut pairs: BTreeMap<(&NodeId, &NodeId), Pair> = BTreeMap::new();
        for planned in stored.iter().flat_map(|plan| &plan.moves) {
            let (from, to) = (&planned.from, &planned.to);
            let pair = pairs.entry((from, to)).or_insert_with(|| Pair {
                from: from.clone(),
                to: to.clone(),
                moved: 0,
                total: 0,
            });
            let owner = snapshot.slot(planned.slot).map(|(_, record)| &record.owner.node);
            pair.total += 1;
            pair.moved += u32::from(owner == Some(to));
        }
        let nodes = status.nodes.into_iter().map(|node| Node {
            id: node.id,
            state: node.state.to_string(),
            slots_owned: node.slots_owned,
            share: node.share,
        });
        let moves = status.moves.into_iter().map(|moving| Move {
            slot: moving.slot,
            from: moving.from,
            to: moving.to,
            phase: moving.phase.to_string(),
        });
        View {
            version: status.version,
            plan: plan.cloned(),
            wish: stored.map(|plan| plan.wish.clone()).unwrap_or_default(),
            running: progress.as_ref().is_some_and(|progress| progress.running),
            total: progress.as_ref().map_or(0, |progress| progress.total),
            moved: progress.as_ref().map_or(0, |progress| progress.moved),
            skipped: progress.as_ref().map_or(0, |progress| progress.skipped),
            pairs: pairs.into_values().collect(),
            nodes: nodes.collect(),
            moves: moves.collect(),
        }
    }

    fn headline(&self) -> String {
        let Some(plan) = &self.plan else {
            return match self.moves.len() {
                0 => format!("ring {}: no plan is running", self.version),
                moves => format!(
                    "ring {}: no plan is running, {} under way for nodes that leave or came back",
                    self.version,
                    count(moves, "move", "moves")
                ),
            };
        };
        let wish = match self.wish.is_empty() {
            true => "rebalance".to_owned(),
            false => printable(&self.wish.join(" ")),
        };
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} skipped"),
        };
        format!(
            "ring {}: plan {} ({wish}) {}: {} of {} moved{skipped}, {} under way",
            self.version,
            printable(&plan.0),
            if self.running { "is running" } else { "is over" },
            self.moved,
            count(self.total as usize, "slot", "slots"),
            self.moves.len()
        )
    }

    fn table(&self) -> String {
        let pairs = self.pairs.iter().map(|pair| {
            vec![
                pair.from.to_string(),
                pair.to.to_string(),
                format!("{}/{}", pair.moved, pair.total),
            ]
        });
        let nodes = self.nodes.iter().map(|node| {
            vec![
                node.id.to_string(),
                node.state.clone(),
                node.slots_owned.to_string(),
                format!("{:.1} %", node.share * 100.0),
            ]
        });
        let moves = self.moves.iter().take(MOVES_SHOWN_MAX).map(|moving| {
            vec![
                moving.slot.to_string(),
                moving.from.to_string(),
                moving.to.to_string(),
                moving.phase.clone(),
            ]
        });
        let mut parts = vec![table(&["node", "state", "slots", "share"], &[2, 3], nodes)];
        if !self.pairs.is_empty() {
            parts.push(table(&["from", "to", "moved"], &[2], pairs));
        }
        if !self.moves.is_empty() {
            parts.push(table(&["slot", "from", "to", "phase"], &[0], moves));
            let more = self.moves.len().saturating_sub(MOVES_SHOWN_MAX);
            parts.extend((more > 0).then(|| format!("... and {more} more")));
        }
        parts.join("\n\n")
    }
}

/// Shows the running plan until it is over; with `endless` goes on until Ctrl-C.
pub(crate) async fn watch(
    cluster: &Cluster,
    endless: bool,
    output: Output,
    interrupt: CancellationToken,
) -> Result<()> {
    let mut plan = running(&cluster.snapshot).cloned();
    let first = View::of(&cluster.snapshot, plan.as_ref());
    if plan.is_none() && !endless {
        return output.print(&first, |first| {
            format!(
                "{}\n(--follow waits for one, `ringcast ring history` tells of those before)",
                first.headline()
            )
        });
    }
    let since: Revision = cluster.snapshot.revision;
    let mut follow = Follow::start(cluster, interrupt);
    let mut screen = Screen::new(output);
    screen.show(&first, true)?;
    while let Next::Seen(snapshot) = follow.next(since).await? {
        if let Some(now) = running(&snapshot) {
            plan = Some(now.clone());
        }
        let view = View::of(&snapshot, plan.as_ref());
        // Another plan may have begun in the same moment, as when this one is aborted: it is watched on.
        let is_over = plan.is_some() && running(&snapshot).is_none();
        screen.show(&view, is_over)?;
        if is_over && !endless {
            break;
        }
        if is_over {
            plan = None;
        }
    }
    Ok(())
}

fn running(snapshot: &Snapshot) -> Option<&PlanId> {
    snapshot.ring()?.plan.as_ref()
}

/// Where the views go: a live table on a terminal, else lines.
struct Screen {
    output: Output,
    live: Option<ProgressBar>,
    shown: Option<(Instant, View)>,
}

impl Screen {
    fn new(output: Output) -> Screen {
        let is_live = !output.is_json() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Screen {
            output,
            live: is_live.then(|| ProgressBar::new(0).with_style(style())),
            shown: None,
        }
    }

    /// Shows the view if it is another; `at_once` also if one was shown a moment ago.
    fn show(&mut self, view: &View, at_once: bool) -> Result<()> {
        if let Some(live) = &self.live {
            live.set_length(u64::from(view.total));
            live.set_position(u64::from(view.moved + view.skipped));
            live.set_message(format!("{}\n\n{}", view.headline(), view.table()));
            if at_once && !view.running {
                live.suspend(|| line(&format!("{}\n\n{}", view.headline(), view.table())))?;
            }
            return Ok(());
        }
        let interval = if self.output.is_json() {
            JSON_INTERVAL
        } else {
            LINE_INTERVAL
        };
        let is_due = match &self.shown {
            None => true,
            Some((at, before)) => before != view && (at_once || at.elapsed() >= interval),
        };
        if is_due {
            self.shown = Some((Instant::now(), view.clone()));
            self.output.print(view, View::headline)?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("[{bar:40}] {pos}/{len} {elapsed}\n{msg}")
        .expect("the template is a constant")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::commands::plans::fixture::{HALF_DONE, snapshot};

    fn view() -> View {
        View::of(&snapshot(&HALF_DONE), Some(&PlanId("p1-abc".to_owned())))
    }

    #[test]
    fn people_see_how_far_a_plan_is_and_what_moves() {
        expect![[r#"
            ring 2: plan p1-abc (--drain ts-1) is running: 1 of 3 slots moved, 1 under way

            NODE  STATE     SLOTS   SHARE
            ts-1  draining      2  50.0 %
            ts-2  up            2  50.0 %

            FROM  TO    MOVED
            ts-1  ts-2    1/3

            SLOT  FROM  TO    PHASE
               1  ts-1  ts-2  learn"#]]
        .assert_eq(&format!("{}\n\n{}", view().headline(), view().table()));
    }

    #[test]
    fn scripts_get_the_fields_they_depend_on() {
        expect![[r#"{"version":2,"plan":"p1-abc","wish":["--drain ts-1"],"running":true,"total":3,"moved":1,"skipped":0,"pairs":[{"from":"ts-1","to":"ts-2","moved":1,"total":3}],"nodes":[{"id":"ts-1","state":"draining","slots_owned":2,"share":0.5},{"id":"ts-2","state":"up","slots_owned":2,"share":0.5}],"moves":[{"slot":1,"from":"ts-1","to":"ts-2","phase":"learn"}]}"#]].assert_eq(&serde_json::to_string(&view()).unwrap());
    }

    #[test]
    fn without_a_plan_moves_are_those_of_nodes_that_leave_or_came_back() {
        let mut records = HALF_DONE.to_vec();
        records.push((
            "ring",
            r#"{"version":2,"replicas":1,"vnodes_per_weight":256,"nodes":[]}"#,
        ));
        let idle = View::of(&snapshot(&records), None);
        assert_eq!(
            idle.headline(),
            "ring 2: no plan is running, 1 move under way for nodes that leave or came back"
        );
    }
}

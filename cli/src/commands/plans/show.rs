//! A plan, as it is printed.

use std::collections::BTreeMap;

use ringcast_proto::record::{Plan, PlanId, PlanMove, PlanShare};
use ringcast_proto::{NodeId, Slot};
use serde::Serialize;

use super::pins::Pin;
use crate::output::{count, printable, size, table};

/// A plan for scripts; for people, see [`show`].
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    plan: &'a PlanId,
    base_version: u64,
    wish: &'a [String],
    moves: Vec<Move<'a>>,
    shares: &'a [PlanShare],
    pins: &'a [Pin],
    warnings: &'a [String],
}

/// A slot that would move. What it holds is none where its owner did not say.
#[derive(Debug, Serialize)]
struct Move<'a> {
    slot: Slot,
    from: &'a NodeId,
    to: &'a NodeId,
    topics: Option<u64>,
    members: Option<u64>,
    bytes: Option<u64>,
}

/// What slots hold together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    slots: usize,
    topics: u64,
    members: u64,
    bytes: u64,
    unknown: usize,
}

impl Sum {
    fn add(&mut self, moved: &PlanMove) {
        self.slots += 1;
        match (moved.topics, moved.members, moved.bytes) {
            (Some(topics), Some(members), Some(bytes)) => {
                self.topics += topics;
                self.members += members;
                self.bytes += bytes;
            }
            _ => self.unknown += 1,
        }
    }

    fn cells(self, from: &str, to: &str) -> Vec<String> {
        let known = |text: String| match self.unknown {
            0 => text,
            unknown if unknown == self.slots => "?".to_owned(),
            _ => format!("{text} + ?"),
        };
        vec![
            from.to_owned(),
            to.to_owned(),
            self.slots.to_string(),
            known(self.topics.to_string()),
            known(self.members.to_string()),
            known(size(self.bytes)),
        ]
    }
}

/// For scripts.
pub(crate) fn json<'a>(id: &'a PlanId, plan: &'a Plan, pins: &'a [Pin]) -> Shown<'a> {
    let moved = |moved: &'a PlanMove| Move {
        slot: moved.slot,
        from: &moved.from,
        to: &moved.to,
        topics: moved.topics,
        members: moved.members,
        bytes: moved.bytes,
    };
    Shown {
        plan: id,
        base_version: plan.base_version,
        wish: &plan.wish,
        moves: plan.moves.iter().map(moved).collect(),
        shares: &plan.shares,
        pins,
        warnings: &plan.warnings,
    }
}

/// For people: what moves, shares before and after, warnings.
pub(crate) fn show(id: &PlanId, plan: &Plan, pins: &[Pin], with_slots: bool) -> String {
    let mut parts = vec![headline(id, plan), moves(plan)];
    if with_slots && !plan.moves.is_empty() {
        parts.push(slots(plan));
    }
    parts.push(shares(plan));
    parts.extend((!pins.is_empty()).then(|| pins.iter().map(Pin::to_string).collect::<Vec<_>>().join("\n")));
    if !plan.warnings.is_empty() {
        let warning = |text: &String| format!("warning: {}", printable(text));
        parts.push(plan.warnings.iter().map(warning).collect::<Vec<_>>().join("\n"));
    }
    parts.join("\n\n")
}

/// A line: what was asked for, and what it moves.
pub(crate) fn brief(id: &PlanId, plan: &Plan) -> String {
    format!(
        "{}: {}",
        headline(id, plan),
        match plan.moves.len() {
            0 => "no slot moves".to_owned(),
            slots => format!("{} to move", count(slots, "slot", "slots")),
        }
    )
}

fn headline(id: &PlanId, plan: &Plan) -> String {
    let wish = match plan.wish.is_empty() {
        true => "rebalance".to_owned(),
        false => printable(&plan.wish.join(" ")),
    };
    format!("plan {} for ring {}: {wish}", printable(&id.0), plan.base_version)
}

fn moves(plan: &Plan) -> String {
    let mut pairs: BTreeMap<(&NodeId, &NodeId), Sum> = BTreeMap::new();
    let mut all = Sum::default();
    for moved in &plan.moves {
        pairs.entry((&moved.from, &moved.to)).or_default().add(moved);
        all.add(moved);
    }
    if pairs.is_empty() {
        return "no slot moves".to_owned();
    }
    let total = (pairs.len() > 1).then(|| all.cells("all", ""));
    let rows = pairs
        .iter()
        .map(|((from, to), sum)| sum.cells(from.as_str(), to.as_str()));
    table(
        &["from", "to", "slots", "topics", "members", "history"],
        &[2, 3, 4, 5],
        rows.chain(total),
    )
}

fn slots(plan: &Plan) -> String {
    let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let rows = plan.moves.iter().map(|moved| {
        vec![
            moved.slot.to_string(),
            moved.from.to_string(),
            moved.to.to_string(),
            number(moved.topics),
            number(moved.members),
            moved.bytes.map_or_else(|| "?".to_owned(), size),
        ]
    });
    table(
        &["slot", "from", "to", "topics", "members", "history"],
        &[0, 3, 4, 5],
        rows,
    )
}

fn shares(plan: &Plan) -> String {
    let rows = plan.shares.iter().map(|share| {
        vec![
            share.id.to_string(),
            format!("{} -> {}", share.slots_before, share.slots_after),
            format!("{} -> {}", percent(share.before), percent(share.after)),
        ]
    });
    table(&["node", "slots", "share"], &[1, 2], rows)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn node(id: &str) -> NodeId {
        NodeId::parse(id).unwrap()
    }

    fn id() -> PlanId {
        PlanId("p1-k3f".to_owned())
    }

    fn plan() -> Plan {
        let moved = |slot, to, load: Option<u64>| PlanMove {
            slot: Slot(slot),
            from: node("ts-2"),
            to: node(to),
            topics: load,
            members: load.map(|load| load * 10),
            bytes: load.map(|load| load * 1000),
        };
        let share = |id, slots_before, slots_after| PlanShare {
            id: node(id),
            slots_before,
            slots_after,
            before: f64::from(slots_before) / 8.0,
            after: f64::from(slots_after) / 8.0,
        };
        Plan {
            base_version: 1,
            wish: vec!["--drain ts-2".to_owned()],
            moves: vec![
                moved(1, "ts-1", Some(2)),
                moved(3, "ts-3", Some(1)),
                moved(7, "ts-1", None),
            ],
            shares: vec![share("ts-1", 3, 5), share("ts-2", 3, 0), share("ts-3", 2, 3)],
            warnings: vec!["1 slot of unknown load".to_owned()],
            ..Plan::default()
        }
    }

    #[test]
    fn people_see_what_moves_between_whom_and_who_owns_how_much() {
        expect![[r#"
            plan p1-k3f for ring 1: --drain ts-2

            FROM  TO    SLOTS  TOPICS  MEMBERS      HISTORY
            ts-2  ts-1      2   2 + ?   20 + ?  2.0 KiB + ?
            ts-2  ts-3      1       1       10       1000 B
            all             3   3 + ?   30 + ?  2.9 KiB + ?

            NODE   SLOTS             SHARE
            ts-1  3 -> 5  37.5 % -> 62.5 %
            ts-2  3 -> 0   37.5 % -> 0.0 %
            ts-3  2 -> 3  25.0 % -> 37.5 %

            warning: 1 slot of unknown load"#]]
        .assert_eq(&show(&id(), &plan(), &[], false));
    }

    #[test]
    fn every_slot_is_listed_when_asked_for() {
        let shown = show(&id(), &plan(), &[], true);
        let listed = shown.split("\n\n").nth(2).unwrap();
        expect![[r#"
            SLOT  FROM  TO    TOPICS  MEMBERS  HISTORY
               1  ts-2  ts-1       2       20  2.0 KiB
               3  ts-2  ts-3       1       10   1000 B
               7  ts-2  ts-1       ?        ?        ?"#]]
        .assert_eq(listed);
    }

    #[test]
    fn scripts_get_the_fields_they_depend_on() {
        let mut plan = plan();
        plan.moves.drain(1..2);
        plan.shares.truncate(1);
        expect![[r#"{"plan":"p1-k3f","base_version":1,"wish":["--drain ts-2"],"moves":[{"slot":1,"from":"ts-2","to":"ts-1","topics":2,"members":20,"bytes":2000},{"slot":7,"from":"ts-2","to":"ts-1","topics":null,"members":null,"bytes":null}],"shares":[{"id":"ts-1","slots_before":3,"slots_after":5,"before":0.375,"after":0.625}],"pins":[],"warnings":["1 slot of unknown load"]}"#]]
        .assert_eq(&serde_json::to_string(&json(&id(), &plan, &[])).unwrap());
    }

    #[test]
    fn a_wish_cannot_drive_the_terminal() {
        let plan = Plan {
            wish: vec!["\u{1b}[2J".to_owned()],
            ..Plan::default()
        };
        assert!(!brief(&id(), &plan).contains('\u{1b}'));
    }
}

//! Plans, and the owners that carry moves out: at once, when the script says so.

use ringcast_proto::record::{Cause, Finished, PlanId, SlotRecord};

use super::*;
use crate::{Progress, Wish, abort, commit, plan, progress, save};

impl World {
    pub(super) fn leave(&mut self, id: &NodeId) {
        let mut record = self.snapshot.node(id).unwrap().clone();
        record.leaving = true;
        self.snapshot.revision.0 += 1;
        self.write(Key::Node(id.clone()), Record::Node(record));
    }

    pub(super) fn plan(&mut self, id: &str, wishes: &[&str]) {
        let wish = |words: &[&str]| match words {
            ["add", id] => Wish::Add(node(id)),
            ["drain", id] => Wish::Drain(node(id)),
            ["remove", id] => Wish::Remove {
                node: node(id),
                dead: false,
            },
            ["dead", id] => Wish::Remove {
                node: node(id),
                dead: true,
            },
            ["weigh", id] => {
                let (id, weight) = id.split_once('=').unwrap();
                Wish::Weight(node(id), weight.parse().unwrap())
            }
            words => panic!("unknown wish {words:?}"),
        };
        let wishes: Vec<Wish> = wishes.chunks(2).map(wish).collect();
        match plan(&self.snapshot, &wishes, &BTreeMap::new()) {
            Ok(plan) => {
                writeln!(self.transcript, "plan {id}: {} moves", plan.moves.len()).unwrap();
                self.apply(&save(&self.snapshot, &plan_id(id), &plan, Op(id.to_owned())))
                    .unwrap();
            }
            Err(error) => writeln!(self.transcript, "plan {id}: {error}").unwrap(),
        }
    }

    pub(super) fn commit(&mut self, id: &str) {
        match commit(&self.snapshot, &plan_id(id), "me@here", 1, Op(id.to_owned())) {
            Ok(change) => self.apply(&change).map(drop).unwrap(),
            Err(error) => writeln!(self.transcript, "commit {id}: {error}").unwrap(),
        }
    }

    pub(super) fn abort(&mut self, undo: &str) {
        match abort(&self.snapshot, &plan_id(undo), "me@here", 1, Op(undo.to_owned())) {
            Ok((aborted, change)) => {
                self.apply(&change).unwrap();
                writeln!(self.transcript, "aborted {}", aborted.0).unwrap();
            }
            Err(error) => writeln!(self.transcript, "abort: {error}").unwrap(),
        }
    }

    /// What the owners of these slots do once their targets have everything. Returns who gave to whom.
    pub(in crate::planner) fn swap(&mut self, limit: usize) -> Vec<(NodeId, NodeId)> {
        let mut swaps = Vec::new();
        for (slot, _, record) in self.snapshot.slots() {
            if let Some(moving) = &record.moving
                && self.snapshot.alive(&record.owner)
                && self.snapshot.alive(&moving.target)
            {
                let mut swapped = record.clone();
                swapped.owner_epoch = record.owner_epoch.next();
                swapped.owner = moving.target.clone();
                swapped.moving = None;
                swapped.cause = Cause::Swap;
                swaps.push((slot, record.owner.node.clone(), swapped));
            }
        }
        swaps.truncate(limit);
        let mut done = Vec::new();
        for (slot, from, swapped) in swaps {
            self.snapshot.revision.0 += 1;
            done.push((from, swapped.owner.node.clone()));
            self.write(Key::Slot(slot), Record::Slot(swapped));
        }
        done
    }

    pub(super) fn settle(&mut self) {
        let mut moved: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let told = self.transcript.len();
            self.run(usize::MAX);
            self.transcript.truncate(told);
            self.assert_limits();
            let swaps = self.swap(usize::MAX);
            if swaps.is_empty() {
                break;
            }
            for (from, to) in swaps {
                *moved.entry(format!("{from} to {to}")).or_default() += 1;
            }
        }
        let moved: Vec<String> = moved
            .iter()
            .map(|(what, count)| format!(" {what} {count}"))
            .collect();
        writeln!(self.transcript, "moved:{}", moved.join(",")).unwrap();
    }

    /// Two in and two out a node; a move whose owner is gone is none.
    pub(in crate::planner) fn assert_limits(&self) {
        let mut traffic: BTreeMap<(&str, &NodeId), usize> = BTreeMap::new();
        for (_, _, record) in self.snapshot.slots() {
            if let Some(moving) = &record.moving
                && self.snapshot.alive(&record.owner)
            {
                *traffic.entry(("out", &record.owner.node)).or_default() += 1;
                *traffic.entry(("in", &moving.target.node)).or_default() += 1;
            }
        }
        assert!(traffic.values().all(|count| *count <= 2), "{traffic:?}");
    }

    pub(super) fn print_ring(&mut self) {
        let ring = self.snapshot.ring().unwrap().clone();
        let member = |member: &RingNode| format!(" {} {:?} {}", member.id, member.state, member.weight);
        let members: Vec<String> = ring.nodes.iter().map(member).collect();
        let plan = ring
            .plan
            .map_or(String::new(), |plan| format!(", plan {}", plan.0));
        writeln!(
            self.transcript,
            "ring {}:{}{plan}",
            ring.version,
            members.join(",")
        )
        .unwrap();
    }

    pub(super) fn print_progress(&mut self, id: &str) {
        let told = match progress(&self.snapshot, &plan_id(id)) {
            None => "unknown".to_owned(),
            Some(Progress {
                total,
                moved,
                skipped,
                under_way,
                running,
                finished,
                ..
            }) => {
                let under_way = under_way.len();
                let finished = finished.map_or(String::new(), |Finished { moved, skipped }| {
                    format!(", finished with {moved} moved and {skipped} skipped")
                });
                let running = if running { ", running" } else { "" };
                format!(
                    "{moved} of {total} moved, {skipped} skipped, {under_way} under way{running}{finished}"
                )
            }
        };
        writeln!(self.transcript, "{id}: {told}").unwrap();
    }

    /// A wish says nothing about who owns a slot, and whoever lives keeps it.
    pub(super) fn assert_lawful(&self, key: &Key, record: &Record) {
        let present = self.snapshot.records.get(key).map(|stored| &stored.record);
        let (Some(Record::Slot(was)), Record::Slot(is)) = (present, record) else {
            return;
        };
        let wished = SlotRecord {
            moving: is.moving.clone(),
            ..was.clone()
        };
        let taken = !self.snapshot.alive(&was.owner)
            && is.moving.is_none()
            && is.owner_epoch == was.owner_epoch.next();
        assert!(taken || *is == wished, "{key}: {was:?} to {is:?}");
    }
}

fn plan_id(id: &str) -> PlanId {
    PlanId(id.to_owned())
}

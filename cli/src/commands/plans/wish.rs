//! What a person asks for, read from the command line.
//!
//! *Invariant:* what cannot be read is refused here, in words and with exit code 1; what cannot be done (an unknown node,
//! a weight out of range, the same node twice) is refused by the plan.

use anyhow::{Context, Result, anyhow, bail};
use ringcast_proto::{NodeId, Slot, Topic};
use ringcast_ring::SlotTable;
use ringcast_ring::Wish;

use crate::commands::ring::PlanArgs;

/// A wish as it was typed: topics are not slots yet, because that takes the ring.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    /// Needs nothing more.
    Node(Wish),
    /// `--pin TOPIC=ID`.
    Pin(Topic, NodeId),
    /// `--unpin TOPIC`.
    Unpin(Topic),
}

/// A topic whose slot a plan pins, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pinned {
    pub(crate) topic: Topic,
    pub(crate) slot: Slot,
    pub(crate) node: NodeId,
}

impl Asked {
    /// Everything that was asked of `ring plan`.
    pub(crate) fn all(args: &PlanArgs) -> Result<Vec<Asked>> {
        let mut asked = Vec::new();
        for id in &args.add {
            asked.push(Asked::Node(Wish::Add(node_id("--add", id)?)));
        }
        for id in &args.drain {
            asked.push(Asked::Node(Wish::Drain(node_id("--drain", id)?)));
        }
        for id in &args.remove {
            let node = node_id("--remove", id)?;
            let dead = args.dead;
            asked.push(Asked::Node(Wish::Remove { node, dead }));
        }
        for text in &args.weight {
            let (id, value) = split("--weight", text, "ID=W, as ts-1=2")?;
            let node = node_id("--weight", id)?;
            asked.push(Asked::Node(Wish::Weight(node, weight("--weight", value)?)));
        }
        for text in &args.pin {
            let (name, id) = split("--pin", text, "TOPIC=ID, as room:lobby=ts-1")?;
            asked.push(Asked::Pin(topic("--pin", name)?, node_id("--pin", id)?));
        }
        for name in &args.unpin {
            asked.push(Asked::Unpin(topic("--unpin", name)?));
        }
        Ok(asked)
    }

    /// The wish, with the topic's slot.
    pub(crate) fn wish(&self, table: &SlotTable) -> Wish {
        match self {
            Asked::Node(wish) => wish.clone(),
            Asked::Pin(topic, node) => Wish::Pin(table.slot_of(topic.as_bytes()), node.clone()),
            Asked::Unpin(topic) => Wish::Unpin(table.slot_of(topic.as_bytes())),
        }
    }

    /// The words that ask for it: `of_wish`, unless a topic was named, which people know and its slot they do not.
    pub(crate) fn words(&self, of_wish: String) -> String {
        match self {
            Asked::Node(_) => of_wish,
            Asked::Pin(topic, node) => format!("--pin {topic}={node}"),
            Asked::Unpin(topic) => format!("--unpin {topic}"),
        }
    }

    /// The topic, if one was named.
    pub(crate) fn topic(&self) -> Option<&Topic> {
        match self {
            Asked::Node(_) => None,
            Asked::Pin(topic, _) | Asked::Unpin(topic) => Some(topic),
        }
    }

    /// What is pinned by it.
    pub(crate) fn pinned(&self, table: &SlotTable) -> Option<Pinned> {
        match self {
            Asked::Pin(topic, node) => Some(Pinned {
                topic: topic.clone(),
                slot: table.slot_of(topic.as_bytes()),
                node: node.clone(),
            }),
            Asked::Node(_) | Asked::Unpin(_) => None,
        }
    }
}

/// The node named by `id`; `flag` is who asked.
pub(crate) fn node_id(flag: &str, id: &str) -> Result<NodeId> {
    NodeId::parse(id).with_context(|| flag.to_owned())
}

/// The number; whether it can be a weight is the plan's to say.
pub(crate) fn weight(flag: &str, text: &str) -> Result<f64> {
    let short: String = text.chars().take(80).collect();
    text.parse()
        .map_err(|_| anyhow!("{flag}: weight {short:?} is no number, as 1 or 0.5"))
}

fn topic(flag: &str, name: &str) -> Result<Topic> {
    Topic::parse(name.as_bytes()).with_context(|| flag.to_owned())
}

/// At the last `=`: a topic may have some of its own, an id and a weight have none.
fn split<'a>(flag: &str, text: &'a str, form: &str) -> Result<(&'a str, &'a str)> {
    match text.rsplit_once('=') {
        Some(parts) => Ok(parts),
        None => bail!("{flag} {text:?}: expected {form}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(flag: fn(&mut PlanArgs) -> &mut Vec<String>, text: &str) -> Result<Vec<Asked>, String> {
        let mut args = PlanArgs::default();
        flag(&mut args).push(text.to_owned());
        Asked::all(&args).map_err(|error| format!("{error:#}"))
    }

    fn node(id: &str) -> NodeId {
        NodeId::parse(id).unwrap()
    }

    #[test]
    fn a_topic_may_have_equals_signs_of_its_own() {
        let topic = Topic::parse(b"room:a=b").unwrap();
        assert_eq!(
            one(|args| &mut args.pin, "room:a=b=ts-1"),
            Ok(vec![Asked::Pin(topic, node("ts-1"))])
        );
    }

    #[test]
    fn dead_counts_for_every_node_to_be_removed() {
        let args = PlanArgs {
            remove: vec!["ts-1".into(), "ts-2".into()],
            dead: true,
            ..PlanArgs::default()
        };
        let remove = |id| {
            Asked::Node(Wish::Remove {
                node: node(id),
                dead: true,
            })
        };
        assert_eq!(Asked::all(&args).unwrap(), [remove("ts-1"), remove("ts-2")]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_flag() {
        let refused = |flag: fn(&mut PlanArgs) -> &mut Vec<String>, text| one(flag, text).unwrap_err();
        for (said, refused) in [
            ("--add: node id \"\"", refused(|args| &mut args.add, "")),
            ("--drain: node id \"a/b\"", refused(|args| &mut args.drain, "a/b")),
            (
                "--remove: node id \"ts 1\"",
                refused(|args| &mut args.remove, "ts 1"),
            ),
            (
                "--weight \"ts-1\": expected ID=W",
                refused(|args| &mut args.weight, "ts-1"),
            ),
            (
                "weight \"much\" is no number",
                refused(|args| &mut args.weight, "ts-1=much"),
            ),
            (
                "weight \"\" is no number",
                refused(|args| &mut args.weight, "ts-1="),
            ),
            ("--weight: node id \"\"", refused(|args| &mut args.weight, "=1")),
            (
                "--pin \"room:a\": expected TOPIC=ID",
                refused(|args| &mut args.pin, "room:a"),
            ),
            ("--pin: topic of 0 bytes", refused(|args| &mut args.pin, "=ts-1")),
            ("--unpin: topic of 0 bytes", refused(|args| &mut args.unpin, "")),
        ] {
            assert!(refused.contains(said), "{said} in {refused}");
        }
    }

    #[test]
    fn a_number_that_is_no_weight_is_left_to_the_plan() {
        for text in ["ts-1=-1", "ts-1=1e9", "ts-1=NaN", "ts-1=0"] {
            assert!(one(|args| &mut args.weight, text).is_ok(), "{text}");
        }
    }
}

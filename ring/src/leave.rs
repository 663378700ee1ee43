//! Whether a topic server that is about to end has anyone to leave its slots to.
//!
//! Leaves out: moving them (the planner sees that the node's record says `leaving`), and how long the node waits.

use ringcast_proto::NodeId;
use ringcast_proto::record::RingNodeState;

use crate::Snapshot;

/// Whether anyone but `leaving` can take slots: in the ring and up, with weight, registered and not leaving itself.
/// Without one, waiting serves nobody.
#[must_use]
pub fn has_target(snapshot: &Snapshot, leaving: &NodeId) -> bool {
    let Some(ring) = snapshot.ring() else {
        return false;
    };
    ring.nodes.iter().any(|member| {
        member.id != *leaving
            && member.state == RingNodeState::Up
            && (member.weight * f64::from(ring.vnodes_per_weight)).round() > 0.0
            && snapshot
                .topic_server(&member.id)
                .is_some_and(|record| !record.leaving)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    fn check(members: &str, nodes: &[(&str, &str)]) -> bool {
        let ring = format!(r#"{{"version":3,"replicas":1,"vnodes_per_weight":256,"nodes":[{members}]}}"#);
        let mut records = vec![("ring", ring.as_str())];
        records.extend(nodes);
        has_target(&snapshot(&records), &NodeId::parse("ts-1").unwrap())
    }

    #[test]
    fn only_a_member_that_is_up_and_stays_can_take_what_a_leaving_node_had() {
        const SERVER: &str = r#"{"inc":2,"role":"topic-server","advertise":"a:1","build":"1"}"#;
        const LEAVING: &str =
            r#"{"inc":2,"role":"topic-server","advertise":"a:1","build":"1","leaving":true}"#;
        const UP: &str = r#"{"id":"ts-1","weight":1,"state":"up"},{"id":"ts-2","weight":1,"state":"up"}"#;
        let me = ("node/ts-1", LEAVING);
        assert!(check(UP, &[me, ("node/ts-2", SERVER)]));
        assert!(!check(UP, &[me]), "down");
        assert!(!check(UP, &[me, ("node/ts-2", LEAVING)]), "leaving too");
        let unwilling =
            r#"{"id":"ts-2","weight":1,"state":"draining"},{"id":"ts-3","weight":0,"state":"up"}"#;
        let joining = ("node/ts-4", SERVER);
        assert!(!check(
            unwilling,
            &[me, ("node/ts-2", SERVER), ("node/ts-3", SERVER), joining]
        ));
        assert!(
            !has_target(&Snapshot::default(), &NodeId::parse("ts-1").unwrap()),
            "unborn"
        );
    }
}

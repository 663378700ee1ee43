//! Properties of plans, whatever came before them.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn plans_one_after_the_other_stay_within_bounds_and_move_only_what_they_must(
        count in 2..7usize,
        steps in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), 0.25..4.0), 1..8),
    ) {
        let members: Vec<String> = (1..=count).map(|number| format!("ts-{number}")).collect();
        let members: Vec<(&str, f64)> = members.iter().map(|id| (id.as_str(), 1.0)).collect();
        let mut store = Store::born(&members);
        for (step, (what, which, weight)) in steps.into_iter().enumerate() {
            let ring = store.0.ring().unwrap();
            let member = ring.nodes[which.index(ring.nodes.len())].clone();
            let new = format!("new-{step}");
            let wish = match what {
                0 => {
                    store.up(&new, Role::TopicServer);
                    add(&new)
                }
                1 if member.state == RingNodeState::Draining => Wish::Add(member.id.clone()),
                1 => Wish::Drain(member.id.clone()),
                2 => remove(member.id.as_str()),
                _ => Wish::Weight(member.id.clone(), weight),
            };
            let plan = match store.plan(std::slice::from_ref(&wish)) {
                Ok(plan) => plan,
                Err(error) => {
                    let sound = matches!(error, PlanError::LastNode { .. } | PlanError::NothingToDo);
                    prop_assert!(sound, "{wish}: {error}");
                    continue;
                }
            };
            let owned = |id: &NodeId| {
                let share = plan.shares.iter().find(|share| share.id == *id);
                share.map_or(0, |share| share.slots_after)
            };
            let up = plan.after.nodes.iter().filter(|member| member.state == RingNodeState::Up);
            let total: f64 = up.clone().map(|member| member.weight).sum();
            for member in up {
                let bound = 1.1 * f64::from(SLOTS) * member.weight / total;
                prop_assert!(f64::from(owned(&member.id)) < bound + 1.0 + 1e-6, "{wish}: {} owns {}", member.id, owned(&member.id));
            }
            let full = |id: &NodeId| {
                let member = plan.after.nodes.iter().find(|member| member.id == *id).unwrap();
                f64::from(owned(id)) + 1.0 > 1.1 * f64::from(SLOTS) * member.weight / total
            };
            let to_others = |id: &NodeId| plan.moves.iter().any(|planned| planned.to != *id);
            let only_from = |id: &NodeId| plan.moves.iter().all(|planned| planned.from == *id);
            match &wish {
                Wish::Add(id) => prop_assert!(!to_others(id) || full(id), "{wish} moves slots to others"),
                Wish::Drain(id) | Wish::Remove { node: id, .. } => {
                    prop_assert!(only_from(id), "{wish} moves slots of others");
                    prop_assert_eq!(owned(id), 0);
                }
                Wish::Weight(..) | Wish::Pin(..) | Wish::Unpin(_) => {}
            }
            let total: u32 = plan.shares.iter().map(|share| share.slots_after).sum();
            prop_assert_eq!(total, u32::from(SLOTS));
            store.carry_out(&plan);
            let counted = store.0.slots().filter(|(.., record)| record.owner.node == plan.shares[0].id).count();
            prop_assert_eq!(u32::try_from(counted).unwrap(), plan.shares[0].slots_after);
        }
    }
}

//! What storing, committing and aborting a plan make of the ring.

use ringcast_proto::record::{Finished, HistoryCause};

use super::*;

#[test]
fn of_two_commits_at_once_one_wins_and_the_other_plan_is_stale() {
    let mut store = three();
    store.save("p", &[drain("ts-1")]);
    store.save("q", &[drain("ts-2")]);
    let (p, q) = (store.commit("p").unwrap(), store.commit("q").unwrap());
    assert!(store.apply(p));
    assert!(!store.apply(q));
    assert_eq!(store.commit("q"), Err(PlanError::Running(id("p"))));
    let ring = store.0.ring().unwrap();
    assert_eq!((ring.version, &ring.plan), (2, &Some(id("p"))));
    let history = store.0.history().next().unwrap();
    assert_eq!(
        (
            history.version,
            history.who.as_str(),
            history.cause,
            history.at_unix_ms
        ),
        (2, "me@here", HistoryCause::Commit, 7)
    );
    let plan = store.0.plan(&id("p")).unwrap().clone();
    store.carry_out(&plan);
    let (plan, base, now) = (id("q"), 1, 2);
    assert_eq!(store.commit("q"), Err(PlanError::Stale { plan, base, now }));
    assert_eq!(store.commit("r"), Err(PlanError::NoSuchPlan(id("r"))));
}

#[test]
fn a_plan_is_not_committed_while_one_it_counts_on_is_gone_or_goes() {
    let mut store = three();
    store.up("ts-4", Role::TopicServer);
    store.save("p", &[add("ts-4")]);
    let late = store.commit("p").unwrap();
    store.leave("ts-4");
    let changed = || PlanError::NodesChanged {
        plan: id("p"),
        node: node("ts-4"),
    };
    assert_eq!(store.commit("p"), Err(changed()));
    store.kill("ts-4");
    assert_eq!(store.commit("p"), Err(changed()));
    assert!(!store.apply(late), "the lease that it guards is gone");
}

#[test]
fn an_abort_goes_back_to_the_ring_before_and_says_how_far_it_was() {
    let mut store = three();
    store.up("ts-4", Role::TopicServer);
    store.save("p", &[add("ts-4"), remove("ts-1")]);
    let before = store.0.ring().unwrap().nodes.clone();
    let commit = store.commit("p").unwrap();
    assert!(store.apply(commit));
    let plan = store.0.plan(&id("p")).unwrap().clone();
    for planned in &plan.moves[..5] {
        store.own(planned.slot, planned.to.as_str());
    }
    let (aborted, change) = abort(&store.0, &id("u"), "me@here", 8, op()).unwrap();
    assert_eq!(aborted, id("p"));
    assert!(store.apply(change));
    let ring = store.0.ring().unwrap();
    assert_eq!((ring.version, &ring.plan), (3, &Some(id("u"))));
    let states: Vec<String> = ring
        .nodes
        .iter()
        .map(|member| format!("{} {:?}", member.id, member.state))
        .collect();
    assert_eq!(states, ["ts-1 Up", "ts-2 Up", "ts-3 Up", "ts-4 Draining"]);
    let undo = store.0.plan(&id("u")).unwrap().clone();
    assert_eq!((&undo.after.nodes, &undo.undoes), (&before, &Some(id("p"))));
    let home = |(one, other): (&record::PlanMove, &record::PlanMove)| {
        (one.slot, &one.from, &one.to) == (other.slot, &other.to, &other.from)
    };
    assert!(undo.moves.len() == plan.moves.len() && undo.moves.iter().zip(&plan.moves).all(home));
    let skipped = u32::try_from(plan.moves.len()).unwrap() - 5;
    let outcome = Finished { moved: 5, skipped };
    assert_eq!(progress(&store.0, &id("p")).unwrap().finished, Some(outcome));
    let causes: Vec<HistoryCause> = store.0.history().map(|history| history.cause).collect();
    assert_eq!(causes, [HistoryCause::Commit, HistoryCause::Abort]);
    let undoing = progress(&store.0, &id("u")).unwrap();
    assert_eq!((undoing.running, undoing.moved), (true, skipped));
    store.carry_out(&undo);
    let nothing = abort(&store.0, &id("v"), "me@here", 9, op());
    assert_eq!(nothing, Err(PlanError::NothingRunning));
}

#[test]
fn the_newest_plans_and_versions_are_kept_and_the_one_that_runs() {
    let mut store = three();
    store.save("p-00", &[drain("ts-1")]);
    let commit = store.commit("p-00").unwrap();
    assert!(store.apply(commit));
    for number in 1..=20 {
        store.save(&format!("p-{number:02}"), &[drain("ts-2")]);
    }
    let plans: Vec<&str> = store.0.plans().map(|(id, ..)| id.0.as_str()).collect();
    assert_eq!(
        plans.len(),
        18,
        "the one that runs, the one just stored, and 16 others"
    );
    assert_eq!((plans[0], plans[1]), ("p-00", "p-04"));
    let again = save(&store.0, &id("p-07"), store.0.plan(&id("p-08")).unwrap(), op());
    assert!(!store.apply(again), "a name is given once");

    let mut ring = store.0.ring().unwrap().clone();
    (ring.version, ring.plan) = (150, None);
    store.put(Key::Ring, Record::Ring(ring));
    for version in 3..=150 {
        let history = record::History {
            version,
            ..Default::default()
        };
        store.put(Key::History(version), Record::History(history));
    }
    store.save("q", &[drain("ts-2")]);
    assert_eq!(store.0.history().next().unwrap().version, 51);
    assert_eq!(store.0.history().count(), 100);
}

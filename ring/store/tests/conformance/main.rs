//! What every ring store promises, checked on each of them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod changes;
mod coordinator;
mod harness;
mod leases;
mod memory;
mod nodes;
mod watches;

/// One test a promise, for one kind of store.
#[macro_export]
macro_rules! conformance {
    ($harness:ty) => {
        $crate::conformance!(@ $harness, changes:
            a_change_of_64_records_happens_at_one_revision_or_not_at_all,
            of_many_changes_to_one_record_one_wins,
            an_expectation_is_checked_against_what_is_there,
            a_guard_that_someone_is_alive_holds_for_this_life_only,
            a_guard_that_someone_is_gone_holds_once_that_life_is_over,
            a_guard_of_the_planner_holds_for_this_term_only,
            a_repeated_change_is_done_once_and_answers_when,
            a_repeated_change_that_was_overwritten_conflicts_with_what_stands,
            a_record_on_a_lease_is_not_written_for_a_life_that_is_over,
            what_is_written_is_what_is_loaded,
        );
        $crate::conformance!(@ $harness, watches:
            a_watch_shows_every_change_in_order_and_nothing_else,
            a_watch_goes_on_from_a_revision,
            a_watch_from_a_forgotten_or_future_revision_says_load_again,
            a_watch_with_nothing_to_say_says_so_every_second,
        );
        $crate::conformance!(@ $harness, leases:
            a_lease_ends_between_its_ttl_and_a_second_more,
            a_renewed_lease_lives_on_and_only_in_its_own_life,
            node_and_planner_records_go_with_the_lease_at_one_revision,
            an_id_in_use_is_refused_and_its_holder_named,
            a_registration_asked_for_again_is_the_same_one,
            a_registration_asked_for_again_lives_its_ttl_from_then_on,
            a_released_id_is_free_at_once_and_its_next_life_is_a_later_one,
            removing_a_node_record_ends_its_lease,
        );
        $crate::conformance!(@ $harness, nodes:
            a_node_stays_registered_for_many_ttls,
            a_node_waits_for_a_taken_id_until_it_is_free,
            a_node_that_finds_its_id_taken_to_the_end_names_the_holder,
            a_node_that_lost_its_lease_says_so_and_comes_back_in_a_new_life,
            a_node_that_leaves_is_gone_at_once,
            a_mirror_shows_what_the_store_holds_and_every_change,
        );
    };
    (@ $harness:ty, $module:ident: $($promise:ident,)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let harness = <$harness as $crate::harness::Harness>::start().await;
                    $crate::$module::$promise(&harness).await;
                }
            )*
        }
    };
}

//! What every store must do, asked through the room's handle of SQLite and of Postgres alike.

mod accounts;
mod administration;
mod api_keys;
mod audit;
mod claims;
mod conversations;
mod faults;
pub(super) mod ground;
mod invites;
mod ledger;
mod lifecycle;
mod limits;
mod load;
mod model_access;
mod offline;
mod outages;
mod pages;
mod passwords;
mod purge;
mod replica;
mod retention;
pub(super) mod samples;
mod search;
mod sessions;
mod spill;
mod turns;
mod upgrade;
mod usage;
mod uses;

/// Makes of each named test one for each database.
macro_rules! over_both {
    ($($module:ident: $($test:ident)+;)+) => {
        mod sqlite {
            $($(
                #[tokio::test]
                async fn $test() {
                    super::$module::$test(super::ground::Ground::sqlite().await).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test]
                async fn $test() {
                    super::$module::$test(super::ground::Ground::postgres().await).await;
                }
            )+)+
        }
    };
}

over_both! {
    accounts:
        an_account_is_found_by_its_email_and_by_its_id
        a_taken_email_is_a_conflict_and_leaves_no_audit_entry;
    administration:
        g8_a_search_takes_its_text_literally
        accounts_page_from_new_to_old_without_the_deleted
        a12_disabling_ends_every_session_and_enabling_gives_none_back
        a_change_of_an_account_is_audited_if_it_is_one
        the_last_administrator_stays
        administrators_who_demote_each_other_at_once_leave_one
        a_deleted_account_leaves_a_nameless_row_and_its_usage
        nobody_keeps_an_account_from_being_deleted_by_taking_its_last_name
        nothing_that_begins_during_a_deletion_outlives_it;
    purge:
        sessions_are_purged_long_after_their_end_and_familiar_networks_stay
        a_deleted_account_of_20_000_messages_goes_in_bounded_steps;
    passwords:
        a_password_hash_is_replaced_only_if_it_is_still_the_old_one
        a04_a_new_password_ends_other_sessions_and_every_older_token
        a04_who_was_let_in_by_the_old_password_finds_no_session_after_the_change
        a_refused_password_changes_nothing
        a_password_set_without_more_leaves_sessions_alone;
    invites:
        an_invite_gives_its_role_once
        a18_an_administrators_invite_outlives_neither_its_makers_role_nor_state
        fifty_parallel_uses_of_one_invite_make_one_account
        a_taken_email_leaves_the_invite_good
        an_invite_that_is_unknown_expired_or_revoked_makes_nothing
        invites_page_from_new_to_old_as_they_were_made
        one_code_makes_one_invite
        a18_the_first_administrators_invite_makes_one_administrator
        a18_an_administrator_makes_the_first_ones_invite_worthless;
    api_keys:
        a15_a_key_is_found_by_its_whole_hash_with_its_user
        keys_page_from_new_to_old_without_the_revoked
        a17_a_key_is_revoked_by_its_owner_or_an_administrator_once
        an_account_has_no_more_keys_than_it_may
        a09_fifty_parallel_generations_are_one;
    limits:
        limits_of_an_account_are_read_with_it_and_with_its_sessions_and_keys
        limits_of_a_key_change_while_it_is_not_revoked
        a19_a_change_of_limits_is_told_once_and_names_what_changed
        changes_of_different_limits_at_once_all_count
        what_is_no_limit_is_never_stored;
    model_access:
        models_of_an_account_are_read_with_it_and_with_its_sessions_and_keys
        models_of_a_key_change_while_it_is_not_revoked
        a19_a_change_of_models_is_told_once_beside_what_else_changed
        e06_lists_stay_when_a_release_writes_that_does_not_know_them
        a_list_that_cannot_be_read_lets_nobody_in_and_one_that_is_too_long_is_never_stored;
    audit:
        a19_the_audit_trail_cannot_be_altered
        a19_every_event_is_noted_and_read_back
        a_filter_lets_through_what_matches_all_of_it;
    uses:
        a12_live_sessions_are_listed_most_lately_used_first
        a12_sessions_end_one_by_one_all_but_one_or_all
        one_session_too_many_ends_the_one_that_rested_longest
        a06_a_network_is_known_by_the_sign_ins_from_it
        a_use_only_moves_forward_and_only_of_what_lives
        a_session_from_before_it_had_a_device_is_read_well;
    sessions:
        a_session_is_read_back_with_its_user
        a10_fifty_parallel_rotations_make_one_successor
        a11_the_direct_parent_repeats_within_the_grace_and_is_reuse_after_it
        a10_an_older_token_revokes_the_family_and_is_audited_once
        a10_idle_expired_unknown_and_future_tokens_are_dead
        a12_a_session_of_a_disabled_user_is_dead
        a10_random_rotations_never_leave_two_live_successors;
    turns:
        e2_a_turn_is_born_with_its_messages_and_an_empty_answer
        a_turn_in_a_foreign_or_missing_conversation_is_not_found
        e2_a_checkpoint_with_a_lower_number_changes_nothing
        a_settlement_is_written_once_and_ends_checkpoints
        a_turn_that_is_not_stored_leaves_only_its_usage
        a_late_settlement_overrules_the_sweep
        e2_the_sweep_interrupts_what_nobody_renews
        e2_who_has_just_reached_the_store_takes_nobody_for_dead_by_their_lease
        a_turn_whose_end_was_given_up_is_let_go_however_often_it_is_renewed
        text_with_a_nul_character_is_stored;
    claims:
        b14_a_key_stands_for_the_turn_that_was_first_asked_for_with_it
        b14_of_fifty_turns_with_one_key_one_begins
        b14_a_key_is_taken_once_however_many_services_share_the_database
        b14_a_turn_that_is_not_stored_holds_its_key
        b14_a_refused_turn_leaves_its_key_free
        b14_who_asks_for_the_same_beside_a_refused_turn_is_refused_with_it
        b14_an_end_without_text_frees_the_key_and_any_other_keeps_it
        b14_a_turn_that_died_without_text_frees_its_key_and_any_other_keeps_it
        b14_keys_are_freed_when_they_are_old_some_at_a_time
        b14_keys_taken_in_every_order_by_all_lanes_make_nobody_wait_for_ever;
    ledger:
        e2_a_turn_that_is_not_stored_is_in_the_ledger_before_its_end
        e3_a_row_opened_twice_or_after_its_end_stays_as_it_is
        e2_an_open_row_that_nobody_settles_is_interrupted
        e3_a_turn_is_read_back_as_it_ended
        e3_an_end_whose_beginning_was_never_written_names_no_answer
        e3_a_running_turn_is_read_with_its_text_so_far
        a_turn_whose_conversation_is_gone_has_no_answer
        a_turn_is_cancelled_by_its_user_while_it_runs
        e2_who_alone_is_on_a_store_interrupts_whatever_others_left
        an_answer_that_changes_is_to_be_indexed_again;
    usage:
        a_report_adds_up_what_was_settled_whatever_it_groups_by
        pages_of_a_report_are_the_report
        a_turn_counts_whole_on_the_utc_day_on_which_it_began
        a_range_without_turns_is_empty
        what_is_not_settled_is_a_request_and_nothing_else
        means_are_over_the_turns_that_have_the_duration
        a_key_has_its_name_until_its_account_is_deleted
        a_report_of_one_account_model_or_key_has_nothing_else
        the_ledger_pages_from_new_to_old_as_its_owner_asks
        the_ledger_names_the_conversation_until_it_is_thrown_away
        a_month_of_200_000_turns_is_added_up_in_the_time_of_one_call;
    spill:
        e4_what_a_dead_process_left_on_the_disk_is_stored_once_whether_the_sweep_came_before_or_not
        an_end_that_the_database_refuses_holds_up_none_of_the_others
        ends_of_turns_that_the_database_never_knew_are_set_aside_and_not_lost;
    conversations:
        a17_nobody_reads_or_changes_what_is_somebody_elses
        conversations_page_from_the_latest_activity_with_ties_by_id
        whatever_happens_in_a_conversation_brings_it_to_the_front
        a_conversation_is_made_and_changed_with_the_words_of_its_title
        a_conversation_without_a_title_takes_that_of_its_first_turn_and_no_other
        an_account_makes_no_more_silent_conversations_than_it_may
        a_conversation_that_was_thrown_away_is_seen_by_nobody
        a_turn_whose_conversation_is_thrown_away_ends_in_peace
        a_turn_follows_nothing_but_a_message_of_its_conversation
        a_branch_leaves_out_what_is_said_on_others
        messages_without_parents_follow_what_was_made_before
        turns_at_once_in_one_conversation_see_nothing_of_each_other
        messages_page_in_order_of_their_making
        history_is_the_newest_messages_in_order
        history_ends_before_it_has_more_bytes_than_asked_for
        a_page_leaves_images_in_the_database
        tool_calls_keep_the_order_of_their_keys;
    search:
        a_conversation_is_found_by_all_words_of_its_title_or_of_one_message
        g8_what_means_something_to_a_database_is_plain_text
        a17_a_search_finds_nothing_of_others_whatever_they_write
        what_is_found_pages_as_conversations_do_also_where_times_are_equal
        words_are_taken_once_a_text_stands_and_only_if_it_still_does
        a_long_text_is_found_by_its_first_words_and_many_texts_in_bounded_steps;
    retention:
        a_conversation_that_was_thrown_away_goes_with_every_word_and_leaves_its_usage
        conversations_without_activity_are_thrown_away_a_few_at_a_time
        a17_all_that_is_kept_about_an_account_is_read_and_nothing_of_others;
    faults:
        a_killed_reader_fails_one_read_and_is_replaced
        a_killed_writer_repeats_settlements_and_answers_everybody_else
        a_fault_in_a_batch_leaves_the_others_committed
        refusals_harm_nothing_beside_them
        many_callers_share_few_commits
        e1_callers_that_leave_lose_nothing_of_others;
    load:
        settlements_and_checkpoints_that_wait_share_few_commits
        a_sign_in_waits_only_for_the_turns_before_it
        reads_wait_for_no_write;
    pages:
        a_page_of_10_000_messages_is_read_soon_wherever_it_is
        a_page_of_10_000_conversations_is_read_soon_wherever_it_is;
    upgrade:
        e06_a_turn_of_the_previous_release_is_this_ones_too
        e06_a_turn_of_this_release_is_the_previous_ones_too;
    lifecycle:
        a_room_that_stops_writes_what_waits_and_refuses_what_comes_after
        e6_two_rooms_that_start_together_migrate_once
        what_was_written_is_there_after_a_restart
        e06_a_schema_that_is_newer_is_worked_on
        e06_a_look_at_a_schema_foretells_the_start
        who_only_looks_changes_no_schema;
}

//! What every store must do, asked through the room's handle of SQLite and of Postgres alike.

mod accounts;
mod conversations;
mod faults;
pub(super) mod ground;
mod lifecycle;
mod offline;
mod outages;
pub(super) mod samples;
mod sessions;
mod turns;

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
        a_taken_email_is_a_conflict_and_leaves_no_audit_entry
        a_password_hash_is_replaced_only_if_it_is_still_the_old_one
        a19_the_audit_trail_cannot_be_altered;
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
        text_with_a_nul_character_is_stored;
    conversations:
        a17_nobody_reads_what_is_somebody_elses
        conversations_page_from_new_to_old
        messages_page_in_order_of_their_making
        history_is_the_newest_messages_in_order
        history_ends_before_it_has_more_bytes_than_asked_for
        a_page_leaves_images_in_the_database
        tool_calls_keep_the_order_of_their_keys;
    faults:
        a_killed_reader_fails_one_read_and_is_replaced
        a_killed_writer_repeats_settlements_and_answers_everybody_else
        a_fault_in_a_batch_leaves_the_others_committed
        many_callers_share_few_commits
        e1_callers_that_leave_lose_nothing_of_others;
    lifecycle:
        a_room_that_stops_writes_what_waits_and_refuses_what_comes_after
        e6_two_rooms_that_start_together_migrate_once
        what_was_written_is_there_after_a_restart;
}

use domain::{
    chat::{Sampling, ToolCall},
    model_name::ModelName,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Tokens of each message below, by the rule of thumb.
const EACH: u32 = 10;

/// What is named so, as long as [`EACH`] says.
fn say(role: Role, name: &str) -> ChatMessage {
    ChatMessage::text(role, format!("{name:.<width$}", width = EACH as usize * 4))
}

/// The letters of a history: `s`ystem, `u`ser, `a`ssistant, `c`all of tools, `t`ool's result; each with its place.
fn history(letters: &str) -> Vec<ChatMessage> {
    let message = |(at, letter): (usize, char)| {
        let name = format!("{letter}{at}");
        match letter {
            's' => say(Role::System, &name),
            'u' => say(Role::User, &name),
            't' => say(Role::Tool, &name),
            'c' => {
                let call = ToolCall { id: String::new(), name: String::new(), arguments: json!(null) };
                let text = "c".repeat(EACH as usize * 4 - 4);
                ChatMessage { tool_calls: vec![call], ..ChatMessage::text(Role::Assistant, text) }
            }
            _ => say(Role::Assistant, &name),
        }
    };
    letters.chars().enumerate().map(message).collect()
}

fn asked(messages: Vec<ChatMessage>, num_predict: Option<u32>) -> ChatRequest {
    ChatRequest {
        sampling: Sampling { num_predict, ..Sampling::default() },
        ..ChatRequest::new(ModelName::parse("m").unwrap(), messages)
    }
}

/// The letters of what is kept.
fn letters(kept: &[ChatMessage]) -> String {
    let letter = |message: &ChatMessage| match message.role {
        Role::System => 's',
        Role::User => 'u',
        Role::Tool => 't',
        Role::Assistant if message.tool_calls.is_empty() => 'a',
        Role::Assistant => 'c',
    };
    kept.iter().map(letter).collect()
}

/// What is kept of a history before one new message where there is room for so many messages of it.
fn kept(room: u32, past: &str, new: &[Role]) -> String {
    let new: Vec<_> = new.iter().map(|role| say(*role, "new")).collect();
    let answer = 1_000;
    let context = answer * 2;
    let mut request = asked(new, Some(answer));
    let filling = context - answer - request.estimated_prompt_tokens() - room * EACH;
    request.tools = vec![json!("x".repeat(filling as usize * 4 - 2))];
    letters(&within(Some(context), &request, None, history(past)))
}

#[test]
fn the_oldest_is_left_out_first_until_the_rest_fits() {
    for (room, left) in
        [(0, ""), (1, "a"), (3, "aua"), (4, "uaua"), (5, "auaua"), (6, "uauaua"), (60, "uauaua")]
    {
        assert_eq!(kept(room, "uauaua", &[Role::User]), left, "{room}");
    }
    // A small one behind one that does not fit is older.
    let mut past = history("uaua");
    past[1].content = "x".repeat(40_000);
    let request = asked(history("u"), None);
    assert_eq!(letters(&within(Some(1_000), &request, None, past)), "ua");
}

#[test]
fn system_messages_stay_and_cost_the_others_their_room() {
    assert_eq!(kept(3, "suaua", &[Role::User]), "sua");
    assert_eq!(kept(2, "suasua", &[Role::User]), "ss");
    assert_eq!(kept(0, "sua", &[Role::User]), "s");
}

#[test]
fn a_tools_result_goes_with_its_call() {
    for (room, left) in [(1, "a"), (2, "a"), (3, "a"), (4, "ctta"), (5, "uctta")] {
        assert_eq!(kept(room, "uctta", &[Role::User]), left, "{room}");
    }
    // What was read begins within them.
    assert_eq!(kept(60, "ttaua", &[Role::User]), "aua");
    assert_eq!(kept(60, "uctstua", &[Role::User]), "uctstua");
    assert_eq!(kept(60, "stua", &[Role::User]), "sua");
    // A result that is new finds its call whatever it costs.
    assert_eq!(kept(0, "uauc", &[Role::Tool]), "c");
    assert_eq!(kept(2, "uauc", &[Role::Tool]), "uc");
}

#[test]
fn what_is_answered_anew_stays_whatever_it_costs() {
    assert_eq!(kept(0, "uau", &[]), "u");
    assert_eq!(kept(0, "uauctt", &[]), "ctt");
    assert_eq!(kept(0, "tt", &[]), "tt");
}

#[test]
fn the_answer_keeps_its_part_of_the_context() {
    for (num_predict, part) in [(None, 1_000), (Some(100), 100), (Some(131_072), 2_000)] {
        assert_eq!(answer_tokens(4_000, num_predict), part, "{num_predict:?}");
    }
}

#[test]
fn without_a_known_context_all_that_was_read_goes_before() {
    let request = asked(history("u"), None);
    assert_eq!(letters(&within(None, &request, Some("be kind".into()), history("suactu"))), "ssuactu");
}

#[test]
fn a_requests_own_system_message_stands_in_for_the_conversations() {
    let prompt = || Some("be kind".to_owned());
    let of = |new: &str| within(Some(4_000), &asked(history(new), None), prompt(), history("ua"));
    assert_eq!(of("u")[0], ChatMessage::text(Role::System, "be kind"));
    assert_eq!(letters(&of("su")), "ua");
}

proptest! {
    #[test]
    fn what_is_kept_is_an_end_of_the_history_with_its_system_messages(
        past in "[suat]{0,30}",
        context in 1..1_000_u32,
        is_anew in any::<bool>(),
    ) {
        let request = asked(if is_anew { Vec::new() } else { history("u") }, None);
        let past = history(&past);
        let kept = within(Some(context), &request, None, past.clone());
        let others = |messages: &[ChatMessage]| -> Vec<ChatMessage> {
            messages.iter().filter(|message| !is_system(message)).cloned().collect()
        };
        prop_assert!(others(&past).ends_with(&others(&kept)));
        prop_assert_eq!(kept.iter().filter(|m| is_system(m)).count(), past.iter().filter(|m| is_system(m)).count());
        if !is_anew {
            let fits = others(&kept).is_empty() || tokens(kept.iter()) + request.estimated_prompt_tokens() <= context;
            prop_assert!(fits);
            prop_assert!(kept.iter().find(|m| !is_system(m)).is_none_or(|first| first.role != Role::Tool));
        }
    }
}

fn stored(role: Role, status: TurnStatus, text: &str) -> StoredMessage {
    StoredMessage {
        id: fresh_id(),
        conversation: fresh_id(),
        turn: fresh_id(),
        parent: None,
        message: ChatMessage::text(role, text),
        status,
        created_at: crate::clock::Clock::system().now(),
    }
}

fn branch(messages: Vec<StoredMessage>) -> Branch {
    let now = crate::clock::Clock::system().now();
    let conversation = domain::conversation::Conversation {
        id: fresh_id(),
        title: UNTITLED.into(),
        system_prompt: None,
        created_at: now,
        updated_at: now,
    };
    Branch { conversation, messages }
}

#[test]
fn a_turn_follows_what_its_caller_names_or_the_newest_that_the_model_is_shown() {
    let (user, whole) =
        (stored(Role::User, TurnStatus::Complete, "hi"), stored(Role::Assistant, TurnStatus::Complete, "ho"));
    let running = stored(Role::Assistant, TurnStatus::Streaming, "h");
    let empty = stored(Role::Assistant, TurnStatus::Failed, "");
    let id = |message: &StoredMessage| message.id.as_uuid();
    let follow = |messages: &[&StoredMessage], named, nothing_is_new| {
        parent_of(&branch(messages.iter().copied().cloned().collect()), named, nothing_is_new)
    };
    assert_eq!(follow(&[&user, &whole], None, false), Ok(id(&whole)));
    assert_eq!(follow(&[&user, &running], None, false), Ok(id(&user)));
    assert_eq!(follow(&[&user, &empty], None, false), Ok(id(&user)));
    assert_eq!(follow(&[&user, &empty], Some(id(&empty)), false), Ok(id(&empty)));
    assert_eq!(follow(&[&user, &running], Some(id(&running)), false), Err(ModelError::ParentUnderWay));
    assert_eq!(follow(&[], Some(fresh_id()), false), Err(ModelError::UnknownParent));
    assert_eq!(follow(&[&user], Some(id(&user)), true), Ok(id(&user)));
    assert_eq!(follow(&[&user, &whole], Some(id(&whole)), true), Err(ModelError::NothingToAnswer));
    assert_eq!(follow(&[&user, &whole], None, true), Err(ModelError::NothingToAnswer));

    let nothing = branch(Vec::new());
    let beginning = nothing.conversation.id.as_uuid();
    assert_eq!(parent_of(&nothing, None, false), Ok(beginning));
    assert_eq!(parent_of(&nothing, Some(beginning), false), Ok(beginning));
    assert_eq!(parent_of(&nothing, Some(beginning), true), Err(ModelError::NothingToAnswer));
}

#[test]
fn what_is_said_sorts_after_what_it_follows_even_from_a_clock_that_is_ahead() {
    let ahead = Uuid::from_u128(fresh_id::<Uuid>().as_u128() + (60_000 << 80));
    let said = Said::new(fresh_id(), ahead, &history("uu"));
    let ids = [ahead, said.messages[0].id.as_uuid(), said.messages[1].id.as_uuid(), said.reply.as_uuid()];
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

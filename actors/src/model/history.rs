//! What a turn follows, and what of it is put before its prompt.
//!
//! ```text
//! system prompt of the conversation │ stored messages of the branch, oldest first │ what is new
//!                                   ╰─ cut at its beginning ─╯
//! ```
//!
//! A request that brings a system message of its own is not given the conversation's: its own stands in for it in this turn.
//! Stored system messages stay in their places.
//!
//! Of the branch as much is taken as the model has context for beside what is new and the answer, the oldest is left out
//! first. System messages stay, a tool's result goes with its call, and what is new is never touched. Where the context of a
//! model is not known, only the bounds on what is read hold. Tokens are estimated, as everywhere before somebody counts.
//!
//! The turn's messages say what they follow, the newest message that the model was shown where the caller names none: so what
//! a branch holds is what the model saw, whatever else is said in the conversation at the same time. Nothing follows an answer
//! without words, or one that is still being written.

use domain::{
    chat::{ChatMessage, ChatRequest, Role},
    conversation::{Branch, NewMessage, StoredMessage, UNTITLED},
    id::{ConversationId, MessageId},
    principal::Principal,
    turn::TurnStatus,
};
use uuid::Uuid;

use super::{ModelError, ModelHandle, TurnOptions};
use crate::clock::{fresh_id, fresh_id_after};

/// The most stored messages that are put before a prompt, and the most bytes of them; the oldest are left out.
const HISTORY_MESSAGES: u32 = 200;
const HISTORY_BYTES: u32 = 512 << 10;

/// The part of a model's context that is left to an answer of no known length, and the most that is to one of any.
const ANSWER_PART: u32 = 4;
const ANSWER_PART_MAX: u32 = 2;

/// What is said in a turn, and where.
pub(super) struct Said {
    pub conversation: ConversationId,
    /// A message, or the conversation's own id for its beginning.
    pub parent: Uuid,
    /// Each with an id that sorts after what it follows: messages are read in the order of their ids.
    pub messages: Vec<NewMessage>,
    pub reply: MessageId,
    /// The conversation exists, and has no title of its own.
    pub is_untitled: bool,
}

impl Said {
    fn new(conversation: ConversationId, parent: Uuid, messages: &[ChatMessage]) -> Self {
        let mut last = parent;
        let mut next = || {
            last = fresh_id_after(last);
            last
        };
        let said = |message: &ChatMessage| NewMessage { id: next().into(), message: message.clone() };
        let messages = messages.iter().map(said).collect();
        Self { conversation, parent, messages, reply: next().into(), is_untitled: false }
    }
}

impl ModelHandle {
    /// Puts what the turn follows before its prompt.
    ///
    /// # Errors
    ///
    /// [`ModelError::UnknownConversation`], [`ModelError::UnknownParent`], [`ModelError::ParentUnderWay`],
    /// [`ModelError::NothingToAnswer`]: the caller's. Others as the database has them.
    pub(super) async fn put_history_before(
        &self,
        principal: &Principal,
        options: &TurnOptions,
        context: Option<u32>,
        request: &mut ChatRequest,
    ) -> Result<Said, ModelError> {
        let kept = |messages: &[ChatMessage]| if options.store { messages.to_vec() } else { Vec::new() };
        let new = kept(&request.messages);
        let Some(id) = options.conversation else {
            let conversation: ConversationId = fresh_id();
            return Ok(Said::new(conversation, conversation.as_uuid(), &new));
        };
        let (db, user) = (&self.0.routing.db, principal.user);
        let found = db.branch(user, id, options.parent, HISTORY_MESSAGES, HISTORY_BYTES).await;
        let branch = found?.ok_or(ModelError::UnknownConversation)?;
        let parent = parent_of(&branch, options.parent, request.messages.is_empty())?;
        let is_untitled = branch.conversation.title == UNTITLED;
        let stored = branch.messages.into_iter().filter(StoredMessage::is_history);
        let history = stored.map(|stored| stored.message).collect();
        let system_prompt = branch.conversation.system_prompt;
        let mut messages = within(context, request, system_prompt, history);
        messages.append(&mut request.messages);
        request.messages = messages;
        Ok(Said { is_untitled, ..Said::new(id, parent, &new) })
    }
}

/// What the turn follows: what its caller named, or the newest message that the model is shown.
fn parent_of(branch: &Branch, named: Option<Uuid>, nothing_is_new: bool) -> Result<Uuid, ModelError> {
    let conversation = branch.conversation.id.as_uuid();
    let last = branch.messages.last();
    match named {
        Some(named) if named != conversation => {
            let last = last.ok_or(ModelError::UnknownParent)?;
            if last.status == TurnStatus::Streaming {
                return Err(ModelError::ParentUnderWay);
            }
            if nothing_is_new && !matches!(last.message.role, Role::User | Role::Tool) {
                return Err(ModelError::NothingToAnswer);
            }
            Ok(named)
        }
        _ if nothing_is_new => Err(ModelError::NothingToAnswer),
        Some(beginning) => Ok(beginning),
        None => {
            let shown = branch.messages.iter().rfind(|stored| stored.is_history());
            Ok(shown.map_or(conversation, |shown| shown.id.as_uuid()))
        }
    }
}

/// What of `history`, oldest first, goes before a request to a model of this context, after the system prompt.
fn within(
    context: Option<u32>,
    request: &ChatRequest,
    system_prompt: Option<String>,
    history: Vec<ChatMessage>,
) -> Vec<ChatMessage> {
    let brings_its_own = request.messages.iter().any(is_system);
    let own = system_prompt.filter(|_| !brings_its_own).map(|text| ChatMessage::text(Role::System, text));
    let mut kept: Vec<_> = own.into_iter().collect();
    let mut room = context.map_or(u32::MAX, |context| {
        context
            .saturating_sub(answer_tokens(context, request.sampling.num_predict))
            .saturating_sub(request.estimated_prompt_tokens())
            .saturating_sub(tokens(kept.iter().chain(history.iter().filter(|message| is_system(message)))))
    });
    // A result that is new needs its call, and where nothing is new the last message is what is answered.
    let mut is_needed = request.messages.first().is_none_or(|first| first.role == Role::Tool);
    let mut begins = history.len();
    while begins > 0 {
        let unit =
            history[..begins].iter().rposition(|message| !is_system(message) && message.role != Role::Tool);
        // The call of these results was left out before.
        if unit.is_none() && !is_needed {
            break;
        }
        let start = unit.unwrap_or(0);
        // System messages are counted already.
        let cost = tokens(history[start..begins].iter().filter(|message| !is_system(message)));
        if cost > room && !is_needed {
            break;
        }
        room = room.saturating_sub(cost);
        is_needed = false;
        begins = start;
    }
    let stays =
        |(at, message): (usize, ChatMessage)| (at >= begins || is_system(&message)).then_some(message);
    kept.extend(history.into_iter().enumerate().filter_map(stays));
    kept
}

fn is_system(message: &ChatMessage) -> bool {
    message.role == Role::System
}

fn tokens<'m>(messages: impl Iterator<Item = &'m ChatMessage>) -> u32 {
    messages.map(ChatMessage::estimated_tokens).fold(0, u32::saturating_add)
}

/// What is left of a context to the answer.
fn answer_tokens(context: u32, num_predict: Option<u32>) -> u32 {
    num_predict.unwrap_or(context / ANSWER_PART).min(context / ANSWER_PART_MAX)
}

#[cfg(test)]
mod tests;

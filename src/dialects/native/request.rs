//! Reading a chat request.
//!
//! Fields we do not know are ignored. So are `keep_alive` and the options that configure a model's runner (`num_ctx`,
//! `num_gpu`, …): changing one of these reloads the model for everybody, so they are the operator's to set.

use actors::model::TurnOptions;
use domain::{
    chat::{ChatRequest, ToolChoice, limits},
    id::ConversationId,
    limits::Priority,
    turn::Claim,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    dialects::parts::{MessageBody, bounded, format, messages, model_name, sampling, think, tools},
    http::ApiError,
    routes::shapes,
};

#[derive(Deserialize, ToSchema)]
pub(crate) struct ChatBody {
    #[schema(example = "llama3.2")]
    model: String,
    /// 1 to 1,000; in a conversation, only what is new. None where `parent_id` names a message of a user or a tool, which then
    /// gets another answer.
    #[schema(max_items = 1000)]
    messages: Vec<MessageBody>,
    /// Continues this conversation.
    #[schema(value_type = Option<uuid::Uuid>)]
    conversation_id: Option<ConversationId>,
    /// The message of the conversation that the new ones follow, or the conversation's own id for another beginning. The
    /// model sees what leads there, and nothing of other branches. The newest message if it is left out.
    parent_id: Option<Uuid>,
    /// Keep the messages and the answer; `true` unless said otherwise.
    store: Option<bool>,
    /// `cancel`, or with an `Idempotency-Key` `continue`, unless said otherwise.
    on_disconnect: Option<OnDisconnect>,
    /// `interactive`, which is what is meant if nothing is said, or `batch`: served when nobody else waits.
    #[schema(schema_with = shapes::priority)]
    priority: Option<Priority>,
    /// Sampling options: `num_predict seed temperature top_k top_p min_p typical_p repeat_last_n repeat_penalty
    /// presence_penalty frequency_penalty stop`. Others are ignored.
    #[schema(value_type = Option<Object>)]
    options: Option<Box<RawValue>>,
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Box<RawValue>>,
    /// `"json"` or a JSON schema.
    #[schema(schema_with = shapes::format)]
    format: Option<Box<RawValue>>,
    /// `true`, `false`, `"low"`, `"medium"`, `"high"` or `"max"`.
    #[schema(schema_with = shapes::think)]
    think: Option<Box<RawValue>>,
}

/// What becomes of a turn whose client leaves.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OnDisconnect {
    /// It ends at once.
    Cancel,
    /// It runs to its end and is stored.
    Continue,
}

impl ChatBody {
    /// Checks what the types do not say, and says it in the domain's words; `claim` is what the request's `Idempotency-Key`
    /// stands for.
    ///
    /// # Errors
    ///
    /// 400 with the field in `param`.
    pub(crate) fn into_request(self, claim: Option<Claim>) -> Result<(ChatRequest, TurnOptions), ApiError> {
        let model = model_name(&self.model)?;
        if self.parent_id.is_some() && self.conversation_id.is_none() {
            let message = "a message is followed in its conversation: name that one in `conversation_id`";
            return Err(ApiError::invalid(message).at("parent_id"));
        }
        let least = usize::from(self.parent_id.is_none());
        bounded("messages", self.messages.len(), least, limits::MESSAGES)?;
        let request = ChatRequest {
            model,
            messages: messages(self.messages)?,
            sampling: sampling(self.options.as_deref())?,
            tools: tools(self.tools.as_deref())?,
            format: format(self.format.as_deref())?,
            think: think(self.think.as_deref())?,
            tool_choice: ToolChoice::Auto,
            logprobs: None,
            completion: None,
        };
        let store = self.store.unwrap_or(true);
        // Whoever sends a key means to ask again, which is how such an answer is read.
        let continue_on_disconnect = match self.on_disconnect {
            Some(wish) => wish == OnDisconnect::Continue,
            None => claim.is_some(),
        };
        if continue_on_disconnect && !store && claim.is_none() {
            let message = "an answer that is not stored cannot be read by a client that left";
            return Err(ApiError::invalid(message).at("on_disconnect"));
        }
        let options = TurnOptions {
            conversation: self.conversation_id,
            parent: self.parent_id,
            store,
            continue_on_disconnect,
            claim,
            is_streamed: false,
            priority: self.priority.unwrap_or_default(),
            deadline: None,
        };
        Ok((request, options))
    }
}

#[cfg(test)]
mod tests;
